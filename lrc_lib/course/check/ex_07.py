"""Checks of notebooks/07_mse_and_angle: AUC, and cases by a rule."""

import numpy as np

from lrc_lib.course.check.core import (
    Mistake,
    array,
    as_array,
    call,
    compare,
    exercise,
    name_of,
    parts,
)


def _auc(score, wrong) -> float:
    """The AUC of scores without ties."""
    ranks, ones = score.argsort().argsort() + 1, wrong.sum()
    return (ranks[wrong].sum() - ones * (ones + 1) / 2) / (ones * (len(score) - ones))


@exercise
def ex_07_1(fast_auc):
    """The AUC by ranks, (n,), (n,) bool -> number."""
    rng = np.random.default_rng(0)
    wrong = rng.random(300) < 0.3
    score = rng.random(300) + 0.4 * wrong
    right, ones = _auc(score, wrong), wrong.sum()
    ranks, pairs = score.argsort().argsort() + 1.0, ones * (300 - ones)
    won = ranks[wrong].sum()
    compare(
        array(fast_auc, score, wrong),
        right,
        {
            "Upside down: count how often the wrong row has the larger value.": 1 - right,
            "You did not divide by the number of pairs.": right * pairs,
            "Take the wrong rows' ranks among themselves off: ones * (ones + 1) / 2.": won / pairs,
            "Ranks begin at 1 for this formula; argsort().argsort() begins at 0.": (
                right - ones / pairs
            ),
            "argsort gives the order; the rank of each row is argsort of argsort.": (
                (score.argsort()[wrong].sum() + ones - ones * (ones + 1) / 2) / pairs
            ),
            "You divide by all pairs of rows: a pair has one wrong and one right row.": (
                right * pairs / (300 * 299 / 2)
            ),
        },
        "the AUC",
    )
    return f"{right:.4f}, as by the double loop."


def _dev_set(seed: int = 0):
    """(MSE of bert_m, angle of lrc, wrong of lrc, wrong of bert_m) of a made-up dev set."""
    rng = np.random.default_rng(seed)
    mse, angle = rng.gamma(4, 0.5, 200), rng.uniform(0.1, 0.9, 200)
    return mse, angle, rng.random(200) < 0.2, rng.random(200) < 0.3


def _row_numbers(value, name: str) -> np.ndarray:
    rows = as_array(value, name)
    if rows.ndim != 1 or (rows != rows.round()).any() or (rows < 0).any() or (rows >= 200).any():
        raise Mistake(f"`{name}`: row numbers are asked for, whole and from 0 to {199}.")
    return rows.astype(int)


@exercise
def ex_07_2(pick):
    """Four rows that make the opposite case, by hand."""
    mse, angle, wrong_lrc, wrong_bert_m = _dev_set()
    rows = _row_numbers(call(pick, mse, angle, wrong_lrc, wrong_bert_m), name_of(pick))
    if len(rows) != 4 or len(set(rows.tolist())) != 4:
        raise Mistake(f"Four different rows are asked for, not {rows.tolist()}.")
    if wrong_bert_m[rows].any():
        raise Mistake("bert_m is wrong on one of them: it has to be right on all four.")
    missed = wrong_lrc[rows]
    if missed.sum() != 2:
        raise Mistake(f"lrc is wrong on {missed.sum()} of them: two wrong and two right.")
    if angle[rows[missed]].min() <= angle[rows[~missed]].max():
        raise Mistake("The two wrong rows have to have the larger angles, or nothing is 'shown'.")
    return "A table for the other side, from data in which neither measure knows anything."


