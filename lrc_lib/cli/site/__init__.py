"""A static site from the executed notebooks: to be read anywhere, without running and offline.

Formulas are MathML, figures lie beside the pages, the search is a list in a file, and nothing
comes from a network. The same notebooks and results give the same bytes.
"""

import importlib.util
import json
from pathlib import Path

from lrc_lib.course.edition import folder_for
from lrc_lib.course.notebook import NOTEBOOKS, ROOT, output_root
from lrc_lib.errors import InputError

HERE = Path(__file__).parent


def make_site(out, store, force: bool = False) -> tuple[Path, dict[str, str]]:
    """Writes the site into the folder `out`.

    Args:
        out: a folder that is new or empty.
        store: the output folder of `reproduce.py`, with notebooks/ and results/.
        force: write into a folder that is not empty, over pages of the same names.

    Returns:
        The landing page, and {name: command that makes it} of the notebooks that were not
        executed; their pages show the source and say so.

    Raises:
        InputError: nothing was executed in `store`, or `out` is not empty or cannot be written.
    """
    store = Path(store)
    if not any((store / "notebooks" / f"{name}.ipynb").exists() for name in NOTEBOOKS):
        raise InputError(
            f"There are no executed notebooks in {store / 'notebooks'}. `python reproduce.py` "
            "makes them; --out DIR names its output folder where that is another."
        )
    out = folder_for(out, force, "pages")
    entries = [_entry(name, store) for name in NOTEBOOKS]
    try:
        for file, content in _files(entries).items():
            path = out / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise InputError(f"Cannot write into {out}: {error}") from None
    return out / "index.html", {e["name"]: e["missing"] for e in entries if e["missing"]}


def _entry(name: str, store: Path) -> dict:
    """A notebook with its record, and the command that executes it where that was not done."""
    import nbformat

    from lrc_lib.cli.report import read_record

    path, missing = store / "notebooks" / f"{name}.ipynb", ""
    if not path.exists():
        path = ROOT / "notebooks" / f"{name}.ipynb"
        missing = _command(name, store)
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the notebook {path}: {error}") from None
    result = None if missing else read_record(store / "results" / f"{name}.json")
    return {"name": name, "notebook": notebook, "result": result, "missing": missing}


def _command(name: str, store: Path) -> str:
    """The command that executes a notebook in a store, with the profile that was used there."""
    command = f"python reproduce.py --only {name[:2]}"
    try:
        profile = json.loads((store / "results.json").read_text(encoding="utf-8"))["profile"]
    except (OSError, ValueError, KeyError, TypeError):
        profile = "laptop"
    command += "" if profile == "laptop" else f" --profile {profile}"
    return command + ("" if store == output_root() else f" --out {store}")


def _files(entries) -> dict[str, str | bytes]:
    """All files of the site: {path in it: content}."""
    from lrc_lib.cli.site.cells import notebook_page
    from lrc_lib.cli.site.equations import EQUATIONS, equation_page, overview, page_of
    from lrc_lib.cli.site.landing import landing, paper_page, search_page
    from lrc_lib.cli.site.shell import heading_of, shell

    files, bodies, sections = {}, {}, []
    for entry in entries:
        name, question = entry["name"], NOTEBOOKS[entry["name"]].question
        made = notebook_page(entry["notebook"], name, question, _note(entry))
        files |= made.figures
        bodies[f"{name}.html"] = made.body + _neighbours(name)
        sections += made.sections
    bodies["index.html"] = landing(entries)
    bodies["equations.html"] = overview(sections)
    for number in EQUATIONS:
        bodies[page_of(number)] = equation_page(number, sections)
    bodies["paper.html"] = paper_page()
    bodies["search.html"] = search_page()
    for file, body in bodies.items():
        files[file] = shell(file, body, sections)
    style, font = [], _math_font()
    if font:
        files["math.ttf"] = font
        style.append('@font-face{font-family:"Kit Math";src:url(math.ttf)}\n')
    style += [(HERE / name).read_text(encoding="utf-8") for name in ("base.css", "site.css")]
    files["style.css"] = "".join(style)
    files["search.js"] = (HERE / "search.js").read_text(encoding="utf-8")
    files["search-index.js"] = _index(sections, bodies, heading_of)
    return files


def _math_font() -> bytes:
    """STIX Two Math, which comes with ziamath; b"" without it: then the reader's own fonts serve.

    Phones and many Linux machines have no font for formulas, and set them badly.
    """
    spec = importlib.util.find_spec("ziamath")
    path = Path(spec.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf" if spec else None
    return path.read_bytes() if path and path.exists() else b""


def _note(entry) -> str:
    """What is said under the title of a notebook: where its outputs come from."""
    from lrc_lib.course.display import escaped

    name = f"<code>notebooks/{entry['name']}.ipynb</code>"
    if entry["missing"]:
        command = f"<code>{escaped(entry['missing'])}</code>"
        return (
            f'<p class="missing"><strong>Not executed yet.</strong> This is the source of {name}, '
            f"without results. They are made by {command}.</p>"
        )
    if not entry["result"]:
        return f'<p class="origin">{name}, executed; its record of results is missing.</p>'
    made, profile = entry["result"]["provenance"], entry["result"]["parameters"]["profile"]
    return (
        f'<p class="origin">{name}, executed with profile {escaped(profile)}, '
        f"{escaped(made.get('time', ''))}, in {made.get('seconds', 0):.0f} s.</p>"
    )


def _neighbours(name: str) -> str:
    from lrc_lib.course.display import escaped

    names = list(NOTEBOOKS)
    at = names.index(name)
    around = (("prev", names[at - 1] if at else ""), ("next", "".join(names[at + 1 : at + 2])))
    links = "".join(
        f'<a rel="{rel}" href="{other}.html">{other[:2]} {escaped(NOTEBOOKS[other].question)}</a>'
        for rel, other in around
        if other
    )
    return f'<nav class="turn" aria-label="Neighbouring notebooks">{links}</nav>'


def _index(sections, bodies, heading_of) -> str:
    """The list that the browser searches, as a script: a page from disk may not fetch a file."""
    from lrc_lib.cli.site.text import plain_text

    rows = [[s.url, s.page_title, s.title, " ".join(s.text.split())] for s in sections]
    for file, body in bodies.items():
        if file.startswith(("eq-", "paper")):
            rows.append([file, heading_of(body), heading_of(body), plain_text(body)])
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return f"const INDEX={text.replace('</', '<' + chr(92) + '/')};\n"
