"""Checks of notebooks/02_teacher_and_student: Eq. (3), padding, and counting."""

import torch

from lrc_lib.cli.cost import encoder_parameters
from lrc_lib.course.check.core import (
    Mistake,
    as_array,
    call,
    close,
    compare,
    draws,
    exercise,
    name_of,
    tensor,
    unit,
)
from lrc_lib.losses import angular_distance, transformer_layer_loss


def _padded(seed: int):
    """(B, L, D) states whose padding holds noise, and their (B, L) mask."""
    lengths = torch.tensor([7, 3, 5, 2])
    mask = (torch.arange(7) < lengths[:, None]).long()
    states = draws(4, 7, 6, seed=3) + 0.5
    return torch.where(mask.bool()[..., None], states, 9 * draws(4, 7, 6, seed=seed)), mask


@exercise
def ex_02_1(masked_mean):
    """The mean over real tokens, (B, L, D), (B, L) -> (B, D)."""
    states, mask = _padded(4)
    found, other = (tensor(masked_mean, x, mask) for x in (states, _padded(5)[0]))
    total, count = (states * mask[..., None]).sum(1), mask.sum(1, keepdim=True)
    if found.shape == total.shape and not close(found, other):
        raise Mistake("Your mean changes when padding changes: mask before you sum.")
    compare(
        found,
        total / count,
        {
            "You divide by the padded length: a text has as many tokens as its mask has ones.": (
                total / mask.shape[1]
            ),
            "That is the sum over the tokens: divide by their number.": total,
            "That is the first token, `cls`: all real tokens count.": states[:, 0],
            "You divide by the tokens of the whole batch: each text has its own number.": (
                total / count.sum()
            ),
        },
        "the (B, D) means",
    )
    return "Whatever stands in the padding, the mean stays."


@exercise
def ex_02_2(layer_loss):
    """Eq. (3) on mean vectors, (B, L, d), (B, L, D), (B, L), (d, D) -> (B,)."""
    student, (teacher, mask), weight = draws(4, 7, 3, seed=1), _padded(4), draws(3, 6, seed=2)
    noisy = torch.where(mask.bool()[..., None], student, 9 + student)
    found = tensor(layer_loss, student, teacher, mask, weight)
    right = transformer_layer_loss(student @ weight, teacher, mask, "mean", reduction="none")
    if found.shape == right.shape:
        for moved in ((noisy, teacher), (student, _padded(5)[0])):
            if not close(found, tensor(layer_loss, *moved, mask, weight)):
                raise Mistake("Your loss changes when padding changes: mask before the mean.")
    kept = mask[..., None] / mask.sum(1)[:, None, None]
    z, t = ((x * kept).sum(1) for x in (student @ weight, teacher))
    pull, cosines = angular_distance(z, t), unit(z) @ unit(t).T
    compare(
        found,
        right,
        {
            "That is the pull alone: the other texts of the batch push.": pull,
            "That is the squared error, the loss of BERT_M.": (z - t).square().mean(-1),
            "Each text is among its own negatives: take it out of the push.": (
                2 - 1.5 * (1 - pull) + 0.5 * cosines.mean(1)
            ),
            "You divide the push by B: a text has B - 1 negatives.": (
                2 - 1.5 * (1 - pull) + 0.5 * (cosines.sum(1) - 1 + pull) / len(z)
            ),
            "You averaged over the batch: one loss for each of the B texts is asked for.": (
                right.mean()
            ),
            "The negatives are the student's own outputs: Eq. (3) takes the teacher's.": (
                1 + 1.5 * pull - 0.5 * (1 - (unit(z) @ unit(z).T - torch.eye(4)).sum(1) / 3)
            ),
        },
        "the (B,) losses",
    )
    return "Eq. (3), and what stands in the padding does not matter."


@exercise
def ex_02_3(centred):
    """The common direction taken off, (n, D) -> (n, D)."""
    vectors = (draws(12, 8) + 3 * draws(8, seed=1)) * (1 + torch.arange(12.0)[:, None])
    u, mean = unit(vectors), unit(vectors).mean(0)
    right, alike = u - mean, "Nothing was taken off: the vectors are as alike as before."
    found = tensor(centred, vectors)
    each = "That is each vector's own mean: the common direction is the mean over the batch."
    compare(
        unit(found) if found.dim() else found,
        unit(right),
        {
            alike: u,
            each: unit(u - u.mean(1, keepdim=True)),
            each + " (Axis 0 counts the vectors.)": unit(vectors - vectors.mean(1, keepdim=True)),
            "Long vectors decide your mean: bring all to length 1 first.": (
                unit(vectors - vectors.mean(0))
            ),
            "You divide by the spread of each coordinate: that turns the vectors too.": (
                unit(right / u.std(0))
            ),
            "You removed all that lies along the mean direction; asked is u minus the mean of u.": (
                unit(u - (u @ unit(mean))[:, None] * unit(mean))
            ),
            "You added the mean: the vectors are more alike than before.": unit(u + mean),
        },
        "the centred vectors, at length 1",
    )
    size, total = len(vectors), unit(right).sum(0).square().sum()
    before = (u.sum(0).square().sum() - size) / (size * (size - 1))
    return f"The pair cosine falls from {before:.2f} to {(total - size) / (size * (size - 1)):.2f}."


@exercise
def ex_02_4(count):
    """The parameters of a BERT encoder, (layers, width, inner) -> int."""
    shapes, gaps = ((4, 312, 1200), (2, 128, 512), (12, 768, 3072)), []
    for layers, width, inner in shapes:
        found = as_array(call(count, layers, width, inner), name_of(count))
        if found.shape:
            raise Mistake(f"One number is asked for, not {found.size} of them.")
        missing = {
            "Word pieces": 30522 * width,
            "Positions": 512 * width,
            "Segments, or the embeddings' LayerNorm (both have 2 x width)": 2 * width,
            "Segments and the embeddings' LayerNorm": 4 * width,
            "The pooler": width**2 + width,
            "A fourth square matrix a layer (the output of attention)": (
                layers * (width**2 + width)
            ),
            "4 x width a layer: its LayerNorms, or the biases of attention": 4 * layers * width,
            "The biases of the feed-forward matrices": layers * (inner + width),
            "All biases of the layers' matrices": layers * (5 * width + inner),
            "The second feed-forward matrix": layers * width * inner,
        }
        gaps.append((encoder_parameters(layers, width, inner) - float(found), missing))
    for part in missing:
        if all(gap == pieces[part] != 0 for gap, pieces in gaps):
            raise Mistake(f"{part}: not counted, the only gap.")
        if all(gap == -pieces[part] != 0 for gap, pieces in gaps):
            raise Mistake(f"{part}: counted twice.")
    for (gap, _), shape in zip(gaps, shapes, strict=True):
        if gap:
            word = "missing" if gap > 0 else "too many"
            raise Mistake(f"For {shape} {abs(gap):,.0f} are {word}. Count a layer by itself first.")
    return "BERT-base has 109,482,240 so counted, and the paper's student 14,350,248."
