"""Both editions: what is in them, that the one is green and the other red, and the command."""

import json
import re
import shutil
import sys
from collections import Counter

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from lrc_lib.cli.commands import main
from lrc_lib.course import check
from lrc_lib.course.check import core
from lrc_lib.course.check.problems import problems
from lrc_lib.course.edition import make_edition, solved
from lrc_lib.course.notebook import NOTEBOOKS, ROOT
from lrc_lib.errors import InputError
from lrc_lib.models import build_student

EXERCISES = [name for name in check.__all__ if name.startswith("ex_")]
NUMBERS = {"{}.{}".format(*map(int, name.split("_")[1:])) for name in EXERCISES}


@pytest.fixture(scope="module")
def editions(tmp_path_factory):
    out = tmp_path_factory.mktemp("editions")
    kinds = ("student", "instructor")
    return {kind: make_edition(kind, out / kind, course="fall-27") for kind in kinds}


def cells(path, tag=None):
    found = nbformat.read(path, as_version=4).cells
    return [c for c in found if tag is None or tag in c.metadata.get("tags", [])]


def said(lines):
    """{number of the exercise: (right or not yet, sentence)} of printed lines."""
    found = [re.match(r"(\d\.\d): (right|not yet)\. (.+)", line) for line in lines]
    return {match[1]: (match[2], match[3]) for match in found if match}


@pytest.mark.parametrize("kind", ["student", "instructor"])
def test_an_edition_has_all_notebooks_and_they_are_valid(editions, kind):
    assert [path.stem for path in editions[kind]] == [*NOTEBOOKS, "problem_set"]
    for path in editions[kind]:
        nbformat.validate(nbformat.read(path, as_version=4))


def test_the_student_edition_has_stubs_and_hints_and_no_solution(editions):
    for path in editions["student"][:-1]:
        assert "Solution</summary>" not in path.read_text()
        source = cells(ROOT / "notebooks" / path.name)
        assert len(cells(path)) == len(source)
        for cell, before in zip(cells(path), source, strict=True):
            if "<details>" in before.source:
                assert cell.source.count("<details>") == 2 and "Hint 2" in cell.source
            else:
                assert cell == before


def test_the_instructor_edition_is_solved_between_marks_that_give_the_stub_back(editions):
    for path in editions["instructor"][:-1]:
        assert "Solution</summary>" not in path.read_text()  # nbgrader would hand it out
        stubs = {c.id: c.source for c in cells(ROOT / "notebooks" / path.name, "exercise")}
        for cell in cells(path, "exercise"):
            assert cell.metadata["nbgrader"]["solution"] and "NotImplemented" not in cell.source
            marked = r" {4}### BEGIN SOLUTION\n.*?### END SOLUTION"
            stub = re.sub(marked, "    raise NotImplementedError", cell.source, flags=re.S)
            assert stub == stubs[cell.id]
            compile(cell.source, cell.id, "exec")
        for cell in cells(path, "check"):
            assert (
                cell.metadata["nbgrader"]["grade"] and 1 <= cell.metadata["nbgrader"]["points"] <= 3
            )
            assert cell.source.count("### BEGIN HIDDEN TESTS") == 1


def graded(path, number):
    """(stub or solution, graded cell) of an exercise in an edition."""
    found = zip(cells(path, "exercise"), cells(path, "check"), strict=True)
    return [(stub.source, test.source) for stub, test in found][number - 1]


