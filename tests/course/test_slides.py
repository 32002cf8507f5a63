"""Notebooks 01 and 04 as slides: every cell has its place, no slide overflows, conversion works."""

import math
import re
import subprocess
import sys

import nbformat
import pytest

from lrc_lib.course.notebook import ROOT

NAMES = ("01_cos_nce_geometry", "04_two_stage_distillation")
DECKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in NAMES]
KINDS = {"slide", "subslide", "fragment", "skip", "notes", "-"}
SCREEN = 25  # lines of 28 px on reveal's 700; code is left out of slides (--no-input)
SHOWN = {"figure": 19, "finding": 5, "table": 9}  # lines, as seen in a browser
TEXT, CELL = 88, 100  # characters in a line of text, and in a row of a table

each_deck = pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)


def kind_of(cell):
    return cell.metadata.get("slideshow", {}).get("slide_type")


def lines_of(cell):
    """How many lines of a screen a cell takes on a slide, about."""
    if cell.cell_type == "code":
        calls = re.findall(r"session\.(\w+)\(", cell.source)
        return sum(SHOWN.get(name, 0) for name in calls)
    if cell.source.count("```") == 2:
        return cell.source.count("\n")
    total = 0
    for block in re.split(r"\n\s*\n", cell.source):
        rows = block.splitlines()
        if block.startswith("$$"):
            total += 2 + len(rows)
        elif block.startswith("#"):
            total += 2 * math.ceil(len(block) / 28) if block.startswith("# ") else 2
        elif block.startswith("|"):
            total += sum(math.ceil(len(row) / CELL) for row in rows if "---" not in row)
        elif block.startswith("- "):
            total += sum(math.ceil(len(item) / TEXT) for item in re.split(r"\n(?=- )", block))
        else:
            total += math.ceil(len(" ".join(rows)) / (62 if block.startswith(">") else TEXT)) + 0.5
    return total


def slides(path):
    """Lists of cells, a list for each slide (with its fragments)."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        if kind_of(cell) in ("slide", "subslide"):
            found.append([cell])
        elif kind_of(cell) in ("fragment", "-"):
            found[-1].append(cell)
    return found


@each_deck
def test_every_cell_says_where_on_the_slides_it_goes(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert kind_of(cell) in KINDS, (
            f"cell {cell.id} of {path.stem} has no slide type: give it "
            'metadata {"slideshow": {"slide_type": "skip"}}, or slide, subslide, fragment, notes'
        )


@each_deck
def test_code_that_shows_nothing_exercises_and_widgets_are_left_out(path):
    exercises = False
    for cell in nbformat.read(path, as_version=4).cells:
        exercises = (exercises or "## Exercises" in cell.source) and "## Summary" not in cell.source
        silent = cell.cell_type == "code" and not lines_of(cell)
        if silent or exercises or "interactive" in cell.metadata.get("tags", []):
            assert kind_of(cell) in ("skip", "notes"), cell.id


@each_deck
def test_what_belongs_on_a_slide_is_on_one(path):
    on = [cell for slide in slides(path) for cell in slide]
    whole = "\n".join(cell.source for cell in on)
    cells = nbformat.read(path, as_version=4).cells
    assert kind_of(cells[0]) == "slide" and "redict first" in whole
    for cell in cells:
        for piece in ("session.figure(", "session.finding(", r"\tag{"):
            assert piece not in cell.source or cell in on, f"{cell.id}: {piece}"
    heads = [c for c in cells if c.cell_type == "markdown" and re.search(r"^## \d", c.source, re.M)]
    assert all(cell in on for cell in heads)
    assert sum(kind_of(cell) == "slide" for cell in cells) >= 8


@each_deck
def test_no_slide_holds_more_than_a_screen(path):
    for slide in slides(path):
        total = sum(map(lines_of, slide))
        assert total <= SCREEN, f"{[cell.id for cell in slide]}: about {total} lines"


def test_a_slide_that_is_too_long_would_be_seen():
    figure = nbformat.v4.new_code_cell('session.figure(plot, "name", alt="...")')
    text = nbformat.v4.new_markdown_cell("\n\n".join(["A paragraph of some length. " * 9] * 3))
    assert lines_of(figure) <= SCREEN < lines_of(figure) + lines_of(text)


def test_nbconvert_makes_them_with_alt_texts(tmp_path):
    """By the command of docs/teaching.md, on notebooks whose first figure has been drawn."""
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    command = re.search(r"^jupyter (nbconvert --to slides .+) --output-dir", page, flags=re.M)[1]
    for path in DECKS:
        notebook = nbformat.read(path, as_version=4)
        figure = next(cell for cell in notebook.cells if "session.figure(" in cell.source)
        picture = {"image/png": "iVBORw0KGgo="}
        about = {"image/png": {"alt": 'A "curve" that falls', "width": 500}}
        figure.outputs = [nbformat.v4.new_output("display_data", picture, metadata=about)]
        nbformat.write(notebook, tmp_path / path.name)
    offline = ["--reveal-prefix", "node_modules/reveal.js", "--output-dir", tmp_path]
    made = [sys.executable, "-m", "jupyter", *command.split(), *offline]
    done = subprocess.run(
        [*made, *tmp_path.glob("*.ipynb")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for path in DECKS:
        page = (tmp_path / f"{path.stem}.slides.html").read_text(encoding="utf-8")
        assert len(re.findall(r"<section[ >]", page)) > len(slides(path))
        assert "node_modules/reveal.js/dist/reveal.js" in page and "unpkg.com/reveal" not in page
        assert "raise NotImplementedError" not in page
        assert """alt='A "curve" that falls'""" in page and "No description" not in page
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
        assert title.removeprefix("# ") in page
