"""What all pages have around their body: head, search, navigation."""

import re

from lrc_lib.cli.site.equations import EQUATIONS, page_of
from lrc_lib.cli.site.text import plain_text
from lrc_lib.course.display import escaped
from lrc_lib.course.notebook import NOTEBOOKS

SITE = "LRC-BERT, step by step"


def heading_of(body: str) -> str:
    """The text of a body's main heading."""
    return plain_text(re.search(r"<h1.*?</h1>", body, re.S)[0])


def shell(file: str, body: str, sections) -> str:
    """A whole page.

    Args:
        file: the page's own file name, which the navigation marks.
        sections: the `cells.Section` of all notebooks; those of this page are listed.
    """
    title = heading_of(body)
    title = SITE if title == SITE else f"{title} · {SITE}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escaped(title)}</title>"
        '<link rel="stylesheet" href="style.css"><link rel="icon" href="data:,"></head>\n'
        '<body>\n<a class="skip" href="#main">Skip to the text</a>\n'
        f'<header><a class="brand" href="index.html">{SITE}</a>'
        f"{_search(file)}"
        '<button class="menu" popovertarget="menu">Contents</button></header>\n'
        f'<div class="frame"><nav id="menu" popover aria-label="All pages">{_menu(file, sections)}'
        f'</nav>\n<main id="main">\n{body}\n</main></div>\n</body>\n</html>\n'
    )


def _search(file: str) -> str:
    if file == "search.html":  # it has a field of its own
        return ""
    return (
        '<form class="quick" role="search" action="search.html"><input type="search" name="q" '
        'aria-label="Search these pages" placeholder="Search"></form>'
    )


def _menu(file: str, sections) -> str:
    notebooks = "".join(
        _item(file, f"{name}.html", f"{name[:2]} {notebook.question}", sections)
        for name, notebook in NOTEBOOKS.items()
    )
    equations = "".join(
        _item(file, page_of(n), f"({n}) {name}") for n, (name, _) in EQUATIONS.items()
    )
    return (
        f"<ul>{_item(file, 'index.html', 'What reproduced')}{notebooks}"
        f"{_item(file, 'equations.html', 'The equations')}<li><ul>{equations}</ul></li>"
        f"{_item(file, 'paper.html', 'The paper’s numbers')}"
        f"{_item(file, 'search.html', 'Search')}</ul>"
    )


def _item(file: str, target: str, title: str, sections=()) -> str:
    """A line of the menu; the page one is on lists its sections, too."""
    here = ' aria-current="page"' if file == target else ""
    inside = "".join(
        f'<li><a href="#{escaped(s.url.partition("#")[2])}">{escaped(s.title)}</a></li>'
        for s in sections
        if here and s.level == 2 and s.url.startswith(f"{target}#")
    )
    inside = f'<ul class="inside">{inside}</ul>' if inside else ""
    return f'<li><a href="{target}"{here}>{escaped(title)}</a>{inside}</li>'
