"""The install files say the same thing, and every listed command is one that exists."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALL = "python -m pip install -c constraints.txt -e . && python reproduce.py"
TEST = 'python -m pip install -c constraints.txt -e ".[test]" && python -m pytest'


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def direct():
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + [line for extra in extras.values() for line in extra]
    wanted = [line for line in wanted if not line.startswith(PROJECT["name"])]  # its own extras
    return {plain(re.match(r"[A-Za-z0-9_.-]+", line)[0]): line for line in wanted}


def test_constraints_pin_every_direct_dependency_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().split()
    pins = dict(line.split("==") for line in lines)
    assert {plain(name) for name in pins} == set(direct())
    assert pins["torch"] == "2.13.0"
    for name, version in pins.items():
        bound = direct()[plain(name)].split(">=")[1]
        numbers = [tuple(map(int, text.split(".")[:2])) for text in (version + ".0", bound + ".0")]
        assert numbers[0] >= numbers[1], name


def test_every_dependency_has_a_lower_bound():
    assert all(">=" in line for line in direct().values())


def test_conda_brings_python_and_pip_and_pip_the_rest():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    python, pip, rest = environment["dependencies"]
    assert python == "python" + PROJECT["requires-python"]
    assert pip.startswith("pip")
    assert rest == {"pip": ["-c constraints.txt", "-e ."]}


def test_every_imported_package_is_a_dependency():
    import ast
    import sys

    names = {"sklearn": "scikit-learn", "IPython": "ipykernel", "yaml": "pyyaml"}
    brought = {"jupyter-client", "traitlets", "tokenizers", "cycler"}  # by ipykernel and others
    known = set(direct()) | brought
    for path in [ROOT / "reproduce.py", *(ROOT / "lrc_lib").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            for module in (module.split(".")[0] for module in modules):
                if module in sys.stdlib_module_names or module == "lrc_lib":
                    continue
                assert plain(names.get(module, module)) in known, (path.name, module)


def test_the_readme_gives_the_two_commands_and_ci_runs_the_second():
    readme = (ROOT / "README.md").read_text()
    assert INSTALL in readme and TEST in readme
    script = ROOT / ".ci" / "run"
    assert TEST in script.read_text().splitlines()
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_citation_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert "2012.07335" in str(citation["preferred-citation"])
    assert (ROOT / "LICENSE").read_text().startswith(PROJECT["license"])


@pytest.mark.parametrize("module", ["torch", "transformers", "datasets", "papermill", "matplotlib"])
def test_the_package_itself_is_light(module):
    import sys

    code = f"import sys, lrc_lib, lrc_lib.course.notebook; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_heavy_imports_stay_in_their_one_place():
    def importers(word):
        files = [ROOT / "reproduce.py", *(ROOT / "lrc_lib").rglob("*.py")]
        pattern = re.compile(rf"^\s*(import|from) {word}\b", re.M)
        return {path.name for path in files if pattern.search(path.read_text())}

    assert importers("datasets") == {"hub.py"}
    assert importers("papermill") == {"reproduce.py"}
