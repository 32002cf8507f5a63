"""How a training run reports its progress: a bar for a person, a line per epoch for a log."""

import os
import sys

from tqdm import tqdm  # not tqdm.auto: its widget stays at 0 % in an executed notebook


def default_progress():
    """A bar with rate and time left when a person watches, else printed lines.

    Notebooks that are executed (LRC_HEADLESS=1) and pipes get lines: a bar is unreadable there.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return bar() if watched and not os.environ.get("LRC_HEADLESS") else lines


def lines(spec, step: int, total: int, line: str) -> None:
    """Prints each non-empty line after the run's name."""
    if line:
        print(f"[{spec.name}] {line}", flush=True)


def bar():
    """A tqdm bar for each run in turn."""
    bars = {}

    def progress(spec, step: int, total: int, line: str) -> None:
        if spec not in bars:
            bars[spec] = tqdm(total=total, desc=spec.name, unit="step", leave=True)
        bars[spec].update(step - bars[spec].n)
        if line and step == 0:  # such as that a teacher's answers do not fit
            tqdm.write(f"[{spec.name}] {line}")
        if step >= total:
            bars.pop(spec).close()

    return progress
