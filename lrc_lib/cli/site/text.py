"""Markdown of notebooks and docstrings as HTML: headings with anchors, tables with headers, MathML.

What names an equation or one of its functions becomes a link to the equation's page.
"""

import functools
import re

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from lrc_lib.cli.mathml import mathml
from lrc_lib.cli.site.equations import NAMED, page_of
from lrc_lib.course.display import escaped, wide

TAG = re.compile(r"\\tag\{([^}]*)\}")
LABELS = {"Paper gap": "gap", "Our note": "note", "Found here": "found"}
# Text that may hold links of its own, or none at all, is passed over.
PASSED = re.compile(
    r"<a\b.*?</a>|<math\b.*?</math>|<(?:code|pre|h[1-6])\b.*?</(?:code|pre|h[1-6])>|<[^>]+>", re.S
)


def plain_text(html: str) -> str:
    """The text of HTML, without its tags, each run of spaces as one."""
    import html as entities

    return " ".join(entities.unescape(re.sub(r"<[^>]+>", " ", html)).split())


def anchor_of(heading: str) -> str:
    """The id that Jupyter gives a heading, so that links within notebooks go on working."""
    return plain_text(heading).replace(" ", "-")


def to_html(markdown: str, shown=None) -> str:
    """HTML of Markdown.

    Args:
        shown: numbers of the equations that the page has displayed already: those met for the
            first time get the id `eq-N`, and are added.
    """
    renderer = Renderer(set() if shown is None else shown)
    return link_equations(MarkdownWithMath(renderer=renderer).render(markdown))


def highlighted(source: str) -> str:
    """Python with a class on every token."""
    return Renderer(set()).block_code(source, "python")


def link_equations(html: str) -> str:
    """HTML in whose text "Eq. (1)" and the like lead to the pages of the equations."""
    kept, end = [], 0
    for match in PASSED.finditer(html):
        kept += [_linked(html[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*kept, _linked(html[end:])])


def _linked(text: str) -> str:
    def numbers(match):
        return re.sub(
            r"\((\d)\)", lambda m: f'<a href="{page_of(int(m[1]))}">({m[1]})</a>', match[0]
        )

    return NAMED.sub(numbers, text)


@functools.cache
def _functions() -> dict[str, str]:
    """{"cos_nce" and "lrc_lib.losses.cos_nce": where its documentation is on this site}."""
    from lrc_lib.cli.site.equations import functions

    pages = {}
    for function in functions():
        target = f"{page_of(function.numbers[0])}#{function.name}"
        pages |= {function.name: target, function.dotted: target}
    return pages


class Renderer(IPythonRenderer):
    """nbconvert's renderer, with MathML, table headers and links between the pages."""

    def __init__(self, shown: set):
        super().__init__(escape=False, exclude_anchor_links=True)
        self.shown = shown

    def heading(self, text, level, **attrs):
        return f'<h{level} id="{escaped(anchor_of(text))}">{text}</h{level}>\n'

    def link(self, text, url, title=None):
        if not re.match(r"\w+:", url):
            url = re.sub(r"\.ipynb(?=#|$)", ".html", url)
        return super().link(text, url, title)

    def codespan(self, text):
        html, target = super().codespan(text), _functions().get(text)
        return f'<a href="{target}">{html}</a>' if target else html

    def block_quote(self, text):
        kind = next((LABELS[label] for label in LABELS if f"<strong>{label}" in text), "")
        return f'<blockquote class="{kind}">\n{text}</blockquote>\n'

    def inline_math(self, body):
        return mathml(body) or f"<code>{escaped(body)}</code>"

    def block_math(self, body):
        tag = TAG.search(body)
        made = mathml(TAG.sub("", body), block=True) or f"<pre>{escaped(body)}</pre>"
        if not tag:
            return f'<div class="equation" tabindex="0">{made}</div>\n'
        numbers = [int(n) for n in re.findall(r"\d+", tag[1])]
        new = [n for n in numbers if n not in self.shown]
        self.shown.update(new)
        ids = "".join(f'<span id="eq-{n}"></span>' for n in new)
        links = " ".join(f'<a href="{page_of(n)}">({n})</a>' for n in numbers)
        return (
            f'<div class="equation" tabindex="0">{ids}{made}<span class="number">{links}</span>'
            "</div>\n"
        )

    def table(self, text):
        label = plain_text("".join(re.findall(r"<th.*?</th>", text, re.S)[:3]))
        return wide(f"<table>\n{text}</table>", f"Table: {label}") + "\n"

    def table_head(self, text):
        text = re.sub(r"<th(?=[ >])", '<th scope="col"', text)
        return f"<thead>\n<tr>\n{text}</tr>\n</thead>\n" if plain_text(text) else ""

    def table_row(self, text):
        first = r'<th scope="row"\1>\2</th>'
        row = re.sub(r"<td([^>]*)>(.*?)</td>", first, text, count=1, flags=re.S)
        return f"<tr>\n{row}</tr>\n"
