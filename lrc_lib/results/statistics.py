"""The statistics of every table, figure and verdict: estimates, intervals, paired differences.

One rule makes every interval, `lrc_lib.evaluate.combined`: the standard error combines the dev rows
and the seeds, and a t quantile turns it into an interval. Systems are paired by dev row and by
seed. Scores are in points: 84.3 is 0.843. Taught in notebooks/05_ablations, 07_mse_and_angle and
09_glue_results.
"""

import functools
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame
from scipy.stats import t

from lrc_lib.data.tasks import Task
from lrc_lib.evaluate import (
    DRAWS,
    METRICS,
    collapse,
    combined,
    decide,
    of_parts,
    resampled,
    row_counts,
)
from lrc_lib.schedule import RECIPES

CORRELATIONS = ("matthews", "pearson", "spearman")  # never averaged with accuracy or F1
POWER = 0.8  # the chance with which `Estimate.could_find` finds a difference


@dataclass(eq=False)
class Estimate:
    """A mean over seeds, and what it rests on.

    Attributes:
        scores: (S,), one per seed, in points for scores.
        draws: (S, D), the same scores on D draws of the dev rows, see `row_counts`.
        rows: names the dev rows. Only estimates on the same rows are subtracted or divided.
        keys: (n,), the dev rows' keys.
        n: number of dev rows.
        of: (S,), the numbers of the seeds.
        metric: a name in `METRICS`, or a word for something else.
        runs: ids of the runs.
        shared: what all seeds share, in words, such as "one teacher". The interval covers the
            choice of none of these.
        collapsed: (recipe, seed, why) of each run that has collapsed, see
            `lrc_lib.evaluate.collapse`.
        most: the largest value that the metric can have.
        value, seeds: the mean of the scores, and their number.
        error, freedom: the standard error of `value`, and its degrees of freedom.
        low, high: the ends of the 95 % interval; NaN where there is none.
    """

    scores: np.ndarray
    draws: np.ndarray
    rows: tuple
    keys: np.ndarray
    n: int
    of: tuple[int, ...] = (0,)
    metric: str = ""
    runs: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    collapsed: tuple[tuple[str, int, str], ...] = ()
    most: float = np.inf

    def __post_init__(self):
        self.value, self.seeds = float(np.mean(self.scores)), len(self.of)
        self.error, self.freedom = map(float, combined(self.scores, self.draws, self.n))
        self.low, self.high = self.ends()

    def ends(self, level: float = 0.95) -> tuple[float, float]:
        """Both ends of the interval at that level; NaN where there is none."""
        half = self.error * float(t.ppf((1 + level) / 2, self.freedom))
        return self.value - half, min(self.value + half, self.most)

    def p(self, null: float = 0.0, margin: float = 0.0) -> float:
        """The two-sided p value of "at most `margin` away from `null`"."""
        beyond = max(abs(self.value - null) - margin, 0.0)
        if np.isnan(self.error) or not beyond:
            return 1.0
        return 2 * float(t.sf(beyond / self.error, self.freedom)) if self.error else 0.0

    def could_find(self, alpha: float = 0.05) -> float:
        """The smallest difference that this many rows and seeds find in 8 of 10 repetitions."""
        both = t.ppf(1 - alpha / 2, self.freedom) + t.ppf(POWER, self.freedom)
        return self.error * float(both)

    def seeds_to_find(
        self, difference: float, alpha: float = 0.05, power: float = POWER, most: int = 200
    ) -> int | str:
        """How many seeds find this difference, as `could_find` means it; "never" for over `most`.

        The rows' part of the variance stays as it was measured, and the seeds' part is divided by
        the other number of seeds. With alpha=0.1, power=0.9: how many show, in 8 of 10 repetitions,
        that two equal systems differ by less than this (the 90 % interval then lies within it).
        """
        of_one = self.scores.var(ddof=1)
        of_rows = max(0.0, self.error**2 - of_one / self.seeds)
        count = np.arange(2, most + 1)
        error, freedom = of_parts(of_rows, of_one / count, count, self.n)
        found = error * (t.ppf(1 - alpha / 2, freedom) + t.ppf(power, freedom))
        fits = count[found <= difference]
        return int(fits[0]) if len(fits) else "never"

    def text(self, digits: int = 1, sign: str = "", unit: str = "") -> str:
        """For example "+1.2 points (-0.4 to +2.7)", with sign="+" and unit=" points".

        It says so where the interval covers rows only, and where a run has collapsed.
        """
        value, *ends = (f"{x:{sign}z.{digits}f}" for x in (self.value, *self.ends()))
        notes = ["too few for an interval" if np.isnan(self.error) else " to ".join(ends)]
        notes += ["steps only" if self.metric == "ratio" else "rows only"] * (self.seeds == 1)
        notes += [self.fallen()] * bool(self.collapsed)
        return f"{value}{unit} ({', '.join(notes)})"

    def basis(self) -> str:
        """For example "n = 277, 3 seeds that share one teacher"."""
        text = f"n = {self.n}, " * (self.metric != "ratio")
        text += f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        return text + f" that share {' and '.join(self.shared)}" * bool(self.shared)

    def fallen(self) -> str:
        """For example "collapsed: LRC-BERT (2 runs)"; "" if no run has collapsed."""
        found = {(r, s) for r, s, _ in self.collapsed}
        runs = Counter(RECIPES[r].title if r in RECIPES else r for r, _ in found)
        systems = (f"{name} ({n} run{'s' if n > 1 else ''})" for name, n in sorted(runs.items()))
        return f"collapsed: {', '.join(systems)}" * bool(runs)

    def scaled(self, factor: float, shift: float = 0.0) -> "Estimate":
        """`factor` times the estimate, plus `shift`; 100 makes percent of a ratio."""
        return self._made([self], factor * self.scores + shift, factor * self.draws + shift)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference, paired by row and seed; ValueError if these are not the same."""
        self._check(other)
        return self._made([self, other], self.scores - other.scores, self.draws - other.draws)

    def __truediv__(self, other: "Estimate") -> "Estimate":
        """The ratio of the means with the delta method's error, paired like a difference.

        A seed's value is its linear part: the ratio itself plus (a - ratio * b) / mean(b).
        """
        self._check(other)
        with np.errstate(all="ignore"):
            ratio = np.divide(self.value, other.value)
            scores, draws = (
                ratio + (getattr(self, name) - ratio * getattr(other, name)) / other.value
                for name in ("scores", "draws")
            )
        return self._made([self, other], scores, draws)

    def _check(self, other: "Estimate") -> None:
        if (self.rows, self.of) != (other.rows, other.of):
            mine, theirs = ((e.rows, f"seeds {e.of}") for e in (self, other))
            raise ValueError(f"not the same dev rows and seeds: {mine} and {theirs}")

    def _made(self, parts, scores, draws, **changes) -> "Estimate":
        """An estimate made from `parts`, with what they rest on together."""
        names = ("runs", "shared", "collapsed")
        unions = {k: tuple(dict.fromkeys(x for p in parts for x in getattr(p, k))) for k in names}
        given = {"rows": self.rows, "keys": self.keys, "n": self.n, "of": self.of}
        return Estimate(scores, draws, **(given | {"metric": self.metric} | unions | changes))


def estimate(results, task: Task, split: str) -> Estimate:
    """A system's mean score on a dev split, in points, over its runs.

    Args:
        results: {seed: run} (`RunResult`), or a list of runs, numbered from 0.
        task: its primary metric is the score.
        split: a dev split of the task.

    Raises:
        ValueError: the runs answered different dev rows.
    """
    of = dict(results) if isinstance(results, dict) else dict(enumerate(results))
    values, draws, why, (rows, *others), (keys, *_) = zip(
        *(_score(result, task, split) for result in of.values()), strict=True
    )
    if {*others} - {rows}:
        raise ValueError(f"the runs answered different dev rows: {sorted({rows, *others})}")
    runs = of.values()
    collapsed = {  # by run, because one teacher may stand for all seeds
        run.id: (run.spec.recipe, seed, f"{reason} ({split})")
        for (seed, run), reason in zip(of.items(), why, strict=True)
        if reason
    }
    return Estimate(
        np.array(values), np.stack(draws), rows, keys, len(keys), tuple(of), task.primary,
        tuple(dict.fromkeys(run.id for run in runs)), _shared([run.spec for run in runs]),
        tuple(collapsed.values()), most=100.0,
    )  # fmt: skip


def _shared(specs: Sequence) -> tuple[str, ...]:
    """What several seeds have in common, in words."""
    recipe = RECIPES.get(specs[0].recipe)  # None for a teacher
    parts = {
        "one teacher": (recipe is None or recipe.uses_teacher, {s.teacher_seed for s in specs}),
        "one general distillation": (recipe and recipe.general, {s.general_seed for s in specs}),
    }
    several = len(specs) > 1
    return tuple(name for name, (uses, of) in parts.items() if several and uses and len(of) == 1)


@functools.lru_cache(maxsize=512)
def _score(result, task: Task, split: str):
    dev = result.predictions(split)
    labels, guesses = (x.astype(float) for x in (dev["labels"], decide(task, dev["logits"])))
    draws = 100 * resampled(task.primary, labels, guesses, row_counts(dev["keys"], DRAWS))
    value, why = 100 * METRICS[task.primary](labels, guesses), collapse(task, dev["logits"], labels)
    rows = (f"{task.name}/{split}", zlib.crc32(dev["keys"].tobytes() + labels.tobytes()))
    return value, draws, why, rows, dev["keys"]


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """The plain mean over dev columns, over the seeds that all of them have.

    Rows that two columns share are drawn together, because a row's draws follow from its key.

    Raises:
        ValueError: the columns have no seed in common, or some are scored by a correlation and
            others by accuracy or F1: these are never averaged.
    """
    if len({part.metric in CORRELATIONS for part in parts}) > 1:
        raise ValueError("accuracies and correlations are never averaged: one mean for each")
    of = tuple(seed for seed in parts[0].of if all(seed in part.of for part in parts))
    if not of:
        raise ValueError("the columns have no seed in common")
    picks = [[part.of.index(seed) for seed in of] for part in parts]
    scores, draws = (
        np.mean([getattr(p, name)[i] for p, i in zip(parts, picks, strict=True)], axis=0)
        for name in ("scores", "draws")
    )
    keys = np.concatenate([part.keys for part in parts])
    repeated = sum(len(np.unique(part.keys)) for part in parts) - len(np.unique(keys))
    return parts[0]._made(
        parts, scores, draws, rows=tuple(part.rows for part in parts), of=of, keys=keys,
        n=sum(part.n for part in parts) - repeated, most=min(part.most for part in parts),
    )  # fmt: skip


def forest(estimates: dict[str, Estimate]) -> DataFrame:
    """{label: estimate} as the data frame of `lrc_lib.course.plots.interval_dots`."""
    columns = ("label", "value", "low", "high", "scores")
    rows = [(label, e.value, e.low, e.high, list(e.scores)) for label, e in estimates.items()]
    return DataFrame(rows, columns=columns)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values of a family of tests, in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below its
    predecessor.
    """
    order, factors = np.argsort(p), np.arange(len(p), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p)[order] * factors))
    return adjusted[np.argsort(order)]


