"""docs/teaching.md: its sums, the names in it, its commands, and its ten minutes, followed."""

import csv
import math
import os
import re
import shlex
import subprocess
import sys
import textwrap

import nbformat
import pytest
from conftest import sentences

from lrc_lib.cli.commands import build_parser
from lrc_lib.course import check, notebook
from lrc_lib.course.notebook import NOTEBOOKS, ROOT

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


@pytest.mark.parametrize("lesson, number", [("Lesson 1", "01"), ("Lesson 2", "04")])
def test_a_lesson_is_ninety_minutes_of_things_that_exist(lesson, number):
    plan = rows(section(lesson))
    assert sum(int(minutes) for minutes, *_ in plan) == 90 and len(plan) >= 8
    heads = re.findall(r"^## (\d+) ", "\n".join(c.source for c in cells(number)), flags=re.M)
    for minutes, block, what in plan:
        for named in re.findall(r"Sections? (\d+)(?: and (\d+))?", what):
            assert set(filter(None, named)) <= set(heads), what
        for wanted in re.findall(r"Exercise (\d\.\d)", block):
            assert exercise(wanted)[1] <= int(minutes) or "pairs" in what
    questions = re.findall(r"^(\d+)\. \*\*", section("Board questions"), flags=re.M)
    asked = [n for _, _, what in plan for n in re.findall(r"Board question (\d+)", what)]
    assert asked and set(asked) <= set(questions)


def test_the_problem_set_adds_up_and_its_checks_exist():
    *problems, page, total = rows(section("A graded problem set"))
    for number, name, minutes, points, _ in problems:
        assert name.strip("`").removeprefix("check.") in check.__all__
        assert name == f"`check.ex_0{number[0]}_{number[2]}`"
        assert exercise(number) == (int(points), int(minutes)), number
    for column in (2, 3, 4):
        found = sum(int(row[column] or 0) for row in (*problems, page))
        assert found == int(total[column]), column


def test_the_rubric_gives_the_points_that_the_table_says():
    written = {row[0]: int(row[4]) for row in rows(section("A graded problem set"))}
    rubric = re.findall(r"^- \*\*(.+?)\*\* \((\d+)\): (.+(?:\n  .+)*)", PAGE, flags=re.M)
    assert len(rubric) == len(written) - 1
    for name, points, text in rubric:
        row = next(key for key in written if key.lower().startswith(name.lower()))
        assert written[row] == int(points)
        text = " ".join(re.sub(r"\([^)]*\)", "", text).split())  # shapes are no points
        parts = [int(n) for n in re.findall(r" (\d)(?=[,;.]|$)", text)]
        assert sum(parts) == int(points) or "one point each" in text, (name, parts)


def test_numbers_on_the_board_are_right():
    board = section("Board questions")
    caps = [math.exp(1 / 1.1) / (math.exp(1 / 1.1) + classes - 1) for classes in (2, 3)]
    assert f"{caps[0]:.2f} for two classes and {caps[1]:.2f} for three" in board
    assert f"{math.degrees(math.asin(1 / 3)):.1f} degrees" in board
    assert f"{(1 - 0.8) / (1 - 0.1):.0%}".replace("%", " %") in board


def test_sections_that_are_pointed_to_exist():
    for number, first in re.findall(r"\b(0\d), section (\d+)", PAGE):
        whole = "\n".join(cell.source for cell in cells(number))
        assert re.search(rf"^## {first} ", whole, flags=re.M), (number, first)
    for number in re.findall(r"exercise (\d\.\d)", PAGE):
        assert exercise(number)


FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)  # (indent, words, body)


def commands(text):
    """Every command line in the fenced blocks without a language, and in inline code."""
    blocks = [body for _, words, body in FENCE.findall(text) if not words]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(python [^`]+)`", FENCE.sub("", text))
    return [" ".join(line.split()) for line in (*lines, *inline)]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.stem)
def test_every_command_is_one_that_the_kit_has(page):
    found = commands(page.read_text(encoding="utf-8"))
    for line in found:
        words = shlex.split(line)
        if words[:2] == ["python", "reproduce.py"]:
            build_parser().parse_args(["reproduce", *words[2:]])
        elif words[:3] == ["python", "-m", "lrc_lib"]:
            build_parser().parse_args(words[3:])
        elif words[:2] == ["python", "-m"]:
            assert (ROOT / (words[2].replace(".", "/") + ".py")).exists()
    assert found or page.stem == "glossary"


def ten_minutes():
    """({file: its text}, [(minutes, [commands])]) of the steps, as the page has them."""
    text = PAGE.split("<!-- ten minutes -->")[1].split("<!-- end of ten minutes -->")[0]
    files, steps = {}, []
    for step in re.split(r"^(?=\d\. )", text, flags=re.M)[1:]:
        minutes = int(re.match(r"\d\. \((\d) minutes?", step)[1])
        named = [(words.split(), body) for _, words, body in FENCE.findall(step) if words]
        for (kind, name), body in named:
            assert name.endswith({"csv": ".csv", "python": ".py", "toml": ".toml"}[kind])
            files[name] = textwrap.dedent(body)
        steps.append((minutes, [line for line in commands(step) if line.startswith("python")]))
    return files, steps


def test_the_ten_minutes_are_ten():
    files, steps = ten_minutes()
    assert sum(minutes for minutes, _ in steps) == 10
    assert set(files) == {"texts.csv", "split.py", "mine/task.toml"}
    assert sum(len(lines) for _, lines in steps) == 3


def test_the_ten_minutes_work(tmp_path, tiny_teacher, capfd):
    """Every file and command of the page, in its order; a small teacher makes it a minute's work,
    and the file of texts is longer than the page's, with the same columns."""
    files, steps = ten_minutes()
    head, *examples = csv.reader(files["texts.csv"].splitlines())
    assert all(len(row) == len(head) for row in examples)
    (tmp_path / "mine").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with open(tmp_path / "texts.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *dict(sentences(240, 1)).items()])
    small = "teacher_lr=2e-3 teacher_epochs=6 student_layers=2 epochs=1"
    settings = [f"teacher={tiny_teacher}", *small.split()]
    smaller = ["--profile", "smoke", "--device", "cpu", "--jobs", "1", "--set", *settings]
    environment = os.environ | {"LRC_OUT": str(tmp_path / "out")}
    for line in (line for _, lines in steps for line in lines):
        _, script, *words = line.split()
        if script == "reproduce.py":
            script, words = str(ROOT / script), [*words, *smaller]
        done = subprocess.run([sys.executable, script, *words], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "out" / "report.html").read_text()
    assert "My texts" in report and "04_two_stage_distillation" in report
    again = notebook.start("04_two_stage_distillation", "smoke", data=str(tmp_path / "mine"),
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
    session = notebook.start("01_cos_nce_geometry", "smoke", device="cpu", out=str(tmp_path))
    session.finish()
    assert (tmp_path / "results" / "01_cos_nce_geometry.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_whoever_may_read_a_run_may_read_its_weights(learned):
    modes = {path.name: path.stat().st_mode & 0o777 for path in learned.path.rglob("*.*")
             if path.is_file()}  # fmt: skip
    assert "model.safetensors" in modes and len(set(modes.values())) == 1, modes
