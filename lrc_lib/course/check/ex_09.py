"""Checks of notebooks/09_glue_results: averages, rules and luck."""

import math

import numpy as np

from lrc_lib.course.check.core import Mistake, array, call, compare, exercise


@exercise
def ex_09_1(ratio_of_means, mean_of_ratios):
    """Two averages of what a student keeps of its teacher, (list, list) -> percent, each."""
    student, teacher = np.array([80.0, 30.0, 60.0, 88.0]), np.array([84.0, 55.0, 70.0, 91.0])
    one, other = 100 * student.mean() / teacher.mean(), 100 * np.mean(student / teacher)
    for answer, right, wrong in (
        (ratio_of_means, one, ("Those are the ratios' means: divide the sums.", other)),
        (mean_of_ratios, other, ("That is the ratio of the means: divide each first.", one)),
    ):
        compare(
            array(answer, student.tolist(), teacher.tolist()),
            right,
            {
                wrong[0]: wrong[1],
                "That is a fraction: percent are asked for.": right / 100,
                "Upside down: the student's share of the teacher.": 1e4 / right,
                "Upside down: the student's share, ratio by ratio.": (
                    100 * np.mean(teacher / student)
                ),
                "You averaged the differences: divide.": (student - teacher).mean(),
                "One number is asked for: average the ratios.": 100 * student / teacher,
            },
            answer.__name__ if hasattr(answer, "__name__") else "the share",
        )
    return f"{one:.1f} by sums, {other:.1f} by ratios: the low score weighs more in the second."


@exercise
def ex_09_2(rule):
    """A verdict on an interval, (low, high, margin) -> one of four words."""
    words = ("better", "worse", "equivalent", "undecided")
    known = {
        (0.5, 3.0): ("better", "The whole interval lies above 0"),
        (-3.0, -0.5): ("worse", "The whole interval lies below 0"),
        (-0.5, 2.0): ("undecided", "It holds 0 and leaves the margin"),
        (-0.9, 0.9): ("equivalent", "It lies within the margin"),
        (0.1, 0.4): ("equivalent", "It lies within the margin, and that comes first"),
        (-0.4, -0.1): ("equivalent", "It lies within the margin, and that comes first"),
    }
    for (low, high), (word, why) in known.items():
        found = call(rule, low, high, 1.0)
        if not isinstance(found, str) or found not in words:
            raise Mistake(f"Return one of the words {', '.join(words)}, not {str(found)[:40]!r}.")
        if found != word:
            raise Mistake(f"{low:+} to {high:+} at a margin of 1 is {word}, not {found}. {why}.")
    if call(rule, 0.1, 0.4, 0.05) != "better":
        raise Mistake("`margin` has no effect: +0.1 to +0.4 is better at a margin of 0.05.")
    return "It can say 'the same', which the rule of section 1 cannot."


@exercise
def ex_09_3(chance):
    """P(at least `wins` of `columns`) if each is a coin toss."""
    for wins, columns in ((7, 9), (9, 9), (3, 5)):
        tosses = [math.comb(columns, k) / 2**columns for k in range(columns + 1)]
        right = sum(tosses[wins:])
        mistakes = {
            "That is the chance of exactly so many: at least so many are asked for.": tosses[wins],
            "That is more than so many: the number itself counts too.": sum(tosses[wins + 1 :]),
            "That is at most so many: turn it round.": sum(tosses[: wins + 1]),
            "That is the number of ways: divide by 2 to the power of columns.": right * 2**columns,
            "That is two-sided: either system could have won; asked is this one.": 2 * right,
        }
        found = array(chance, wins, columns)
        compare(found, right, mistakes, f"the chance of {wins} of {columns}")
    return "Nine of nine is a rare result of coins; but columns are not coins."
