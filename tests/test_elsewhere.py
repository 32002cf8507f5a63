"""Colab, Binder, Codespaces: the committed files agree with the kit and do what they say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from lrc_lib.course.notebook import NOTEBOOKS, ROOT


def install_cell(name="00_start_here") -> str:
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code[0].metadata["tags"] == ["parameters"]
    return code[0].source.partition("PROFILE = ")[0]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_install_cell_comes_first_and_is_the_same_in_all(name):
    assert install_cell(name) == install_cell()


@pytest.mark.parametrize("file", ["binder/postBuild", ".devcontainer/devcontainer.json"])
def test_the_image_is_built_with_commands_that_exist(file, tmp_path):
    text = (ROOT / file).read_text()
    if file.endswith("json"):
        container = json.loads(text)
        opened = container["customizations"]["codespaces"]["openFiles"]
        assert all((ROOT / name).exists() for name in opened)
        text = container["postCreateCommand"]
    options = re.search(r"python -m lrc_lib (.+)", text)[1].split()
    done = subprocess.run([sys.executable, "-m", "lrc_lib", options[0], "--help"], cwd=ROOT)
    assert done.returncode == 0 and "-c " in text and "-e ." in text
    subprocess.run(["bash", "-n", "-c", text], check=True)


def test_binder_gets_a_torch_without_cuda():
    python, torch, pip = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())[
        "dependencies"
    ]
    project = (ROOT / "pyproject.toml").read_text()
    assert f'requires-python = ">={python.removeprefix("python=")}' in project
    assert f'"{torch.replace("pytorch-cpu", "torch")}"' in project and pip == "pip"
    assert (ROOT / "binder" / "postBuild").stat().st_mode & 0o111


class Called(list):
    """In place of subprocess.run: remembers commands, and makes the folder that git would make."""

    def __call__(self, command, check):
        assert check
        self.append(command)
        if command[0] == "git":
            (Path(command[-1].rpartition("/")[2]) / "notebooks").mkdir(parents=True)


def run_cell(monkeypatch, folder, found):
    called = Called()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(subprocess, "run", called)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    exec(install_cell(), {})
    return called


def test_the_cell_installs_only_where_the_kit_is_missing(monkeypatch, tmp_path):
    assert run_cell(monkeypatch, tmp_path, found=object()) == []
    clone, install = run_cell(monkeypatch, tmp_path, found=None)
    assert clone[:2] == ["git", "clone"] and install[1:4] == ["-m", "pip", "install"]
    kit = tmp_path / clone[-1].rpartition("/")[2]
    assert install[-1] == ".." and Path.cwd() == kit / "notebooks" and sys.path[0] == str(kit)
    assert run_cell(monkeypatch, tmp_path, found=None) == [install]  # the clone is there
    (kit / "lrc_lib").mkdir()
    assert run_cell(monkeypatch, kit / "notebooks", found=None) == [install]  # in a clone: that one
    assert sys.path[0] == str(kit)


def test_every_notebook_is_linked():
    text = (ROOT / "docs" / "running.md").read_text()
    assert set(re.findall(r"/blob/main/notebooks/(\w+)\.ipynb", text)) == set(NOTEBOOKS)
