"""Checks of notebooks/04_two_stage_distillation on labels: Eqs. (4) and (5)."""

import math

import torch
import torch.nn.functional as F

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.losses import hard_label_loss, soft_label_loss


def _hard(logits, labels, tau):
    return hard_label_loss(logits, labels, tau, reduction="none")


def _softened(logits, labels, of_target, of_student):
    """Eq. (5) with a temperature for the target, and one for the student."""
    target = (F.one_hot(labels, logits.shape[1]) / of_target).softmax(-1)
    return -(target * (logits / of_student).log_softmax(-1)).sum(-1)


HARD = {
    "That is the ordinary cross-entropy: Eq. (5) softens the one-hot target first.":
        lambda x, y, t: F.cross_entropy(x, y, reduction="none"),
    "You softened the student as well: in Eq. (5) only the target has a temperature.":
        lambda x, y, t: _softened(x, y, t, t),
    "You softened the student in place of the target.": lambda x, y, t: _softened(x, y, 1.0, t),
    "The temperature is missing in the target's softmax.": lambda x, y, t: _hard(x, y, 1.0),
    "You multiply by the temperature: Eq. (5) divides.": lambda x, y, t: _hard(x, y, 1 / t),
    "The sign is missing: a log probability is negative, a loss is not.":
        lambda x, y, t: -_hard(x, y, t),
    "You divided by the number of classes: sum over them.":
        lambda x, y, t: _hard(x, y, t) / x.shape[1],
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
        lambda s, t, tau: soft_label_loss(s, t, tau, "none").sum(),
    "The two are exchanged: Eq. (4) weighs with the teacher's probabilities.":
        lambda s, t, tau: soft_label_loss(t, s, tau),
    "Hinton's factor tau squared is not in Eq. (4).":
        lambda s, t, tau: tau**2 * soft_label_loss(s, t, tau),
    "The temperature is gone.": lambda s, t, tau: soft_label_loss(s, t, 1.0),
    "Return one number for the batch, not one for each row.":
        lambda s, t, tau: soft_label_loss(s, t, tau, "none"),
    "The sign is turned: a divergence is not negative.":
        lambda s, t, tau: -soft_label_loss(s, t, tau),
}  # fmt: skip


@exercise(SOFT)
def ex_04_2(soft_fixed):
    """Eq. (4), mean over the batch, (B, C), (B, C), tau -> scalar."""
    inputs = draws(12, 3), 2 * draws(12, 3, seed=1), 1.6
    compare(soft_fixed, soft_label_loss, SOFT, *inputs, what="the loss")
    return "Mean over rows, sum over classes: weights mean the same for any number of classes."


