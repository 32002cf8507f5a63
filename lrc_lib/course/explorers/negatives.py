"""How many negatives, how unequal, how alike, at which temperature: COS-NCE next to InfoNCE.

All vectors have length 1 and share a direction mu. The teacher is sqrt(a) mu + sqrt(1 - a) o, and
each negative has the same form with an o of its own. So two negatives have cosine a on average
(anisotropy), and the cosine of a negative to the teacher varies with that of their own parts. Both
losses need only each vector's cosine to the student, so a move is quick at any width. Taught in
notebooks/01_cos_nce_geometry.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from lrc_lib.course.explorers.sliders import explorer, positions, steps
from lrc_lib.course.palette import BLUE, GREY, VERMILION
from lrc_lib.losses import angular_distance, cos_nce

COUNTS = (1, 3, 7, 15, 31, 63, 127, 255)
TEMPERATURES = (0.02, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0)
DRAWS, WIDTH = 200, 64
STUDENT = 0.5  # cosine of the student's own part to the teacher's


def cosines(spread: float, anisotropy: float):
    """Cosines to the student: of the teacher, and of `DRAWS` x 255 negatives.

    Args:
        spread: sd of the cosine of a negative's own part to the teacher's; with 0 all negatives
            are equally far from the teacher.
        anisotropy: a, in [0, 1).

    Returns:
        (float, (DRAWS, 255)).
    """
    noise = np.random.default_rng(0).standard_normal((2, DRAWS, COUNTS[-1]))
    near, aside = np.clip(spread * noise[0], -0.98, 0.98), noise[1] / WIDTH**0.5
    own = STUDENT * near + (1 - STUDENT**2) ** 0.5 * np.sqrt(1 - near**2) * aside
    return anisotropy + (1 - anisotropy) * STUDENT, anisotropy + (1 - anisotropy) * own


def both_losses(positive: float, negatives, temperature: float):
    """Eq. (1), and InfoNCE on its scale, for vectors in the plane that have these cosines.

    InfoNCE gets the cosine loss and, in place of COS-NCE's contrast, half of
    tau (InfoNCE - log(K + 1)) (K + 1) / K. COS-NCE is its limit for a large temperature.

    Args:
        positive: cosine of the teacher to the student.
        negatives: (n, K), cosines of the negatives to the student.
        temperature: tau.

    Returns:
        ((n,), (n,)).
    """
    n, k = negatives.shape
    cosine = torch.from_numpy(np.insert(negatives, 0, positive, axis=1))
    vectors = torch.stack([cosine, (1 - cosine.square()).sqrt()], dim=-1)  # the student is (1, 0)
    student, teacher = torch.eye(2, dtype=torch.double)[0].expand(n, 2), vectors[:, 0]
    ours = cos_nce(student, teacher, vectors[:, 1:], reduction="none")
    first = torch.zeros(n, dtype=torch.long)
    info = F.cross_entropy(cosine / temperature, first, reduction="none")
    contrast = temperature * (info - math.log(k + 1)) * (k + 1) / k
    return ours.numpy(), (1 + angular_distance(teacher, student) + contrast / 2).numpy()


def shares(negatives, temperature: float):
    """Each negative's share of InfoNCE's push, the most similar first: (..., K), sum 1."""
    ranked = torch.from_numpy(-np.sort(-negatives, axis=-1))
    return torch.softmax(ranked / temperature, dim=-1).numpy()


def negatives_at(axes, count=15, spread=0.3, anisotropy=0.5, temperature=0.1) -> str:
    """Draws both losses by K on the first of two axes, and on the second who gets the push.

    Args:
        count: K, one of `COUNTS`.
        spread, anisotropy: see `cosines`.
        temperature: of InfoNCE.
    """
    positive, found = cosines(spread, anisotropy)
    ours, theirs = zip(
        *(both_losses(positive, found[:, :k], temperature) for k in COUNTS), strict=True
    )
    push = shares(found[:, :count], temperature).mean(0)
    x, here, rank = np.log2(np.array(COUNTS) + 1), COUNTS.index(count), np.arange(1, count + 1)
    for losses, share, name, colour, line, marker, size in (
        (theirs, push, "InfoNCE and cosine loss", VERMILION, "--", "s", 6),
        (ours, np.full(count, 1 / count), "COS-NCE", BLUE, "-", "o", 4),
    ):
        look = {"color": colour, "ls": line, "marker": marker, "ms": size}
        mean, sd = np.mean(losses, axis=1), np.std(losses, axis=1)
        axes[0].errorbar(x, mean, sd, elinewidth=1, label=name, **look)
        axes[1].plot(rank, share, markevery=max(1, count // 16), **look)
    axes[0].axvline(x[here], color=GREY, ls=":", lw=1.5, label="the K chosen")
    axes[0].set_xticks(x, COUNTS)
    axes[0].set(
        xlabel="number of negatives K", ylabel="loss, mean ± sd over draws", ylim=(0.95, 1.35)
    )
    axes[1].set(xlabel="negative, most similar first", ylabel="share of the push")
    axes[1].set_xlim(0.5, max(2, count) + 0.5)
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    info = [values.mean() for values in theirs]
    return (
        f"K = {count}: COS-NCE is {ours[here].mean():.3f} (sd {ours[here].std():.3f} over {DRAWS} "
        f"draws) and stays level as K grows. InfoNCE at temperature {temperature:g} is "
        f"{info[here]:.3f} (sd {theirs[here].std():.3f}); as K grows it goes from {info[0]:.2f} to "
        f"{info[-1]:.2f}. The nearest negative gets {push[0]:.1%} of InfoNCE's push and "
        f"{1 / count:.1%} of COS-NCE's."
    )


def explore_negatives():
    """Sliders over K, spread, anisotropy and the temperature of InfoNCE.

    Returns:
        The widget; when headless, HTML with a button for each preset.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    controls = {
        "count": ("negatives K", 15, COUNTS),
        "spread": ("negatives' spread", 0.3, steps(0, 0.6, 0.05)),
        "anisotropy": ("anisotropy", 0.5, steps(0, 0.95, 0.05)),
        "temperature": ("InfoNCE's temperature", 0.1, TEMPERATURES),
    }
    return explorer(negatives_at, controls, PLACES)


PLACES = {
    "temperature 0.05": {"temperature": 0.05},
    "temperature 100: the limit": {"temperature": 100.0},
    "temperature 0.05, anisotropy 0.95": {"temperature": 0.05, "anisotropy": 0.95},
}


def draw_negatives():
    """Three positions of `explore_negatives` as a figure.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    return positions(negatives_at, PLACES)
