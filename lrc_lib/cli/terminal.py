"""What the terminal shows while runs train and notebooks are executed.

On a terminal: one bar per run, with rate and time left. Elsewhere: a line when a run or notebook
starts and a line when it ends.
"""

import sys
import time

from tqdm import tqdm


def say(text: str) -> None:
    """Prints to stdout, above the bars where there are any."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(text, flush=True)


class Screen:
    """Bars by key; `with Screen(...) as screen:` removes them at the end.

    Args:
        verbose: also print the line that a run reports at each epoch.
    """

    def __init__(self, verbose: bool = False):
        self.verbose = verbose
        self._live = sys.stdout.isatty()
        self._begun: dict[str, float] = {}
        self._bars: dict[str, tqdm] = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for bar in self._bars.values():
            bar.close()

    say = staticmethod(say)

    def start(self, key: str) -> None:
        """A run or notebook begins."""
        self._begun[key] = time.perf_counter()
        if self._live:
            self._bars[key] = _bar(key, bar_format="{desc}")
        else:
            self.say(f"start  {key}")

    def step(self, key: str, step: int, total: int, text: str = "") -> None:
        """Progress of a run; `text` is its own report of an epoch."""
        if key in self._bars:
            if self._bars[key].total is None:  # the first step tells the length of the bar
                self._bars[key].close()
                self._bars[key] = _bar(key, total=total, initial=step, unit="step")
            self._bars[key].update(step - self._bars[key].n)
        if text and self.verbose:
            self.say(f"       {key}: {text}")

    def end(self, key: str, status: str, text: str = "") -> float:
        """A run or notebook is over; returns the seconds it took."""
        seconds = time.perf_counter() - self._begun.pop(key, time.perf_counter())
        if key in self._bars:
            self._bars.pop(key).close()
        self.say(f"{status:<6} {key}  {seconds:.0f} s  {text}".rstrip())
        return seconds


def _bar(key: str, **options) -> tqdm:
    return tqdm(desc=key, leave=False, dynamic_ncols=True, file=sys.stdout, **options)


def show_table(title: str, columns, rows) -> None:
    """A table as aligned text; columns that hold only numbers are set to the right."""
    table = [[str(cell) for cell in row] for row in (columns, *rows)]
    padded = []
    for heading, *values in zip(*table, strict=True):
        numbers = all(v.replace(",", "").replace(".", "").isdigit() for v in values if v)
        width = max(map(len, (heading, *values)))
        padded.append([v.rjust(width) if numbers else v.ljust(width) for v in (heading, *values)])
    lines = ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]
    rule = "-" * max(map(len, lines))
    say("\n".join([title, lines[0], rule, *lines[1:]]))
