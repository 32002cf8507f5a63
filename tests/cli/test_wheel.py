"""The kit installed as a wheel, without its repository: what it carries, and that it works."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("lrc_lib", "notebooks", "pyproject.toml", "README.md", "LICENSE")
IGNORED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing of an earlier build gets in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=IGNORED)
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(target), str(source)], check=True)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """An interpreter that has the wheel, and this one's packages but not its repository."""
    context = venv.EnvBuilder(symlinks=os.name != "nt")
    context.create(folder := tmp_path_factory.mktemp("venv"))
    executable = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([executable, "-c", code], text=True).strip()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages]
    subprocess.run([*pip, str(wheel)], check=True)
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(packages, "dependencies.pth").write_text("\n".join(ours))  # .pth files there are not read
    return executable


def run(python, folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LRC_OUT")}
    return subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_every_file_of_the_package_travels(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "lrc_lib").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"lrc_lib/_notebooks/{path.name}" in names


def test_list_needs_no_repository(python, tmp_path):
    where = run(python, tmp_path, "-c", "import lrc_lib; print(lrc_lib.__file__)").stdout
    assert where and not Path(where.strip()).is_relative_to(ROOT)
    done = run(python, tmp_path, "-m", "lrc_lib", "reproduce", "--list")
    assert done.returncode == 0 and "01_cos_nce_geometry" in done.stdout, done.stderr


def test_a_notebook_runs_from_an_empty_folder_into_its_out(python, tmp_path):
    done = run(python, tmp_path, "-m", "lrc_lib", "reproduce", "--profile", "smoke", "--only", "01")
    assert done.returncode == 0, done.stdout + done.stderr
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("out/*/*.*")}
    assert {
        "out/notebooks/01_cos_nce_geometry.ipynb",
        "out/results/01_cos_nce_geometry.json",
    } <= left
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
