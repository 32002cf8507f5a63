"""docs/teaching.md: the names in it, its commands, and its ten minutes, followed."""

import copy
import csv
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import textwrap
import uuid

import nbformat
import pytest
from conftest import sentences

from lrc_lib.cli.commands import build_parser
from lrc_lib.course import check
from lrc_lib.course.edition import make_edition
from lrc_lib.course.notebook import NOTEBOOKS, ROOT
from lrc_lib.course.session import start

sys.path.insert(0, str(ROOT / "tools"))
from study import study  # noqa: E402

PAGE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def section(title):
    """The text under a heading of the second level."""
    return re.search(rf"^## {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)[1]


def rows(text):
    """The rows of the first table in a text, without its head."""
    lines = [line.strip()[1:-1] for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def cells(number):
    name = next(name for name in NOTEBOOKS if name.startswith(number))
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells


def exercise(number):
    """(points of difficulty, minutes) of the exercise "3.4", as its notebook says."""
    for cell in cells(f"0{number[0]}"):
        if cell.source.startswith(f"### Exercise {number} "):
            return cell.source.count("●"), int(re.search(r"(\d+) minutes", cell.source)[1])
    raise AssertionError(f"there is no exercise {number}")


def test_the_problem_set_adds_up_and_its_checks_exist():
    *problems, page, total = rows(section("A graded problem set"))
    for number, name, minutes, points, _ in problems:
        assert name.strip("`").removeprefix("check.") in check.__all__
        assert name == f"`check.ex_0{number[0]}_{number[2]}`"
        assert exercise(number) == (int(points), int(minutes)), number
    for column in (2, 3, 4):
        found = sum(int(row[column] or 0) for row in (*problems, page))
        assert found == int(total[column]), column


def test_a_session_takes_90_minutes():
    sessions = re.findall(r"^## (Session \d.*)$", PAGE, flags=re.M)
    assert len(sessions) == 6
    for title in sessions:
        blocks = [row for row in rows(section(title)) if row[0].isdigit()]
        blocks = blocks or [r for r in rows(section(title).split("| minutes |", 1)[1]) if r]
        assert sum(int(row[0]) for row in blocks) == 90, title


def test_the_study_sections_exist_and_no_notebook_takes_more_than_an_hour_to_read():
    for name in NOTEBOOKS:
        whole = "\n".join(cell.source for cell in cells(name[:2]))
        there = {int(n) for n in re.findall(r"^## (\d+) ", whole, flags=re.M)}
        one = study(name)
        must, skip = (
            {n for a, b in re.findall(r"(\d+)(?: to (\d+))?", re.sub(r"notebook \d+", "", text))
             for n in range(int(a), int(b or a) + 1)}
            for text in (one.must, one.skip)
        )  # fmt: skip
        assert must and must | skip <= there and not must & skip, name
        assert 15 <= one.reading <= 60, (name, one.reading)


def test_copied_and_split_graded_cells_are_mended_by_the_page(tmp_path):
    page = (ROOT / "docs" / "teaching" / "assistants.md").read_text(encoding="utf-8")
    (tmp_path / "mend.py").write_text(FENCE.search(page[page.index("```python mend.py") :])[3])
    released = make_edition("instructor", tmp_path / "edition")[1]
    handed_in = nbformat.read(released, as_version=4)
    (stub,) = (c for c in handed_in.cells if c.id == "ex-01-2-stub")
    (test,) = (c for c in handed_in.cells if c.id == "ex-01-2-check")
    half = copy.deepcopy(stub)
    stub.source, half.source = stub.source.split("\n\n\n")
    handed_in.cells.insert(handed_in.cells.index(stub) + 1, half)
    handed_in.cells += [copy.deepcopy(test), copy.deepcopy(stub)]
    test.source = "result = True"
    for new in (half, *handed_in.cells[-2:]):
        new.id = uuid.uuid4().hex[:8]
    nbformat.write(handed_in, tmp_path / "in.ipynb")
    subprocess.run([sys.executable, "mend.py", "in.ipynb", released], cwd=tmp_path, check=True)
    mended = nbformat.read(tmp_path / "in.ipynb", as_version=4)
    nbformat.validate(mended)
    wanted = nbformat.read(released, as_version=4).cells
    graded = [c for c in mended.cells if "nbgrader" in c.metadata]
    assert [c.id for c in graded] == [c.id for c in wanted if "nbgrader" in c.metadata]
    found = {c.id: c.source for c in graded}
    assert found[test.id] == next(c.source for c in wanted if c.id == test.id)
    space = {}
    exec("import torch\n" + found[stub.id], space)
    assert callable(space["with_loop"]) and callable(space["without_loop"])


def test_sections_that_are_pointed_to_exist():
    for number, first in re.findall(r"\b(0\d), section (\d+)", PAGE):
        whole = "\n".join(cell.source for cell in cells(number))
        assert re.search(rf"^## {first} ", whole, flags=re.M), (number, first)
    for number in re.findall(r"[Ee]xercise (\d\.\d)", PAGE):
        assert exercise(number)


FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)  # (indent, words, body)


def commands(text):
    """Every command line in the fenced blocks without a language, and in inline code."""
    blocks = [body for _, words, body in FENCE.findall(text) if not words]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(python [^`]+)`", FENCE.sub("", text))
    return [" ".join(line.split()) for line in (*lines, *inline)]


PAGES = {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "teaching").glob("*.md")}
PAGES -= {ROOT / "docs" / "errors.md"}  # messages, with blanks to fill in


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda p: p.stem)
def test_every_command_is_one_that_the_kit_has(page):
    for line in commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        if words[:2] == ["python", "reproduce.py"]:
            build_parser().parse_args(["reproduce", *words[2:]])
        elif words[:3] == ["python", "-m", "lrc_lib"]:
            build_parser().parse_args(words[3:])
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2])


