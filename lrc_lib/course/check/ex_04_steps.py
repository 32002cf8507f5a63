"""Checks of notebooks/04_two_stage_distillation on the two passes: Eqs. (7) and (8)."""

from functools import partial

import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.perturbation import perturb_embeddings


def _scene(still: bool = False):
    """A weight, embeddings (B, L, d) made of it, and a curved loss of them in one graph."""
    weight = draws(3, 3, seed=7).requires_grad_()
    emb = draws(4, 5, 3) @ weight
    curve = draws(4, 5, 3, seed=1) * (torch.arange(4.0)[:, None, None] + 1)
    if still:
        curve[0] = 0  # the first text has no gradient
    return weight, emb, (curve * emb.tanh()).sum()


def _moved(perturb):
    return core.tensor(perturb, *_scene()[1:])


def _by(step, through=False):
    """A `perturb` that adds `step(gradient)`; the second backward runs `through` it, or not."""

    def perturb(emb, loss):
        (g,) = torch.autograd.grad(loss, emb, retain_graph=True, create_graph=through)
        return emb + (step(g) if through else step(g).detach())

    return perturb


def _normed(g):
    return g / g.norm(dim=(1, 2), keepdim=True)  # 0 / 0 where there is no gradient


def _with_backward(emb, loss):
    loss.backward(retain_graph=True)
    return perturb_embeddings(emb, loss)


TOUCHED = (
    "The numbers are right, but the weights have got a gradient from the first pass: "
    "torch.autograd.grad(loss, emb) leaves them alone, loss.backward() does not."
)
CUT_OFF = (
    "The numbers are right, but the result is cut off from the embedding layer, which then learns "
    "nothing: detach the step, not the embeddings."
)
THROUGH = (
    "The numbers are right, but the second backward would run through the step as well: is it "
    "detached?"
)
STILL = "A text whose gradient is zero gives NaN: 0 / 0. Keep its norm off zero."
PERTURB = {
    "You walk downhill: Eq. (7) adds the gradient, towards a higher loss.":
        partial(perturb_embeddings, epsilon=-1.0),
    "One norm for the whole batch: here each text has its own step of length 1.":
        partial(perturb_embeddings, norm="tensor"),
    "One norm for each token: here each text has its own step of length 1.":
        partial(perturb_embeddings, norm="token"),
    "The gradient is not divided by its norm: the step has to have length 1.": _by(lambda g: g),
    "That is the sign of the gradient (FGSM): Eq. (7) keeps its direction.": _by(torch.sign),
    "You return the step alone: add it to the embeddings.":
        lambda emb, loss: perturb_embeddings(emb, loss) - emb,
    "Nothing moved.": lambda emb, loss: emb,
    TOUCHED: _with_backward,
    CUT_OFF: lambda emb, loss: perturb_embeddings(emb, loss).detach(),
    THROUGH: _by(_normed, through=True),
    STILL: _by(_normed),
}  # fmt: skip


@exercise(PERTURB)
def ex_04_3(perturb):
    """Eqs. (7) and (8) by sample, (B, L, d), scalar -> (B, L, d)."""
    compare(perturb, perturb_embeddings, PERTURB, what="the moved embeddings", probe=_moved)
    weight, emb, loss = _scene()
    moved = core.call(perturb, emb, loss)
    if weight.grad is not None:
        raise core.Mistake(TOUCHED)
    if not moved.requires_grad:
        raise core.Mistake(CUT_OFF)
    probe = draws(4, 5, 3, seed=2)
    (reached,) = torch.autograd.grad((moved * probe).sum(), weight, allow_unused=True)
    weight, emb, _ = _scene()
    (straight,) = torch.autograd.grad((emb * probe).sum(), weight)
    if reached is None or not core.close(reached, straight):
        raise core.Mistake(THROUGH)
    core.tensor(perturb, *_scene(still=True)[1:], nan=STILL)
    return "One step of length 1 uphill for each text, detached, and no weight was touched."


def _train(step):
    """`step` twice on a new student: (its first pair of losses, embedding and other weights)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embed, rest = torch.nn.Embedding(11, 6), torch.nn.Linear(6, 1)
        batches = [(torch.randint(11, (4, 5)), torch.randn(4, 5)) for _ in range(2)]
    weights = [embed.weight, *rest.parameters()]
    optimizer, losses = torch.optim.SGD(weights, lr=1.0), []
    for tokens, wanted in batches:

        def loss_of(emb, wanted=wanted):
            return (rest(emb).squeeze(-1).tanh() - wanted).square().mean()

        what = "the clean and the perturbed loss"
        both = core.pair(step, what, embed, loss_of, tokens, optimizer)
        losses.append([core.single(loss, core.name_of(step), what) for loss in both])
    return losses[0], torch.cat([weight.detach().flatten() for weight in weights])


def _two_pass(kind=""):
    """The two-pass step, done rightly or with one mistake."""

    def step(embed, loss_of, tokens, optimizer):
        if kind != "stale gradients":
            optimizer.zero_grad()
        emb = embed(tokens)
        clean = loss_of(emb)
        if kind in ("first pass", "both passes"):
            clean.backward(retain_graph=True)
        moved = _by(_normed, kind == "through")(emb, clean)
        perturbed = loss_of(moved.detach() if kind == "cut off" else moved)
        if kind != "first pass":
            perturbed.backward()
        optimizer.step()
        losses = clean.item(), perturbed.item()
        return losses[::-1] if kind == "reversed" else losses

    return step


TWO_PASS = {
    "The first pass updates your weights: only the second, perturbed one may.":
        _two_pass("first pass"),
    "Both passes leave gradients and they add up: the first needs the gradient at the embeddings "
    "alone (torch.autograd.grad).":
        _two_pass("both passes"),
    "The second backward runs through the step as well: is it detached?": _two_pass("through"),
    "The embedding layer learns nothing: detach the step, not the embeddings.":
        _two_pass("cut off"),
    "Gradients of the last step are still there: zero_grad() before backward().":
        _two_pass("stale gradients"),
    "Return the clean loss first, then the perturbed one.": _two_pass("reversed"),
}  # fmt: skip


@exercise(TWO_PASS)
def ex_04_4(two_pass_step):
    """One step, (embedding layer, loss of emb, tokens, optimizer) -> (clean, perturbed)."""
    for index, what in ((1, "a weight after two steps"), (0, "the pair of losses")):
        found = compare(
            two_pass_step, _two_pass(), TWO_PASS, what=what, probe=lambda s, i=index: _train(s)[i]
        )
    return f"Two passes, one update. Clean {found[0]:.3f}, perturbed {found[1]:.3f}."
