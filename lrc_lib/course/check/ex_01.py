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


def _v(teacher, negatives):
    """3/2 teacher - 1/2 mean negative: with unit vectors, the direction of the least loss."""
    return 1.5 * teacher - 0.5 * negatives.mean(1)


def _best(teacher, negatives):
    return _v(unit(teacher), unit(negatives))


def _saved(teacher, negatives):
    v = _best(teacher, negatives)
    return v.norm(dim=-1) - (v * unit(teacher)).sum(-1)


BEST = {
    "That is the teacher's own direction. The negatives push as well, so the bottom of the loss "
    "lies elsewhere.": lambda t, n: t,
    "The negatives pull there: their sign is turned.": lambda t, n: _v(unit(t), -unit(n)),
    "Long negatives decide your mean: bring each to length 1 before you average.":
        lambda t, n: _v(unit(t), n),
    "Your teacher keeps its length: bring it to length 1 first.": lambda t, n: _v(t, unit(n)),
    "You added the negatives up: take their mean.":
        lambda t, n: _v(unit(t), n.shape[1] * unit(n)),
}  # fmt: skip
ADVANTAGE = {
    "The sign is turned: loss at the teacher minus least loss.": lambda t, n: -_saved(t, n),
    "That is the loss at the teacher; take the least loss off.":
        lambda t, n: 2 - (_best(t, n) * unit(t)).sum(-1),
    "That is the least loss; take it off the loss at the teacher.":
        lambda t, n: 2 - _best(t, n).norm(dim=-1),
    "Return one number for each sample, not their mean.": lambda t, n: _saved(t, n).mean(),
}  # fmt: skip


@exercise(BEST, ADVANTAGE)
def ex_01_3(best_direction, advantage):
    """Where Eq. (1) is least, (B, D), (B, K, D) -> (B, D), and what that saves, (B,)."""
    teacher, negatives = 3 * draws(6, 8), draws(6, 5, 8, seed=1) + 0.7
    inputs = teacher, negatives * (1 + torch.arange(5.0)[:, None])
    what = "the best direction, at length 1"
    best = compare(best_direction, _best, BEST, *inputs, what=what, probe=core.directions)
    saved = compare(advantage, _saved, ADVANTAGE, *inputs, what="the advantage over the teacher")
    angle = torch.rad2deg((best * unit(teacher)).sum(-1).clamp(-1, 1).acos())
    return (
        f"Not the teacher: the best directions lie {angle.min():.0f} to {angle.max():.0f} degrees "
        f"from it and lower the loss by {saved.min():.3f} to {saved.max():.3f}."
    )


def _law(student, teacher, pool, k, repeats, added=1):
    """Mean and sd of Eq. (1) over draws of k negatives, which are added up `added` times."""
    push = 1 + g(teacher, student) / 2 - g(pool, student) / 2  # of one negative
    return added * push.mean() + g(teacher, student), added * push.std() / k**0.5


SPREADS = {
    "The spread is 0: draw new negatives in every repeat, at random.": lambda *inputs: (2.0, 0.0),
    "You add the negatives up where Eq. (1) takes their mean.":
        lambda s, t, pool, k, repeats: _law(s, t, pool, k, repeats, added=k),
    "That is the variance: the spread is its root.": lambda *inputs: (2.0, _law(*inputs)[1] ** 2),
    "That is the standard error of the mean: return the spread.":
        lambda *inputs: (2.0, _law(*inputs)[1] / inputs[-1] ** 0.5),
    "Your spread does not fall with K: average over K negatives in each repeat.":
        lambda s, t, pool, k, repeats: _law(s, t, pool, 1, repeats),
}  # fmt: skip
HALF = {
    "Twice the negatives divide the spread by the root of 2, not by 2.": lambda: 30,
    "Fewer negatives make the spread larger.": lambda: 15 / 4,
    "The spread falls with the root of K: half of it needs 4 times 15.": lambda: 15**2,
}  # fmt: skip


@exercise(SPREADS, HALF)
def ex_01_4(mean_and_spread, negatives_for_half_the_spread):
    """Mean and sd of Eq. (1) over draws of K negatives; and the K that halves the sd of K = 15."""
    student, teacher, pool = draws(16), draws(16, seed=1), draws(2000, 16, seed=2) + 0.3

    def studied(study, at, what):
        """The means (at = 0) or spreads (at = 1) for K = 4 and 64."""
        found = []
        with torch.random.fork_rng(devices=[]):
            for k in (4, 64):
                torch.manual_seed(k)
                both = core.pair(study, "mean and spread", student, teacher, pool, k, 800)
                found.append(core.single(both[at], core.name_of(study), what))
        return found

    of = "over all repeats, for K = 4 and 64,"
    for at, what, rtol in ((1, f"the spread {of}", 0.15), (0, f"the mean {of}", 0.01)):
        probe = partial(studied, at=at, what=what)
        compare(mean_and_spread, _law, SPREADS, what=what, probe=probe, rtol=rtol)
    compare(negatives_for_half_the_spread, lambda: 60, HALF, what="the number of negatives")
    return (
        "From K = 4 to 64 the mean stays and the spread falls to about a quarter: the root of 16."
    )


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
