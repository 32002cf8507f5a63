"""What the terminal shows while runs train and notebooks are executed.

On a terminal: a bar per run with its time and what is left of it, and a line for the whole.
Elsewhere: a line when a run or notebook starts and a line when it ends.
"""

import sys
import threading
import time

from tqdm import tqdm

NOTEBOOK_SECONDS = 15.0  # taken for each notebook before the first one has ended


def say(text: str) -> None:
    """Prints to stdout, above the bars where there are any."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Seconds in words: "25 s", "9 min", "2.5 h"."""
    if seconds < 89.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Forecast:
    """What is done of the runs and notebooks that were announced, and how long the rest takes.

    Args:
        runs: (name, work) of each run to train; the unit of work is free.
        notebooks: how many will be executed.
        jobs: how many of them at a time.
        clock: returns seconds.
    """

    def __init__(self, runs=(), notebooks: int = 0, jobs: int = 1, clock=time.perf_counter):
        self._works: dict[str, list] = {}
        for name, work in runs:
            self._works.setdefault(name, []).append(work)
        self._notebooks, self._jobs, self._clock = notebooks, jobs, clock
        self._runs, self._total = len(runs), sum(work for _, work in runs)
        self._begun, self._ended, self._done, self._took = clock(), 0, 0.0, []
        self._parts: dict[str, float] = {}  # work done of each run that is being trained

    def step(self, key: str, share: float) -> None:
        """This share of a run is done, from 0 to 1."""
        if self._works.get(key):
            self._parts[key] = share * self._works[key][-1]

    def end(self, key: str, seconds: float) -> None:
        """A run or notebook is over; 0 seconds: the notebook is kept from an earlier call."""
        self._parts.pop(key, None)
        if self._works.get(key):
            self._ended, self._done = self._ended + 1, self._done + self._works[key].pop()
        else:
            self._took.append(seconds)

    def seconds_left(self) -> float | None:
        """None until a hundredth of the work is done."""
        done = self._done + sum(list(self._parts.values()))  # a copy: two threads are at work
        if self._ended < self._runs and done < self._total / 100:
            return None
        elapsed, left = self._clock() - self._begun, self._total - done
        executed = [seconds for seconds in self._took if seconds]
        one = sum(executed) / len(executed) if executed else NOTEBOOK_SECONDS
        notebooks = max(0, self._notebooks - len(self._took)) * one / self._jobs
        return (elapsed * left / done if left and done else 0.0) + notebooks

    def __str__(self) -> str:
        """ "5 of 12 runs, 2 of 8 notebooks, about 9 min left"; "" if nothing was announced."""
        ways = ((self._ended, self._runs, "runs"), (len(self._took), self._notebooks, "notebooks"))
        parts, left = [f"{a} of {b} {what}" for a, b, what in ways if b], self.seconds_left()
        return ", ".join([*parts, f"about {duration(left)} left"] if left and parts else parts)


class Screen:
    """Bars by key; `with Screen(...) as screen:` removes them at the end.

    Args:
        verbose: also print the line that a run reports at each epoch.

    Attributes:
        forecast: a `Forecast` of all that is to come; set it before the first run.
    """

    def __init__(self, verbose: bool = False):
        self.verbose, self.forecast = verbose, Forecast()
        self._live = sys.stdout.isatty()
        self._begun: dict[str, float] = {}
        self._bars: dict[str, tqdm] = {}
        self._over = threading.Event()

    def __enter__(self):
        if self._live:
            self._whole = _bar("", bar_format="{desc}")
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._over.set()
        for bar in (*self._bars.values(), *([self._whole] if self._live else ())):
            bar.close()

    say = staticmethod(say)

    def _tick(self) -> None:
        """Keeps the times on the bars right."""
        while not self._over.wait(1):
            for bar in list(self._bars.values()):
                bar.refresh()
            self._whole.set_description_str(str(self.forecast))

    def start(self, key: str) -> None:
        """A run or notebook begins."""
        self._begun[key] = time.perf_counter()
        if self._live:
            self._bars[key] = _bar(key, bar_format="{desc} {elapsed}")
        else:
            self.say(f"start  {key}")

    def step(self, key: str, step: int, total: int, text: str = "") -> None:
        """Progress of a run; `text` is its own report of an epoch."""
        self.forecast.step(key, step / total)
        if key in self._bars:
            if self._bars[key].total is None:  # the first step tells the length of the bar
                self._bars[key].close()
                look = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining}"
                self._bars[key] = _bar(key, total=total, initial=step, bar_format=look)
            self._bars[key].update(step - self._bars[key].n)
        if text and self.verbose:
            self.say(f"       {key}: {text}")

    def end(self, key: str, status: str, text: str = "") -> float:
        """A run or notebook is over; returns the seconds it took."""
        begun = self._begun.pop(key, None)
        seconds = 0.0 if begun is None else time.perf_counter() - begun
        self.forecast.end(key, seconds)
        if key in self._bars:
            self._bars.pop(key).close()
        whole = "" if self._live else str(self.forecast)
        parts = (f"{status:<6} {key}", f"{seconds:.0f} s", text, f"[{whole}]" if whole else "")
        self.say("  ".join(filter(None, parts)))
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
