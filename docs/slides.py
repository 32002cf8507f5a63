"""Makes a lecture of an executed notebook: `python docs/slides.py out/notebooks/01_*.ipynb`.

Writes `slides/<name>.ipynb`, with a slide for each section and each figure, findings that appear at
a key press, and speaker notes; nbconvert makes the deck of it. Code, tables and exercises are left
out. docs/teaching.md has both commands.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

FOLDER = Path("slides")
LEFT_OUT = re.compile(r"## (Notation|Exercises|Words|The runs|The systems|Summary|.*Empty cells)")
WORDS = 60  # of running text on a slide; the rest is for the speaker


def lecture(notebook):
    """The notebook's cells as slides, in place."""
    made, left_out = [], False
    for cell in notebook.cells:
        parts = re.split(r"^(?=## )", cell.source, flags=re.M) if is_text(cell) else [""]
        for part in filter(str.strip, parts):
            if re.match("##? ", part):
                left_out = bool(LEFT_OUT.match(part))
            made += [] if left_out else text_slides(part)
        if not is_text(cell) and not left_out:
            made += output_slides(cell)
    notebook.cells = made


def is_text(cell) -> bool:
    return cell.cell_type == "markdown"


def text_slides(text: str):
    """A slide if the text begins with a heading, with its first words; the rest as notes."""
    shown, said, words = [], [], 0
    for block in text.strip().split("\n\n"):
        words += 0 if block.startswith(("#", "$$")) else len(block.split())
        aside = block.startswith((">", "|")) or (words > WORDS and "$$" not in block)
        (said if aside else shown).append(block)
    if text.startswith("#"):
        yield slide(new_markdown_cell("\n\n".join(shown)), "slide")
        shown = []
    if shown + said:
        yield slide(new_markdown_cell("\n\n".join(shown + said)), "notes")


def output_slides(cell):
    """A subslide for each figure, a fragment for the first finding; others are notes."""
    kinds = {"figure": "subslide", "finding": "fragment"}
    for output in cell.outputs:
        html = output.get("data", {}).get("text/html", "")
        what = "figure" if "image/png" in output.get("data", {}) else "finding"
        if what == "figure" or html.startswith("<blockquote"):
            yield slide(new_code_cell(outputs=[output]), kinds[what])
            kinds["finding"] = "fragment" if what == "figure" else "notes"


def slide(cell, kind: str):
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in map(Path, sys.argv[1:]):
        notebook = nbformat.read(path, as_version=4)
        lecture(notebook)
        kinds = [cell.metadata["slideshow"]["slide_type"] for cell in notebook.cells]
        nbformat.write(notebook, FOLDER / path.name)
        slides = kinds.count("slide") + kinds.count("subslide")
        print(f"{FOLDER / path.name}: {slides} slides")