def ten_minutes():
    """({file: its text}, [command]) of the steps, in the page's order."""
    text = PAGE.split("<!-- ten minutes -->")[1].split("<!-- end of ten minutes -->")[0]
    files = {
        words.split()[1]: textwrap.dedent(body) for _, words, body in FENCE.findall(text) if words
    }
    return files, [line for line in commands(text) if line.startswith("python")]


def test_the_ten_minutes_work(tmp_path, tiny_teacher, capfd):
    """Every file and command of the page, in its order; a small teacher makes it a minute's work,
    and the file of texts is longer than the page's, with the same columns."""
    files, lines = ten_minutes()
    head, *examples = csv.reader(files["texts.csv"].splitlines())
    assert all(len(row) == len(head) for row in examples)
    (tmp_path / "mine").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with open(tmp_path / "texts.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *dict(sentences(240, 1)).items()])
    small = "teacher_lr=2e-3 teacher_epochs=6 student_layers=2 epochs=1"
    known = tmp_path / "known.txt"  # general text of words that the small teacher knows
    known.write_text("\n".join(text for text, _ in sentences(240, 2)))
    settings = [f"teacher={tiny_teacher}", f"general_data={known}", *small.split()]
    smaller = ["--profile", "smoke", "--device", "cpu", "--jobs", "1", "--set", *settings]
    environment = os.environ | {"LRC_OUT": str(tmp_path / "out")}
    for line in lines:
        _, script, *words = line.split()
        if script == "reproduce.py":
            script, words = str(ROOT / script), [*words, *smaller]
        done = subprocess.run([sys.executable, script, *words], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "out" / "report.html").read_text()
    assert "My texts" in report and "04_two_stage_distillation" in report
    again = start("04_two_stage_distillation", "smoke", data=str(tmp_path / "mine"),
                           settings=" ".join(settings), out=str(tmp_path / "out"))  # fmt: skip
    again.run("lrc")  # as a notebook with DATA set does
    assert "read from the store" in capfd.readouterr().out


def test_a_seat_reads_the_shared_trainings_and_writes_into_its_own_folder(
    learned, out, tmp_path, tiny_spec, monkeypatch, capsys
):
    """As the page says: a link to the store's runs, and everything else in the seat's folder."""
    from lrc_lib.runs.run import run
    from lrc_lib.runs.store import find

    (tmp_path / "runs").symlink_to(out / "runs")
    before = sorted((out / "runs").iterdir())
    result = run(learned.spec, tmp_path, device="cpu")
    assert result.id == learned.id and result.student().num_labels == 2
    assert find(learned.spec, tmp_path).score() == learned.score()
    assert sorted((out / "runs").iterdir()) == before
    monkeypatch.setenv("LRC_HEADLESS", "1")
    session = start("01_cos_nce_geometry", "smoke", device="cpu", out=str(tmp_path))
    session.finish()
    assert (tmp_path / "results" / "01_cos_nce_geometry.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_whoever_may_read_a_run_may_read_its_weights(learned):
    modes = {path.name: path.stat().st_mode & 0o777 for path in learned.path.rglob("*.*")
             if path.is_file()}  # fmt: skip
    assert "model.safetensors" in modes and len(set(modes.values())) == 1, modes
