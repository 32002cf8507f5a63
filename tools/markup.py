"""Tables in Markdown, for the pages that `tools/readme.py` writes."""

from collections.abc import Iterable


def md_table(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    """A table: numbers with four digits, nothing for None, `|` escaped."""
    lines = [list(head), *([_cell(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value) -> str:
    if value is None:
        return ""
    return (f"{value:.4g}" if isinstance(value, float) else str(value)).replace("|", r"\|")
