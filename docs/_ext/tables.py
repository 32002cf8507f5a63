"""Tables that a screen reader can read: a header for each row and column."""

import re

from docutils import nodes


def read_tables(app, doctree) -> None:
    """Sphinx's hook: no empty head, and the first cell of a row is its header."""
    for group in doctree.findall(nodes.tgroup):
        for head in list(group.findall(nodes.thead)):
            if not head.astext().strip():
                group.remove(head)
        next(group.findall(nodes.colspec))["stub"] = 1


def scoped(app, page, template, context, doctree) -> None:
    """Sphinx's hook: every header says whether it is a row's or a column's."""
    body = re.sub(r'<th(?= class="[^"]*\bhead\b)', '<th scope="col"', context.get("body", ""))
    context["body"] = re.sub(r'<th(?= class="stub)', '<th scope="row"', body)
