"""Checks of notebooks/05_ablations: intervals, selection, and a search on a budget."""

import functools

import numpy as np

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise


def _draws(a, b, rows):
    return 100 * (a[rows].mean(1) - b[rows].mean(1))


DRAWS = {
    "Those are fractions: points are hundredths.": lambda a, b, rows: _draws(a, b, rows) / 100,
    "The sign is turned: a minus b.": lambda a, b, rows: _draws(b, a, rows),
    "You averaged over the draws: each draw is one row of the table, axis 1.":
        lambda a, b, rows: 100 * (a[rows].mean(0) - b[rows].mean(0)),
    "Every draw gives the whole dev set's difference: index with `rows`.":
        lambda a, b, rows: np.full(len(rows), 100 * (a.mean() - b.mean())),
}  # fmt: skip


@exercise(DRAWS)
def ex_05_1(paired_draws):
    """Bootstrap of an accuracy difference, (n,), (n,), (draws, n) -> (draws,) points."""
    rng = np.random.default_rng(0)
    inputs = rng.random(90) < 0.8, rng.random(90) < 0.75, rng.integers(0, 90, (400, 90))
    what = "the difference in each draw"
    found = compare(paired_draws, _draws, DRAWS, *inputs, what=what, probe=core.array)
    return f"400 draws at once; their standard deviation is {found.std():.2f} points."


def _variance(gained, lost, n):
    """The variance of a row's difference: 1, 0 or -1."""
    return (gained + lost) / n - ((gained - lost) / n) ** 2


SPREAD = {
    "That is the variance: take its root.": lambda g, s, n: 1e4 * _variance(g, s, n) / n,
    "That is a fraction: points are hundredths.": lambda g, s, n: (_variance(g, s, n) / n) ** 0.5,
    "That is the spread of one row: the mean of n rows has an nth of its variance.":
        lambda g, s, n: 100 * _variance(g, s, n) ** 0.5,
    "The squared mean is missing: the variance is E[x^2] - E[x]^2.":
        lambda g, s, n: 100 * (g + s) ** 0.5 / n,
    "That is the difference itself, not its spread.": lambda g, s, n: 100 * (g - s) / n,
}  # fmt: skip


@exercise(SPREAD)
def ex_05_2(spread):
    """The sd of a paired difference from the disagreements, (gained, lost, n) -> points."""

    def right(gained, lost, n):
        return 100 * (_variance(gained, lost, n) / n) ** 0.5

    for gained, lost, n in ((60, 10, 200), (3, 3, 50)):
        what = f"the spread for {gained} gained and {lost} lost of {n}"
        compare(spread, right, SPREAD, gained, lost, n, what=what, probe=core.array)
    return "Rows on which both are right, or both wrong, add nothing."


def _largest(k, sd, of=np.max):
    """The mean over many repeats of the largest of k normal numbers."""
    return of(np.random.default_rng(1).normal(0, sd, (50_000, k)), axis=1).mean()


INFLATION = {
    "`sd` has no effect: twice the noise doubles the inflation.": lambda k, sd: _largest(k, 1.0),
    "You averaged before you took the largest: take the largest of each k, then the mean.":
        lambda k, sd: 0.0,
    "A single try is not inflated: take the largest, not the largest distance.":
        lambda k, sd: _largest(k, sd, lambda noise, axis: np.abs(noise).max(axis)),
    "You took the smallest of k: the best is the largest.": lambda k, sd: -_largest(k, sd),
}  # fmt: skip


@exercise(INFLATION)
def ex_05_3(inflation):
    """How much too high the best of k scores is on average, (k, sd) -> points."""
    what = "the mean of the largest"
    probe = functools.partial(core.number, what=what)
    for k, sd in ((3, 2.0), (2, 2.0), (1, 2.0)):
        about = f"{what} for k = {k}, sd = {sd:g}"
        compare(inflation, _largest, INFLATION, k, sd, what=about, probe=probe, rtol=0, atol=0.1)
    return f"The best of 3 is {_largest(3, 1.0):.2f} sd too high."


BUDGET, TASKS = 6, 200  # training runs per task, and tasks
PAPER_BOUNDARY = 0.8


def _task(seed: int):
    """A made-up task: (train, its calls, drop). train(boundary) -> noisy score."""
    rng = np.random.default_rng(seed)
    best, calls = rng.uniform(0, 0.95), []

    def drop(boundary):
        return 20 * (boundary - best) ** 2

    def train(boundary):
        calls.append(float(boundary))
        return 80 - drop(calls[-1]) + 0.3 * rng.normal()

    return train, calls, drop


@exercise()
def ex_05_4(choose_boundary):
    """The stage boundary from `budget` training runs, (train, budget) -> share of the steps."""
    lost, fixed, tried = [], [], []
    for seed in range(TASKS):
        train, calls, drop = _task(seed)
        chosen = core.number(choose_boundary, train, BUDGET, what="the boundary")
        core.refuse({
            "You train outside of 0 <= boundary < 1: it is a share.":
                any(not 0 <= boundary < 1 for boundary in calls),
            f"You trained {len(calls)} times: the budget is 6 training runs.": len(calls) > BUDGET,
            f"You return {chosen:.4g}: a boundary is a share of the steps, not a score, a step or "
            "the number of a candidate.": not 0 <= chosen < 1,
            "You never trained: what holds on the paper's MNLI may not hold here.": not calls,
        })  # fmt: skip
        lost.append(drop(chosen))
        fixed.append(drop(PAPER_BOUNDARY))
        tried.append(calls)
    loss = np.mean(lost)
    if loss > 0.6:
        behind = f"Over 200 made-up tasks your choice is {loss:.1f} points below the best boundary."
        one_side = min(map(min, tried)) > 0.4 or max(map(max, tried)) < 0.5
        core.refuse({
            f"{behind} You tried one boundary only: nothing to compare it with.":
                all(len(set(calls)) == 1 for calls in tried),
            f"{behind} You tried one side only: the best may lie anywhere in [0, 0.95].": one_side,
            f"{behind} Spread the training runs first, then try the neighbours of the best one.":
                True,
        })  # fmt: skip
    return (
        f"On {TASKS} made-up tasks you lose {loss:.2f} points to the best boundary; always taking "
        f"{PAPER_BOUNDARY} loses {np.mean(fixed):.2f}."
    )
