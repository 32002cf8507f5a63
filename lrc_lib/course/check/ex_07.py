"""Checks of notebooks/07_mse_and_angle: a student trained otherwise, and cases by a rule."""

import numpy as np
import pandas as pd

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise
from lrc_lib.course.check.ex_05 import OF_THE_TASK
from lrc_lib.course.check.variants import registered
from lrc_lib.results.statistics import cases


def _auc(score, wrong) -> float:
    """How often a wrong row has the larger score than a right one; ties count half."""
    pairs = score[wrong][:, None] - score[~wrong]
    return (pairs > 0).mean() + 0.5 * (pairs == 0).mean() if pairs.size else np.nan


@exercise()
def ex_07_1(my_student):
    """A student nearer to its teacher or farther away, with a prediction: settings."""
    return registered(my_student, "settings", OF_THE_TASK)


def _dev_set(seed: int = 0):
    """(MSE of bert_m, angle of lrc, wrong of lrc, wrong of bert_m) of a made-up dev set."""
    rng = np.random.default_rng(seed)
    mse, angle = rng.gamma(4, 0.5, 200), rng.uniform(0.1, 0.9, 200)
    return mse, angle, rng.random(200) < 0.2, rng.random(200) < 0.3


def _row_numbers(value, name: str) -> np.ndarray:
    rows = core.as_array(value, name)
    if rows.ndim != 1 or (rows != rows.round()).any() or (rows < 0).any() or (rows >= 200).any():
        raise core.Mistake(f"`{name}`: return row numbers, whole and from 0 to 199.")
    return rows.astype(int)


@exercise()
def ex_07_2(pick):
    """Four rows that make the opposite case, by hand."""
    mse, angle, wrong_lrc, wrong_bert_m = _dev_set()
    found = core.call(pick, mse, angle, wrong_lrc, wrong_bert_m)
    rows = _row_numbers(found, core.name_of(pick)).tolist()
    angle, missed = angle[rows], wrong_lrc[rows]
    core.refuse({
        f"Return four different rows, not {rows}.": not len(rows) == len(set(rows)) == 4,
        "bert_m is wrong on one of them: it has to be right on all four.": wrong_bert_m[rows].any(),
        f"lrc is wrong on {missed.sum()} of them: choose two wrong and two right.":
            missed.sum() != 2,
    })  # fmt: skip
    if angle[missed].min() <= angle[~missed].max():
        raise core.Mistake(
            "The two wrong rows have to have the larger angles, or nothing is 'shown'."
        )
    return "A table for the other side, from data in which neither measure knows anything."


def _thirds(score, lengths):
    return np.array_split(np.argsort(lengths, kind="stable"), 3)


def _equal_ranges(score, lengths):
    part = pd.cut(lengths, 3, labels=False)
    return [np.flatnonzero(part == i) for i in range(3)]


def _within(cut=_thirds, reduce=np.nanmean):
    """The mean AUC within parts of the rows."""
    return lambda score, wrong, lengths: reduce(
        [_auc(score[rows], wrong[rows]) for rows in cut(score, lengths)]
    )


EMPTY = "A third in which no row is wrong has no AUC: leave it out of the mean."
WITHIN = {
    "That is the AUC over all rows: split them by length first.": lambda s, w, n: _auc(s, w),
    "The rows are not sorted by length before you cut them in three.":
        _within(lambda s, n: np.array_split(np.arange(len(n)), 3)),
    "You sorted by the score: the thirds are by length.": _within(lambda s, n: _thirds(n, s)),
    "Three equal ranges of length are not three equal parts of the rows.": _within(_equal_ranges),
    "Three numbers: average them.": _within(reduce=np.asarray),
    "Upside down: how often is the wrong row's value larger?":
        lambda s, w, n: 1 - _within()(s, w, n),
    EMPTY: _within(reduce=np.mean),
}  # fmt: skip


@exercise(WITHIN)
def ex_07_3(within):
    """The AUC in thirds by length, averaged, (n,), (n,) bool, (n,) -> number."""
    rng = np.random.default_rng(1)
    lengths = rng.geometric(0.08, 600) + 3
    score = lengths + 3 * rng.random(600)
    wrong = rng.random(600) < np.minimum(0.9, lengths / 40)
    inputs, what = (score, wrong, lengths), "the mean AUC within thirds"
    mean = compare(within, _within(), WITHIN, *inputs, what=what, probe=core.array)
    core.array(within, score, wrong & (lengths > np.median(lengths)), lengths, nan=EMPTY)
    whole = _auc(score, wrong)
    return f"{mean:.3f} within thirds, {whole:.3f} over all: the score knew the length."


@exercise()
def ex_07_4(cases_by_rule):
    """Cases of both kinds by a rule written down before looking; two lists of row numbers."""
    mse, angle, wrong_lrc, wrong_bert_m = _dev_set(1)

    def chosen(count, wrong_lrc=wrong_lrc):
        what = "two lists of row numbers, lrc's cases and bert_m's"
        lists = core.pair(cases_by_rule, what, wrong_lrc, wrong_bert_m, mse, angle, count)
        return [_row_numbers(x, core.name_of(cases_by_rule)).tolist() for x in lists]

    found, again = chosen(4), chosen(4)
    sizes, few = [*map(len, found)], chosen(20, wrong_lrc & (np.arange(200) < 30))
    core.refuse({
        "Two calls give different rows: a rule leaves nothing to chance.": found != again,
        f"{sizes[0]} and {sizes[1]} rows: return 4 of each kind.": sizes != [4, 4],
        f"Asked for 20 where one kind has fewer you show {len(few[0])} and {len(few[1])}: show the "
        "same number of both kinds, min(count, both numbers).": len(few[0]) != len(few[1]),
    })  # fmt: skip
    lrc = "lrc", "MSE of bert_m", ~wrong_lrc & wrong_bert_m, mse
    bert_m = "bert_m", "angle of lrc", wrong_lrc & ~wrong_bert_m, angle
    for rows, (system, measure, kind, by) in zip(found, (lrc, bert_m), strict=True):
        core.refuse({
            f"The {system} list has rows that {system} does not answer rightly alone: filter by "
            "both systems' mistakes first.": not kind[rows].all(),
            f"Those have the smallest {measure}: the rule takes the largest.":
                set(rows) == set(cases(kind, -by)),
            f"Those are not the four rows with the largest {measure} of their kind.":
                set(rows) != set(cases(kind, by)),
        })  # fmt: skip
    return "Everybody finds the same rows, as many against the claim as for it."
