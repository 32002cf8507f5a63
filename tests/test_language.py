"""Symbols are introduced before they are used, in one table; links resolve."""

import functools
import re
from pathlib import Path

import nbformat
import pytest

from lrc_lib.course.notebook import ROOT

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$", re.S)
WORDS = r"\\(?:text|mathrm)\{[^}]*\}|\\tag\{[^}]*\}|_\{\\text\{[^}]*\}\}"
OPERATORS = set(  # commands that are no symbols of ours
    """frac tfrac sum sqrt langle rangle lVert rVert bigl bigr Bigl Bigr cdot cos arcsin log max in
    ge le approx quad qquad ldots sim propto partial nabla underbrace overline textstyle
    prime""".split()
)
INDICES = {"i", "j", "k", "e"}  # numbers of a row or a layer; the base of the logarithm
ATOM = re.compile(
    r"\\mathcal L'?(?:_\{\w+\}|_[CT])?|\\(?:hat|bar)\s*\{?\w\}?|\\[A-Za-z]+|emb|"
    r"[A-Za-z](?:_[nwr](?![a-z]))?(?:\^[ST*])?"
)


@functools.cache
def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def markdown(path):
    """(section, text) of a notebook's markdown cells: 0 before the first numbered section, and 99
    in the exercises and after."""
    section = 0
    for cell in cells_of(path):
        if cell.cell_type != "markdown":
            continue
        text = re.sub(r"```.*?```", "", cell.source, flags=re.S)
        for part in re.split(r"^(?=## )", re.sub(r"`[^`\n]*`", "", text), flags=re.M):
            head = re.match(r"## (\d*)", part)
            if head and (head[1] or "## Exercises" in part):
                section = int(head[1] or 99)
            yield section, part


def atoms(math):
    """The symbols in a piece of TeX: letters with what is on them, without their indices."""
    math = re.sub(WORDS, " ", math)
    math = re.sub(r"_\{\\phi_i\}(\^[ST])?", r"\1 \\phi ", math)
    math = re.sub(r"_\{?(?:[ijk]|I_b)\}?", "", math).replace("^{S\\prime}", "^S")
    found = [re.sub(r"\s*\{?(\w)\}?$", r" \1", a) if a[:4] in ("\\hat", "\\bar") else a
             for a in ATOM.findall(math)]  # fmt: skip
    return [a for a in found if a.lstrip("\\") not in OPERATORS and a not in INDICES]


def table(text):
    """The rows of the markdown tables in a text, heads and rules left out."""
    lines = [line.strip()[1:-1] for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if "---" not in line]
    return rows[1:]


def notation(path):
    """The cell of a notebook that holds its notation."""
    (found,) = [
        c.source for c in cells_of(path) if re.search(r"^## (10 )?Notation$", c.source, re.M)
    ]
    return found


MASTER = table(notation(PATHS[0]))


def introduced():
    """{symbol: [(notebook, section)]}, from the one table."""
    found = {}
    for symbol, *_, first in MASTER:
        notebook, _, section = first.partition(", section ")
        for math in MATH.findall(symbol):
            for atom in atoms(math[0] or math[1]):
                found.setdefault(atom, []).append((int(notebook), int(section or 0)))
    return found


INTRODUCED = introduced()


def uses(path):
    """(symbol, (notebook, section), the math) in reading order."""
    for section, text in markdown(path):
        for math in MATH.findall(text):
            for atom in atoms(math[0] or math[1]):
                yield atom, (int(path.stem[:2]), section), math[0] or math[1]


def before_use(found):
    """The uses of symbols that nothing has introduced by then."""
    return [
        (atom, place, math)
        for atom, place, math in found
        if not any(first <= place for first in INTRODUCED.get(atom, ()))
    ]


@pytest.mark.parametrize("path", PATHS[1:], ids=lambda path: path.stem)
def test_every_symbol_is_introduced_before_it_is_used(path):
    assert before_use(uses(path)) == []


def test_a_symbol_that_comes_too_early_would_be_found():
    early = [("u^*", (1, 3), "u^*"), ("\\tau", (1, 2), ""), ("\\xi", (7, 9), ""), ("v", (1, 3), "")]
    assert [atom for atom, *_ in before_use(early)] == ["u^*", "\\tau", "\\xi"]
    wanted = [
        "\\hat t",
        "\\bar n",
        "u^*",
        "\\mathcal L_{soft}",
        "h^S",
        "W",
        "\\phi",
        "n_w",
        "\\tau",
    ]
    assert atoms(r"\hat t_i \bar{n} u^* \mathcal L_{soft} h_i^S W \phi_i n_w \tau") == wanted


def test_the_table_says_truly_where_a_symbol_is_introduced():
    used = {}
    for path in PATHS[1:]:
        for atom, place, _ in uses(path):
            used.setdefault(place, set()).add(atom)
    for atom, places in INTRODUCED.items():
        for place in places:
            assert atom in used[place], f"{atom} does not occur in notebook, section {place}"


@pytest.mark.parametrize("path", PATHS[1:], ids=lambda path: path.stem)
def test_a_notebook_links_to_the_one_table_and_its_own_rows_are_from_it(path):
    whole = "\n".join(text for _, text in markdown(path))
    assert "(00_start_here.ipynb#10-Notation)" in whole
    if "\n## Notation" not in "\n" + whole:
        return
    master = {row[0]: row for row in MASTER}
    for row in table(notation(path)):
        if not row[0]:  # without a symbol: a name in code alone
            continue
        assert row[0] in master, f"{row[0]} is not in notebook 00's table"
        assert row[1] == master[row[0]][1]
        assert row[-1].startswith(master[row[0]][3]) or master[row[0]][3] == row[-1]


def test_the_link_to_the_table_has_its_heading():
    assert re.search(r"^## 10 Notation$", notation(PATHS[0]), re.M)
    assert [len(row) for row in MASTER] == [5] * len(MASTER) and len(MASTER) > 30


def prose(path: Path) -> str:
    if path.suffix == ".ipynb":
        return "\n".join(text for _, text in markdown(path))
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def slugs(path: Path) -> set[str]:
    """The anchors of a file: Jupyter's for a notebook, GitHub's for a page."""
    heads = re.findall(r"^#+ +(.+)$", prose(path), flags=re.M)
    if path.suffix == ".ipynb":
        return {head.strip().replace(" ", "-") for head in heads}
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PATHS + DOCS, ids=lambda path: path.stem)
def test_links_to_files_and_their_headings_lead_somewhere(path):
    for target in re.findall(r"\]\(((?:[^()\s]|\([^()\s]*\))+)\)", prose(path)):
        if re.match(r"https?:|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), target
        assert not anchor or anchor in slugs(other), target