CHEATS = {
    "redefined": "class check:\n    ex_01_1 = staticmethod(lambda *x: check)\n    passed = True",
    "patched": "from lrc_lib.course.check.core import Result\n"
    "check.ex_01_1 = lambda *x: Result(True, 'right')",
    "result": "from lrc_lib.course.check import core\ncore.Mistake = type('M', (str,), {})",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_check_that_a_student_has_replaced_is_not_asked_by_the_hidden_test(editions, cheat):
    stub, test = graded(editions["student"][1], 1)[0], graded(editions["instructor"][1], 1)[1]
    loaded = {name: m for name, m in sys.modules.items() if name.startswith("lrc_lib.course")}
    known = check.ex_01_1, core.Mistake
    try:
        space = {"torch": torch, "check": check}
        exec(f"{stub}\n\n\n{CHEATS[cheat]}", space)
        with pytest.raises((AssertionError, NotImplementedError, TypeError)):
            exec(test, space)
        assert cheat == "result" or space["result"].passed  # what the visible line says
    finally:
        sys.modules.update(loaded)
        check.ex_01_1, core.Mistake = known


def test_the_quiz_has_ten_questions_a_session_and_answers_for_instructors_only(editions):
    student, instructor = (
        (editions[kind][0].parent / "quiz.md").read_text() for kind in ("student", "instructor")
    )
    assert len(re.findall(r"^## Session", student, flags=re.M)) == 6
    assert [len(re.findall(rf"^{n}\. ", student, flags=re.M)) for n in (1, 10, 11)] == [6, 6, 0]
    assert student.count("   - (") == 180 and "**(" not in student
    assert instructor.count("\n   **(") == 60
    letters = Counter(re.findall(r"\*\*\(([abc])\)", instructor))
    assert min(letters.values()) >= 12, letters


def test_a_course_has_numbers_of_its_own_and_the_answers_are_computed(editions, capsys):
    student, instructor = (editions[kind][-1] for kind in ("student", "instructor"))
    text = student.read_text()
    assert "Solution" not in text and text.count("raise NotImplementedError") == 10
    mine, other = problems("fall-27"), problems("spring-28")
    assert all(f"{one.answer:.6g}" not in one.text for one in mine)
    assert sum(a.text == b.text for a, b in zip(mine, other, strict=True)) == 0
    assert mine == problems("fall-27")
    space = {}
    for cell in cells(instructor):
        exec(cell.source if cell.cell_type == "code" else "", space)
    assert capsys.readouterr().out.count(": right.") == 20  # each cell's own line, and its test's
    for wrong in (lambda: mine[0].answer + 1, lambda: None, lambda: "0.5", lambda: float("nan"), 3):
        assert not check.problem("fall-27", 1, wrong).passed


def test_a_solution_goes_where_the_stub_of_the_same_name_is():
    stub = 'def f(x: int) -> int:\n    """Doc."""\n    raise NotImplementedError\n\n\n'
    stub += "def g(\n    x: int,\n) -> int:\n    raise NotImplementedError"
    made = solved(stub, "def g(x):\n    return 2\n\n\ndef f(x):\n    y = x\n    return y", "Why.")
    space = {}
    exec(made, space)
    assert (space["f"](1), space["g"](1)) == (1, 2) and made.count("# Why.") == 1


def test_without_an_answer_every_check_says_so_and_the_notebook_runs_on(smoke, editions):
    """The smoke run executed the notebooks with the student edition's stubs."""
    out, _ = smoke
    found = {}
    for path in editions["student"][:-1]:
        executed = json.loads((out / "notebooks" / path.name).read_text())["cells"]
        lines = [o for c in executed for o in c.get("outputs", []) if o.get("name") == "stdout"]
        found |= said("".join("".join(o["text"]) for o in lines).splitlines())
        stubs = [
            "".join(c["source"]) for c in executed if "exercise" in c["metadata"].get("tags", [])
        ]
        assert stubs == [c.source for c in cells(path, "exercise")]
    assert set(found) == NUMBERS
    for verdict, sentence in found.values():
        assert verdict == "not yet" and sentence.startswith("No answer yet: write the body of `")


@pytest.fixture(scope="module")
def store(smoke, tmp_path_factory):
    """A copy of the smoke run's store, to write results next to it."""
    out = tmp_path_factory.mktemp("instructor")
    shutil.copytree(smoke[0] / "runs", out / "runs")
    return out


def smaller(layers=4, hidden=312, intermediate=1200, *heads, **rest):
    """`build_student`, but for the BERT-base that 02 and 09 make in order to time it."""
    timed = hidden == 768 and torch.get_default_device().type != "meta"
    shape = (2, 48, 96) if timed else (layers, hidden, intermediate)
    return build_student(*shape, *heads, **rest)


def drawn_elsewhere(self, figure, *rest, **more):
    """In place of `Session.figure`: the smoke run has drawn and saved them all."""
    plt.close(figure)


@pytest.mark.parametrize("number", sorted({int(n.split(".")[0]) for n in NUMBERS}))
def test_the_instructor_edition_runs_with_all_checks_right(
    number, editions, store, monkeypatch, capsys
):
    monkeypatch.setenv("LRC_HEADLESS", "1")
    monkeypatch.setattr("lrc_lib.models.build_student", smaller)
    monkeypatch.setattr("lrc_lib.course.session.Session.figure", drawn_elsewhere)
    path = next(p for p in editions["instructor"] if p.stem.startswith(f"{number:02}"))
    space = {}
    try:
        for cell in cells(path):
            source = cell.source if cell.cell_type == "code" else ""
            if "parameters" in cell.metadata.get("tags", []):
                source += f'\nPROFILE, DEVICE, OUT = "smoke", "cpu", {str(store)!r}'
            exec(compile(source, f"{path.stem} {cell.id}", "exec"), space)
    finally:
        torch.set_default_dtype(torch.float32)  # notebook 01 computes in float64
    found = said(capsys.readouterr().out.splitlines())
    assert set(found) == {n for n in NUMBERS if n.startswith(str(number))}
    assert {verdict for verdict, _ in found.values()} == {"right"}, found


def test_a_folder_that_is_not_empty_is_refused_unless_forced(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["edition", "student", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1
    assert main(["edition", "student", str(tmp_path), "--force"]) == 0
    assert f"student edition: {len(NOTEBOOKS)} notebooks in" in capsys.readouterr().out
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert main(["edition", "instructor", str(tmp_path / "mine.txt")]) == 2
    assert "Cannot write into" in capsys.readouterr().err


def test_the_notebooks_themselves_are_never_overwritten():
    before = (ROOT / "notebooks" / "01_cos_nce_geometry.ipynb").read_bytes()
    with pytest.raises(InputError, match="editions are made from"):
        make_edition("student", ROOT / "notebooks", force=True)
    assert (ROOT / "notebooks" / "01_cos_nce_geometry.ipynb").read_bytes() == before
