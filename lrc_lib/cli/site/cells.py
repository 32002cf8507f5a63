"""An executed notebook as the body of a page, and its sections as text."""

import base64
import re
import struct
from dataclasses import dataclass, field

from lrc_lib.cli.mathml import rich_html
from lrc_lib.cli.site.text import anchor_of, highlighted, plain_text, to_html
from lrc_lib.course.display import escaped, wide

CAPTION = re.compile(r"<p><em>(.*)</em></p>", re.S)
DROPPED = {  # tag of a cell whose output is left out: what stands in its place
    "interactive": "Sliders: open the notebook in JupyterLab. The figure above shows them at rest.",
    "check": "Run the notebook to check an answer of yours.",
}
FOLDED = {"parameters": "Settings", "injected-parameters": "Settings of this run"}


@dataclass
class Section:
    """What stands between two headings of a notebook.

    Attributes:
        url: of its heading on the site.
        level: of its heading, 1 to 3.
        markdown, code: the sources of its cells.
        text: all that its cells and outputs say, without formulas' TeX.
    """

    url: str
    title: str
    page_title: str
    level: int
    markdown: str = ""
    code: str = ""
    text: str = ""


@dataclass
class NotebookPage:
    """The body of a page, its sections, and the files that go beside it: {name: bytes}."""

    body: str
    sections: list[Section]
    figures: dict[str, bytes] = field(default_factory=dict)


def notebook_page(notebook, name: str, question: str, note: str) -> NotebookPage:
    """The page of one notebook.

    Args:
        notebook: nbformat 4, executed or not.
        name: the page is `name`.html, its figures `figures/name-N.png`.
        question: the title of the sections' page.
        note: HTML to be put under the main heading.
    """
    page, shown, html = NotebookPage("", []), set(), []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            made = to_html(cell.source, shown)
            _enter(page, cell.source, made, name, question)
        elif cell.cell_type == "code" and cell.source.strip():
            made = _code(cell, page, name)
            page.sections[-1].code += cell.source + "\n"
            page.sections[-1].text += f" {cell.source} {_said(cell)}"
        else:
            continue
        html.append(made)
    first, end, rest = "\n".join(html).partition("</h1>")
    page.body = f"{first}{end}\n{note}{_contents(page.sections)}\n{rest}"
    return page


def _enter(page, source, made, name, question) -> None:
    """Adds a cell of Markdown to the sections; each of its headings begins a new one."""
    sources = re.split(r"(?m)^(?=#{1,3} )", _unfenced(source))
    for source, part in zip(
        [s for s in sources if s.strip()],
        [p for p in re.split(r"(?=<h[1-3] id=)", made) if p.strip()],
        strict=True,
    ):
        heading = re.match(r"<h([1-3]) id=.*?>(.*?)</h\1>", part, re.S)
        if heading or not page.sections:
            inside = heading[2] if heading else escaped(question)
            url = f"{name}.html" + (f"#{anchor_of(inside)}" if page.sections else "")
            level = int(heading[1]) if heading else 1
            page.sections.append(Section(url, plain_text(inside), question, level))
        page.sections[-1].markdown += source
        page.sections[-1].text += " " + plain_text(part)


def _unfenced(source: str) -> str:
    """The source without blocks of code, whose comments look like headings."""
    return re.sub(r"(?ms)^```.*?^```", "", source)


def _said(cell) -> str:
    """The text of a code cell's outputs in HTML: findings, captions, tables."""
    return " ".join(
        plain_text(rich_html(_clean(output.data["text/html"])))
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    )


def _contents(sections) -> str:
    items = "".join(
        f'<li><a href="#{escaped(s.url.partition("#")[2])}">{escaped(s.title)}</a></li>'
        for s in sections
        if s.level == 2
    )
    return f'<details class="contents"><summary>On this page</summary><ul>{items}</ul></details>'


def _code(cell, page, name) -> str:
    tags = cell.metadata.get("tags", [])
    html = highlighted(cell.source.strip("\n"))
    for tag, title in FOLDED.items():
        if tag in tags:
            return f'<details class="settings"><summary>{title}</summary>{html}</details>'
    for tag, instead in DROPPED.items():
        if tag in tags:
            return f'{html}<p class="instead">{instead}</p>'
    outputs = _merged(cell.get("outputs", []))
    return html + "".join(_output(output, page, name) for output in outputs)


def _merged(outputs):
    """The outputs, each figure with the caption that follows it as `caption`."""
    merged = []
    for output in outputs:
        caption = CAPTION.fullmatch(output.get("data", {}).get("text/html", "").strip())
        if caption and merged and "image/png" in merged[-1].get("data", {}):
            merged[-1]["caption"] = caption[1]
        else:
            merged.append(dict(output))
    return merged


def _output(output, page, name) -> str:
    if output["output_type"] == "stream":
        return f'<pre class="said">{escaped(_uncoloured(output["text"]).rstrip())}</pre>'
    if output["output_type"] == "error":
        text = escaped(f"{output['ename']}: {output['evalue']}")
        return f'<pre class="said failed">{text}</pre>'
    data = output["data"]
    if "image/png" in data:
        return _figure(output, page, name)
    if "text/html" in data:
        return _table(rich_html(_clean(data["text/html"])))
    return f'<pre class="said">{escaped(data.get("text/plain", ""))}</pre>'


def _figure(output, page, name) -> str:
    content = base64.b64decode(output["data"]["image/png"])
    file = f"figures/{name}-{len(page.figures) + 1}.png"
    page.figures[file] = content
    meta = output.get("metadata", {}).get("image/png", {})
    width, height = struct.unpack(">II", content[16:24])  # of the PNG's first chunk
    shown = meta.get("width", width)
    size = f'width="{shown}" height="{round(height * shown / width)}"'
    alt, caption = escaped(meta.get("alt", "")), rich_html(f"<i>{output.get('caption', '')}</i>")
    below = f"<figcaption>{caption[3:-4]}</figcaption>" if output.get("caption") else ""
    box = wide(f'<img src="{file}" alt="{alt}" {size}>', "Figure, scrolls where it is too wide")
    return f"<figure>{box}{below}</figure>"


def _clean(html: str) -> str:
    """HTML of an output without its style, which is the site's here."""
    return re.sub(r"<style>.*?</style>\s*", "", html, flags=re.S)


def _table(html: str) -> str:
    html = html.replace("<blockquote><strong>Found", '<blockquote class="found"><strong>Found')
    table = re.search(r"<table.*</table>", html, re.S)
    if not table:
        return html
    caption = re.search(r"<caption>(.*?)</caption>", table[0], re.S)
    label = plain_text(caption[1]) if caption else "Table"
    return html.replace(table[0], wide(table[0], label))


def _uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
