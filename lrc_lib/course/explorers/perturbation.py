"""The perturbation of Eqs. (7)-(8) on a real run's embeddings: the loss before and after the step.

The gradient does not depend on epsilon, so the loss is measured once along each norm's direction,
at every place of the slider; a move only reads it. Taught in notebooks/04_two_stage_distillation.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from lrc_lib.course.display import visible
from lrc_lib.course.explorers.sliders import bars, explorer, positions
from lrc_lib.course.palette import BLACK, BLUE, GREY, VERMILION
from lrc_lib.errors import InputError
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


def perturbation_at(axes, walks: Walks, norm="sample", epsilon=1.0, text=1) -> str:
    """Draws the loss along the step on the first of two axes, and on the second how far tokens go.

    Args:
        walks: what `perturbation_walks` measured.
        norm: one of `lrc_lib.perturbation.NORMS`.
        epsilon: one of `EPSILONS`.
        text: its number, from 1.
    """
    after, predicted = _draw_losses(axes[0], walks, norm, epsilon)
    words = [visible(word)[:18] for word in walks.tokens[text - 1]]
    percent = abs(epsilon) * walks.percent[norm][text - 1][: len(words)]
    most = EPSILONS[-1] * max(float(share.max()) for share in walks.percent.values())
    bars(axes[1], words[:TOKENS], percent[:TOKENS], min(100.0, most) or 1.0)
    axes[1].set_xlabel(f"text {text}: step of each token\nas a share of its length")
    return (
        f"With one norm for each {norm} and epsilon {epsilon:g}, the loss goes from "
        f"{walks.before:.4f} to {after:.4f} ({after - walks.before:+.4f}); the first-order "
        f"prediction is {predicted:.4f} ({predicted - walks.before:+.4f}). The tokens of text "
        f"{text} move by {percent.mean():.1f} % of their length on average, most of all "
        f"'{words[percent.argmax()]}' by {percent.max():.1f} %."
    )


def _draw_losses(ax, walks, norm, epsilon):
    lines = {n: walks.before + np.array(EPSILONS) * slope for n, slope in walks.slopes.items()}
    measured, line, here = walks.losses[norm], lines[norm], EPSILONS.index(epsilon)
    ax.plot(EPSILONS, measured, color=BLUE, ls="-", label="measured")
    ax.plot(EPSILONS, line, color=VERMILION, ls="--", label="first-order prediction")
    ax.axvline(epsilon, color=GREY, ls=":", lw=1.5)
    ax.plot(0, walks.before, "D", color=BLACK, label="before the step")
    ax.plot(epsilon, line[here], "s", color=VERMILION, mfc="white", ms=8)
    ax.plot(epsilon, measured[here], "o", color=BLUE)
    every = np.concatenate([*walks.losses.values(), *lines.values()])  # one scale for all norms
    pad = 0.06 * np.ptp(every) or 0.1
    ax.set(xlim=(EPSILONS[0], EPSILONS[-1]), ylim=(every.min() - pad, every.max() + pad))
    ax.set(xlabel="epsilon, length of the step", ylabel="total loss")
    return float(measured[here]), float(line[here])


def explore_perturbation(walks: Walks):
    """Sliders over epsilon and the norm's axis, on what `perturbation_walks` measured. (Eqs. 7, 8)

    Returns:
        The widget; when headless, HTML with a button for each preset.

    Taught in: notebooks/04_two_stage_distillation.
    """
    controls = {
        "norm": ("one norm for each", "sample", NORMS),
        "epsilon": ("epsilon, step length", 1.0, EPSILONS),
        "text": ("text below", 1, range(1, len(walks.tokens) + 1)),
    }
    draw = functools.partial(perturbation_at, walks=walks)
    return explorer(draw, controls, _places(walks))


def _places(walks):
    """The text is the one that one norm for the whole batch moves least."""
    text = int(walks.percent["tensor"].max(1).argmin()) + 1
    chosen = (("sample", 1.0), ("token", 1.0), ("sample", 4.0))
    return {f"one norm for each {n}, ε = {e:g}": {"norm": n, "epsilon": e, "text": text}
            for n, e in chosen}  # fmt: skip


def draw_perturbation(walks: Walks):
    """Three positions of `explore_perturbation` as a figure.

    Taught in: notebooks/04_two_stage_distillation.
    """
    return positions(functools.partial(perturbation_at, walks=walks), _places(walks))
