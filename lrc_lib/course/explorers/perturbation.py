"""The perturbation of Eqs. (7)-(8) on a real run's embeddings: the loss before and after the step.

The gradient does not depend on epsilon, so the loss is measured once along each norm's direction,
at every place that the slider has; a move then only looks up. Taught in
notebooks/04_two_stage_distillation.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from lrc_lib.course.explorers.controls import choice, explorer, headless, slider
from lrc_lib.course.explorers.picture import Bars, Mark, Panel, View
from lrc_lib.course.explorers.static import positions
from lrc_lib.course.palette import BLACK, BLUE, GREY, ORANGE, VERMILION
from lrc_lib.errors import InputError, unknown
from lrc_lib.perturbation import NORMS, perturb_embeddings

EPSILONS = tuple(np.arange(-3, 6.5, 0.5).tolist())
TOKENS = 16  # of a text that get a bar


class Walks(NamedTuple):
    """The loss along the direction of Eq. (7), measured.

    Attributes:
        before: the loss at epsilon = 0.
        losses: {norm: (len(EPSILONS),)}.
        slopes: {norm: float}, the first-order change of the loss for epsilon = 1.
        percent: {norm: (B, L)}, length of the step for epsilon = 1 in % of the embedding.
        tokens: of each text.
    """

    before: float
    losses: dict
    slopes: dict
    percent: dict
    tokens: list[list[str]]


def perturbation_walks(embeddings, loss_of: Callable, mask, tokens) -> Walks:
    """Measures the loss at every epsilon of the slider, for each of the norms.

    It takes 60 forward passes: give a small batch of short texts.

    Args:
        embeddings: (B, L, d), the output of a student's embedding layer.
        loss_of: a function of such embeddings that returns the scalar loss.
        mask: (B, L), 1 for real tokens.
        tokens: for each text its tokens as words, a list as long as its mask says.

    Raises:
        InputError: tokens that do not fit the mask.

    Taught in: notebooks/04_two_stage_distillation.
    """
    given, real = [len(words) for words in tokens], mask.sum(1).int().tolist()
    if given != real:
        raise InputError(f"The texts have {real} tokens by the mask, and {given} words are given.")
    embeddings = embeddings.detach().requires_grad_()
    losses, slopes, percent = {}, {}, {}
    for norm in NORMS:
        loss = loss_of(embeddings)
        (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
        step = (perturb_embeddings(embeddings, loss, norm, 1.0, mask) - embeddings).detach()
        with torch.no_grad():
            losses[norm] = np.array([float(loss_of(embeddings + e * step)) for e in EPSILONS])
        slopes[norm] = float((gradient * step).sum())
        share = step.norm(dim=-1) / embeddings.detach().norm(dim=-1)
        percent[norm] = 100 * share.cpu().numpy()
    return Walks(loss.item(), losses, slopes, percent, tokens)


def perturbation_view(walks: Walks, norm="sample", epsilon=1.0, text=1) -> View:
    """Left the loss along the step, right how far each token of one text moves.

    Args:
        norm: one of `lrc_lib.perturbation.NORMS`.
        epsilon: one of `EPSILONS`.
        text: its number, from 1.

    Raises:
        InputError: they are not.
    """
    texts = range(1, len(walks.tokens) + 1)
    for name, value, options in (
        ("norm", norm, NORMS), ("epsilon", epsilon, EPSILONS), ("text", text, texts)
    ):  # fmt: skip
        if value not in options:
            raise unknown(name, value, options)
    after = float(walks.losses[norm][EPSILONS.index(epsilon)])
    predicted = walks.before + epsilon * walks.slopes[norm]
    percent = abs(epsilon) * walks.percent[norm][text - 1][: len(walks.tokens[text - 1])]
    bars = _moves(walks, percent, text)
    says = (
        f"Loss before the step {walks.before:.4f}, after it {after:.4f} "
        f"({after - walks.before:+.4f}); first-order prediction {predicted:.4f} "
        f"({predicted - walks.before:+.4f}). The tokens of text {text} move by "
        f"{percent.mean():.1f} % of their length on average."
    )
    alt = (
        f"Left: the loss along the gradient, one norm for each {norm}, and the straight line of "
        f"the prediction; at epsilon {epsilon:g} the loss is {after:.3f}, the prediction "
        f"{predicted:.3f}. Right: a bar for each token of text {text}, the length of its step."
    )
    return View((_along(walks, norm, epsilon, after, predicted), bars), says, alt)


def _along(walks, norm, epsilon, after, predicted):
    line = walks.before + np.array(EPSILONS) * walks.slopes[norm]
    low, high = (f([f(values) for values in walks.losses.values()] + [f(line)]) for f in (min, max))
    pad = 0.06 * (high - low) or 0.1
    marks = [
        Mark(EPSILONS, walks.losses[norm], BLUE, "-", label="measured"),
        Mark(EPSILONS, line, VERMILION, "--", label="first-order prediction"),
        Mark([epsilon] * 2, [low - pad, high + pad], GREY, ":", width=1.5),
        Mark([0], [walks.before], BLACK, "", "D", "before the step"),
        Mark([epsilon], [predicted], VERMILION, "", "s", filled=False, size=9),
        Mark([epsilon], [after], BLUE, "", "o", size=9),
    ]
    title, ends = f"the loss, one norm for each {norm}", (EPSILONS[0], EPSILONS[-1])
    names = "epsilon, length of the step", "total loss"
    return Panel(title, ends, (low - pad, high + pad), marks, *names)


def _moves(walks, percent, text):
    most = max(float(shares.max()) for shares in walks.percent.values())
    words = [word[:18] for word in walks.tokens[text - 1]]
    shares = percent.tolist()
    rows = [(w, p, f"{p:.1f} %") for w, p in zip(words, shares, strict=True)][:TOKENS]
    limit = min(100.0, max(EPSILONS) * most) or 1.0
    return Bars(f"text {text}: step of each token, % of it", rows, limit, ORANGE)


def explore_perturbation(walks: Walks):
    """Sliders over epsilon and the norm's axis, on what `perturbation_walks` measured. (Eqs. 7, 8)

    Returns:
        The widget, or None when headless; then one line says where the static figure is.

    Taught in: notebooks/04_two_stage_distillation.
    """
    if headless():
        return None
    lengths = [(f"{e:g}", e) for e in EPSILONS]
    controls = {
        "norm": choice("one norm for each", NORMS),
        "epsilon": choice("epsilon, length of the step", lengths, 1.0),
        "text": slider("text whose tokens are shown", 1, 1, len(walks.tokens), 1),
    }
    return explorer(lambda **values: perturbation_view(walks, **values), controls)


def draw_perturbation(walks: Walks):
    """Four positions of `explore_perturbation` as a figure.

    The bars are of the text that one norm for the whole batch moves least.

    Taught in: notebooks/04_two_stage_distillation.
    """
    text = int(walks.percent["tensor"].max(1).argmin()) + 1
    views = {f"{norm}, epsilon 1": perturbation_view(walks, norm, 1.0, text) for norm in NORMS}
    views["sample, epsilon 4"] = perturbation_view(walks, "sample", 4.0, text)
    return positions(views)
