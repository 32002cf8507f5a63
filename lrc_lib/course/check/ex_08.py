"""Checks of notebooks/08_is_it_contrastive: a target, weights, and the first term of a limit."""

import numpy as np

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise
from lrc_lib.losses import unit

TARGET = {
    "That moves towards mu: the loss pushes away from it.": lambda t, mu: unit(unit(t) + mu / 3),
    "1/2 against 3/2 is a third, not a half.": lambda t, mu: unit(unit(t) - mu / 2),
    "Bring the teacher's vectors to length 1 first.": lambda t, mu: unit(t - mu / 3),
    "Leave mu's length as it is: it counts.": lambda t, mu: unit(unit(t) - unit(mu) / 3),
    "The direction is right, but a student's u has length 1.": lambda t, mu: unit(t) - mu / 3,
}


@exercise(TARGET)
def ex_08_1(centred_target):
    """Where COS-NCE is smallest with mu for the mean negative, (B, D), (D,) -> (B, D)."""
    teacher = core.draws(6, 5) + 1
    inputs, what = (teacher, unit(teacher).mean(0)), "the target"
    compare(centred_target, lambda t, mu: unit(unit(t) - mu / 3), TARGET, *inputs, what=what)
    return "No negative appears in it: mu is known before training."


def _shares(cosines, tau):
    weights = np.exp(cosines / tau)
    return weights / weights.sum()


SHARES = {
    "Those do not add up to 1: divide by their sum.": lambda c, tau: np.exp(c / tau),
    "Divide by tau, do not multiply.": lambda c, tau: _shares(c, 1 / tau),
    "`tau` has no effect.": lambda c, tau: _shares(c, 1),
    "The nearest negative gets the most, not the least.": lambda c, tau: _shares(-c, tau),
}


@exercise(SHARES)
def ex_08_2(push):
    """Each negative's share of InfoNCE's push, (K,), temperature -> (K,)."""
    inputs, what = (np.linspace(-0.3, 0.8, 6), 0.2), "the shares"
    found = compare(push, _shares, SHARES, *inputs, what=what, probe=core.array)
    return f"The nearest of six gets {found.max():.0%} here; in COS-NCE a sixth, always."


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
