"""Checks of notebooks/09_glue_results: averages, rules, luck and a better control."""

import numpy as np
from scipy.stats import binom

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise
from lrc_lib.course.check.variants import registered


def _of_means(student, teacher):
    return 100 * np.sum(student) / np.sum(teacher)


def _of_ratios(student, teacher):
    return 100 * np.mean(np.divide(student, teacher))


def _mistakes(right, sentence, other):
    """What can go wrong in one of the two averages; `sentence` is about the other one."""
    return {
        "You averaged the differences: divide.": lambda s, t: np.subtract(s, t).mean(),
        "Return one number: average the ratios.": lambda s, t: 100 * np.divide(s, t),
        "That is a fraction: return percent.": lambda s, t: right(s, t) / 100,
        "Upside down: divide the student's score by the teacher's.": lambda s, t: right(t, s),
        sentence: other,
    }


OF_MEANS = _mistakes(_of_means, "That is the mean of the ratios: divide the sums.", _of_ratios)
OF_RATIOS = _mistakes(_of_ratios, "That is the ratio of the means: divide each first.", _of_means)


@exercise(OF_MEANS, OF_RATIOS)
def ex_09_1(ratio_of_means, mean_of_ratios):
    """Two averages of what a student keeps of its teacher, (list, list) -> percent, each."""
    scores = [80.0, 30.0, 60.0, 88.0], [84.0, 55.0, 70.0, 91.0]
    what = "the student's share"
    one = compare(ratio_of_means, _of_means, OF_MEANS, *scores, what=what, probe=core.array)
    other = compare(mean_of_ratios, _of_ratios, OF_RATIOS, *scores, what=what, probe=core.array)
    return f"{one:.1f} by sums, {other:.1f} by ratios: the low score weighs more in the second."


WORDS = ("better", "worse", "equivalent", "undecided")
FIRST = "It lies within the margin, and that comes first."
INTERVALS = (  # low, high, margin, the verdict, why
    (0.5, 3.0, 1.0, "better", "The whole interval lies above 0."),
    (-3.0, -0.5, 1.0, "worse", "The whole interval lies below 0."),
    (-0.5, 2.0, 1.0, "undecided", "It holds 0 and leaves the margin."),
    (-0.9, 0.9, 1.0, "equivalent", "It lies within the margin."),
    (0.1, 0.4, 1.0, "equivalent", FIRST),
    (-0.4, -0.1, 1.0, "equivalent", FIRST),
    (0.1, 0.4, 0.05, "better", "`margin` has no effect."),
)


@exercise()
def ex_09_2(rule):
    """A verdict on an interval, (low, high, margin) -> one of four words."""
    for low, high, margin, wanted, why in INTERVALS:
        found = core.call(rule, low, high, margin)
        if not isinstance(found, str) or found not in WORDS:
            raise core.Mistake(
                f"Return one of the words {', '.join(WORDS)}, not {repr(found)[:40]}."
            )
        if found != wanted:
            raise core.Mistake(
                f"{low:+} to {high:+} at a margin of {margin:g} is {wanted}, not {found}. {why}"
            )
    return "It can say 'the same', which the rule of section 1 cannot."


def _right(wins, columns):
    return binom.sf(wins - 1, columns, 0.5)


CHANCE = {
    "That is the chance of exactly `wins`: add all above it.": lambda w, n: binom.pmf(w, n, 0.5),
    "That is the chance of more than `wins`: count `wins` itself too.":
        lambda w, n: binom.sf(w, n, 0.5),
    "That is the chance of at most `wins`: turn it round.": lambda w, n: binom.cdf(w, n, 0.5),
    "That is the number of ways: divide by 2 ** columns.": lambda w, n: 2**n * _right(w, n),
    "That is two-sided: count the wins of this system only.": lambda w, n: 2 * _right(w, n),
}  # fmt: skip


@exercise(CHANCE)
def ex_09_3(chance):
    """P(at least `wins` of `columns`) if each is a coin toss."""
    for wins, columns in ((7, 9), (9, 9), (3, 5)):
        what = f"the chance of {wins} of {columns}"
        compare(chance, _right, CHANCE, wins, columns, what=what, probe=core.array)
    return "Nine of nine is rare for coins, but the columns of a table are not independent coins."


OF_THE_CONTROL = ("learning_rate", "epochs", "batch_size", "warmup", "schedule", "dropout")


@exercise()
def ex_09_4(my_control):
    """A change to the training of `finetune`, with a prediction: settings to be trained."""
    return registered(my_control, "settings", OF_THE_CONTROL)
