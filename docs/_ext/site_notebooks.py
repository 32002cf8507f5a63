"""Notebooks as the site shows them: the executed copies where they exist, else the sources."""

import html
import re
import shutil
from pathlib import Path

import nbformat
from mathml import in_html
from nbformat.v4 import new_markdown_cell, new_output
from sphinx.errors import ConfigError

from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.course.session import STYLE

FOLDED = {  # tag of a cell whose code is folded: the title of the fold
    "parameters": "Settings, and the installer for Colab",
    "injected-parameters": "Settings of this run",
    "setup": "Imports, and the start of the session",
}
INSTEAD = {  # tag of a cell whose output needs a reader who runs it: what stands in its place
    "interactive": "Sliders: open the notebook in JupyterLab. The figure above shows positions.",
    "check": "Run the notebook to check an answer of yours.",
}
LAUNCH = {  # a name, and the address of a notebook of a repository there
    "Colab": "https://colab.research.google.com/github/{}/blob/main/notebooks/{}.ipynb",
    "Binder": "https://mybinder.org/v2/gh/{}/main?urlpath=lab/tree/notebooks/{}.ipynb",
}
BOX = re.compile(r"^(?=> \*\*(Paper|Our) )", re.M)  # where a box begins
LINK = re.compile(r"\]\(([^()\s#]*)#((?:[^()\s]|\([^()\s]*\))+)\)")


def linked(text: str) -> str:
    """Markdown whose links lead to pages of this site, and whose names of the library are links."""
    text = LINK.sub(lambda m: f"]({m[1]}#{re.sub(r'[^-_a-z0-9]', '', m[2].lower())})", text)
    text = re.sub(r"!\[([^]]*)\]\(https?:[^)]*\)", r"\1", text)  # no pictures from elsewhere
    text = text.replace("](../notebooks/", "](notebooks/")
    text = re.sub(r"\[([^]]*)\]\(\.\./[^)]*\)", r"\1", text)  # files that are not on the site
    return re.sub(r"(?<!`)`(lrc_lib(?:\.\w+)+)`(?!`)", r"{py:obj}`\1`", text)


def landing(text: str, root: Path) -> str:
    """The text of the landing page with its pictures and cards in place."""
    box = '<div class="wide" role="group" aria-label="The claims" tabindex="0">'
    picture = (root / "results" / "figures" / "claims.svg").read_text(encoding="utf-8")
    cards = []
    for name, notebook in NOTEBOOKS.items():
        image, words = f"card-{name[:2]}.png", html.escape(notebook.question)
        shown = f'<img src="_static/{image}" alt="Figure of notebook {name[:2]}">'
        shown *= (root / "results" / "figures" / image).exists()
        cards.append(
            f'<a class="card" href="notebooks/{name}.html">{shown}<b>{name[:2]}</b> {words}</a>'
        )
    grid = f'<div class="cards">{"".join(cards)}</div>'
    made = {"claims": f"{box}{picture}</div>", "cards": grid}
    for name, raw in made.items():
        text = text.replace(f"<!-- {name} -->", f"```{{raw}} html\n{raw}\n```")
    return text


def prepare(root: Path, out: Path, folder: Path, functions, repository: str) -> None:
    """Writes the pages' notebooks into `folder`, anew.

    Args:
        root: the repository.
        out: the output folder of reproduce.py, with the executed copies.
        functions: see `equations.functions_of_equations`.
        repository: "owner/name", where Colab and Binder find the notebooks.

    Raises:
        ConfigError: a notebook that is not one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for source in sorted((root / "notebooks").glob("*.ipynb")):
        executed = out / "notebooks" / source.name
        path = executed if executed.exists() else source
        try:
            notebook = nbformat.read(path, as_version=4)
        except Exception as error:  # whatever nbformat finds wrong
            raise ConfigError(
                f"Cannot read the notebook {path} ({error}). `python reproduce.py --only "
                f"{source.name[:2]}` makes it again."
            ) from None
        for cell in notebook.cells:
            _prepare_cell(cell)
        notebook.cells[1:1] = _notes(source, path, functions, repository)
        nbformat.write(notebook, folder / source.name)


def _notes(source: Path, path: Path, functions, repository: str):
    """What is said under a notebook's title: where to run it; its equations."""
    links = [f"{{download}}`Download <../../notebooks/{source.name}>`"]
    links += (f"[{name}]({url.format(repository, source.stem)})" for name, url in LAUNCH.items())
    yield new_markdown_cell(" · ".join(links))
    if path == source:
        command = f"python reproduce.py --only {source.name[:2]}"
        yield new_markdown_cell(
            f"```{{note}}\nNot executed: this is the source, without results. `{command}` makes "
            "them, and the site shows them when it is built again.\n```"
        )
    here = [f for f in functions if source.stem in f.notebooks]
    if here:
        names = (
            f"{{py:obj}}`{f.name}` ("
            + ", ".join(f"{{ref}}`Eq. {n} <equation-{n}>`" for n in f.equations)
            + ")"
            for f in here
        )
        yield new_markdown_cell(f"```{{seealso}}\nIn the library: {', '.join(names)}.\n```")


def _prepare_cell(cell) -> None:
    tags = cell.metadata.setdefault("tags", [])
    if cell.cell_type == "markdown":
        cell.source = BOX.sub(lambda m: f"{{.{m[1].lower()}}}\n", linked(cell.source))
        return
    folds = [FOLDED[tag] for tag in tags if tag in FOLDED]
    if folds or cell.metadata.get("jupyter", {}).get("source_hidden"):
        title = folds[0] if folds else "Code"
        tags.append("hide-input")
        cell.metadata["mystnb"] = {f"code_prompt_{what}": title for what in ("show", "hide")}
    for tag in set(tags) & INSTEAD.keys():
        text = f"<p><small>{INSTEAD[tag]}</small></p>"
        buttons = [output for output in cell.outputs if "<fieldset" in str(output)]
        cell.outputs = buttons or [new_output("display_data", {"text/html": text})]
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            data["text/html"] = _picture(
                data.pop("image/png"), output.metadata.get("image/png", {})
            )
        elif "text/html" in data:
            data["text/html"] = in_html(data["text/html"].replace(STYLE, ""))  # site.css has it


def _picture(png: str, about: dict) -> str:
    """A figure inside the page. myst-nb would write a file next to the site, without alt text."""
    width = f' width="{about["width"]}"' if "width" in about else ""
    alt = html.escape(about.get("alt", ""))
    image = f'<img alt="{alt}"{width} src="data:image/png;base64,{png.strip()}">'
    return f'<div class="wide">{image}</div>'
