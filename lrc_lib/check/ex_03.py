"""Checks of notebooks/03_two_stage_distillation: Eqs. (4), (5), (7) and (8)."""

import torch
import torch.nn.functional as F

from ..losses import hard_label_loss, soft_label_loss
from ..perturbation import perturb_embeddings
from .core import Mistake, as_tensor, call, close, compare, draws, exercise, name_of, parts, tensor


@exercise
def ex_03_1(hard):
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
def ex_03_2(soft_fixed):
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


def _scene(still: bool = False):
    """A weight, embeddings (B, L, d) made of it, and a curved loss of them in one graph."""
    weight = draws(3, 3, seed=7).requires_grad_()
    emb = draws(4, 5, 3) @ weight
    curve = draws(4, 5, 3, seed=1) * (torch.arange(4.0)[:, None, None] + 1)
    if still:
        curve[0] = 0  # the first text has no gradient
    return weight, emb, (curve * emb.tanh()).sum()


@exercise
def ex_03_3(perturb):
    """Eqs. (7) and (8) by sample, (B, L, d), scalar -> (B, L, d)."""
    weight, emb, loss = _scene()
    moved = call(perturb, emb, loss)
    found = as_tensor(moved, name_of(perturb))
    _, other, its_loss = _scene()
    (gradient,) = torch.autograd.grad(its_loss, other, retain_graph=True)
    other = other.detach()

    def by(length):
        return other + gradient / length

    norms = {norm: perturb_embeddings(*_scene()[1:], norm).detach() for norm in ("tensor", "token")}
    right = by(gradient.flatten(1).norm(dim=1)[:, None, None])
    compare(
        found,
        right,
        {
            "You walk downhill: Eq. (7) adds the gradient, towards a higher loss.": (
                2 * other - right
            ),
            "One norm for the whole batch: here each text has its own step of length 1.": (
                norms["tensor"]
            ),
            "One norm for each token: here each text has its own step of length 1.": norms["token"],
            "The gradient is not divided by its norm: the step has to have length 1.": by(1),
            "That is the sign of the gradient (FGSM): Eq. (7) keeps its direction.": (
                other + gradient.sign()
            ),
            "You return the step alone: add it to the embeddings.": right - other,
            "Nothing moved.": other,
        },
        "the moved embeddings",
    )
    if weight.grad is not None:
        raise Mistake(
            "The numbers are right, but the weights have got a gradient from the first pass: "
            "torch.autograd.grad(loss, emb) leaves them alone, loss.backward() does not."
        )
    probe = draws(4, 5, 3, seed=2)
    if not moved.requires_grad:
        raise Mistake(
            "The numbers are right, but the result is cut off from the embedding layer, which "
            "then learns nothing: detach the step, not the embeddings."
        )
    (reached,) = torch.autograd.grad((moved * probe).sum(), weight, allow_unused=True)
    weight, emb, _ = _scene()
    (straight,) = torch.autograd.grad((emb * probe).sum(), weight)
    if reached is None or not close(reached, straight):
        raise Mistake(
            "The numbers are right, but the second backward would run through the step as well: "
            "is it detached?"
        )
    still = "A text whose gradient is zero gives NaN: 0 / 0. Keep its norm off zero."
    tensor(perturb, *_scene(still=True)[1:], nan=still)
    return "One step of length 1 uphill for each text, detached, and no weight was touched."


def _student():
    """A tiny embedding layer and the rest; the same on every call."""
    embed = torch.nn.utils.skip_init(torch.nn.Embedding, 11, 6)
    rest = torch.nn.utils.skip_init(torch.nn.Linear, 6, 1)
    with torch.no_grad():
        for index, weight in enumerate([embed.weight, *rest.parameters()]):
            weight.copy_(draws(*weight.shape, seed=index))
    return embed, rest


