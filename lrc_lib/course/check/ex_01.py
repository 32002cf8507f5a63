"""Checks of notebooks/01_cos_nce_geometry: Eqs. (1) and (2)."""

import math

import numpy as np
import torch

from lrc_lib.course.check.core import (
    Mistake,
    as_tensor,
    compare,
    draws,
    exercise,
    name_of,
    no_loop,
    parts,
    tensor,
    unit,
    watch,
)
from lrc_lib.losses import angular_distance, cos_nce, in_batch_cos_nce


@exercise
def ex_01_1(my_g):
    """Eq. (2) for (..., D) vectors."""
    x, y = draws(4, 5, 8), draws(4, 5, 8, seed=1)
    g, dot = angular_distance(x, y), (x * y).sum(-1)
    lengths = x.norm(dim=-1), y.norm(dim=-1)
    undivided = "The lengths still count: divide the dot product by the lengths of both vectors."
    compare(
        tensor(my_g, x, y),
        g,
        {
            "That is the cosine, 1 for the same direction. Eq. (2) takes it from 1.": 1 - g,
            "That is minus the cosine. Eq. (2) takes the cosine from 1.": g - 1,
            undivided: 1 - dot,
            undivided + " Only x is divided.": 1 - dot / lengths[0],
            undivided + " Only y is divided.": 1 - dot / lengths[1],
            "That is the angle itself; Eq. (2) is 1 minus its cosine.": (1 - g).acos(),
            "That is twice g: the squared distance of the two unit vectors.": 2 * g,
            "That is the Euclidean distance, which depends on the lengths.": (x - y).norm(dim=-1),
            "You averaged over all pairs: g keeps one number for each.": g.mean(),
            "You treated all pairs as one long vector: sum over the last axis, dim=-1.": (
                1 - dot.sum() / (x.norm() * y.norm())
            ),
        },
        "g of (4, 5, 8) and (4, 5, 8) tensors",
    )
    zero = "A zero vector gives NaN: divide by a length that cannot fall below a small floor."
    tensor(my_g, 0 * x, y, nan=zero)
    return (
        "0 for the same direction, 1 for a right angle, 2 for the opposite, whatever the lengths."
    )


@exercise
def ex_01_2(with_loop, without_loop):
    """Eq. (1), (B, D), (B, D), (B, K, D) -> (B,), twice."""
    student, teacher, negatives = draws(6, 8), draws(6, 8, seed=1), draws(6, 5, 8, seed=2)
    pull = angular_distance(teacher, student)
    away = angular_distance(negatives, student[:, None])
    terms = 2 - (away - pull[:, None])
    right = cos_nce(student, teacher, negatives, "none")
    mistakes = {
        "You added the K pushes: Eq. (1) divides their sum by 2K.": terms.sum(1) / 2 + pull,
        "The factor 1/2 before the push is missing.": terms.mean(1) + pull,
        "You added the K pushes and did not halve them: Eq. (1) divides by 2K.": (
            terms.sum(1) + pull
        ),
        "The pull is missing: g(z^T, z^S) is added once more after the sum.": terms.mean(1) / 2,
        "You divided the pull by 2K as well: it stands outside the sum.": (
            (terms.sum(1) + pull) / (2 * negatives.shape[1])
        ),
        "The sign of the difference is turned: the student would go to the negatives.": (
            (2 - (pull[:, None] - away)).mean(1) / 2 + pull
        ),
        "The 2 in front of the difference is missing.": (terms - 2).mean(1) / 2 + pull,
        "The negatives are compared with the teacher: Eq. (1) compares them with the student.": (
            (2 - (angular_distance(negatives, teacher[:, None]) - pull[:, None])).mean(1) / 2 + pull
        ),
        "You averaged over the batch: one loss for each of the B samples is asked for.": (
            right.mean()
        ),
    }
    for answer in (with_loop, without_loop):
        found = tensor(answer, student, teacher, negatives)
        try:
            compare(found, right, mistakes, "the (B,) losses")
        except Mistake as mistake:
            raise Mistake(f"`{name_of(answer)}`: {mistake}") from None
    larger = draws(9, 8), draws(9, 8, seed=1), draws(9, 11, 8, seed=2)
    no_loop(without_loop, (student, teacher, negatives), larger)
    return "Both are Eq. (1), and the second makes as many torch calls for any B and K."


