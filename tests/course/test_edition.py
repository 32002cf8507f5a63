"""Both editions: what is in them, that the one is green and the other red, and the command."""

import json
import re
import shutil

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from lrc_lib.cli.commands import main
from lrc_lib.course import check
from lrc_lib.course.edition import make_edition, solved
from lrc_lib.course.notebook import NOTEBOOKS, ROOT
from lrc_lib.errors import InputError
from lrc_lib.models import build_student

EXERCISES = [name for name in check.__all__ if name.startswith("ex_")]
NUMBERS = {"{}.{}".format(*map(int, name.split("_")[1:])) for name in EXERCISES}


@pytest.fixture(scope="module")
def editions(tmp_path_factory):
    out = tmp_path_factory.mktemp("editions")
    return {kind: make_edition(kind, out / kind) for kind in ("student", "instructor")}


def cells(path, tag=None):
    found = nbformat.read(path, as_version=4).cells
    return [c for c in found if tag is None or tag in c.metadata.get("tags", [])]


def said(lines):
    """{number of the exercise: (right or not yet, sentence)} of printed lines."""
    found = [re.match(r"(\d\.\d): (right|not yet)\. (.+)", line) for line in lines]
    return {match[1]: (match[2], match[3]) for match in found if match}


@pytest.mark.parametrize("kind", ["student", "instructor"])
def test_an_edition_has_all_notebooks_and_they_are_valid(editions, kind):
    assert [path.stem for path in editions[kind]] == list(NOTEBOOKS)
    for path in editions[kind]:
        nbformat.validate(nbformat.read(path, as_version=4))


def test_the_student_edition_has_stubs_and_hints_and_no_solution(editions):
    for path in editions["student"]:
        assert "Solution</summary>" not in path.read_text()
        source = cells(ROOT / "notebooks" / path.name)
        assert len(cells(path)) == len(source)
        for cell, before in zip(cells(path), source, strict=True):
            if "<details>" in before.source:
                assert cell.source.count("<details>") == 2 and "Hint 2" in cell.source
            else:
                assert cell == before


def test_the_instructor_edition_is_solved_between_marks_that_give_the_stub_back(editions):
    for path in editions["instructor"]:
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
            assert "\n### BEGIN HIDDEN TESTS\nassert result.passed" in cell.source


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
    for path in editions["student"]:
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
