"""Checks of notebooks/04_two_stage_distillation on labels: Eqs. (4) and (5)."""

import torch
import torch.nn.functional as F

from lrc_lib.course.check.core import Mistake, compare, draws, exercise, tensor
from lrc_lib.losses import hard_label_loss, soft_label_loss


@exercise
def ex_04_1(hard):
    """Eq. (5) as printed, (B, C), (B,), tau -> (B,)."""
    logits, labels, tau = draws(16, 4), torch.arange(16) % 4, 1.7
    right = hard_label_loss(logits, labels, tau, reduction="none")
    one_hot = F.one_hot(labels, 4).to(logits.dtype)
    target, answer = (one_hot / tau).softmax(-1), logits.log_softmax(-1)
    compare(
        tensor(hard, logits, labels, tau),
        right,
        {
            "That is the ordinary cross-entropy: Eq. (5) softens the one-hot target first.": (
                -(one_hot * answer).sum(-1)
            ),
            "You softened the student as well: in Eq. (5) only the target has a temperature.": (
                -(target * (logits / tau).log_softmax(-1)).sum(-1)
            ),
            "You softened the student in place of the target.": (
                -(one_hot.softmax(-1) * (logits / tau).log_softmax(-1)).sum(-1)
            ),
            "The temperature is missing in the target's softmax.": (
                -(one_hot.softmax(-1) * answer).sum(-1)
            ),
            "You multiply by the temperature: Eq. (5) divides.": (
                -((one_hot * tau).softmax(-1) * answer).sum(-1)
            ),
            "The sign is missing: a log of a probability is negative, a loss is not.": -right,
            "You divided by the number of classes: sum over them.": right / 4,
            "You averaged over the batch: one loss for each of the B rows is asked for.": (
                right.mean()
            ),
        },
        "the (B,) losses",
    )
    return "Eq. (5), softened target and all."


@exercise
def ex_04_2(soft_fixed):
    """Eq. (4), mean over the batch, (B, C), (B, C), tau -> scalar."""
    student, teacher, tau = draws(12, 3), 2 * draws(12, 3, seed=1), 1.6
    right = soft_label_loss(student, teacher, tau)
    compare(
        tensor(soft_fixed, student, teacher, tau),
        right,
        {
            "You divided by the number of classes: reduction='mean' averages over all numbers. "
            "Sum over classes, average over rows.": right / 3,
            "You added up the rows: average over the batch.": right * 12,
            "The two are exchanged: Eq. (4) weighs with the teacher's probabilities.": (
                soft_label_loss(teacher, student, tau)
            ),
            "Hinton's factor tau squared is not in Eq. (4).": right * tau**2,
            "The temperature is gone.": soft_label_loss(student, teacher, 1.0),
            "One number for the batch is asked for, not one for each row.": (
                soft_label_loss(student, teacher, tau, "none")
            ),
            "The sign is turned: a divergence is not negative.": -right,
        },
        "the loss",
    )
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


