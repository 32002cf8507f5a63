"""Colab, Binder, Codespaces: what is committed is what is made, and does what it says offline."""

import json
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml

from lrc_lib.cli import launch
from lrc_lib.course.notebook import NOTEBOOKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def test_every_file_is_what_the_command_makes():
    for path, text in launch.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python -m lrc_lib.cli.launch"


def test_a_change_of_pin_or_address_would_be_seen(monkeypatch):
    monkeypatch.setattr(launch, "REPOSITORY", "https://github.com/someone/somewhere")
    changed = [path for path, text in launch.files().items() if path.read_text() != text]
    assert {path.stem for path in changed} == {*NOTEBOOKS, "running"}


def test_binder_gets_the_pins_and_a_torch_without_cuda():
    wanted = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    *conda, pip = wanted["dependencies"]
    names = {re.match(r"[\w.-]+", line)[0] for line in PROJECT["dependencies"]}
    assert set(pip["pip"]) == {f"{name}=={PINS[name]}" for name in names - {"torch"}}
    python, torch, _ = conda
    assert PROJECT["requires-python"].startswith(">=" + python.removeprefix("python="))
    assert f"{torch}".replace("pytorch-cpu", "torch") in PROJECT["dependencies"]


def test_what_is_run_after_the_build_exists():
    script = ROOT / "binder" / "postBuild"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    for text in (script.read_text(), container["postCreateCommand"]):
        options = re.search(r"python -m lrc_lib (.+)", text)[1].split()
        from lrc_lib.cli.commands import build_parser

        assert build_parser().parse_args(options).command == "fetch"
    named = re.findall(r"-c (\S+)", container["postCreateCommand"])
    named += container["customizations"]["codespaces"]["openFiles"]
    assert len(named) == 2 and all((ROOT / name).exists() for name in named)
    assert set(container) == {
        "name",
        "image",
        "hostRequirements",
        "postCreateCommand",
        "customizations",
    }
    assert container["hostRequirements"]["cpus"] == 2


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_install_cell_comes_first_and_is_the_same_in_all(name):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code[0].metadata["tags"] == ["parameters"]  # plain values, before anything is imported
    assert code[1].metadata["tags"] == ["install"] and code[1].source == launch.install_cell()
    assert sum("install" in cell.metadata.get("tags", []) for cell in code) == 1


class Called(list):
    """In place of subprocess.run: remembers commands, and makes the folder that git would."""

    def __call__(self, command, check):
        assert check
        self.append(command)
        if command[0] == "git":
            from pathlib import Path

            Path(command[-1]).mkdir()


def run_cell(monkeypatch, folder, found):
    called = Called()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(subprocess, "run", called)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    exec(launch.install_cell(), {})
    return called


def test_the_cell_does_nothing_where_the_kit_is_there(monkeypatch, tmp_path):
    path = list(sys.path)
    assert run_cell(monkeypatch, tmp_path, found=object()) == [] and sys.path == path


def test_alone_on_colab_it_clones_and_installs_once(monkeypatch, tmp_path):
    kit, pip = "lrc-bert-kit", [sys.executable, "-m", "pip", "install", "--quiet", "--editable"]
    called = run_cell(monkeypatch, tmp_path, found=None)
    assert called == [["git", "clone", "--depth", "1", launch.REPOSITORY, kit], [*pip, kit]]
    assert sys.path[0] == str(tmp_path / kit)  # this process does not read the new .pth file
    assert run_cell(monkeypatch, tmp_path, found=None) == [[*pip, kit]]  # the clone is there


def test_in_a_clone_that_was_not_installed_it_installs_the_clone(monkeypatch, tmp_path):
    (tmp_path / "lrc_lib").mkdir()
    (tmp_path / "notebooks").mkdir()
    called = run_cell(monkeypatch, tmp_path / "notebooks", found=None)
    assert [command[-1] for command in called] == [".."] and sys.path[0] == str(tmp_path)


def test_links_open_what_is_there():
    text = (ROOT / "docs" / "running.md").read_text()
    opened = re.findall(r"/blob/main/(notebooks/\w+\.ipynb)|lab/tree/(notebooks/\w+\.ipynb)", text)
    opened = {a or b for a, b in opened}
    assert opened == {f"notebooks/{name}.ipynb" for name in NOTEBOOKS}
    assert all((ROOT / name).exists() for name in opened)
