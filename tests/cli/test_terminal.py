"""What the terminal shows: bars for a person, lines for a log, tables as aligned text."""

import io
import sys

import pytest

from lrc_lib.cli.terminal import NOTEBOOK_SECONDS, Forecast, Screen, duration, show_table


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
        assert screen.end("a kept notebook", "kept") == 0
    assert "       a run: epoch 1: loss 0.5\n" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_with_steps(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    with Screen() as screen:
        use(screen)
        screen.start("a notebook")  # tells no steps; its bar goes with the screen
    said = sys.stdout.getvalue()
    assert "| 3/10 00:00<" in said and "a notebook 00:00" in said and "start" not in said
    assert "done   a run  0 s  accuracy 0.9\n" in said


def test_a_log_says_how_much_of_the_whole_is_done(capsys):
    with Screen() as screen:
        screen.forecast = Forecast([("a run", 1.0), ("another", 1.0)], notebooks=2)
        use(screen)
    assert "0.9  [1 of 2 runs, 0 of 2 notebooks, about 30 s left]" in capsys.readouterr().out


def test_the_forecast_weighs_runs_by_their_work():
    now = [0.0]
    runs = [("general", 6.0), ("a run", 1.0), ("a run", 3.0)]
    forecast = Forecast(runs, notebooks=4, jobs=2, clock=lambda: now[0])
    assert str(forecast) == "0 of 3 runs, 0 of 4 notebooks"  # nothing tells how long it takes
    now[0] = 60.0
    forecast.step("general", 0.5)
    assert forecast.seconds_left() == 60 * 7 / 3 + 2 * NOTEBOOK_SECONDS
    forecast.end("general", 120.0)
    forecast.step("a run", 1.0)
    forecast.end("a run", 60.0)
    assert str(forecast) == "2 of 3 runs, 0 of 4 notebooks, about 37 s left"
    forecast.end("a run", 1.0)
    forecast.end("00_start_here", 40.0)
    assert str(forecast) == "3 of 3 runs, 1 of 4 notebooks, about 60 s left"
    forecast.end("kept", 0.0)
    assert str(forecast) == "3 of 3 runs, 2 of 4 notebooks, about 40 s left"
    for name in "ab":
        forecast.end(name, 40.0)
    assert str(forecast) == "3 of 3 runs, 4 of 4 notebooks"
    assert str(Forecast()) == ""


SAID = [(0.4, "0 s"), (89, "89 s"), (540, "9 min"), (9000, "2.5 h")]


@pytest.mark.parametrize("seconds, said", SAID)
def test_durations(seconds, said):
    assert duration(seconds) == said


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
