"""The statistics of every table, figure and verdict: estimates, intervals, paired differences.

Estimates on the same dev rows draw the same rows, so that the difference of two is a paired one.
The rows are drawn by `lrc_lib.evaluate.draw_rows`. Scores are in points: 84.3 is 0.843. Taught in
notebooks/05_ablations, 07_mse_and_angle and 09_glue_results.
"""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, t

from lrc_lib.data.tasks import Task
from lrc_lib.evaluate import DRAWS, decide, draw_rows, resampled

ENDS = (0.025, 0.975)  # the quantiles at the ends of a 95 % interval
VERDICTS = ("not reproduced", "not distinguishable", "reproduced", "not run")  # as tables sort them


class Interval(NamedTuple):
    """A value and the ends of its 95 % interval; the ends are NaN where there is none."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 1, sign: str = "", unit: str = "") -> str:
        """For example "+1.2 points (-0.4 to +2.7)", with sign="+" and unit=" points"."""
        value, low, high = (f"{x:{sign}.{digits}f}" for x in self)
        span = "too few for an interval" if np.isnan(self.low) else f"{low} to {high}"
        return f"{value}{unit} ({span})"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and what it rests on: n dev rows, the number of seeds, and run ids.

    Attributes:
        value: in points for scores.
        draws: (2, D) bootstrap values. In the first line dev rows *and* seeds are drawn, in the
            second line the rows alone.
        rows: names the dev rows. Only estimates on the same rows are subtracted or divided.
        n: number of dev rows.
        seeds: number of seeds.
        runs: ids of the runs.
    """

    value: float
    draws: np.ndarray
    rows: tuple
    n: int
    seeds: int = 1
    runs: tuple[str, ...] = ()

    @property
    def low(self) -> float:
        """Lower end of the 95 % percentile interval."""
        return float(np.quantile(self.draws[0], ENDS[0]))

    @property
    def high(self) -> float:
        """Upper end of the 95 % percentile interval."""
        return float(np.quantile(self.draws[0], ENDS[1]))

    def text(self, digits: int = 1, sign: str = "", unit: str = "") -> str:
        """As `Interval.text`."""
        return Interval(self.value, self.low, self.high).text(digits, sign, unit)

    def basis(self) -> str:
        """For example "n = 277, 3 seeds"."""
        return f"n = {self.n}, {self.seeds} seed{'s' if self.seeds > 1 else ''}"

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The paired difference; ValueError if the dev rows are not the same."""
        return self._paired(other, self.value - other.value, self.draws - other.draws)

    def __truediv__(self, other: "Estimate") -> "Estimate":
        """The paired ratio; ValueError if the dev rows are not the same."""
        with np.errstate(all="ignore"):
            return self._paired(other, np.divide(self.value, other.value), self.draws / other.draws)

    def _paired(self, other, value, draws):
        if self.rows != other.rows:
            raise ValueError(f"not the same dev rows: {self.rows} and {other.rows}")
        seeds = max(self.seeds, other.seeds)
        return Estimate(float(value), draws, self.rows, self.n, seeds, _union([self, other]))


def _union(parts: Sequence[Estimate]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run for part in parts for run in part.runs))


def estimate(results: Sequence, task: Task, split: str) -> Estimate:
    """A system's mean score on a dev split, in points, over its runs.

    Args:
        results: runs (`RunResult`), one per seed.
        task: its primary metric is the score.
        split: a dev split of the task.
    """
    values, draws, rows, n = zip(*(_score(result, task, split) for result in results), strict=True)
    draws, seeds = np.stack(draws), len(results)
    picks = np.random.default_rng(seeds).integers(0, seeds, draws.shape)
    both = np.stack([np.take_along_axis(draws, picks, 0).mean(0), draws.mean(0)])
    ids = tuple(result.id for result in results)
    return Estimate(float(np.mean(values)), both, rows[0], n[0], seeds, ids)


@functools.lru_cache(maxsize=512)
def _score(result, task: Task, split: str):
    dev, name = result.predictions(split), f"{task.name}/{split}"
    labels, guesses = (x.astype(float) for x in (dev["labels"], decide(task, dev["logits"])))
    score = functools.partial(resampled, task.primary, labels, guesses)
    value, draws = draw_rows(score, len(labels), DRAWS, seed=zlib.crc32(name.encode()))
    return 100 * value, 100 * draws, (name, zlib.crc32(labels.tobytes())), len(labels)


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """The plain mean over dev columns, as the paper's "Avg"."""
    value = float(np.mean([part.value for part in parts]))
    draws, rows = np.mean([part.draws for part in parts], axis=0), tuple(p.rows for p in parts)
    n, seeds = sum(part.n for part in parts), min(part.seeds for part in parts)
    return Estimate(value, draws, rows, n, seeds, _union(parts))


