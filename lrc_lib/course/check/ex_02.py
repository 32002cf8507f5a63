"""Checks of notebooks/02_teacher_and_student: Eq. (3), padding, and counting."""

import functools

import numpy as np
import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.course.check.ex_01 import in_batch_with, right_in_batch
from lrc_lib.losses import angular_distance, in_batch_cos_nce, reduce_states, unit
from lrc_lib.models import build_student, count_parameters


def _padded(seed: int):
    """(B, L, D) states whose padding holds noise, and their (B, L) mask."""
    lengths = torch.tensor([7, 3, 5, 2])
    mask = (torch.arange(7) < lengths[:, None]).long()
    states = draws(4, 7, 6, seed=3) + 0.5
    return torch.where(mask.bool()[..., None], states, 9 * draws(4, 7, 6, seed=seed)), mask


def _mean(states, mask):
    return reduce_states(states, mask, "mean")[0].squeeze(1)


PADDING = "Your mean changes when padding changes: mask before you sum."
MEAN = {
    PADDING: lambda x, m: x.mean(1),
    "You divide by the padded length: divide by the ones in the mask.":
        lambda x, m: (x * m[..., None]).mean(1),
    "That is the sum over the tokens: divide by their number.":
        lambda x, m: (x * m[..., None]).sum(1),
    "That is the first token, `cls`: all real tokens count.": lambda x, m: x[:, 0],
}  # fmt: skip


@exercise(MEAN)
def ex_02_1(masked_mean):
    """The mean over real tokens, (B, L, D), (B, L) -> (B, D)."""
    states, mask = _padded(4)
    found, other = (core.tensor(masked_mean, x, mask) for x in (states, _padded(5)[0]))
    if found.shape == (4, 6) and not core.close(found, other):
        raise core.Mistake(PADDING)
    compare(masked_mean, _mean, MEAN, states, mask, what="the (B, D) means")
    return "Whatever stands in the padding, the mean stays."


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
def ex_02_2(layer_loss):
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
def ex_02_3(centred):
    """The common direction taken off, (n, D) -> (n, D)."""
    vectors = (draws(12, 8) + 3 * draws(8, seed=1)) * (1 + torch.arange(12.0)[:, None])

    def right(v):
        return unit(v) - unit(v).mean(0)

    what = "the centred vectors, at length 1"
    after = compare(centred, right, CENTRED, vectors, what=what, probe=core.directions)
    cosines = [(u.sum(0).square().sum() - 12) / (12 * 11) for u in (unit(vectors), after)]
    return f"The mean pair cosine falls from {cosines[0]:.2f} to {cosines[1]:.2f}."


@functools.cache
def _parameters(layers: int, width: int, inner: int) -> int:
    """The parameters of a BERT of this shape, which is built without memory for its weights."""
    with torch.device("meta"):  # in how many heads a layer is cut makes no difference
        return count_parameters(build_student(layers, width, inner, heads=2).bert)


def _miscount(times, part):
    return lambda n, d, f: _parameters(n, d, f) + times * part(n, d, f)


PARTS = {
    "Word pieces": lambda n, d, f: 30522 * d,
    "Positions": lambda n, d, f: 512 * d,
    "Segments, or the embeddings' LayerNorm (both have 2 x width)": lambda n, d, f: 2 * d,
    "The pooler": lambda n, d, f: d * d + d,
    "A fourth square matrix per layer (the output of attention)": lambda n, d, f: n * (d * d + d),
    "4 x width per layer: its LayerNorms, or the biases of attention": lambda n, d, f: 4 * n * d,
    "The biases of the feed-forward matrices": lambda n, d, f: n * (f + d),
    "All biases of the layers' matrices": lambda n, d, f: n * (5 * d + f),
}
COUNT = {f"{name}: not counted, the only gap.": _miscount(-1, p) for name, p in PARTS.items()}
COUNT |= {f"{name}: counted twice.": _miscount(1, p) for name, p in PARTS.items()}
SHAPES = ((4, 312, 1200), (2, 128, 512), (12, 768, 3072))


def _gaps(count):
    """By how much a count falls short, for each of the shapes."""
    what = "the whole count"
    return np.array([_parameters(*s) - core.number(count, *s, what=what) for s in SHAPES])


@exercise(COUNT)
def ex_02_4(count):
    """The parameters of a BERT encoder, (layers, width, inner) -> int."""
    compare(count, _parameters, COUNT, what=f"what your count lacks for {SHAPES}", probe=_gaps)
    return "BERT-base has 109,482,240 so counted, and the paper's student 14,350,248."
