"""The manifest of a folder: what it lists, and how it is written."""

import hashlib
import json
import os

import pytest

from lrc_lib.data.manifest import MANIFEST, is_whole, write_manifest, write_whole


def entry(content):
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def written(folder):
    return json.loads((folder / MANIFEST).read_text())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "model.bin").write_bytes(b"w" * 300_000)
    (tmp_path / "metrics.json").write_bytes(b"")
    for name in ("x.lock", "x.partial", "student/.y.lock", "student/.tmp1a"):
        (tmp_path / name).write_bytes(b"in passing")
    return tmp_path


def test_it_lists_every_file_but_itself_locks_and_partial_files(folder):
    expected = {"metrics.json": entry(b""), "student/model.bin": entry(b"w" * 300_000)}
    for _ in range(2):  # the second time there is a manifest already
        write_manifest(folder)
        assert written(folder) == {"name": folder.name, "files": expected}
    assert not (folder / f"{MANIFEST}.partial").exists()


def test_an_interrupted_writing_leaves_the_earlier_manifest(folder, monkeypatch):
    write_manifest(folder)
    before = written(folder)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    (folder / "metrics.json").write_bytes(b"{}")
    with pytest.raises(KeyboardInterrupt):
        write_manifest(folder)
    assert written(folder) == before


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": (flip, "weights.bin is not what was written"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "lost a part"),
    "empty": (lambda path: path.write_bytes(b""), "lost a part"),
    "missing": (lambda path: path.unlink(), "weights.bin is missing"),
    "no manifest": (lambda path: path.with_name(MANIFEST).write_text("[" * 99_999), "cannot be"),
    "foreign manifest": (lambda path: path.with_name(MANIFEST).write_text('{"files": 3}'), "be"),
    "hostile name": (
        lambda path: path.with_name(MANIFEST).write_text(json.dumps({"name": "\x1b[2J\n" * 9999})),
        r"\x1b[2J\n",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_is_not_what_was_written_is_named_and_set_aside(tmp_path, capsys, damage):
    break_it, says = DAMAGES[damage]
    for _ in range(2):
        folder = tmp_path / "a"
        folder.mkdir()
        (folder / "weights.bin").write_bytes(os.urandom(999))
        write_manifest(folder)
        break_it(folder / "weights.bin")
        assert not is_whole(folder) and not folder.exists() and (tmp_path / "a.damaged").exists()
        said = capsys.readouterr().err
        assert says in said and "'a.damaged'" in said and said.count("\n") == 1
        assert len(said) < 3000 and said.strip().isprintable()


def test_a_renamed_folder_is_refused_and_a_whole_one_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "a.partial").mkdir()
    (tmp_path / "a.partial" / "x").write_bytes(b"x")
    write_manifest(tmp_path / "a.partial")
    folder = (tmp_path / "a.partial").rename(tmp_path / "a")
    assert is_whole(folder)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert is_whole(folder)
    monkeypatch.undo()
    assert not is_whole(folder.rename(tmp_path / "b"))
    assert not is_whole(tmp_path / "nothing")


def test_a_rename_waits_for_who_reads_the_file_on_windows(tmp_path, monkeypatch):
    busy, slept, replace = [1, 1], [], os.replace

    def replace_if_free(source, target):
        if busy and busy.pop():
            raise PermissionError(13, "The process cannot access the file")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_if_free)
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(PermissionError):  # elsewhere it is no passing trouble
        write_whole(tmp_path / "a", "text")
    monkeypatch.setattr("sys.platform", "win32")
    busy[:] = [1, 1]
    write_whole(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text" and slept == [0.1, 0.4]
