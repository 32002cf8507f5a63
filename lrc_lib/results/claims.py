"""The paper's claims as rows: what the paper says, what was measured here, and the verdict.

Taught in notebooks/09_glue_results.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrc_lib.results import statistics
from lrc_lib.results.statistics import Estimate, Interval
from lrc_lib.results.systems import Column, Systems


class Claim(NamedTuple):
    """One row of the table of verdicts; `measured` is None if nothing was run."""

    claim: str
    paper: str
    ours: str
    verdict: str
    measured: Estimate | Interval | None


def judge(claim, paper, measured, at_least=0.0, unit="", sign="", basis="") -> Claim:
    """A claim with its verdict.

    Args:
        claim: the claim in words.
        paper: what the paper prints, in words.
        measured: an `Estimate`, an `Interval`, or None if nothing was run.
        at_least: see `lrc_lib.results.statistics.verdict`.
        unit, sign: see `Interval.text`.
        basis: what the measurement rests on, in words.
    """
    ours = "" if measured is None else f"{measured.text(1, sign, unit)}; {basis}"
    return Claim(claim, paper, ours, statistics.verdict(measured, at_least), measured)


def better(
    systems: Systems, claim: str, paper: str, first: str, second: str, columns: Sequence[Column]
) -> Claim:
    """The claim that recipe `first` scores above recipe `second`, in points.

    Measured is the mean paired difference over those of the `columns` on which both were run.
    """
    pairs = {c.title: p for c in columns if (p := systems.pair(first, second, c))}
    gain = statistics.mean_of([a - b for a, b in pairs.values()]) if pairs else None
    basis = f"{', '.join(pairs)} (dev), {gain.basis()}" if gain else ""
    return judge(claim, paper, gain, unit=" points", sign="+", basis=basis)


def less_fluctuation(perturbed: Sequence, plain: Sequence) -> tuple[Interval | None, int]:
    """How much less the clean loss fluctuates with perturbation in stage 2, in percent.

    Fluctuation is the standard deviation of the log loss around its running mean, which is a tenth
    of the stage wide. One seed has a block bootstrap interval, several seeds have a t interval.

    Args:
        perturbed, plain: histories (`RunResult.history`) with and without perturbation, one per
            seed, in the same order.

    Returns:
        The interval (None without runs), and the number of steps that it rests on.
    """
    pairs = [(_residuals(a), _residuals(b)) for a, b in zip(perturbed, plain, strict=True)]
    if not pairs:
        return None, 0
    (first, block), (second, _) = pairs[0]
    if len(pairs) > 1:
        ratio = statistics.geometric_mean([a.std() / b.std() for (a, _), (b, _) in pairs])
    else:
        ratio = statistics.spread_ratio(first, second, block)
    value, low, high = (100 * (1 - x) for x in ratio)
    return Interval(value, high, low), len(first)


def _residuals(history) -> tuple[np.ndarray, int]:
    """The log loss of stage 2 less its running mean, where that fits, and the mean's width."""
    loss = np.log(history.query("stage == 2")["loss"].to_numpy(float))
    width = max(3, len(loss) // 10 // 2 * 2 + 1)
    if len(loss) < width:
        return loss[:0], width
    mean = np.convolve(loss, np.ones(width) / width, "valid")
    return loss[width // 2 :][: len(mean)] - mean, width