@exercise
def ex_04_5(cap):
    """The confidence that Eq. (5) asks for, (classes, temperature) -> float."""
    cases = ((2, 1.1), (3, 1.1), (5, 0.5))
    found = [tensor(cap, *case) for case in cases]
    if any(x.dim() for x in found):
        raise Mistake("One number is asked for: the probability of the gold class.")
    n, tau = torch.tensor([case[0] for case in cases]), torch.tensor([case[1] for case in cases])
    measured = torch.tensor([_settles(*case) for case in cases])
    e = torch.e
    for sentence, wrong in {
        "1 is what a one-hot target asks for. Eq. (5) softens it first.": torch.ones(3),
        "1 / C is a guess: at a finite temperature the target knows the gold class.": 1 / n,
        "The temperature is missing: divide the one-hot target by it before the softmax.": (
            e / (e + n - 1)
        ),
        "You multiply by the temperature: Eq. (5) divides.": e**tau / (e**tau + n - 1),
        "That holds for two classes: every other class has a share of the softmax.": (
            1 / (1 + e ** (-1 / tau))
        ),
        "That is what is left for the other classes: take it from 1.": (
            1 - e ** (1 / tau) / (e ** (1 / tau) + n - 1)
        ),
    }.items():
        if torch.allclose(torch.stack(found), wrong.to(found[0].dtype), atol=1e-3):
            raise Mistake(sentence)
    for case, x, y in zip(cases, found, measured, strict=True):
        if abs(x - y) > 1e-3:
            raise Mistake(
                f"For {case[0]} classes at temperature {case[1]} you predict {x:.4f}; gradient "
                f"descent on Eq. (5) settles at {y:.4f}."
            )
    pairs = ", ".join(f"{x:.4f} and {y:.4f}" for x, y in zip(found, measured, strict=True))
    return f"Predicted and then measured by gradient descent: {pairs}."


@exercise
def ex_04_6(find_beta):
    """The beta at which `settled(beta)` is 0.9."""
    p = torch.linspace(0.5, 0.999, 5000, dtype=torch.float64)
    answers = torch.stack([p, 1 - p], dim=1).log()
    says = torch.tensor([[0.99, 0.01]], dtype=torch.float64).log().expand_as(answers)
    soft = soft_label_loss(answers, says, reduction="none")
    hard = hard_label_loss(answers, torch.zeros(len(p), dtype=torch.long), reduction="none")

    def settled(beta):
        return float(p[(float(beta) * soft + 3 * hard).argmin()])

    found = tensor(find_beta, settled)
    if found.dim():
        raise Mistake("One number is asked for, the weight beta.")
    beta = found.item()
    if beta <= 0:
        raise Mistake(f"A weight of {beta:.3g} would push away from the teacher: beta is positive.")
    if abs(beta - settled(beta)) < 0.01 or abs(beta - 0.9) < 0.01:
        raise Mistake("That is a probability: return the weight at which it is reached.")
    at = settled(beta)
    if at < 0.895:
        raise Mistake(
            f"At beta = {beta:.3g} it settles at {at:.3f}: the teacher needs more weight."
        )
    if at > 0.905:
        raise Mistake(f"At beta = {beta:.3g} it settles at {at:.3f}: that is more than asked.")
    return f"At beta = {beta:.1f} it settles at {at:.3f}, with a teacher that is right."


@exercise
def ex_04_7(calibrate):
    """The temperature with the least log loss, (n, C), (n,) -> float."""
    sure = 2 * draws(400, 3)
    labels = torch.multinomial(sure.softmax(-1), 1, generator=torch.Generator().manual_seed(1))
    labels, logits = labels[:, 0], 0.4 * sure  # under-confident by a factor of 2.5
    grid = torch.logspace(-1.5, 1, 600)
    losses = torch.stack([F.cross_entropy(logits / t, labels) for t in grid])
    best = grid[losses.argmin()].item()
    found = tensor(calibrate, logits, labels)
    if found.dim():
        raise Mistake("One number is asked for: the temperature.")
    t = found.item()
    if t <= 0:
        raise Mistake(f"A temperature is positive, not {t:.3g}.")
    if F.cross_entropy(logits / t, labels) <= losses.min() + 1e-4:
        return f"T = {t:.2f} sharpens this under-confident student; no answer changes."
    known = {
        "You multiply the logits: asked is the T that divides them, the inverse.": 1 / best,
        "That is the least loss: return the temperature at which it is reached.": losses.min(),
        "T = 1 leaves the student as it was.": 1.0,
    }
    for sentence, wrong in known.items():
        if abs(t / wrong - 1) < 0.03:
            raise Mistake(sentence)
    side = "lower" if t > best else "higher"
    raise Mistake(f"At T = {t:.3g} the log loss is not least: try {side} ones, on a finer grid.")
