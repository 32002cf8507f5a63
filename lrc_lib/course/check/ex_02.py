"""Checks of notebooks/02_teacher_and_student: Eq. (3), padding, and another reading."""

import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.course.check.ex_01 import in_batch_with, right_in_batch
from lrc_lib.course.check.variants import registered
from lrc_lib.losses import angular_distance, in_batch_cos_nce, reduce_states, unit


def _padded(seed: int):
    """(B, L, D) states whose padding holds noise, and their (B, L) mask."""
    lengths = torch.tensor([7, 3, 5, 2])
    mask = (torch.arange(7) < lengths[:, None]).long()
    states = draws(4, 7, 6, seed=3) + 0.5
    return torch.where(mask.bool()[..., None], states, 9 * draws(4, 7, 6, seed=seed)), mask


def _mean(states, mask):
    return reduce_states(states, mask, "mean")[0].squeeze(1)


def _layer(loss, mean=_mean):
    """A `layer_loss` with this loss of the (B, D) vectors."""
    return lambda student, teacher, mask, weight: loss(
        mean(student @ weight, mask), mean(teacher, mask)
    )


LAYER_PADDING = "Your loss changes when padding changes: mask before the mean."
LAYER = {
    LAYER_PADDING: _layer(right_in_batch, lambda x, m: x.mean(1)),
    "That is the pull alone: the other texts of the batch push.": _layer(angular_distance),
    "That is the squared error, the loss of BERT_M.":
        _layer(lambda z, t: (z - t).square().mean(-1)),
    "Each text is among its own negatives: take it out of the push.":
        _layer(in_batch_with(lambda u, t, c: 0.5 * (u @ t.T).mean(1))),
    "You averaged over the batch: return one loss for each text.": _layer(in_batch_cos_nce),
    "The negatives are the student's own outputs: Eq. (3) takes the teacher's.":
        _layer(in_batch_with(lambda u, t, c: 0.5 * ((u @ u.T).sum(1) - 1) / (len(u) - 1))),
}  # fmt: skip


@exercise(LAYER)
def ex_02_1(layer_loss):
    """Eq. (3) on mean vectors, (B, L, d), (B, L, D), (B, L), (d, D) -> (B,)."""
    student, (teacher, mask), weight = draws(4, 7, 3, seed=1), _padded(4), draws(3, 6, seed=2)
    noisy = torch.where(mask.bool()[..., None], student, 9 + student)
    found = core.tensor(layer_loss, student, teacher, mask, weight)
    if found.shape == (4,):
        for moved in ((noisy, teacher), (student, _padded(5)[0])):
            if not core.close(found, core.tensor(layer_loss, *moved, mask, weight)):
                raise core.Mistake(LAYER_PADDING)
    inputs = student, teacher, mask, weight
    compare(layer_loss, _layer(right_in_batch), LAYER, *inputs, what="the (B,) losses")
    return "Eq. (3), and what stands in the padding does not matter."


CENTRED = {
    "Nothing was taken off: the vectors are as alike as before.": unit,
    "That is each vector's own mean: take the mean over the batch.":
        lambda v: unit(v) - unit(v).mean(1, keepdim=True),
    "Long vectors decide your mean: bring all to length 1 first.": lambda v: v - v.mean(0),
    "You divide by the spread of each coordinate: that turns the vectors too.":
        lambda v: (unit(v) - unit(v).mean(0)) / unit(v).std(0),
    "You added the mean: the vectors are more alike than before.":
        lambda v: unit(v) + unit(v).mean(0),
}  # fmt: skip


@exercise(CENTRED)
def ex_02_2(centred):
    """The common direction taken off, (n, D) -> (n, D)."""
    vectors = (draws(12, 8) + 3 * draws(8, seed=1)) * (1 + torch.arange(12.0)[:, None])

    def right(v):
        return unit(v) - unit(v).mean(0)

    what = "the centred vectors, at length 1"
    after = compare(centred, right, CENTRED, vectors, what=what, probe=core.directions)
    cosines = [(u.sum(0).square().sum() - 12) / (12 * 11) for u in (unit(vectors), after)]
    return f"The mean pair cosine falls from {cosines[0]:.2f} to {cosines[1]:.2f}."


READING = ("representation", "layer_map", "layer_reduction", "projection", "projection_bias")


@exercise()
def ex_02_3(my_reading):
    """Another way to read a layer, with a prediction: settings to be trained."""
    return registered(my_reading, "settings", READING)
