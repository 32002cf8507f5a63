"""Checks of notebooks/04_two_stage_distillation: labels, Eqs. (4, 5); two passes, Eqs. (7, 8)."""

from functools import partial

import torch
import torch.nn.functional as F

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, draws, exercise
from lrc_lib.course.check.variants import registered
from lrc_lib.losses import hard_label_loss, soft_label_loss
from lrc_lib.perturbation import perturb_embeddings

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
    """The two-pass step, done correctly or with one mistake."""

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


def _settles(classes: int, loss_of) -> float:
    """P(gold) where a loss of (n, classes) logits is smallest; the other classes share the rest."""
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
    return f"Predicted, and measured where the loss is smallest: {', '.join(said)}."


@exercise()
def ex_04_6(my_recipe):
    """A new row of `RECIPES`, with a prediction: a recipe to be trained."""
    return registered(my_recipe, "recipe")


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