def auc(score: np.ndarray, event: np.ndarray) -> Estimate:
    """The chance that a row with the event scores above a row without it; ties count half.

    Args:
        score: (n,).
        event: (n,) booleans.

    Returns:
        An estimate in [0, 1]; NaN if all rows have the event, or none.
    """
    order = np.argsort(score, kind="stable")
    ranked, hit = score[order], event[order]
    below, upto = (np.searchsorted(ranked, ranked, side) for side in ("left", "right"))

    def area(counts):
        counts = counts[:, order].astype(float)
        lost = np.pad(np.cumsum(counts * ~hit, axis=1), ((0, 0), (1, 0)))
        won = (counts * hit * (lost[:, below] + lost[:, upto]) / 2).sum(1)
        pairs = (counts * hit).sum(1) * lost[:, -1]
        return np.divide(won, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)

    keys = np.arange(len(score))
    draws = np.concatenate([area(part) for part in np.array_split(row_counts(keys), 10)])
    value = area(np.ones((1, len(score)), dtype=int))
    return Estimate(value, draws[None], ("auc", len(score)), keys, len(score), metric="auc")


def spread_ratio(pairs: Sequence[tuple[np.ndarray, np.ndarray]], block: int) -> Estimate:
    """The standard deviation of one run's residuals over that of another, a mean over seeds.

    The steps take the place of the dev rows: a block bootstrap draws neighbours together, the same
    ones from both runs of a seed. Seeds see other batches, so that they share no steps.

    Args:
        pairs: for each seed the residuals (n,), (n,) of two runs at the same n steps.
        block: how many neighbouring steps are drawn together. One seed has no interval with fewer
            than four blocks.
    """
    draws = np.full((len(pairs), DRAWS), np.nan)
    count = len(pairs[0][0]) // block
    for seed, (first, second) in enumerate(pairs) if count >= 4 else ():
        rng = np.random.default_rng(seed)
        starts = rng.integers(0, len(first) - block + 1, (DRAWS, count))
        steps = (starts[..., None] + np.arange(block)).reshape(DRAWS, -1)
        draws[seed] = first[steps].std(1) / second[steps].std(1)
    scores, seeds = np.array([a.std() / b.std() for a, b in pairs]), tuple(range(len(pairs)))
    return Estimate(scores, draws, ("steps",), np.arange(count), count, seeds, "ratio")


def cases(chosen: np.ndarray, by: np.ndarray, count: int = 4) -> np.ndarray:
    """Numbers of the `chosen` rows with the largest `by`, largest first, ties by row number.

    Args:
        chosen: (n,) booleans.
        by: (n,).
        count: the largest number of rows.
    """
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-by[rows], kind="stable")][:count]
