"""Checks of notebooks/05_ablations: a spread, selection, and a registered claim."""

import functools

import numpy as np

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise
from lrc_lib.course.check.variants import registered


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
def ex_05_1(spread):
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
def ex_05_2(inflation):
    """How much too high the best of k scores is on average, (k, sd) -> points."""
    what = "the mean of the largest"
    probe = functools.partial(core.number, what=what)
    for k, sd in ((3, 2.0), (2, 2.0), (1, 2.0)):
        about = f"{what} for k = {k}, sd = {sd:g}"
        compare(inflation, _largest, INFLATION, k, sd, what=about, probe=probe, rtol=0, atol=0.1)
    return f"The best of 3 is {_largest(3, 1.0):.2f} sd too high."


OF_THE_TASK = (  # settings that leave the teacher and general distillation as they are
    "temperature", "hard_target", "stage_boundary", "schedule", "epsilon", "perturb_norm",
    "learning_rate", "warmup", "keep",
)  # fmt: skip


@exercise()
def ex_05_3(my_claim):
    """A change to LRC-BERT, with a prediction: settings to be trained."""
    return registered(my_claim, "settings", OF_THE_TASK)
