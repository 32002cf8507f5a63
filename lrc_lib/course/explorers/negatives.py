"""How many negatives, how unequal, how alike, at which temperature: COS-NCE beside InfoNCE.

All vectors have length 1 and a shared direction mu. The teacher is sqrt(a) mu + sqrt(1 - a) o, and
so is every negative with an o of its own, so two negatives have cosine a on average (anisotropy)
and a negative's cosine to the teacher spreads with that of its o to the teacher's. Of each vector
only its cosine to the student is needed, so a move costs a few thousand numbers whatever the width.
Taught in notebooks/01_cos_nce_geometry.
"""

import functools

import numpy as np

from lrc_lib.course.explorers.controls import choice, explorer, headless, slider
from lrc_lib.course.explorers.picture import Mark, Panel, View
from lrc_lib.course.explorers.static import positions
from lrc_lib.course.palette import BLACK, BLUE, GREY, VERMILION

COUNTS = (1, 3, 7, 15, 31, 63, 127, 255)
TEMPERATURES = (0.02, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0)
DRAWS, WIDTH = 200, 64
STUDENT = 0.5  # cosine of the student's own part to the teacher's


@functools.lru_cache(maxsize=1)
def _noise():
    """For each draw and negative: how near the teacher, and how it lies to the student's error."""
    rng = np.random.default_rng(0)
    near = rng.standard_normal((DRAWS, COUNTS[-1]))
    aside = rng.standard_normal((DRAWS, COUNTS[-1], WIDTH))
    return near, aside[..., 0] / np.linalg.norm(aside, axis=-1)


def cosines(spread: float, anisotropy: float):
    """Cosines to the student: of the teacher, and of `DRAWS` x 255 negatives.

    Args:
        spread: sd of the cosine of a negative's own part to the teacher's; 0 makes all negatives
            equally far from the teacher.
        anisotropy: a, in [0, 1).

    Returns:
        (float, (DRAWS, 255)).
    """
    near, aside = _noise()
    near = np.clip(spread * near, -0.98, 0.98)
    own = STUDENT * near + (1 - STUDENT**2) ** 0.5 * np.sqrt(1 - near**2) * aside
    return anisotropy + (1 - anisotropy) * STUDENT, anisotropy + (1 - anisotropy) * own


def cos_nce_of(positive, negatives):
    """Eq. (1) from cosines to the student: a float and (..., K) -> (...)."""
    return 2 - 1.5 * positive + 0.5 * negatives.mean(-1)


def info_nce_of(positive, negatives, temperature: float):
    """InfoNCE on the scale of COS-NCE, which is its limit for a large temperature.

    It is the cosine loss and, in place of COS-NCE's contrast, half of
    tau (InfoNCE - log(K + 1)) (K + 1) / K.
    """
    count = negatives.shape[-1]
    powers = (negatives - positive) / temperature
    top = np.maximum(powers.max(-1), 0)
    total = np.exp(powers - top[..., None]).sum(-1) + np.exp(-top)
    contrast = temperature * (top + np.log(total) - np.log(count + 1))
    return 2 - positive + 0.5 * contrast * (count + 1) / count


def shares(negatives, temperature: float):
    """Each negative's share of InfoNCE's push, the most similar first: (..., K), sum 1."""
    powers = -np.sort(-negatives, axis=-1) / temperature
    powers = np.exp(powers - powers[..., :1])
    return powers / powers.sum(-1, keepdims=True)


