"""The install files say the same thing, and every listed command is one that exists."""

import ast
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TABLES = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = TABLES["project"]
ASKED_FOR = "jupyterlab torch transformers datasets matplotlib seaborn papermill ipywidgets".split()
IMPORTED_AS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}  # where the two names differ
BROUGHT = {  # packages that a declared one brings
    "IPython": "ipywidgets",
    "PIL": "matplotlib",
    "cycler": "matplotlib",
    "jupyter_client": "papermill",
    "jinja2": "torch",
    "joblib": "scikit-learn",
    "nbformat": "papermill",
    "platformdirs": "papermill",
    "psutil": "jupyterlab",
    "tokenizers": "transformers",
}
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
        bound = re.search(r">=([\d.]+)", direct()[plain(name)])[1]
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


def test_the_base_install_is_small_and_has_what_was_asked_for():
    names = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    assert len(PROJECT["dependencies"]) == len(names) <= 16
    assert set(ASKED_FOR) <= names
    assert "datasets>=3,!=5.0.0" in PROJECT["dependencies"]  # 5.0.0 is broken


def test_every_imported_package_is_a_dependency():
    known = set(direct())
    assert {plain(owner) for owner in BROUGHT.values()} <= known
    for path in (ROOT / "lrc_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            for module in {module.split(".")[0] for module in modules} - sys.stdlib_module_names:
                if module != "lrc_lib" and module not in BROUGHT:
                    assert plain(IMPORTED_AS.get(module, module)) in known, (path.name, module)


def brought_by(owner, seen):
    """All packages that are installed because `owner` is."""
    for line in metadata.requires(owner) or []:
        name = plain(re.match(r"[\w.-]+", line)[0])
        if "extra ==" not in line and name not in seen:
            seen.add(name)
            with suppress(metadata.PackageNotFoundError):  # one of another system
                brought_by(name, seen)
    return seen


def test_what_is_imported_undeclared_is_brought_and_the_page_names_it():
    page = " ".join((ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").split())
    named = ", ".join(f"{name} ({owner})" for name, owner in sorted(BROUGHT.items()))
    assert f"bring themselves: {named}." in page
    for module, owner in BROUGHT.items():
        (package, *_) = metadata.packages_distributions()[module]
        assert plain(package) in brought_by(owner, set()), module


def test_every_folder_with_code_is_a_package_of_the_wheel():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "lrc_lib").rglob("*.py")}
    packages = {".".join(folder.parts) for folder in folders} | {"lrc_lib._notebooks"}
    assert set(TABLES["tool"]["setuptools"]["packages"]) == packages


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


def test_the_workflow_runs_the_script_on_three_systems():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    job = yaml.safe_load(text)["jobs"]["test"]
    systems, pythons = job["strategy"]["matrix"]["os"], job["strategy"]["matrix"]["python"]
    assert [name.split("-")[0] for name in systems] == ["ubuntu", "macos", "windows"]
    assert pythons == ["3.11", "3.12", "3.13"]
    assert job["steps"][-1]["run"].endswith(".ci/run") and job["defaults"]["run"]["shell"] == "bash"


@pytest.mark.parametrize("module", ["torch", "transformers", "datasets", "papermill", "matplotlib"])
def test_the_package_itself_is_light(module):
    code = f"import sys, lrc_lib, lrc_lib.course.notebook; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_heavy_imports_stay_in_their_one_place():
    def importers(word):
        pattern = re.compile(rf"^\s*(import|from) {word}\b", re.M)
        files = (ROOT / "lrc_lib").rglob("*.py")
        return {path.name for path in files if pattern.search(path.read_text(encoding="utf-8"))}

    assert importers("datasets") == {"hub.py"}
    assert importers("papermill") == {"child.py"}


def test_the_page_of_dependencies_shows_the_bounds_and_hashes_of_the_code():
    sys.path.insert(0, str(ROOT / "tools"))
    import dependencies

    page = dependencies.PAGE.read_text(encoding="utf-8")
    assert "\n".join(dependencies.fetched()) in page, "run python tools/dependencies.py"
    for name, bounds in dependencies.base().items():
        assert f"| {name} | {bounds.replace(',', ', ')} |" in page