@exercise
def ex_01_3(best_direction, advantage):
    """Where Eq. (1) is least, (B, D), (B, K, D) -> (B, D), and what that saves, (B,)."""
    teacher, negatives = 3 * draws(6, 8), draws(6, 5, 8, seed=1) + 0.7
    negatives = negatives * (1 + torch.arange(5.0)[:, None])
    t, mean = unit(teacher), unit(negatives).mean(1)
    v = 1.5 * t - 0.5 * mean
    saved = v.norm(dim=-1) - (v * t).sum(-1)
    found = tensor(best_direction, teacher, negatives)
    compare(
        unit(found) if found.dim() else found,
        unit(v),
        {
            "That is the teacher's own direction. The negatives push as well, so the bottom lies "
            f"elsewhere: {saved.mean():.3f} lower on average.": t,
            "The negatives pull there: their sign is turned.": unit(1.5 * t + 0.5 * mean),
            "You weigh pull and push alike: collect the cosines of Eq. (1), they stand 3 to 1.": (
                unit(t - mean)
            ),
            "Long negatives decide your mean: bring each to length 1 before you average.": (
                unit(1.5 * t - 0.5 * negatives.mean(1))
            ),
            "Your teacher keeps its length: bring it to length 1 first.": (
                unit(1.5 * teacher - 0.5 * mean)
            ),
            "You added the negatives up: it is their mean that counts.": (
                unit(1.5 * t - 0.5 * unit(negatives).sum(1))
            ),
            "You brought the mean of the negatives to length 1: its length says how much they "
            "agree, and counts.": unit(1.5 * t - 0.5 * unit(mean)),
        },
        "the best direction, at length 1",
    )
    compare(
        tensor(advantage, teacher, negatives),
        saved,
        {
            "The sign is turned: loss at the teacher minus least loss.": -saved,
            "That is the loss at the teacher; take the least loss off.": 2 - (v * t).sum(-1),
            "That is the least loss; take it off the loss at the teacher.": 2 - v.norm(dim=-1),
            "One number for each sample is asked for, not their mean.": saved.mean(),
        },
        "the advantage over the teacher",
    )
    angle = torch.rad2deg((unit(v) * t).sum(-1).clamp(-1, 1).acos())
    return (
        f"Not the teacher: the best directions lie {angle.min():.0f} to {angle.max():.0f} degrees "
        f"from it and lower the loss by {saved.min():.3f} to {saved.max():.3f}."
    )


@exercise
def ex_01_4(mean_and_spread, negatives_for_half_the_spread):
    """Mean and sd of Eq. (1) over draws of K negatives; and the K that halves the sd of K = 15."""
    student, teacher, pool = draws(16), draws(16, seed=1), draws(2000, 16, seed=2) + 0.3
    of_one = 2 - 1.5 * (unit(student) @ unit(teacher)) + 0.5 * (unit(pool) @ unit(student))
    mean, sd, repeats, found = of_one.mean().item(), of_one.std().item(), 800, {}
    for k in (4, 64):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(k)
            pair = parts(
                mean_and_spread, 2, "the mean and the spread", student, teacher, pool, k, repeats
            )
        found[k] = [as_tensor(x, name_of(mean_and_spread)) for x in pair]
        if any(x.dim() for x in found[k]):
            raise Mistake("Two numbers are asked for, over all repeats: a mean and a spread.")
    (mean_4, sd_4), (mean_64, sd_64) = ([x.item() for x in found[k]] for k in (4, 64))
    if sd_4 < 1e-6:
        raise Mistake("The spread is 0: draw new negatives in every repeat, at random.")
    if abs(mean_64 - mean_4) > 1:
        raise Mistake(
            f"Your mean goes from {mean_4:.2f} at K = 4 to {mean_64:.2f} at K = 64: you add the "
            "negatives up where Eq. (1) takes their mean."
        )
    if abs(mean_4 - mean) > 6 * sd / (4 * repeats) ** 0.5:
        raise Mistake(
            f"Your mean is {mean_4:.4f}; Eq. (1) has {mean:.4f} on average over the pool."
        )
    for sentence, factor in {
        "That is the variance: the spread is its root.": sd / 2,
        "That is the standard error of the mean; asked is the spread of one draw.": repeats**-0.5,
        "Your spread does not fall with K: average over K negatives in each repeat.": 2.0,
    }.items():
        if abs(sd_4 / (factor * sd / 2) - 1) < 0.15:
            raise Mistake(sentence)
    for k, value in ((4, sd_4), (64, sd_64)):
        if abs(value / (sd / k**0.5) - 1) > 0.15:
            raise Mistake(f"Your spread at K = {k} is {value:.4f}, and {sd / k**0.5:.4f} expected.")
    half = tensor(negatives_for_half_the_spread)
    compare(
        half,
        np.array(60.0),
        {
            "Twice the negatives divide the spread by the root of 2, not by 2.": np.array(30.0),
            "Fewer negatives make the spread larger.": np.array(3.75),
            "15 negatives are what you start from.": np.array(15.0),
            "The spread goes with 1 over the root of K: half of it needs 4 times 15.": (
                np.array(225.0)
            ),
        },
        "the number of negatives",
    )
    return (
        f"From K = 4 to 64 the mean stays ({mean_4:.3f}, {mean_64:.3f}) and the spread falls "
        f"{sd_4 / sd_64:.1f} times: the root of 16."
    )


