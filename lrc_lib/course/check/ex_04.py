"""Checks of notebooks/04_two_stage_distillation on labels: Eqs. (4) and (5)."""

from functools import partial

import torch
import torch.nn.functional as F

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.losses import hard_label_loss, soft_label_loss

_hard = partial(hard_label_loss, reduction="none")
HARD = {
    "That is the ordinary cross-entropy: Eq. (5) softens the one-hot target first.":
        partial(_hard, target="one_hot"),
    "You softened the student as well: in Eq. (5) only the target has a temperature.":
        lambda x, y, t: _hard(x / t, y, t),
    "You softened the student in place of the target.":
        lambda x, y, t: _hard(x / t, y, target="one_hot"),
    "The temperature is missing in the target's softmax.": lambda x, y, t: _hard(x, y, 1.0),
    "You multiply by the temperature: Eq. (5) divides.": lambda x, y, t: _hard(x, y, 1 / t),
    "You averaged over the batch: return one loss for each of the B rows.": hard_label_loss,
}  # fmt: skip


@exercise(HARD)
def ex_04_1(hard):
    """Eq. (5) as printed, (B, C), (B,), tau -> (B,)."""
    inputs = draws(16, 4), torch.arange(16) % 4, 1.7
    compare(hard, _hard, HARD, *inputs, what="the (B,) losses")
    return "Eq. (5), softened target and all."


SOFT = {
    "reduction='mean' also divides by the number of classes: sum over them, average over rows.":
        lambda s, t, tau: soft_label_loss(s, t, tau) / s.shape[1],
    "You added up the rows: average over the batch.":
        lambda s, t, tau: soft_label_loss(s, t, tau) * len(s),
    "The two are exchanged: Eq. (4) weighs with the teacher's probabilities.":
        lambda s, t, tau: soft_label_loss(t, s, tau),
    "Hinton's factor tau squared is not in Eq. (4).":
        lambda s, t, tau: tau**2 * soft_label_loss(s, t, tau),
    "The temperature is gone.": lambda s, t, tau: soft_label_loss(s, t, 1.0),
    "Return one number for the batch, not one for each row.":
        partial(soft_label_loss, reduction="none"),
}  # fmt: skip


@exercise(SOFT)
def ex_04_2(soft_fixed):
    """Eq. (4), mean over the batch, (B, C), (B, C), tau -> scalar."""
    inputs = draws(12, 3), 2 * draws(12, 3, seed=1), 1.6
    compare(soft_fixed, soft_label_loss, SOFT, *inputs, what="the loss")
    return "Mean over rows, sum over classes: weights mean the same for any number of classes."


def _settles(classes: int, loss_of) -> float:
    """P(gold) where a loss of (n, classes) logits is least; the other classes share the rest."""
    p = torch.linspace(0.001, 0.999, 9981, dtype=torch.float64)[:, None]
    logits = torch.cat([p, ((1 - p) / (classes - 1)).expand(-1, classes - 1)], dim=1).log()
    return float(p[loss_of(logits).argmin()])


def _gold(logits, temperature):
    """Eq. (5) where class 0 is the gold one."""
    return _hard(logits, torch.zeros(len(logits), dtype=torch.long), temperature)


def _cap(classes, temperature):
    return _settles(classes, lambda logits: _gold(logits, temperature))


CAP = {
    "1 is what a one-hot target asks for. Eq. (5) softens it first.": lambda c, t: 1.0,
    "1 / C is a guess: the target knows the gold class.": lambda c, t: 1 / c,
    "The temperature is missing: divide the one-hot target by it.": lambda c, t: _cap(c, 1.0),
    "You multiply by the temperature: Eq. (5) divides.": lambda c, t: _cap(c, 1 / t),
    "That is right for two classes only: each has a share.": lambda c, t: _cap(2, t),
}  # fmt: skip


@exercise(CAP)
def ex_04_5(cap):
    """The confidence that Eq. (5) asks for, (classes, temperature) -> float."""
    said, probe = [], partial(core.number, what="the probability of the gold class")
    for classes, tau in ((2, 1.1), (3, 1.1), (5, 0.5)):
        what = f"the probability of the gold class for {classes} classes at temperature {tau}"
        found = compare(cap, _cap, CAP, classes, tau, what=what, probe=probe, atol=1e-3)
        said.append(f"{probe(cap, classes, tau):.4f} and {found:.4f}")
    return f"Predicted, and measured where the loss is least: {', '.join(said)}."


def _settled(beta):
    """P(gold) at the least beta * Eq. (4) + 3 * Eq. (5), where the teacher says 0.99."""
    teacher = torch.tensor([0.99, 0.01], dtype=torch.float64).log()

    def loss_of(logits):
        soft = soft_label_loss(logits, teacher.expand_as(logits), reduction="none")
        return float(beta) * soft + 3 * _gold(logits, 1.1)

    return _settles(2, loss_of)


@exercise()
def ex_04_6(find_beta):
    """The beta at which `settled(beta)` is 0.9."""
    beta = core.number(find_beta, _settled, what="the weight beta")
    at = _settled(beta)
    core.refuse({
        f"A weight of {beta:.3g} would push away from the teacher: beta is positive.": beta <= 0,
        "That is a probability: return the weight at which it is reached.": abs(beta - 0.9) < 0.01,
        f"At beta = {beta:.3g} it settles at {at:.3f}: the teacher needs more weight.": at < 0.895,
        f"At beta = {beta:.3g} it settles at {at:.3f}: that is more than asked.": at > 0.905,
    })  # fmt: skip
    return f"At beta = {beta:.1f} it settles at {at:.3f}, with a teacher that is right."


def _log_losses(logits, labels):
    """The log loss at each temperature of a grid."""
    return {float(t): F.cross_entropy(logits / t, labels) for t in torch.logspace(-1.5, 1, 600)}


def _best(logits, labels):
    losses = _log_losses(logits, labels)
    return min(losses, key=losses.get)


TEMPERATURE = {
    "You multiply the logits by it: return the T that divides them, the inverse.":
        lambda x, y: 1 / _best(x, y),
    "That is the least loss: return the temperature at which it is reached.":
        lambda x, y: min(_log_losses(x, y).values()),
    "T = 1 leaves the student as it was.": lambda x, y: 1.0,
}  # fmt: skip


@exercise(TEMPERATURE)
def ex_04_7(calibrate):
    """The temperature with the least log loss, (n, C), (n,) -> float."""
    sure = 2 * draws(400, 3)
    labels = torch.multinomial(sure.softmax(-1), 1, generator=torch.Generator().manual_seed(1))
    inputs = 0.4 * sure, labels[:, 0]  # under-confident by a factor of 2.5
    probe, what = partial(core.number, what="the temperature"), "the temperature"
    t = compare(calibrate, _best, TEMPERATURE, *inputs, what=what, probe=probe, rtol=0.03)
    return f"T = {t:.2f} sharpens this under-confident student; no answer changes."