@exercise
def ex_07_3(within):
    """The AUC in thirds by length, averaged, (n,), (n,) bool, (n,) -> number."""
    rng = np.random.default_rng(1)
    lengths = rng.geometric(0.08, 600) + 3
    score = lengths + 3 * rng.random(600)
    wrong = rng.random(600) < np.minimum(0.9, lengths / 40)

    def mean_of(pieces):
        return np.mean([_auc(score[rows], wrong[rows]) for rows in pieces])

    thirds = np.array_split(np.argsort(lengths, kind="stable"), 3)
    steps = np.linspace(lengths.min(), lengths.max() + 1, 4)
    edges = zip(steps, steps[1:], strict=False)
    ranges = [np.flatnonzero((lengths >= a) & (lengths < b)) for a, b in edges]
    known = _auc(score, wrong)
    compare(
        array(within, score, wrong, lengths),
        mean_of(thirds),
        {
            "That is the AUC over all rows: lengths are not held apart.": known,
            "The rows are not sorted by length before you cut them in three.": (
                mean_of(np.array_split(np.arange(600), 3))
            ),
            "You sorted by the score: the thirds are by length.": (
                mean_of(np.array_split(np.argsort(score, kind="stable"), 3))
            ),
            "Three equal ranges of length are not three equal parts of the rows.": mean_of(
                [rows for rows in ranges if 0 < wrong[rows].sum() < len(rows)]
            ),
            "Three numbers: average them.": np.array(
                [_auc(score[rows], wrong[rows]) for rows in thirds]
            ),
            "Upside down: how often has the wrong row the larger value?": 1 - mean_of(thirds),
        },
        "the mean AUC within thirds",
    )
    none = "A third in which no row is wrong has no AUC: leave it out of the mean."
    array(within, score, wrong & (lengths > np.median(lengths)), lengths, nan=none)
    return f"{mean_of(thirds):.3f} within thirds, {known:.3f} over all: the score knew the length."


@exercise
def ex_07_4(cases_by_rule):
    """Cases of both kinds by a rule written down before looking; two lists of row numbers."""
    name, what = name_of(cases_by_rule), "two lists of row numbers, lrc's cases and bert_m's"
    mse, angle, wrong_lrc, wrong_bert_m = _dev_set(1)

    def chosen(order, count=4):
        columns = (x[order] for x in (wrong_lrc, wrong_bert_m, mse, angle))
        lists = parts(cases_by_rule, 2, what, *columns, count)
        return [order[_row_numbers(rows, name)] for rows in lists]

    straight = np.arange(200)
    found = chosen(straight)
    if any(a.tolist() != b.tolist() for a, b in zip(found, chosen(straight), strict=True)):
        raise Mistake("Two calls give different rows: a rule leaves nothing to chance.")
    only = ~wrong_lrc & wrong_bert_m, wrong_lrc & ~wrong_bert_m
    if not len(found[0]) or not len(found[1]):
        raise Mistake("One kind is missing: show as many rows where the other system is right.")
    for rows, kind, word in zip(found, only, ("lrc", "bert_m"), strict=True):
        if not kind[rows].all():
            raise Mistake(
                f"The {word} list has rows that {word} does not answer rightly alone: filter by "
                "both systems' mistakes first."
            )
    if len(found[0]) != 4 or len(found[1]) != 4:
        raise Mistake(f"{len(found[0])} and {len(found[1])} rows: 4 of each kind were asked for.")
    shuffled = chosen(np.random.default_rng(2).permutation(200))
    if any(set(a) != set(b) for a, b in zip(found, shuffled, strict=True)):
        raise Mistake("Shuffled rows give other cases: choose by the measure, not by position.")
    for rows, kind, by, word in zip(
        found, only, (mse, angle), ("MSE of bert_m", "angle of lrc"), strict=True
    ):
        ranked = np.flatnonzero(kind)[np.argsort(by[kind])]
        if set(rows) == set(ranked[:4]):
            raise Mistake(f"Those have the smallest {word}: the rule takes the largest.")
        if set(rows) != set(ranked[-4:]):
            raise Mistake(f"Those are not the four rows with the largest {word} of their kind.")
    fewer = parts(cases_by_rule, 2, what, wrong_lrc & (straight < 30), wrong_bert_m, mse, angle, 20)
    sizes = [len(_row_numbers(rows, name)) for rows in fewer]
    if sizes[0] != sizes[1]:
        raise Mistake(
            f"Asked for 20 where one kind has fewer you show {sizes[0]} and {sizes[1]}: as many of "
            "either kind, min(count, both numbers)."
        )
    return "The same rows whoever asks, as many against the claim as for it."