def _settles(classes: int, temperature: float) -> float:
    """P(gold) after gradient descent on Eq. (5) alone."""
    logits = torch.zeros(1, classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = hard_label_loss(logits, torch.tensor([0]), temperature)
        value.backward()
        return value

    optimizer.step(loss)
    return logits.detach().softmax(-1)[0, 0].item()


CAP = {
    "1 is what a one-hot target asks for. Eq. (5) softens it first.": lambda c, t: 1.0,
    "1 / C is a guess: the target knows the gold class.": lambda c, t: 1 / c,
    "The temperature is missing: divide the one-hot target by it.":
        lambda c, t: math.e / (math.e + c - 1),
    "You multiply by the temperature: Eq. (5) divides.":
        lambda c, t: math.exp(t) / (math.exp(t) + c - 1),
    "That is right for two classes only: each has a share.":
        lambda c, t: 1 / (1 + math.exp(-1 / t)),
    "That is left for the other classes: take it from 1.":
        lambda c, t: (c - 1) / (math.exp(1 / t) + c - 1),
}  # fmt: skip


def _probability(answer, *inputs):
    return core.number(answer, *inputs, what="the probability of the gold class")


@exercise(CAP)
def ex_04_5(cap):
    """The confidence that Eq. (5) asks for, (classes, temperature) -> float."""
    said = []
    for classes, tau in ((2, 1.1), (3, 1.1), (5, 0.5)):
        what = f"the probability of the gold class for {classes} classes at temperature {tau}"
        found = compare(cap, _settles, CAP, classes, tau, what=what, probe=_probability, atol=1e-3)
        said.append(f"{_probability(cap, classes, tau):.4f} and {found:.4f}")
    return f"Predicted and then measured by gradient descent: {', '.join(said)}."


def _settled(beta):
    """P(gold) at the least beta * Eq. (4) + 3 * Eq. (5), where the teacher says 0.99."""
    p = torch.linspace(0.5, 0.999, 5000, dtype=torch.float64)
    answers = torch.stack([p, 1 - p], dim=1).log()
    says = torch.tensor([[0.99, 0.01]], dtype=torch.float64).log().expand_as(answers)
    soft = soft_label_loss(answers, says, reduction="none")
    hard = _hard(answers, torch.zeros(len(p), dtype=torch.long), 1.1)
    return float(p[(float(beta) * soft + 3 * hard).argmin()])


BETA = {
    "A weight of {beta:.3g} would push away from the teacher: beta is positive.":
        (lambda settled: -5.0, lambda f: f.beta <= 0),
    "That is a probability: return the weight at which it is reached.":
        (lambda settled: 0.9, lambda f: abs(f.beta - f.at) < 0.01 or abs(f.beta - 0.9) < 0.01),
    "At beta = {beta:.3g} it settles at {at:.3f}: the teacher needs more weight.":
        (lambda settled: 3.0, lambda f: f.at < 0.895),
    "At beta = {beta:.3g} it settles at {at:.3f}: that is more than asked.":
        (lambda settled: 1000.0, lambda f: f.at > 0.905),
}  # fmt: skip


@exercise(BETA)
def ex_04_6(find_beta):
    """The beta at which `settled(beta)` is 0.9."""
    beta = core.number(find_beta, _settled, what="the weight beta")
    core.apply_rules(BETA, beta=beta, at=_settled(beta))
    return f"At beta = {beta:.1f} it settles at {_settled(beta):.3f}, with a teacher that is right."


def _log_losses(logits, labels, size=600):
    """A grid of temperatures and the log loss at each."""
    grid = torch.logspace(-1.5, 1, size)
    return grid, torch.stack([F.cross_entropy(logits / t, labels) for t in grid])


def _best(logits, labels, size=600):
    grid, losses = _log_losses(logits, labels, size)
    return float(grid[losses.argmin()])


TEMPERATURE = {
    "A temperature is positive, not {t:.3g}.": (lambda x, y: -1.0, lambda f: f.t <= 0),
    "You multiply the logits by it: return the T that divides them, the inverse.":
        (lambda x, y: 1 / _best(x, y), lambda f: core.near(f.t, 1 / f.best, 0.03)),
    "That is the least loss: return the temperature at which it is reached.":
        (lambda x, y: _log_losses(x, y)[1].min(), lambda f: core.near(f.t, f.least, 0.03)),
    "T = 1 leaves the student as it was.": (lambda x, y: 1.0, lambda f: core.near(f.t, 1.0, 0.03)),
    "At T = {t:.3g} the log loss is not the least: try lower ones, on a finer grid.":
        (lambda x, y: 1.2 * _best(x, y), lambda f: f.loss > f.least + 1e-4 and f.t > f.best),
    "At T = {t:.3g} the log loss is not the least: try higher ones, on a finer grid.":
        (lambda x, y: _best(x, y, 6), lambda f: f.loss > f.least + 1e-4),
}  # fmt: skip


@exercise(TEMPERATURE)
def ex_04_7(calibrate):
    """The temperature with the least log loss, (n, C), (n,) -> float."""
    sure = 2 * draws(400, 3)
    labels = torch.multinomial(sure.softmax(-1), 1, generator=torch.Generator().manual_seed(1))
    logits, labels = 0.4 * sure, labels[:, 0]  # under-confident by a factor of 2.5
    t = core.number(calibrate, logits, labels, what="the temperature")
    least, loss = _log_losses(logits, labels)[1].min(), F.cross_entropy(logits / t, labels)
    core.apply_rules(TEMPERATURE, t=t, best=_best(logits, labels), least=least, loss=loss)
    return f"T = {t:.2f} sharpens this under-confident student; no answer changes."
