"""Checks of notebooks/01_cos_nce_geometry: Eqs. (1) and (2)."""

import math
from functools import partial

import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.losses import angular_distance as g
from lrc_lib.losses import cos_nce, in_batch_cos_nce, unit

ZERO = "A zero vector gives NaN: divide by a length that cannot become 0, e.g. with clamp_min."
G = {
    "That is the cosine, 1 for the same direction: take it from 1.": lambda x, y: 1 - g(x, y),
    "The lengths still count: divide the dot product by the lengths of both vectors.":
        lambda x, y: 1 - (x * y).sum(-1),
    "That is the angle itself; Eq. (2) is 1 minus its cosine.": lambda x, y: (1 - g(x, y)).acos(),
    "That is the squared distance of the unit vectors, twice g.": lambda x, y: 2 * g(x, y),
    "That is the Euclidean distance: the lengths still count.": lambda x, y: (x - y).norm(dim=-1),
    "You averaged over all pairs: return one number for each.": lambda x, y: g(x, y).mean(),
    "You treated all pairs as one long vector: sum over dim=-1.":
        lambda x, y: g(x.flatten(), y.flatten()),
    ZERO: lambda x, y: 1 - (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1)),
}  # fmt: skip


@exercise(G)
def ex_01_1(my_g):
    """Eq. (2) for (..., D) vectors."""
    x, y = draws(4, 5, 8), draws(4, 5, 8, seed=1)
    compare(my_g, g, G, x, y, what="g of (4, 5, 8) and (4, 5, 8) tensors")
    core.tensor(my_g, 0 * x, y, nan=ZERO)
    return (
        "0 for the same direction, 1 for a right angle, 2 for the opposite, whatever the lengths."
    )


def _eq_1(push=0.5, pull=1.0, inner=2.0, sign=1, reduce="mean"):
    """Eq. (1) with other constants, (B, D), (B, D), (B, K, D) -> (B,)."""

    def loss(student, teacher, negatives):
        near = g(teacher, student)
        away = g(negatives, student[:, None])
        terms = inner - sign * (away - near[:, None])
        return push * getattr(terms, reduce)(1) + pull * near

    return loss


def _with_loop(student, teacher, negatives):
    rows = zip(student, teacher, negatives, strict=True)
    return torch.stack([cos_nce(s[None], t[None], n[None]) for s, t, n in rows])


EQ_1 = {
    "You added the K pushes and halved them: Eq. (1) divides by 2K.": _eq_1(reduce="sum"),
    "The factor 1/2 before the push is missing.": _eq_1(push=1.0),
    "The pull is missing: g(z^T, z^S) is added once more after the sum.": _eq_1(pull=0.0),
    "The sign is turned: the student would move to the negatives.": _eq_1(sign=-1),
    "The 2 in front of the difference is missing.": _eq_1(inner=0.0),
    "You compare the negatives with the teacher: compare them with the student.":
        lambda s, t, n: _eq_1()(t, t, n) + 1.5 * g(t, s),
    "You averaged over the batch: return one loss for each of the B samples.": cos_nce,
}  # fmt: skip
EQ_1_TWICE = EQ_1, EQ_1 | {core.STILL_LOOPS: _with_loop}


@exercise(*EQ_1_TWICE)
def ex_01_2(with_loop, without_loop):
    """Eq. (1), (B, D), (B, D), (B, K, D) -> (B,), twice."""
    sizes = (6, 5), (9, 11)
    few, many = ((draws(b, 8), draws(b, 8, seed=1), draws(b, k, 8, seed=2)) for b, k in sizes)
    right = partial(cos_nce, reduction="none")
    for answer, mistakes in zip((with_loop, without_loop), EQ_1_TWICE, strict=True):
        core.call(answer, *few)  # what keeps it from running names the function already
        try:
            compare(answer, right, mistakes, *few, what="the (B,) losses")
        except core.Mistake as mistake:
            raise core.Mistake(f"`{core.name_of(answer)}`: {mistake}") from None
    core.no_loop(without_loop, few, many)
    return "Both are Eq. (1), and the second makes as many torch calls for any B and K."


