"""Checks of notebooks/05_ablations: intervals, selection, and a search on a budget."""

import math

import numpy as np

from lrc_lib.course.check.core import Mistake, array, as_array, call, compare, exercise, name_of


@exercise
def ex_05_1(paired_draws):
    """Bootstrap of an accuracy difference, (n,), (n,), (draws, n) -> (draws,) points."""
    rng = np.random.default_rng(0)
    right_a, right_b = rng.random(90) < 0.8, rng.random(90) < 0.6
    rows = rng.integers(0, 90, (400, 90))
    a, b = right_a[rows].mean(1), right_b[rows].mean(1)
    whole = 100 * (right_a.mean() - right_b.mean())
    found = array(paired_draws, right_a, right_b, rows)
    compare(
        found,
        100 * (a - b),
        {
            "Those are fractions: points are hundredths.": a - b,
            "The sign is turned: a minus b.": 100 * (b - a),
            "A difference has a sign: drop the absolute value.": 100 * np.abs(a - b),
            "You averaged over the draws: each draw is one row of the table, axis 1.": (
                100 * (right_a[rows].mean(0) - right_b[rows].mean(0))
            ),
            "That is the difference on the whole dev set, not one for each draw.": np.array(whole),
            "Every draw gives the whole dev set's difference: index with `rows`.": (
                np.full(400, whole)
            ),
            "You summed: an accuracy is a mean.": 90 * (a - b),
        },
        "the differences",
    )
    return f"400 draws at once; their standard deviation is {found.std():.2f} points."


@exercise
def ex_05_2(spread):
    """The sd of a paired difference from the disagreements, (gained, lost, n) -> points."""
    for gained, lost, n in ((60, 10, 200), (3, 3, 50)):
        mean, both = (gained - lost) / n, (gained + lost) / n
        variance = both - mean**2
        compare(
            array(spread, gained, lost, n),
            100 * (variance / n) ** 0.5,
            {
                "That is the variance: take its root.": 1e4 * variance / n,
                "That is the variance, in fractions: take its root.": variance / n,
                "That is a fraction: points are hundredths.": (variance / n) ** 0.5,
                "That is the spread of one row: the mean of n rows has an nth of its variance.": (
                    100 * variance**0.5
                ),
                "The squared mean is missing: the variance is E[x^2] - E[x]^2.": (
                    100 * (both / n) ** 0.5
                ),
                "That is the difference itself, not its spread.": 100 * mean,
                "You divide by n after the root: it belongs under it.": 100 * variance**0.5 / n,
            },
            f"the spread for {gained} gained and {lost} lost of {n}",
        )
    return "Rows on which both are right, or both wrong, add nothing."


@exercise
def ex_05_3(inflation):
    """How much too high the best of k scores is on average, (k, sd) -> points."""
    known = {1: 0.0, 2: 1 / math.sqrt(math.pi), 3: 1.5 / math.sqrt(math.pi)}
    found = {key: array(inflation, *key) for key in ((1, 2.0), (2, 2.0), (3, 2.0), (3, 1.0))}
    if any(x.shape for x in found.values()):
        raise Mistake("One number is asked for: the mean of the largest.")
    twice, once = found[3, 2.0], found[3, 1.0]
    if abs(twice - once) < 0.05:
        raise Mistake("`sd` has no effect: twice the noise doubles the inflation.")
    if twice > 4 or abs(once) < 0.1:
        raise Mistake(
            "You took one largest value of all, or averaged before: the largest of each k, then "
            "the mean over many repeats."
        )
    if found[1, 2.0] > 1:
        raise Mistake("A single try is not inflated: take the largest, not the largest distance.")
    if found[2, 2.0] < -0.5:
        raise Mistake("You took the smallest of k: the best is the largest.")
    for (k, sd), value in found.items():
        if abs(value - sd * known[k]) > 0.05 * sd:
            raise Mistake(
                f"For k = {k}, sd = {sd:g} you get {value:.3f}, and {sd * known[k]:.3f} is "
                "expected: the mean over the repeats, and more of them."
            )
    return f"The best of 3 is {once:.2f} sd too high."


BUDGET, TASKS = 6, 200
PAPER_BOUNDARY = 0.8


def _task(seed: int):
    """A made-up task: (train, its calls, best boundary, drop). train(boundary) -> noisy score."""
    rng = np.random.default_rng(seed)
    best, calls = rng.uniform(0, 0.95), []

    def drop(boundary):
        return 20 * (boundary - best) ** 2

    def train(boundary):
        boundary = float(boundary)
        if not 0 <= boundary < 1:
            raise Mistake(f"You train with boundary {boundary:.3g}: it is a share, 0 <= b < 1.")
        calls.append(boundary)
        return 80 - drop(boundary) + 0.3 * rng.normal()

    return train, calls, best, drop


@exercise
def ex_05_4(choose_boundary):
    """The stage boundary from `budget` trainings, (train, budget) -> share of the steps."""
    losses, tried = [], []
    for seed in range(TASKS):
        train, calls, _, drop = _task(seed)
        chosen = as_array(call(choose_boundary, train, BUDGET), name_of(choose_boundary))
        if chosen.shape:
            raise Mistake("One number is asked for: the boundary.")
        if len(calls) > BUDGET:
            raise Mistake(f"You trained {len(calls)} times: the budget is {BUDGET} trainings.")
        if not 0 <= chosen < 1:
            raise Mistake(
                f"You return {chosen:.4g}: a boundary is a share of the steps, not a score, a "
                "step or the number of a candidate."
            )
        if not calls:
            raise Mistake("You never trained: what holds on the paper's MNLI may not hold here.")
        losses.append(float(drop(chosen)))
        tried.append(calls)
    loss = np.mean(losses)
    if loss <= 0.6:
        fixed = np.mean([_task(seed)[3](PAPER_BOUNDARY) for seed in range(TASKS)])
        return (
            f"On {TASKS} made-up tasks you lose {loss:.2f} points to the best boundary; always "
            f"taking {PAPER_BOUNDARY} loses {fixed:.2f}."
        )
    off = f"Over {TASKS} made-up tasks your choice is {loss:.1f} points below the best boundary."
    if all(len(set(calls)) == 1 for calls in tried):
        raise Mistake(f"{off} You tried one boundary only: nothing to compare it with.")
    if min(map(min, tried)) > 0.4 or max(map(max, tried)) < 0.5:
        raise Mistake(f"{off} You tried one side only: the best may lie anywhere in [0, 0.95].")
    if loss > 4:
        raise Mistake(f"{off} That is worse than a fixed choice: do you return the worst?")
    raise Mistake(f"{off} Spread the trainings first, then try beside the best one.")
