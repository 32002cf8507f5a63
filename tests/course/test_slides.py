"""Notebooks 01 and 04 as slides: every cell has its place, and conversion works."""

import re
import subprocess
import sys

import nbformat
import pytest

from lrc_lib.course.notebook import ROOT

NAMES = ("01_cos_nce_geometry", "04_two_stage_distillation")
DECKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in NAMES]
KINDS = {"slide", "subslide", "fragment", "skip", "notes", "-"}
SHOWN = re.compile(r"session\.(figure|finding|table)\(")


def kind_of(cell):
    return cell.metadata.get("slideshow", {}).get("slide_type")


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_every_cell_says_where_it_goes_and_only_what_is_to_be_seen_is_shown(path):
    exercises, cells = False, nbformat.read(path, as_version=4).cells
    assert kind_of(cells[0]) == "slide"
    for cell in cells:
        assert kind_of(cell) in KINDS, (
            f"cell {cell.id} of {path.stem} has no slide type: give it "
            'metadata {"slideshow": {"slide_type": "skip"}}, or slide, subslide, fragment, notes'
        )
        exercises = (exercises or "## Exercises" in cell.source) and "## Summary" not in cell.source
        silent = cell.cell_type == "code" and not SHOWN.search(cell.source)
        left_out = kind_of(cell) in ("skip", "notes")
        if silent or exercises or "interactive" in cell.metadata.get("tags", []):
            assert left_out, cell.id
        elif re.search(r"session\.(figure|finding)\(|\\tag\{", cell.source):
            assert not left_out, cell.id


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
        kinds = [kind_of(cell) for cell in nbformat.read(path, as_version=4).cells]
        slides = kinds.count("slide") + kinds.count("subslide")
        assert len(re.findall(r"<section[ >]", page)) > slides
        assert "node_modules/reveal.js/dist/reveal.js" in page and "unpkg.com/reveal" not in page
        assert "raise NotImplementedError" not in page
        assert """alt='A "curve" that falls'""" in page and "No description" not in page
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
        assert title.removeprefix("# ") in page
