"""Tables and values made safe to show in HTML and to store as JSON."""

import html
import re

from lrc_lib.data.text import visible


def escaped(text) -> str:
    """`text` as harmless HTML text: `visible`, then `<`, `>`, `&` and quotes escaped."""
    return html.escape(visible(text))


def table_html(columns, rows, caption: str, note: str = "") -> str:
    """An HTML table: every cell is escaped; the first cell of a row is its header.

    Missing values are empty cells, floats have four significant digits. Cells of columns of words
    have the class `words`; the others are numbers, with an interval or a unit perhaps.

    Args:
        columns: names.
        rows: lists of values as long as `columns`.
        caption, note: HTML, escaped already.
    """

    def cell(value) -> str:
        if value is None or value != value:
            return ""
        return f"{value:.4g}" if isinstance(value, float) else escaped(value)

    def is_word(value) -> bool:
        return isinstance(value, str) and not re.match(r"([+-]?\d.{,39})?$", value)

    kinds = [' class="words"' * any(map(is_word, values)) for values in zip(*rows, strict=True)]
    kinds = kinds or [""] * len(columns)
    heads = zip(kinds, columns, strict=True)
    head = "".join(f'<th scope="col"{kind}>{escaped(name)}</th>' for kind, name in heads)
    body = []
    for first, *rest in rows:
        pairs = zip(kinds[1:], rest, strict=True)
        cells = "".join(f"<td{kind}>{cell(value)}</td>" for kind, value in pairs)
        body.append(f'<tr><th scope="row">{cell(first)}</th>{cells}</tr>')
    below = f"<p><small>{note}</small></p>" if note else ""
    return (
        f'<table class="lrc"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{below}"
    )


def wide(html: str, label: str) -> str:
    """HTML in a box that scrolls sideways by itself, by keyboard too, where it is too wide."""
    return f'<div class="wide" role="group" aria-label="{escaped(label)}" tabindex="0">{html}</div>'


def plain(value):
    """`value` as something JSON holds: numpy numbers and arrays, paths and tuples included.

    Numbers that are not finite become None, as JSON has none.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, range)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return None if type(value).__name__ in ("NAType", "NaTType") else str(value)
