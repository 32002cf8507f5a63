"""Checks of notebooks/08_is_it_contrastive: a batch as negatives, a control, and a limit."""

import numpy as np
import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise
from lrc_lib.course.check.variants import registered
from lrc_lib.losses import unit


def _pair(a, b):
    """`in_batch_pair` with these coefficients of the batch size."""
    return lambda size: (a(size), b(size))


def _a(size):
    return 1.5 + 0.5 / (size - 1)


def _b(size):
    return 0.5 * size / (size - 1)


PAIR = {
    "That holds for a large batch only: the row itself is in the mean of all, and not among its "
    "negatives.": _pair(lambda size: 1.5, lambda size: 0.5),
    "b is right. Taking the row out of the mean leaves something for a, too.":
        _pair(lambda size: 1.5, _b),
    "a is right. Of B rows, B - 1 are negatives: what is the sum of all B?":
        _pair(_a, lambda size: 0.5),
    "The sign of the row that you take out is turned: it adds to a.":
        _pair(lambda size: 3 - _a(size), _b),
    "b is subtracted: return it above 0.": _pair(_a, lambda size: -_b(size)),
}  # fmt: skip


@exercise(PAIR)
def ex_08_1(in_batch_pair):
    """The a and b of v = a t - b mean(t) when the rest of a batch is negative, B -> (a, b)."""

    def losses(answer):
        """Eq. (1) of all rows at random points, for three sizes of the batch."""
        found = []
        for size in (2, 5, 16):
            a, b = core.pair(answer, "a and b", size)
            a, b = core.single(a, "a", "the factor a"), core.single(b, "b", "the factor b")
            u, t = unit(core.draws(size, 7)), unit(core.draws(size, 7, seed=1))
            found.append(2 - (u * (a * t - b * t.mean(0))).sum(-1))
        return torch.cat(found)

    what = "the losses for batches of 2, 5 and 16"
    compare(in_batch_pair, _pair(_a, _b), PAIR, what=what, probe=losses)
    a, b = _a(16), _b(16)
    return (
        f"For the paper's 16, v is {a:.3f} t - {b:.3f} mean(t): b / a is {b / a:.3f}. "
        "The mean holds the row's own t, and a takes it out again."
    )


@exercise()
def ex_08_2(my_control):
    """A control of one's own, with a prediction: a recipe to be trained."""
    return registered(my_control, "recipe")


def _second(c, tau):
    return c.mean() - c[0] + c.var() / (2 * tau)


EXPANSION = {
    "That is the limit: the term with 1/tau is missing.": lambda c, tau: c.mean() - c[0],
    "A half is missing at the variance.": lambda c, tau: _second(c, tau / 2),
    "Take all K + 1 cosines, the teacher's too.": lambda c, tau: _second(c[1:], tau) + c[1] - c[0],
}


@exercise(EXPANSION)
def ex_08_3(second_order):
    """tau (InfoNCE - log(K + 1)) up to the term with 1/tau, (K + 1,), temperature -> number."""
    inputs, what = (np.array([0.9, -0.3, 0.1, 0.2, 0.7]), 0.8), "the expansion"
    compare(second_order, _second, EXPANSION, *inputs, what=what, probe=core.array)
    return "The first thing that InfoNCE sees besides the mean is how much the cosines differ."
