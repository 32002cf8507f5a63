"""Student and instructor editions of the notebooks, both made from the ones in notebooks/.

There an exercise is four cells: the question; a code cell tagged `exercise` with a stub; one tagged
`check`; and the folded hints and solution. The student edition loses the solution. In the
instructor edition it moves into the stub, between nbgrader's marks and with nbgrader's metadata, so
that `nbgrader generate_assignment` makes a stub of it again; a check that fails stops the notebook
there, by a hidden test.
"""

import ast
import json
import re
import textwrap
from pathlib import Path

from lrc_lib.course.notebook import NOTEBOOKS, notebook_path
from lrc_lib.errors import InputError

EDITIONS = ("student", "instructor")
SOLUTION = re.compile(r"\n*<details><summary>Solution</summary>.*?</details>", re.S)
PARTS = re.compile(r"```python\n(.*?)```\n+(.*?)\n*</details>", re.S)  # the code, the remark
HASH = "    # "
STUB = "    raise NotImplementedError"
HIDDEN_TEST = "\n### BEGIN HIDDEN TESTS\nassert result.passed, result.message\n### END HIDDEN TESTS"


def make_edition(kind: str, out, force: bool = False) -> list[Path]:
    """Writes all notebooks as `kind` into the folder `out`; returns their paths.

    Args:
        kind: one of `EDITIONS`.
        out: a folder that is new or empty.
        force: write into a folder that is not empty, over notebooks of the same names.

    Raises:
        InputError: `out` is not empty, no folder, or the notebooks' own.
    """
    sources, out = [notebook_path(name) for name in NOTEBOOKS], Path(out).expanduser().resolve()
    if out == sources[0].parent:
        raise InputError(f"{out} holds the notebooks that editions are made from: give another.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not force:
            raise InputError(
                f"The folder {out} is not empty. Give another, or --force to write into it, over "
                "notebooks of the same names."
            )
        for path in sources:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            {"student": to_student, "instructor": to_instructor}[kind](notebook)
            text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
            (out / path.name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write into {out}: {error}") from None
    return [out / path.name for path in sources]


def to_student(notebook: dict) -> None:
    """Removes the folded solutions from a notebook's JSON, in place."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = SOLUTION.sub("", "".join(cell["source"]))


def to_instructor(notebook: dict) -> None:
    """Moves each solution into its stub and puts a hidden test under its check, in place."""
    cells = notebook["cells"]
    for question, cell, check, folds in zip(cells, cells[1:], cells[2:], cells[3:], strict=False):
        if "exercise" not in cell["metadata"].get("tags", []):
            continue
        folded = "".join(folds["source"])
        solution = PARTS.search(SOLUTION.search(folded)[0]).groups()
        cell["source"] = solved("".join(cell["source"]), *solution)
        folds["source"] = SOLUTION.sub("", folded)
        check["source"] = "".join(check["source"]) + HIDDEN_TEST
        cell["metadata"]["nbgrader"] = _graded(cell["id"], grade=False)
        points = "".join(question["source"]).count("●")  # a point for each step of difficulty
        check["metadata"]["nbgrader"] = _graded(check["id"], grade=True) | {"points": points}


def solved(stub: str, solution: str, remark: str = "") -> str:
    """`stub` with each function's body from `solution`, between nbgrader's marks.

    The remark on the solution becomes a comment in the first body.
    """
    lines = solution.splitlines()
    bodies = {
        node.name: lines[node.body[0].lineno - 1 : node.end_lineno]
        for node in ast.parse(solution).body
    }
    written, comment = [], textwrap.wrap(remark, 94, initial_indent=HASH, subsequent_indent=HASH)
    for line in stub.splitlines():
        if line.startswith("def "):
            name = re.match(r"def (\w+)", line)[1]
        if line == STUB:
            written += ["    ### BEGIN SOLUTION", *comment, *bodies[name], "    ### END SOLUTION"]
            comment = []
        else:
            written.append(line)
    return "\n".join(written)


def _graded(name: str, grade: bool) -> dict:
    """nbgrader's metadata of a cell, in its schema 3."""
    return {
        "grade": grade,
        "grade_id": name,
        "locked": grade,
        "schema_version": 3,
        "solution": not grade,
        "task": False,
    }
