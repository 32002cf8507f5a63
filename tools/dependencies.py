"""Writes the table of docs/dependencies.md: version, licence and size of what is installed here.

python tools/dependencies.py
"""

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
BEGIN, END = "<!-- installed -->", "<!-- end of installed -->"


def base() -> list[str]:
    """The names of the direct dependencies of the base install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[<>=!~]", line)[0] for line in project["dependencies"]]


def licence(metadata) -> str:
    """The licence that a package declares: its expression, classifier or text."""
    classes = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    named = classes[-1].split("::")[-1].strip() if classes else metadata.get("License") or ""
    return metadata.get("License-Expression") or named.splitlines()[0]


def row(name: str) -> str:
    """A line of the table for an installed package."""
    found = importlib.metadata.distribution(name)
    paths = [Path(file.locate()) for file in found.files if file.suffix != ".pyc"]
    size = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
    return f"| {name} | {found.version} | {licence(found.metadata)} | {size:,.1f} |"


def main() -> None:
    lines = ["| package | version | licence | MB, installed |", "| --- | --- | --- | --- |"]
    lines += [row(name) for name in base()]
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    text = "\n".join([head + BEGIN, *lines, END + tail])
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
