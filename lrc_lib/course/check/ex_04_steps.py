"""Checks of notebooks/04_two_stage_distillation on the two passes: Eqs. (7) and (8)."""

import torch

from lrc_lib.course.check.core import (
    Mistake,
    as_tensor,
    call,
    close,
    compare,
    draws,
    exercise,
    name_of,
    parts,
    tensor,
)
from lrc_lib.perturbation import perturb_embeddings


def _scene(still: bool = False):
    """A weight, embeddings (B, L, d) made of it, and a curved loss of them in one graph."""
    weight = draws(3, 3, seed=7).requires_grad_()
    emb = draws(4, 5, 3) @ weight
    curve = draws(4, 5, 3, seed=1) * (torch.arange(4.0)[:, None, None] + 1)
    if still:
        curve[0] = 0  # the first text has no gradient
    return weight, emb, (curve * emb.tanh()).sum()


@exercise
def ex_04_3(perturb):
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
def ex_04_4(two_pass_step):
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
