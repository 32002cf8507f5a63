"""What the terminal shows: bars for a person, lines for a log, tables as aligned text."""

import io
import sys

import pytest

from lrc_lib.cli.terminal import Screen, show_table


class Terminal(io.StringIO):
    def isatty(self):
        return True


def use(screen):
    screen.start("a run")
    screen.step("a run", 3, 10, "epoch 1: loss 0.5")
    screen.step("a run", 10, 10)
    return screen.end("a run", "done", "accuracy 0.9")


def test_a_log_gets_a_line_at_the_start_and_at_the_end(capsys):
    with Screen() as screen:
        assert 0 <= use(screen) < 5
    assert capsys.readouterr().out.splitlines() == [
        "start  a run",
        "done   a run  0 s  accuracy 0.9",
    ]


def test_verbose_prints_what_a_run_reports(capsys):
    with Screen(verbose=True) as screen:
        use(screen)
    assert "       a run: epoch 1: loss 0.5\n" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_with_steps(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    with Screen() as screen:
        use(screen)
        screen.start("a notebook")  # tells no steps; its bar goes with the screen
    said = sys.stdout.getvalue()
    assert "3/10" in said and "a notebook" in said and "start" not in said
    assert "done   a run  0 s  accuracy 0.9\n" in said


@pytest.mark.parametrize("cell", ["1,234.5", "7", ""])
def test_columns_of_numbers_are_set_to_the_right(cell, capsys):
    show_table("Runs", ("name", "number"), [("a long name", "10"), ("b", cell)])
    title, head, rule, *rows = capsys.readouterr().out.splitlines()
    assert title == "Runs" and set(rule) == {"-"}
    assert rows[1].split() == ["b", *cell.split()]
    width = max(len("number"), len(cell))
    assert head == "name         " + "number".rjust(width)
    assert rows[0] == "a long name  " + "10".rjust(width) and rows[1].endswith(cell)


def test_a_table_may_have_no_rows(capsys):
    show_table("Runs", ("name", "number"), [])
    assert capsys.readouterr().out.splitlines()[1] == "name  number"
