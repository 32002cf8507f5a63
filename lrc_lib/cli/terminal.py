"""What the terminal shows while runs train and notebooks execute.

On a terminal: one live line each, with rate and time left. Elsewhere: a line when one starts and
one when it ends.
"""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_WIDTH = 100


def make_console() -> Console:
    """A console for stdout: colours on a terminal, plain text of fixed width elsewhere."""
    live = sys.stdout.isatty()
    return Console(highlight=False, markup=False, width=None if live else PLAIN_WIDTH)


class Screen:
    """Live lines by key; `with Screen(...) as screen:` draws and removes them.

    Args:
        verbose: also print the line that a run reports at each epoch.
    """

    def __init__(self, console: Console, verbose: bool = False):
        self.console, self.verbose = console, verbose
        self._begun: dict[str, float] = {}
        self._tasks: dict = {}
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *error):
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line, above the live lines."""
        self.console.print(text, soft_wrap=True)

    def start(self, key: str) -> None:
        """A run or notebook begins."""
        self._begun[key] = time.perf_counter()
        if self.console.is_terminal:
            self._tasks[key] = self._progress.add_task(key, total=None, rate="")
        else:
            self.say(f"start  {key}")

    def step(self, key: str, step: int, total: int, text: str = "") -> None:
        """Progress of a run; `text` is its own report of an epoch."""
        seconds = time.perf_counter() - self._begun[key]
        if key in self._tasks:
            rate = f"{step}/{total}  {step / max(seconds, 1e-9):.1f}/s"
            self._progress.update(self._tasks[key], completed=step, total=total, rate=rate)
        if text and self.verbose:
            self.say(f"       {key}: {text}")

    def end(self, key: str, status: str, text: str = "") -> float:
        """It is over; returns the seconds it took."""
        seconds = time.perf_counter() - self._begun.pop(key, time.perf_counter())
        if key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key))
        self.say(f"{status:<6} {key}  {seconds:.0f} s  {text}".rstrip())
        return seconds


def show_table(console: Console, title: str, columns, rows) -> None:
    """A table; columns that hold numbers only are set to the right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    cells = [[str(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        values = [row[index].replace(",", "").replace(".", "") for row in cells]
        numbers = all(value.isdigit() or not value for value in values)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console.print(table)