def _v(teacher, negatives, weight=0.5):
    """(1 + weight) teacher - weight mean negative: with unit vectors, the v of c - <v, u>."""
    return (1 + weight) * teacher - weight * negatives.mean(1)


def _line(teacher, negatives, weight):
    return 1 + 2 * weight, _v(unit(teacher), unit(negatives), weight)


def _line_with(v, c=lambda weight: 1 + 2 * weight):
    return lambda t, n, weight: (c(weight), v(unit(t), unit(n), weight))


LINE = {
    "`weight` has no effect: that is the line for one half.": lambda t, n, w: _line(t, n, 0.5),
    "v is right, c is not: collect every term without u.": _line_with(_v, lambda weight: 2.0),
    "The mean negative has the wrong sign: it pushes.": _line_with(lambda t, n, w: _v(t, -n, w)),
    "The push holds g(z^T, z^S) as well: t counts 1 + weight times.":
        _line_with(lambda t, n, w: t - w * n.mean(1)),
    "You added the negatives up: take their mean.":
        _line_with(lambda t, n, w: (1 + w) * t - w * n.sum(1)),
    "Lengths still count: bring each vector to length 1 before you average.":
        lambda t, n, w: (1 + 2 * w, _v(t, n, w)),
}  # fmt: skip


@exercise(LINE)
def ex_01_3(one_line):
    """Eq. (1) with any weight on the push as (c, v), (B, D), (B, K, D), weight -> (), (B, D)."""
    student, teacher, negatives = draws(6, 8), 3 * draws(6, 8, seed=1), draws(6, 5, 8, seed=2) + 0.7

    def losses(answer):
        """(weights, B): c - <v, u> at random points."""
        found = []
        for weight in (0.5, 0.1, 2.0):
            c, v = core.pair(answer, "c and v", teacher, negatives, weight)
            c, v = core.single(c, "c", "the constant c"), core.as_tensor(v, "v")
            core.refuse({f"v is (6, 8) here, not {tuple(v.shape)}.": v.shape != (6, 8)})
            found.append(c - (v * unit(student)).sum(-1))
        return torch.stack(found)

    what = "c - <v, u> for the weights 0.5, 0.1 and 2"
    compare(one_line, _line, LINE, what=what, probe=losses)
    return "Equal to Eq. (1) at random points, for three weights. The best u is v at length 1."


def _trained(teacher, weight, own=0.0):
    """Where the loss with that weight is smallest in a batch; `own`: share of the row itself."""
    t = unit(teacher)
    others = (t.sum(0) - (1 - own) * t) / (len(t) - 1 + own)
    return (1 + weight) * t - weight * others


TRAINED = {
    "They point at their teachers: the negatives did not push.": lambda t, w: t,
    "They are pulled to the negatives: the sign of the push is turned.":
        lambda t, w: _trained(t, -w),
    "`weight` has no effect: those are the directions for one half.": lambda t, w: _trained(t, 0.5),
    "Each row is among its own negatives: take it out.": lambda t, w: _trained(t, w, own=1.0),
}  # fmt: skip


@exercise(TRAINED)
def ex_01_4(train):
    """Students trained on Eq. (1) with any weight on the push, (B, D), weight -> (B, D)."""
    teacher, weight = draws(5, 6) + 0.4, 1.5
    what = "the trained students, at length 1"
    probe = core.directions
    compare(train, _trained, TRAINED, teacher, weight, what=what, probe=probe, atol=0.01)
    angle = torch.rad2deg((unit(_trained(teacher, weight)) * unit(teacher)).sum(-1).acos())
    return f"Trained to where the algebra says: {angle.mean():.0f} degrees from the teachers here."


