"""Writes the tables of docs/dependencies.md: what is installed here, and what is fetched.

python tools/dependencies.py
"""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from lrc_lib.data import reviews, wiki

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dependencies.md"


def base() -> dict[str, str]:
    """{name: bounds} of the direct dependencies of the base install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        re.split(r"[<>=!~]", line)[0]: re.sub(r"^[\w-]+", "", line)
        for line in project["dependencies"]
    }


def licence(metadata) -> str:
    """The licence that a package declares: its expression, classifier or text."""
    classes = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    named = classes[-1].split("::")[-1].strip() if classes else metadata.get("License") or ""
    return metadata.get("License-Expression") or named.splitlines()[0]


def row(name: str, bounds: str) -> str:
    """A line of the table for an installed package."""
    found = importlib.metadata.distribution(name)
    paths = [Path(file.locate()) for file in found.files if file.suffix != ".pyc"]
    size = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
    facts = (name, bounds.replace(",", ", "), found.version, licence(found.metadata))
    return f"| {' | '.join(facts)} | {size:,.1f} |"


def installed() -> list[str]:
    """The table of what is installed here."""
    rows = [row(name, bounds) for name, bounds in base().items()]
    head = "| package | bounds | version here | licence | MB, installed |"
    return [head, "| --- | --- | --- | --- | --- |", *rows]


def fetched() -> list[str]:
    """The table of what pip fetches, with the hashes that the code compares."""
    packages = tomllib.loads((ROOT / "lrc_lib/data/packages.toml").read_text(encoding="utf-8"))
    files = {reviews.REQUIREMENT: reviews.SHA256, wiki.REQUIREMENT: wiki.SHA256}
    for package in packages.values():
        files |= package["wheels"]
    rows = [f"| `{name}` | `{digest}` |" for name, digest in files.items()]
    return ["| file of PyPI | sha256 |", "| --- | --- |", *rows]


def replaced(text: str, name: str, lines: list[str]) -> str:
    """The page with another table between the marks of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, rest = text.split(begin)
    return "\n".join([head + begin, *lines, end + rest.split(end)[1]])


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("installed", installed), ("fetched", fetched)):
        text = replaced(text, name, table())
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
