"""Writes docs/errors.md: every error message of the kit, by the place that raises it.

python tools/errors.py
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
KINDS = {"LrcError": 1, "TrainingError": 1, "InputError": 2, "unknown": 2, "UnavailableError": 3}
HEAD = """# Errors

An error that you can fix ends with one line: what is wrong, where, and what to do next. No
traceback is shown, and nothing half-written is left behind. In Python these are the classes of
`lrc_lib.errors`; on the command line they decide the exit code:

| exit code | class | what it is |
| --- | --- | --- |
| 0 | | it worked |
| 1 | `TrainingError`, `LrcError` | a run, an export or a notebook failed |
| 2 | `InputError` | a wrong name, value or file |
| 3 | `UnavailableError` | something cannot be fetched, or the disk is full |
| 130 | | interrupted; the same command continues |

A line that begins with `damaged:` is no error: a file was not what had been written, its folder was
set aside under the name `….damaged`, and what it held is made again. `python -m tests.chaos` tries
this for every kind of file; [Reliability](reliability.md) has the counts.

All messages follow, in the order of the code; `…` stands for what depends on the case.
`python tools/errors.py` writes this page.
"""


def template(node) -> str:
    """The text of a message, with … for what is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "…"


def messages(path: Path) -> list[tuple[int, str]]:
    """(exit code, message) of each error that a file of the library makes, in its order."""
    calls = [
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if type(n) is ast.Call
    ]
    found = []
    for call in sorted(calls, key=lambda call: call.lineno):
        kind = getattr(call.func, "id", "")
        if kind in KINDS and call.args:
            text = template(call.args[0])
            if kind == "unknown":
                text = f"Unknown {text} '…'. Did you mean '…'? Known: …."
            found.append((KINDS[kind], re.sub(r"…(\s*…)*", "…", " ".join(text.split()))))
    return found


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path in sorted((ROOT / "lrc_lib").rglob("*.py")):
        rows = [row for row in messages(path) if row[1] != "…"] if path.stem != "errors" else []
        if rows:
            name = path.relative_to(ROOT).as_posix()
            lines = [f"## {name}", "", "| exit code | message |", "| --- | --- |"]
            text = (f"| {code} | {shown(message)} |" for code, message in dict.fromkeys(rows))
            parts.append("\n".join([*lines, *text, ""]))
    return "\n".join(parts)


def shown(message: str) -> str:
    """A message in a table of Markdown, as it is."""
    return re.sub(r"([|*_`<>\[\]$\\{}])", r"\\\1", message)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