def verdict(measured: Estimate | Interval | None, at_least: float = 0.0) -> str:
    """One of `VERDICTS`, by where the interval lies.

    Args:
        measured: None if nothing was run.
        at_least: 0 for the claim "above 0"; else the amount that is claimed.
    """
    if measured is None:
        return "not run"
    if measured.low > at_least or 0 < at_least <= measured.low:
        return "reproduced"
    return "not reproduced" if measured.high < at_least else "not distinguishable"


def auc(score: np.ndarray, event: np.ndarray) -> Estimate:
    """The chance that a row with the event scores above a row without it; ties count half.

    Args:
        score: (n,).
        event: (n,) booleans.

    Returns:
        An estimate in [0, 1]; NaN if all rows have the event, or none.
    """

    def area(rows):
        ranks, hit = rankdata(score[rows], axis=1), event[rows]
        ones = hit.sum(1)
        won, pairs = (ranks * hit).sum(1) - ones * (ones + 1) / 2, ones * (len(score) - ones)
        return np.divide(won, pairs, out=np.full(len(rows), np.nan), where=pairs > 0)

    value, draws = draw_rows(area, len(score), DRAWS)
    return Estimate(value, np.stack([draws, draws]), ("auc", len(score)), len(score))


def geometric_mean(ratios: Sequence[float]) -> Interval:
    """The geometric mean of positive ratios with the t interval of their logarithms."""
    logs, n = np.log(ratios), len(ratios)
    spread = t.ppf(ENDS[1], n - 1) * logs.std(ddof=1) / n**0.5 if n > 1 else np.nan
    return Interval(*np.exp([logs.mean(), logs.mean() - spread, logs.mean() + spread]))


def spread_ratio(first: np.ndarray, second: np.ndarray, block: int) -> Interval:
    """The standard deviation of `first` over that of `second`, with a paired block bootstrap.

    Args:
        first, second: (n,), values of the same n steps.
        block: the number of neighbouring steps that are drawn together, the same ones from both.
            There is no interval for fewer than four blocks.
    """
    ratio, count = first.std() / second.std(), len(first) // block
    if count < 4:
        return Interval(ratio, np.nan, np.nan)
    starts = np.random.default_rng(0).integers(0, len(first) - block + 1, (DRAWS, count))
    steps = (starts[..., None] + np.arange(block)).reshape(DRAWS, -1)
    return Interval(ratio, *np.quantile(first[steps].std(1) / second[steps].std(1), ENDS))


def inflation(draws: Sequence[np.ndarray]) -> float:
    """How much too high the best of several candidates is on average, if all are equally good.

    Args:
        draws: for each candidate its bootstrap values (D,) on the *same* dev rows, as in
            `Estimate.draws[0]`. They differ only as far as the candidates' answers do.

    Returns:
        The mean over the draws of the largest deviation from a candidate's own mean; at least 0, in
        the unit of the draws. For k independent normal ones it is their expected maximum: 0.85
        standard deviations for k = 3.
    """
    noise = np.stack([d - np.mean(d) for d in draws])
    return max(0.0, float(noise.max(0).mean()))  # rounding may give -1e-17


def cases(chosen: np.ndarray, by: np.ndarray, count: int = 4) -> np.ndarray:
    """Numbers of the `chosen` rows with the largest `by`, largest first, ties by row number.

    Args:
        chosen: (n,) booleans.
        by: (n,).
        count: the largest number of rows.
    """
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-by[rows], kind="stable")][:count]