def negatives_view(count=15, spread=0.3, anisotropy=0.5, temperature=0.1) -> View:
    """Left both losses against K, right who gets the push at this K.

    Args:
        count: K, one of `COUNTS`.
        spread, anisotropy: see `cosines`.
        temperature: of InfoNCE.
    """
    positive, found = cosines(spread, anisotropy)
    ours = [cos_nce_of(positive, found[:, :k]) for k in COUNTS]
    theirs = [info_nce_of(positive, found[:, :k], temperature) for k in COUNTS]
    here = COUNTS.index(count)
    weights = shares(found[:, :count], temperature).mean(0)
    name = f"InfoNCE, temperature {temperature:g}"
    panels = _by_count(ours, theirs, here), _push(weights)
    says = (
        f"K = {count}: COS-NCE {ours[here].mean():.3f} (sd {ours[here].std():.3f} over {DRAWS} "
        f"draws), {name}, {theirs[here].mean():.3f} (sd {theirs[here].std():.3f}). The nearest "
        f"negative gets {weights[0]:.1%} of InfoNCE's push and {1 / count:.1%} of COS-NCE's."
    )
    alt = (
        f"Left: the mean of COS-NCE is level in K; {name}, goes from {theirs[0].mean():.2f} to "
        f"{theirs[-1].mean():.2f}. Right: the share of the push by rank, {weights[0]:.2f} for the "
        "nearest negative under InfoNCE, a level line for COS-NCE."
    )
    return View(panels, says, alt)


def _by_count(ours, theirs, here):
    x, marks = np.log2(np.array(COUNTS) + 1), []
    for values, colour, line, marker, label in (
        (theirs, VERMILION, "--", "s", "InfoNCE and cosine loss"),
        (ours, BLUE, "-", "o", "COS-NCE"),
    ):
        mean, sd = (np.array([getattr(v, key)() for v in values]) for key in ("mean", "std"))
        gap = np.full_like(x, np.nan)
        ends = np.stack([mean - sd, mean + sd, gap], axis=1).ravel()
        marks.append(Mark(np.repeat(x, 3), ends, colour, "-", width=1))
        marks.append(Mark(x, mean, colour, line, marker, label))
    marks.append(Mark([x[here]] * 2, [0, 3], GREY, ":", label="the K chosen", width=1.5))
    places = {float(at): str(k) for at, k in zip(x, COUNTS, strict=True)}
    names = "number of negatives K", "loss, mean ± sd over draws"
    return Panel("the loss by K", (0.6, 8.4), (0.8, 1.8), marks, *names, xticks=places)


def _push(weights):
    rank = np.arange(1, len(weights) + 1)
    last = max(2, len(rank))
    marker = "s" if len(rank) <= 31 else ""
    level = np.full(len(rank), 1 / len(rank))
    marks = [
        Mark(rank, weights, VERMILION, "--", marker, size=6),
        Mark(rank, level, BLUE, "-", "o" if marker else "", size=4),
    ]
    if len(rank) == 1:
        marks.append(Mark([1], [1], BLACK, "", "o", size=6))
    names = "negative, most similar first", "share of the push"
    return Panel("who is pushed from", (0.5, last + 0.5), (0, 1.05), marks, *names)


def explore_negatives():
    """Sliders over K, spread, anisotropy and the temperature of InfoNCE.

    Returns:
        The widget, or None when headless; then one line says where the static figure is.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    if headless():
        return None
    hot = [(f"{t:g}", t) for t in TEMPERATURES]
    controls = {
        "count": choice("number of negatives K", COUNTS, 15),
        "spread": slider("spread of the negatives", 0.3, 0.0, 0.6, 0.05),
        "anisotropy": slider("anisotropy (shared part)", 0.5, 0.0, 0.95, 0.05),
        "temperature": choice("InfoNCE's temperature", hot, 0.1),
    }
    return explorer(negatives_view, controls)


def draw_negatives():
    """Four positions of `explore_negatives` as a figure.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    views = {
        "temperature 0.05": negatives_view(temperature=0.05),
        "temperature 0.5": negatives_view(temperature=0.5),
        "temperature 100: the limit": negatives_view(temperature=100.0),
        "temperature 0.05, anisotropy 0.95": negatives_view(temperature=0.05, anisotropy=0.95),
    }
    return positions(views)
