"""Checks of notebooks/01_cos_nce_geometry: Eqs. (1) and (2)."""

import math

import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise, unit
from lrc_lib.losses import angular_distance as g
from lrc_lib.losses import cos_nce, in_batch_cos_nce

UNDIVIDED = "The lengths still count: divide the dot product by the lengths of both vectors."
ZERO = "A zero vector gives NaN: divide by a length that cannot become 0, e.g. with clamp_min."
G = {
    "That is the cosine, 1 for the same direction: take it from 1.": lambda x, y: 1 - g(x, y),
    "That is minus the cosine: add 1.": lambda x, y: g(x, y) - 1,
    UNDIVIDED: lambda x, y: 1 - (x * y).sum(-1),
    UNDIVIDED + " Only x is divided.": lambda x, y: 1 - (unit(x) * y).sum(-1),
    UNDIVIDED + " Only y is divided.": lambda x, y: 1 - (x * unit(y)).sum(-1),
    "That is the angle itself; Eq. (2) is 1 minus its cosine.": lambda x, y: (1 - g(x, y)).acos(),
    "That is the squared distance of the unit vectors, twice g.":
        lambda x, y: (unit(x) - unit(y)).square().sum(-1),
    "That is the Euclidean distance: the lengths still count.": lambda x, y: (x - y).norm(dim=-1),
    "You averaged over all pairs: return one number for each.": lambda x, y: g(x, y).mean(),
    "You treated all pairs as one long vector: sum over dim=-1.":
        lambda x, y: 1 - (x * y).sum() / (x.norm() * y.norm()),
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


def _right_eq_1(student, teacher, negatives):
    return cos_nce(student, teacher, negatives, "none")


def _with_loop(student, teacher, negatives):
    rows = zip(student, teacher, negatives, strict=True)
    return torch.stack([cos_nce(s[None], t[None], n[None]) for s, t, n in rows])


EQ_1 = {
    "You added the K pushes and halved them: Eq. (1) divides by 2K.": _eq_1(reduce="sum"),
    "The factor 1/2 before the push is missing.": _eq_1(push=1.0),
    "You added the K pushes: Eq. (1) divides by 2K.": _eq_1(push=1.0, reduce="sum"),
    "The pull is missing: g(z^T, z^S) is added once more after the sum.": _eq_1(pull=0.0),
    "You divided the pull by 2K as well: it stands outside the sum.":
        lambda s, t, n: _eq_1(push=1.0, reduce="sum")(s, t, n) / (2 * n.shape[1]),
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
    inputs = draws(6, 8), draws(6, 8, seed=1), draws(6, 5, 8, seed=2)
    for answer, mistakes in zip((with_loop, without_loop), EQ_1_TWICE, strict=True):
        try:
            compare(answer, _right_eq_1, mistakes, *inputs, what="the (B,) losses")
        except core.Mistake as mistake:
            raise core.Mistake(f"`{core.name_of(answer)}`: {mistake}") from None
    core.no_loop(without_loop, inputs, (draws(9, 8), draws(9, 8, seed=1), draws(9, 11, 8, seed=2)))
    return "Both are Eq. (1), and the second makes as many torch calls for any B and K."


def _best(teacher, negatives):
    """v of Eq. (1), whose direction has the least loss."""
    return 1.5 * unit(teacher) - 0.5 * unit(negatives).mean(1)


def _saved(teacher, negatives):
    v = _best(teacher, negatives)
    return v.norm(dim=-1) - (v * unit(teacher)).sum(-1)


BEST = {
    "That is the teacher's own direction. The negatives push as well, so the bottom of the loss "
    "lies elsewhere.":
        lambda t, n: t,
    "The negatives pull there: their sign is turned.":
        lambda t, n: 1.5 * unit(t) + 0.5 * unit(n).mean(1),
    "You weigh pull and push alike: collect the cosines of Eq. (1), they stand 3 to 1.":
        lambda t, n: unit(t) - unit(n).mean(1),
    "Long negatives decide your mean: bring each to length 1 before you average.":
        lambda t, n: 1.5 * unit(t) - 0.5 * n.mean(1),
    "Your teacher keeps its length: bring it to length 1 first.":
        lambda t, n: 1.5 * t - 0.5 * unit(n).mean(1),
    "You added the negatives up: take their mean.":
        lambda t, n: 1.5 * unit(t) - 0.5 * unit(n).sum(1),
    "You brought the mean of the negatives to length 1: its length says how much they agree, and "
    "counts.":
        lambda t, n: 1.5 * unit(t) - 0.5 * unit(unit(n).mean(1)),
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


def _drawn(student, teacher, pool, k, repeats):
    """Eq. (1) in `repeats` draws of `k` negatives, (repeats,)."""
    negatives = pool[torch.randint(len(pool), (repeats, k))]
    return cos_nce(student.expand(repeats, -1), teacher.expand(repeats, -1), negatives, "none")


def _study(losses_of, spread=torch.std):
    def mean_and_spread(*inputs):
        losses = losses_of(*inputs)
        return losses.mean(), spread(losses)

    return mean_and_spread


SPREADS = {
    "The spread is 0: draw new negatives in every repeat, at random.":
        (_study(lambda s, t, pool, k, n: _drawn(s, t, pool[:1], k, n)), lambda f: f.sd_4 < 1e-6),
    "Your mean goes from {mean_4:.2f} at K = 4 to {mean_64:.2f} at K = 64: you add the negatives "
    "up where Eq. (1) takes their mean.": (
        _study(lambda s, t, pool, k, n: k * _drawn(s, t, pool, k, n)),
        lambda f: abs(f.mean_64 - f.mean_4) > 1,
    ),
    "Your mean is {mean_4:.4f}; the mean of Eq. (1) over the pool is {mean:.4f}.":
        (_study(lambda *inputs: _drawn(*inputs) + 0.5), lambda f: abs(f.mean_4 - f.mean) > f.slack),
    "That is the variance: the spread is its root.":
        (_study(_drawn, torch.var), lambda f: core.near(f.sd_4, f.law_4**2)),
    "That is the standard error of the mean: return the spread.": (
        _study(_drawn, lambda x: x.std() / len(x) ** 0.5),
        lambda f: core.near(f.sd_4, f.law_4 / f.repeats**0.5),
    ),
    "Your spread does not fall with K: average over K negatives in each repeat.": (
        _study(lambda s, t, pool, k, n: _drawn(s, t, pool, 1, n)),
        lambda f: core.near(f.sd_4, 2 * f.law_4),
    ),
    "Your spreads are {sd_4:.4f} and {sd_64:.4f} for K = 4 and 64, not {law_4:.4f} and "
    "{law_64:.4f}.": (
        _study(lambda s, t, pool, k, n: _drawn(s, t, pool, min(k, 32), n)),
        lambda f: not (core.near(f.sd_4, f.law_4) and core.near(f.sd_64, f.law_64)),
    ),
}  # fmt: skip
HALF = {
    "Twice the negatives divide the spread by the root of 2, not by 2.": lambda: 30,
    "Fewer negatives make the spread larger.": lambda: 15 / 4,
    "15 negatives are what you start from.": lambda: 15,
    "The spread falls with the root of K: half of it needs 4 times 15.": lambda: 15**2,
}  # fmt: skip


@exercise(SPREADS, HALF)
def ex_01_4(mean_and_spread, negatives_for_half_the_spread):
    """Mean and sd of Eq. (1) over draws of K negatives; and the K that halves the sd of K = 15."""
    student, teacher, pool = draws(16), draws(16, seed=1), draws(2000, 16, seed=2) + 0.3
    of_one = 2 - 1.5 * (unit(student) @ unit(teacher)) + 0.5 * (unit(pool) @ unit(student))
    sd, repeats = of_one.std().item(), 800
    facts = {"mean": of_one.mean().item(), "repeats": repeats, "slack": 3 * sd / repeats**0.5}
    for k in (4, 64):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(k)
            what = "the mean and the spread over all repeats"
            found = core.pair(mean_and_spread, what, student, teacher, pool, k, repeats).tolist()
        facts |= {f"mean_{k}": found[0], f"sd_{k}": found[1], f"law_{k}": sd / k**0.5}
    core.apply_rules(SPREADS, **facts)
    compare(negatives_for_half_the_spread, lambda: 60, HALF, what="the number of negatives")
    return (
        f"From K = 4 to 64 the mean stays ({facts['mean_4']:.3f}, {facts['mean_64']:.3f}) and the "
        f"spread falls {facts['sd_4'] / facts['sd_64']:.1f} times: the root of 16."
    )


def in_batch_with(push):
    """Eq. (1) in a batch; `push(u, t, cosines to the own teacher)` is half the mean cosine."""

    def loss(student, teacher):
        u, t = unit(student), unit(teacher)
        own = (u * t).sum(-1)
        return 2 - 1.5 * own + push(u, t, own)

    return loss


def _long_teachers(student, teacher):
    u, own = unit(student), (unit(student) * unit(teacher)).sum(-1)
    others = u @ teacher.sum(0) - (u * teacher).sum(-1)
    return 2 - 1.5 * own + 0.5 * others / (len(teacher) - 1)


def right_in_batch(student, teacher):
    """Eq. (1) with the other rows as negatives, (B, D), (B, D) -> (B,)."""
    return in_batch_cos_nce(student, teacher, "none")


def _row_by_row(student, teacher):
    return torch.stack([right_in_batch(student, teacher)[i] for i in range(len(student))])


B_BY_B = "that is the B x B table. One sum over the batch serves every row."
IN_BATCH = {
    "Each sample is its own negative: take its cosine off the sum.":
        in_batch_with(lambda u, t, c: 0.5 * (u @ t.sum(0)) / len(t)),
    "You divide by B: a sample has B - 1 negatives.":
        in_batch_with(lambda u, t, c: 0.5 * (u @ t.sum(0) - c) / len(t)),
    "You divide by B - 1, but all B are summed.":
        in_batch_with(lambda u, t, c: 0.5 * (u @ t.sum(0)) / (len(t) - 1)),
    "Normalise before you sum: long teachers weigh more in your S.": _long_teachers,
    "The push has the wrong sign: a cosine with a negative raises the loss.":
        in_batch_with(lambda u, t, c: 0.5 * (c - u @ t.sum(0)) / (len(t) - 1)),
    "The push is not halved.": in_batch_with(lambda u, t, c: (u @ t.sum(0) - c) / (len(t) - 1)),
    "You averaged over the batch: return one loss for each of the B samples.": in_batch_cos_nce,
    core.STILL_LOOPS: _row_by_row,
    B_BY_B: in_batch_with(lambda u, t, c: 0.5 * ((u @ t.T).sum(1) - c) / (len(t) - 1)),
}  # fmt: skip


@exercise(IN_BATCH)
def ex_01_5(in_batch):
    """Eq. (1) with the other rows as negatives, (B, D), (B, D) -> (B,), in O(B D)."""
    student, teacher = draws(8, 6), (draws(8, 6, seed=1) + 0.5) * (1 + torch.arange(8.0)[:, None])
    compare(in_batch, right_in_batch, IN_BATCH, student, teacher, what="the (B,) losses")
    few, many = [(draws(b, 4), draws(b, 4, seed=1)) for b in (8, 64)]
    core.no_loop(in_batch, few, many)
    largest = core.watch(in_batch, *many).largest
    if largest >= 64 * 64:
        raise core.Mistake(
            f"The numbers are right, but 64 samples of width 4 made a tensor of {largest:,} "
            f"numbers: {B_BY_B}"
        )
    return f"No loop, and no tensor larger than {largest} numbers for 64 samples of width 4."


def _aside(teacher):
    """A unit vector at a right angle to the teacher."""
    aside = draws(len(teacher), seed=3)
    return unit(aside - (aside @ unit(teacher)) * unit(teacher))


OFF = "The optimum is {angle:.2f} degrees off. "
MISLEADING = {
    OFF + "Your negatives cancel: their mean has length {length:.2f}, not 1.":
        (lambda t: draws(15, len(t)), lambda f: f.length < 0.9),
    OFF + "On the teacher's own line negatives cannot turn v.":
        (lambda t: -t.expand(15, -1), lambda f: abs(f.cosine) > 0.99),
    OFF + "Orthogonal is near: what if they lean a little towards the teacher?":
        (lambda t: _aside(t).expand(15, -1), lambda f: abs(f.cosine) < 0.01),
    OFF + "Cosine to the teacher {cosine:.2f}: they lean too far towards it.":
        (lambda t: (unit(t) + _aside(t)).expand(15, -1), lambda f: f.cosine > 1 / 3),
    OFF + "Cosine to the teacher {cosine:.2f}: they lean too far away from it.":
        (lambda t: (_aside(t) - unit(t)).expand(15, -1), lambda f: True),
}  # fmt: skip


@exercise(MISLEADING)
def ex_01_6(misleading):
    """Fifteen negatives that move the optimum 19 degrees off, (D,) -> (15, D)."""
    teacher = draws(12)
    found = core.tensor(misleading, teacher)
    if found.shape != (15, 12):
        raise core.Mistake(f"Return fifteen negatives, (15, 12), not {tuple(found.shape)}.")
    t, mean = unit(teacher), unit(found).mean(0)
    angle = math.degrees(torch.acos((unit(1.5 * t - 0.5 * mean) * t).sum().clamp(-1, 1)))
    if angle < 19:
        cosine, length = float(t @ unit(mean)), float(mean.norm())
        core.apply_rules(MISLEADING, angle=angle, cosine=cosine, length=length)
    return (
        f"The optimum is {angle:.2f} degrees off. No negatives reach more than arcsin(1/3), "
        f"{math.degrees(math.asin(1 / 3)):.2f}."
    )
