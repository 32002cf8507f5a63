"""Student and instructor editions of the notebooks, both made from the ones in notebooks/.

There an exercise is four cells: the question; a code cell tagged `exercise` with a stub; one tagged
`check`; and the folded hints and solution. The student edition loses the solution. In the
instructor edition it moves into the stub, between nbgrader's marks and with nbgrader's metadata, so
that `nbgrader generate_assignment` makes a stub of it again; a check that fails stops the notebook
there, by a hidden test. The test loads the checks anew, so that nothing a student has put in place
of `check` is asked.

Both editions have the quiz (quiz.md) and, where a course is named, a problem set with numbers of
its own; the answers are in the instructor edition only.
"""

import ast
import json
import re
import textwrap
import tomllib
from pathlib import Path

from lrc_lib.course.notebook import NOTEBOOKS, notebook_path
from lrc_lib.errors import InputError

EDITIONS = ("student", "instructor")
SOLUTION = re.compile(r"\n*<details><summary>Solution</summary>.*?</details>", re.S)
PARTS = re.compile(r"```python\n(.*?)```\n+(.*?)\n*</details>", re.S)  # the code, the remark
HASH = "    # "
STUB = "    raise NotImplementedError"
HIDDEN_TEST = """
### BEGIN HIDDEN TESTS
import importlib, sys
for _name in [name for name in sys.modules if name.startswith("lrc_lib.course.check")]:
    del sys.modules[_name]
_result = importlib.import_module("lrc_lib.course.check").{}
assert _result.passed is True, _result.message
### END HIDDEN TESTS"""
CALL = re.compile(r"^result = check\.(.*)$", re.M)


def make_edition(kind: str, out, force: bool = False, course: str = "") -> list[Path]:
    """Writes all notebooks as `kind` into the folder `out`; returns their paths.

    Args:
        kind: one of `EDITIONS`.
        out: a folder that is new or empty.
        force: write into a folder that is not empty, over notebooks of the same names.
        course: a name of the course: its problem set is written as problem_set.ipynb.

    Raises:
        InputError: `out` is not empty, no folder, or the notebooks' own.
    """
    sources, out = [notebook_path(name) for name in NOTEBOOKS], Path(out).expanduser().resolve()
    if out == sources[0].parent:
        raise InputError(f"{out} holds the notebooks that editions are made from: give another.")
    made = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sources}
    if course:
        first = next(iter(made.values()))
        made["problem_set.ipynb"] = {**first, "cells": problem_cells(course)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not force:
            raise InputError(
                f"The folder {out} is not empty. Give another, or --force to write into it, over "
                "notebooks of the same names."
            )
        for name, notebook in made.items():
            {"student": to_student, "instructor": to_instructor}[kind](notebook)
            text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
            (out / name).write_text(text, encoding="utf-8")
        (out / "quiz.md").write_text(quiz(answers=kind == "instructor"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write into {out}: {error}") from None
    return [out / name for name in made]


def quiz(answers: bool) -> str:
    """The quiz of all sessions in Markdown, with or without its answers."""
    source = Path(__file__).with_name("quiz.toml").read_text(encoding="utf-8")
    lines = ["# Quiz", "Ten questions for each session. One option is right."]
    for session in tomllib.loads(source)["session"]:
        lines.append(f"## {session['title']}")
        for number, question in enumerate(session["question"], start=1):
            options = [
                f"   - ({x}) {text}" for x, text in zip("abc", question["options"], strict=True)
            ]
            lines += ["\n".join([f"{number}. {question['ask']}", *options])]
            lines += [f"   **({question['right']})** {question['why']}"] * answers
    return "\n\n".join(lines) + "\n"


HEAD = """# Problem set: {}

Work on paper. Each answer is a number, right within 1 %.
Return it in place of the line that raises."""


def problem_cells(course: str) -> list[dict]:
    """The problem set of a course, in the cells that the notebooks' exercises have."""
    from lrc_lib.course.check.problems import problems  # torch, which no other edition needs

    cells = [
        _cell("markdown", "head", HEAD.format(course)),
        _cell("code", "import", "from lrc_lib.course import check"),
    ]
    for number, one in enumerate(problems(course), start=1):
        name, head = f"answer_{number}", f"### Problem {number}\n\n{'●' * one.points}"
        solution = f"```python\ndef {name}():\n    return {one.answer:.6g}\n```"
        folds = f"<details><summary>Solution</summary>\n\n{solution}\n\n</details>"
        call = f"result = check.problem({course!r}, {number}, {name})"
        cells += [
            _cell("markdown", f"question-{number}", f"{head}\n\n{one.text}"),
            _cell("code", f"answer-{number}", f"def {name}() -> float:\n{STUB}", "exercise"),
            _cell("code", f"check-{number}", call, "check"),
            _cell("markdown", f"work-{number}", f"How you found it:\n\n{folds}"),
        ]
    return cells


def _cell(kind: str, name: str, source: str, *tags: str) -> dict:
    cell = {"cell_type": kind, "id": name, "metadata": {"tags": [*tags]}, "source": source}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


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
        check["source"] = (source := "".join(check["source"])) + HIDDEN_TEST.format(
            CALL.search(source)[1]
        )
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