@exercise
def ex_01_5(in_batch):
    """Eq. (1) with the other rows as negatives, (B, D), (B, D) -> (B,), in O(B D)."""
    student, teacher = draws(8, 6), (draws(8, 6, seed=1) + 0.5) * (1 + torch.arange(8.0)[:, None])
    u, t = unit(student), unit(teacher)
    own, size = (u * t).sum(-1), len(t)
    right = in_batch_cos_nce(student, teacher, "none")

    def with_others(mean):
        return 2 - 1.5 * own + 0.5 * mean

    compare(
        tensor(in_batch, student, teacher),
        right,
        {
            "Each sample is among its own negatives: take its own cosine off the sum.": (
                with_others(u @ t.sum(0) / size)
            ),
            "You divide by B: a sample has B - 1 negatives.": (
                with_others((u @ t.sum(0) - own) / size)
            ),
            "Each sample is among its own negatives: you divide by B - 1, but all B are summed.": (
                with_others(u @ t.sum(0) / (size - 1))
            ),
            "Normalise before you sum: long teachers weigh more in your S.": (
                with_others((u @ teacher.sum(0) - (u * teacher).sum(-1)) / (size - 1))
            ),
            "The push has the wrong sign: a cosine with a negative raises the loss.": (
                2 - 1.5 * own - 0.5 * (u @ t.sum(0) - own) / (size - 1)
            ),
            "The push is not halved.": 2 - 1.5 * own + (u @ t.sum(0) - own) / (size - 1),
            "You averaged over the batch: one loss for each of the B samples is asked for.": (
                right.mean()
            ),
        },
        "the (B,) losses",
    )
    few, many = [(draws(b, 4), draws(b, 4, seed=1)) for b in (8, 64)]
    no_loop(in_batch, few, many)
    largest = watch(in_batch, *many).largest
    if largest >= 64 * 64:
        raise Mistake(
            f"The numbers are right, but 64 samples of width 4 made a tensor of {largest:,} "
            "numbers: that is the B x B table. One sum over the batch serves every row."
        )
    return f"No loop, and no tensor larger than {largest} numbers for 64 samples of width 4."


@exercise
def ex_01_6(misleading):
    """Fifteen negatives that move the optimum 19 degrees off, (D,) -> (15, D)."""
    teacher = draws(12)
    found = tensor(misleading, teacher)
    if found.shape != (15, 12):
        raise Mistake(f"Fifteen negatives are asked for, (15, 12), not {tuple(found.shape)}.")
    t, mean = unit(teacher), unit(found).mean(0)
    angle = math.degrees(torch.acos((unit(1.5 * t - 0.5 * mean) * t).sum().clamp(-1, 1)))
    cosine, length = float(t @ unit(mean)), float(mean.norm())
    off, bound = f"The optimum is {angle:.2f} degrees off.", math.degrees(math.asin(1 / 3))
    if angle >= 19:
        return f"{off} No negatives reach more than arcsin(1/3), {bound:.2f}."
    if length < 0.9:
        raise Mistake(f"{off} Your negatives cancel: their mean has length {length:.2f}, not 1.")
    if abs(cosine) > 0.99:
        raise Mistake(f"{off} On the teacher's own line negatives cannot turn v.")
    if abs(cosine) < 0.01:
        raise Mistake(f"{off} Orthogonal is near: what if they lean a little towards the teacher?")
    side = "towards" if cosine > 1 / 3 else "away from"
    raise Mistake(f"{off} Cosine to the teacher {cosine:.2f}: they lean too far {side} it.")
