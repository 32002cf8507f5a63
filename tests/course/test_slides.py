"""Notebooks 01 and 04 as lectures, and the background deck: about 25 slides each, as HTML."""

import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_output

from lrc_lib.course.notebook import ROOT

sys.path.insert(0, str(ROOT / "docs"))
from slides import lecture  # noqa: E402

NAMES = ("01_cos_nce_geometry", "04_two_stage_distillation")
ABOUT = {"image/png": {"alt": 'A "curve" that falls', "width": 500}}
FIGURE = new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=ABOUT)
FINDING = new_output("display_data", {"text/html": "<blockquote>Found here: 7</blockquote>"})
TABLE = new_output("display_data", {"text/html": "<table class='lrc'>none</table>"})


def kind(cell):
    return cell.metadata["slideshow"]["slide_type"]


@pytest.fixture
def made(request):
    """The lecture of a notebook whose figures, findings and tables have been shown."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{request.param}.ipynb", as_version=4)
    for cell in notebook.cells:
        shown = re.findall(r"session\.(figure|finding|table)\(", cell.source)
        known = {"figure": FIGURE, "finding": FINDING, "table": TABLE}
        cell.outputs = [known[name] for name in shown] if cell.cell_type == "code" else None
    lecture(notebook)
    return notebook


@pytest.mark.parametrize("made", NAMES, indirect=True)
def test_a_lecture_has_about_25_slides_and_nothing_stands_above_a_heading(made):
    kinds = [kind(cell) for cell in made.cells]
    assert 18 <= kinds.count("slide") + kinds.count("subslide") <= 34
    assert kinds.count("fragment") >= 5 and kinds[0] == "slide"
    for cell in made.cells:
        text = cell.cell_type == "markdown"
        assert cell.source or not text
        assert not text or cell.source.startswith("#") == (kind(cell) == "slide")
        if kind(cell) == "slide":
            assert not re.search(r"^(>|### Exercise|\| )", cell.source, flags=re.M)
    assert "none</table>" not in nbformat.writes(made) and "Exercises" not in nbformat.writes(made)


@pytest.mark.parametrize("made", NAMES[:1], indirect=True)
def test_nbconvert_makes_the_decks_by_the_page(made, tmp_path):
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    command = re.search(r"^jupyter (nbconvert --to slides .+) --output-dir", page, flags=re.M)[1]
    background = nbformat.read(ROOT / "docs" / "teaching" / "background.ipynb", as_version=4)
    slides = {"lecture": made, "background": background}
    for name, notebook in slides.items():
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    offline = ["--reveal-prefix", "node_modules/reveal.js", "--output-dir", tmp_path]
    line = [sys.executable, "-m", "jupyter", *command.split(), *offline, *tmp_path.glob("*.ipynb")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, notebook in slides.items():
        page = (tmp_path / f"{name}.slides.html").read_text(encoding="utf-8")
        count = sum(kind(cell) in ("slide", "subslide") for cell in notebook.cells)
        assert len(re.findall(r"<section[ >]", page)) > count
        assert "node_modules/reveal.js/dist/reveal.js" in page and "unpkg.com/reveal" not in page
        assert "raise NotImplementedError" not in page and ".reveal { font-size: 28px; }" in page
    page = (tmp_path / "lecture.slides.html").read_text(encoding="utf-8")
    assert """alt='A "curve" that falls'""" in page and "No description" not in page


def test_the_background_deck_has_about_25_slides_with_questions_and_alt_texts():
    deck = nbformat.read(ROOT / "docs" / "teaching" / "background.ipynb", as_version=4)
    nbformat.validate(deck)
    kinds = [kind(cell) for cell in deck.cells]
    assert 22 <= kinds.count("slide") + kinds.count("subslide") <= 28
    assert kinds.count("fragment") >= 10
    assert all(not cell.get("outputs") for cell in deck.cells)
    assert max(len(c.source.splitlines()) for c in deck.cells if c.cell_type == "code") <= 25
    assert [c.metadata.get("tags") for c in deck.cells].count(["parameters"]) == 1
    space = {"display": lambda image: seen.append(image)}
    seen = []
    for cell in deck.cells:
        if cell.cell_type == "code":
            exec(cell.source.replace("import Image, display", "import Image"), space)
    assert len(seen) == 5 and all(len(image.alt) > 60 for image in seen)
