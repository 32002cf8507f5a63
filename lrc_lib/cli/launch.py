"""What starts the kit on other people's machines: Binder, Codespaces, Colab.

`python -m lrc_lib.cli.launch` makes `binder/`, `.devcontainer/`, the cell in each notebook that
installs the kit where it is missing, and the links in docs/running.md, all from pyproject.toml and
constraints.txt. A test fails when a file is not what it would write.
"""

import json
import re
from pathlib import Path

from lrc_lib.course.notebook import NOTEBOOKS, ROOT

# A placeholder: this tree does not know where it will live. Put the address of your copy here and
# run `python -m lrc_lib.cli.launch`; it stands nowhere else by hand.
REPOSITORY = "https://github.com/OWNER/lrc-bert-kit"
BRANCH = "main"
BEGIN, END = "<!-- launch -->", "<!-- end of launch -->"
INSTALL = """import importlib.util

if importlib.util.find_spec("lrc_lib") is None:  # on Colab a notebook comes without its kit
    import subprocess
    import sys
    from pathlib import Path

    kit = Path("..") if Path("../lrc_lib").is_dir() else Path("{folder}")
    if not kit.is_dir():
        clone = ["git", "clone", "--depth", "1", "{repository}"]
        subprocess.run([*clone, str(kit)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--editable"]
    subprocess.run([*pip, str(kit)], check=True)
    sys.path.insert(0, str(kit.resolve()))"""


def _project() -> dict:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _python() -> str:
    """The oldest Python that pyproject allows: every pin has a wheel for it."""
    return re.match(r">=(\d+\.\d+)", _project()["requires-python"])[1]


def environment() -> str:
    """binder/environment.yml: the kit's dependencies at their pins, and torch for the CPU.

    torch comes from conda-forge, because PyPI's brings CUDA on Linux.
    """
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in pins)
    names = [re.match(r"[\w.-]+", line)[0] for line in _project()["dependencies"]]
    packages = [f"    - {name}=={pins[name]}" for name in names if name != "torch"]
    bound = next(line for line in _project()["dependencies"] if line.startswith("torch>"))
    return "\n".join(
        (
            "# Made by python -m lrc_lib.cli.launch.",
            "channels:",
            "  - conda-forge",
            "  - nodefaults",
            "dependencies:",
            f"  - python={_python()}",
            f"  - py{bound.replace('torch', 'torch-cpu')}",
            "  - pip",
            "  - pip:",
            *packages,
            "",
        )
    )


def post_build() -> str:
    """binder/postBuild: run once while Binder builds, so that no session has to fetch."""
    return (
        "#!/usr/bin/env bash\n"
        "# Made by python -m lrc_lib.cli.launch. Texts and teacher go into the image.\n"
        "set -eu\n"
        "python -m pip install --no-deps -e .\n"
        "python -m lrc_lib fetch --profile laptop\n"
    )


def devcontainer() -> str:
    """.devcontainer/devcontainer.json, for Codespaces and VS Code."""
    content = {
        "name": _project()["name"],
        "image": f"python:{_python()}",
        "hostRequirements": {"cpus": 2, "memory": "8gb", "storage": "32gb"},
        "postCreateCommand": "python -m pip install -c constraints.txt -e . && "
        "python -m lrc_lib fetch --profile laptop",
        "customizations": {
            "vscode": {"extensions": ["ms-python.python", "ms-toolsai.jupyter"]},
            "codespaces": {"openFiles": ["notebooks/00_start_here.ipynb"]},
        },
    }
    return json.dumps(content, indent=2) + "\n"


def install_cell() -> str:
    """The source of the notebooks' first working cell."""
    return INSTALL.format(repository=REPOSITORY, folder=_project()["name"])


def links() -> str:
    """Markdown: a link for each service, and one to each notebook on Colab."""
    place = REPOSITORY.removeprefix("https://github.com/")
    lab = f"https://mybinder.org/v2/gh/{place}/{BRANCH}?urlpath=lab/tree/notebooks/00_start_here.ipynb"
    colab = f"https://colab.research.google.com/github/{place}/blob/{BRANCH}/notebooks"
    badges = (
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({lab})\n"
        f"[![Open in GitHub Codespaces](https://github.com/codespaces/badge.svg)]"
        f"(https://codespaces.new/{place}?quickstart=1)\n"
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab}/00_start_here.ipynb)"
    )
    each = "\n".join(f"- [{name} on Colab]({colab}/{name}.ipynb)" for name in NOTEBOOKS)
    return f"{badges}\n\n{each}"


def with_links(text: str) -> str:
    """`text` with what stands between the two marks made anew."""
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{links()}\n{END}", text, flags=re.S)


def with_install_cell(text: str) -> str:
    """A notebook's JSON with the cell after its parameters that installs the kit when missing."""
    notebook = json.loads(text)
    cells = notebook["cells"]
    tagged = {tag: i for i, c in enumerate(cells) for tag in c["metadata"].get("tags", ())}
    if "install" not in tagged:
        tagged["install"] = tagged["parameters"] + 1
        name = cells[0]["id"].rsplit("-", 1)[0]
        cell = {"cell_type": "code", "execution_count": None, "id": f"{name}-install"}
        cell |= {"metadata": {"tags": ["install"]}, "outputs": []}
        cells.insert(tagged["install"], cell)
    cells[tagged["install"]]["source"] = install_cell().splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def files() -> dict[Path, str]:
    """Every file that is made, with the text it has to have."""
    made = {
        ROOT / "binder" / "environment.yml": environment(),
        ROOT / "binder" / "postBuild": post_build(),
        ROOT / ".devcontainer" / "devcontainer.json": devcontainer(),
    }
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        made[path] = with_install_cell(path.read_text(encoding="utf-8"))
    for path in (ROOT / "README.md", ROOT / "docs" / "running.md"):
        made[path] = with_links(path.read_text(encoding="utf-8"))
    return made


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.name == "postBuild":
            path.chmod(0o755)
