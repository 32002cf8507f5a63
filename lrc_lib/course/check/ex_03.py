"""Checks of notebooks/03_in_eighty_lines: a loss without negatives, one push, a gradient."""

from functools import partial

import torch
import torch.nn.functional as F

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.losses import angular_distance, in_batch_cos_nce


def _alone(student, teacher):
    return 1.5 * angular_distance(student, teacher)


ALONE = {
    "The negatives are still there: drop every term without the teacher's output for the text.":
        partial(in_batch_cos_nce, reduction="none"),
    "That is the term behind the sum alone: the bracket has the same distance in it.":
        angular_distance,
    "That is the part of the bracket alone: the term behind the sum is missing.":
        lambda s, t: _alone(s, t) / 3,
    "The 2 of the bracket is still there: it has no teacher's output in it.":
        lambda s, t: 1 + _alone(s, t),
    "You averaged over the batch: return one loss for each of the B texts.":
        lambda s, t: _alone(s, t).mean(),
}  # fmt: skip


@exercise(ALONE)
def ex_03_1(alone):
    """What is left of Eq. (1) without negatives, (B, D), (B, D) -> (B,)."""
    compare(alone, _alone, ALONE, draws(16, 9), draws(16, 9, seed=1), what="the (B,) losses")
    return "Three halves of the angular distance to the own teacher."


def _rise(gradient):
    return gradient.flatten(1).norm(dim=1).sum().item()


RISE = {
    "One norm for the whole batch: here each text has its own step of length 1.":
        lambda g: g.norm().item(),
    "One norm for each token: here each text has its own step of length 1.":
        lambda g: g.norm(dim=-1).sum().item(),
    "You averaged over the texts: the loss is one number, and all texts move.":
        lambda g: _rise(g) / len(g),
    "That is the squared norm: the step is divided by the norm once.":
        lambda g: g.square().sum().item(),
    "Eq. (7) goes up: the loss rises.": lambda g: -_rise(g),
}  # fmt: skip


@exercise(RISE)
def ex_03_2(predicted_rise):
    """The first-order rise of the loss by the step of Eq. (7), (B, L, d) -> float."""
    probe, what = partial(core.number, what="the rise"), "the rise"
    found = compare(predicted_rise, _rise, RISE, draws(4, 5, 3), what=what, probe=probe)
    return f"The sum over the texts of their gradients' norms, here {found:.3f}."


def _gradient(student, teacher, labels, tau, gamma=3, target_tau=None, soft_tau=None, hard_tau=1):
    """The gradient, correctly or with one of its numbers replaced."""
    one_hot = F.one_hot(labels, student.shape[-1])
    target = one_hot if target_tau == 0 else (one_hot / (target_tau or tau)).softmax(-1)
    soft = ((student / tau).softmax(-1) - (teacher / tau).softmax(-1)) / (soft_tau or tau)
    return (soft + gamma * ((student / hard_tau).softmax(-1) - target)) / len(student)


GRADIENT = {
    "The inner derivative 1 / tau of Eq. (4) is missing.": partial(_gradient, soft_tau=1),
    "That is a one-hot target: Eq. (5) softens it first.": partial(_gradient, target_tau=0),
    "You softened the student in Eq. (5) as well: only its target has a temperature.":
        lambda s, t, y, tau: _gradient(s, t, y, tau, hard_tau=tau),
    "The weight 3 of the hard loss is missing.": partial(_gradient, gamma=1),
    "That is the gradient of the sum: the losses are means over the batch.":
        lambda s, t, y, tau: len(s) * _gradient(s, t, y, tau),
    "The sign is reversed: the gradient points uphill, to the student minus its target.":
        lambda *inputs: -_gradient(*inputs),
    "The soft loss is missing.":
        lambda s, t, y, tau: _gradient(s, s, y, tau),
}  # fmt: skip


@exercise(GRADIENT)
def ex_03_3(stage2_gradient):
    """The gradient of Eq. (4) + 3 Eq. (5) at the logits, (B, C), (B, C), (B,), tau -> (B, C)."""
    inputs = draws(12, 3), 2 * draws(12, 3, seed=1), torch.arange(12) % 3, 1.7
    compare(stage2_gradient, _gradient, GRADIENT, *inputs, what="the (B, C) gradient")
    return "Each row of it adds up to 0: a text's logits move against each other."