def _train(step):
    """`step` twice on a new student: (its results, embedding weights, other weights)."""
    embed, rest = _student()
    optimizer = torch.optim.SGD([*embed.parameters(), *rest.parameters()], lr=0.3)
    results = []
    for seed in (0, 1):
        tokens = torch.randint(11, (4, 5), generator=torch.Generator().manual_seed(seed))
        wanted = draws(4, 5, seed=seed + 5)

        def loss_of(emb, wanted=wanted):
            return (rest(emb).squeeze(-1).tanh() - wanted).square().mean()

        results.append(step(embed, loss_of, tokens, optimizer))
    return (
        results,
        embed.weight.detach(),
        torch.cat([x.detach().flatten() for x in rest.parameters()]),
    )


def _step(kind: str = "right"):
    """The two-pass step, done rightly or with one mistake."""

    def step(embed, loss_of, tokens, optimizer):
        if kind != "stale gradients":
            optimizer.zero_grad()
        emb = embed(tokens)
        clean = loss_of(emb)
        if kind in ("both passes", "two updates"):
            clean.backward(retain_graph=True)
            if kind == "two updates":
                optimizer.step()
                optimizer.zero_grad()
                emb = embed(tokens)
                clean = loss_of(emb)
        through = kind == "not detached"
        (g,) = torch.autograd.grad(clean, emb, retain_graph=True, create_graph=through)
        move = g / g.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]
        move = move if through else move.detach()
        if kind == "cut":
            emb = emb.detach()
        perturbed = loss_of(emb - move if kind == "downhill" else emb + move)
        (clean if kind == "clean" else perturbed).backward()
        optimizer.step()
        return clean.item(), perturbed.item()

    return step


MISTAKEN_STEPS = {
    "clean": "The first pass updates your weights: only the second, perturbed one may.",
    "both passes": "Both passes leave gradients and they add up: the first needs the gradient at "
    "the embeddings alone (torch.autograd.grad).",
    "two updates": "You update after each pass: only the second pass updates.",
    "not detached": "The second backward runs through the step as well: is it detached?",
    "cut": "The embedding layer learns nothing: detach the step, not the embeddings.",
    "stale gradients": "Gradients of the last step are still there: zero_grad() before backward().",
    "downhill": "The second pass starts downhill: Eq. (7) adds the gradient.",
}


@exercise
def ex_03_4(two_pass_step):
    """One step, (embedding layer, loss of emb, tokens, optimizer) -> (clean, perturbed)."""

    def asked(*inputs):
        pair = parts(two_pass_step, 2, "the clean and the perturbed loss", *inputs)
        pair = [as_tensor(x, name_of(two_pass_step)) for x in pair]
        if any(x.dim() for x in pair):
            raise Mistake("Two numbers are asked for: the clean and the perturbed loss.")
        return torch.stack(pair)

    results, embedding, rest = _train(asked)
    right, right_embedding, right_rest = _train(_step())
    if not (close(embedding, right_embedding) and close(rest, right_rest)):
        for kind, sentence in MISTAKEN_STEPS.items():
            _, *wrong = _train(_step(kind))
            if close(embedding, wrong[0]) and close(rest, wrong[1]):
                raise Mistake(sentence)
        if close(embedding, _student()[0].weight):
            raise Mistake("The weights did not move: backward() on the second loss, then step().")
        raise Mistake("The weights end elsewhere. Two passes, one backward, one step: in order?")
    compare(
        results[0],
        torch.tensor(right[0]),
        {"Return the clean loss first, then the perturbed one.": torch.tensor(right[0][::-1])},
        "the pair of losses",
    )
    return f"Two passes, one update. Clean {right[0][0]:.3f}, perturbed {right[0][1]:.3f}."


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
def ex_03_5(cap):
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
def ex_03_6(find_beta):
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
def ex_03_7(calibrate):
    """The temperature with the least log loss, (n, C), (n,) -> float."""
    sure = 2 * draws(800, 3)
    labels = torch.multinomial(sure.softmax(-1), 1, generator=torch.Generator().manual_seed(1))
    labels, logits = labels[:, 0], 0.4 * sure  # under-confident by a factor of 2.5
    grid = torch.logspace(-2, 1, 3000)
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
