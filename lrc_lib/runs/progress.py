"""How a training tells its progress: a bar for a person, a line an epoch for a log."""

import os
import sys


def default_progress():
    """A bar with rate and time left when a person watches, else printed lines.

    Headless notebooks (LRC_HEADLESS=1) and pipes get lines: a bar there becomes rubbish.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return bar() if watched and not os.environ.get("LRC_HEADLESS") else lines


def lines(spec, step: int, total: int, line: str) -> None:
    """Print each non-empty line, led by the run's name."""
    if line:
        print(f"[{spec.name}] {line}", flush=True)


def bar():
    """A tqdm bar for each run in turn."""
    from tqdm import tqdm  # not tqdm.auto: its widget stays at 0 % headless

    bars = {}

    def progress(spec, step: int, total: int, line: str) -> None:
        if spec not in bars:
            bars[spec] = tqdm(total=total, desc=spec.name, unit="step", leave=True)
        bars[spec].update(step - bars[spec].n)
        if step >= total:
            bars.pop(spec).close()

    return progress