def in_batch_with(push):
    """Eq. (1) in a batch; `push(u, t, cosines to the own teacher)` is half the mean cosine."""

    def loss(student, teacher):
        u, t = unit(student), unit(teacher)
        own = (u * t).sum(-1)
        return 2 - 1.5 * own + push(u, t, own)

    return loss


def _long_teachers(student, teacher):
    others = (unit(student) * (teacher.sum(0) - teacher)).sum(-1) / (len(teacher) - 1)
    return in_batch_with(lambda u, t, own: 0.5 * others)(student, teacher)


right_in_batch = partial(in_batch_cos_nce, reduction="none")
B_BY_B = "that is the B x B table. One sum over the batch serves every row."
IN_BATCH = {
    "Each sample is its own negative: take its cosine off the sum.":
        in_batch_with(lambda u, t, c: 0.5 * (u @ t.sum(0)) / len(t)),
    "You divide by B: a sample has B - 1 negatives.":
        in_batch_with(lambda u, t, c: 0.5 * (u @ t.sum(0) - c) / len(t)),
    "Normalise before you sum: long teachers weigh more in your S.": _long_teachers,
    "The push is not halved.": in_batch_with(lambda u, t, c: (u @ t.sum(0) - c) / (len(t) - 1)),
    "You averaged over the batch: return one loss for each of the B samples.": in_batch_cos_nce,
    core.STILL_LOOPS:
        lambda s, t: torch.stack([right_in_batch(s, t)[i] for i in range(len(s))]),
    B_BY_B: in_batch_with(lambda u, t, c: 0.5 * ((u @ t.T).sum(1) - c) / (len(t) - 1)),
}  # fmt: skip


@exercise(IN_BATCH)
def ex_01_5(in_batch):
    """Eq. (1) with the other rows as negatives, (B, D), (B, D) -> (B,), in O(B D)."""
    student, teacher = draws(8, 6), (draws(8, 6, seed=1) + 0.5) * (1 + torch.arange(8.0)[:, None])
    compare(in_batch, right_in_batch, IN_BATCH, student, teacher, what="the (B,) losses")
    few, many = [(draws(b, 4), draws(b, 4, seed=1)) for b in (8, 64)]
    largest = core.no_loop(in_batch, few, many)
    if largest >= 64 * 64:
        raise core.Mistake(
            f"The numbers are right, but 64 samples of width 4 made a tensor of {largest:,} "
            f"numbers: {B_BY_B}"
        )
    return f"No loop, and no tensor larger than {largest} numbers for 64 samples of width 4."


@exercise()
def ex_01_6(misleading):
    """Fifteen negatives that move the optimum 19 degrees off, (D,) -> (15, D)."""
    teacher = draws(12)
    found = core.tensor(misleading, teacher)
    if found.shape != (15, 12):
        raise core.Mistake(f"Return fifteen negatives, (15, 12), not {tuple(found.shape)}.")
    t, mean = unit(teacher), unit(found).mean(0)
    angle = math.degrees(torch.acos(1 - g(1.5 * t - 0.5 * mean, t)))
    if angle < 19:
        cosine, length = float(t @ unit(mean)), float(mean.norm())
        off = f"The optimum is {angle:.2f} degrees off."
        leans = f"{off} Cosine to the teacher {cosine:.2f}: they lean too far"
        core.refuse({
            f"{off} Your negatives cancel: their mean has length {length:.2f}, not 1.":
                length < 0.9,
            f"{off} On the teacher's own line negatives cannot turn v.": abs(cosine) > 0.99,
            f"{off} Orthogonal is near: what if they lean a little towards the teacher?":
                abs(cosine) < 0.01,
            f"{leans} towards it.": cosine > 1 / 3,
            f"{leans} away from it.": True,
        })  # fmt: skip
    return (
        f"The optimum is {angle:.2f} degrees off. No negatives reach more than arcsin(1/3), "
        f"{math.degrees(math.asin(1 / 3)):.2f}."
    )
