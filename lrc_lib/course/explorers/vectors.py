"""The vectors of `explore_cos_nce`: directions in the plane and in space, the loss at one.

Everything is the library's own loss on a handful of vectors.
"""

from typing import NamedTuple

import numpy as np
import torch

from lrc_lib.losses import cos_nce

GOLDEN = np.pi * (3 - 5**0.5)  # the angle by which a sunflower turns


class Scene(NamedTuple):
    """Vectors (D,) and the numbers that belong to them.

    `down` and `mse_down` are the negative gradients of the loss and of the MSE at the student;
    `best` is the direction u* at which the loss is least, `mean` the mean of the unit negatives.
    """

    student: np.ndarray
    teacher: np.ndarray
    negatives: np.ndarray
    mean: np.ndarray
    best: np.ndarray
    down: np.ndarray
    mse_down: np.ndarray
    loss: float
    at_best: float
    at_teacher: float
    mse: float


def fan(centre: float, spread: float, count: int = 15) -> np.ndarray:
    """Directions in the plane: `count` unit vectors, evenly over `spread` degrees about `centre`.

    Args:
        centre, spread: degrees.
        count: K >= 1.

    Returns:
        (K, 2).

    Taught in: notebooks/01_cos_nce_geometry.
    """
    degrees = centre + (np.linspace(-spread / 2, spread / 2, count) if count > 1 else np.zeros(1))
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def cap(centre: float, height: float, spread: float, count: int = 15) -> np.ndarray:
    """Directions in space: `count` unit vectors evenly over a cap `spread` degrees across.

    Args:
        centre, height: degrees along and above the equator of the cap's middle.
        spread: in [0, 360]; 360 is the whole sphere.
        count: K >= 1; one alone stands in the middle.

    Returns:
        (K, 3).
    """
    share = (np.arange(count) + 0.5) / count if count > 1 else np.zeros(1)
    cosine = 1 - share * (1 - np.cos(np.radians(spread / 2)))
    sine, turn = np.sqrt(1 - cosine**2), GOLDEN * np.arange(count)
    east, north, out = frame(centre, height)
    around = np.cos(turn)[:, None] * east + np.sin(turn)[:, None] * north
    return cosine[:, None] * out + sine[:, None] * around


def at(direction: float, height: float | None = None) -> np.ndarray:
    """The unit vector at these degrees: (2,) on the circle, (3,) with a height on the sphere."""
    if height is None:
        return fan(direction, 0, 1)[0]
    return frame(direction, height)[2]


def frame(direction, height):
    """East, north and outwards at a point of the sphere: three unit vectors."""
    a, b = np.radians([direction, height])
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    out = np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])
    return east, np.cross(out, east), out


def losses(students: np.ndarray, teacher, negatives) -> np.ndarray:
    """Eq. (1) for students (n, D), one teacher (D,) and negatives (K, D) of any length: (n,)."""
    z, t, n = (torch.from_numpy(np.ascontiguousarray(x)) for x in (students, teacher, negatives))
    return cos_nce(z, t.expand_as(z), n.expand(len(z), *n.shape), reduction="none").numpy()


def scene(student, teacher, negatives) -> Scene:
    """The loss of Eq. (1) at a student, its gradient by autograd, its optimum, and the MSE.

    Args:
        student: (D,), any length but 0. teacher: (D,), negatives: (K, D), of length 1.

    Returns:
        A `Scene`; the MSE is the mean over the D numbers.
    """
    z = torch.from_numpy(np.array(student, dtype=float)).requires_grad_()
    t, n = torch.from_numpy(np.asarray(teacher)), torch.from_numpy(np.asarray(negatives))
    loss, mse = cos_nce(z[None], t[None], n[None]), (z - t).square().mean()
    (slope,), (mse_slope,) = torch.autograd.grad(loss, z), torch.autograd.grad(mse, z)
    mean = negatives.mean(0)
    v = 1.5 * teacher - 0.5 * mean
    best = v / np.linalg.norm(v)
    at_best, at_teacher = losses(np.stack([best, teacher]), teacher, negatives)
    down, mse_down = -slope.numpy(), -mse_slope.numpy()
    numbers = (loss.item(), float(at_best), float(at_teacher), mse.item())
    return Scene(np.asarray(student), teacher, negatives, mean, best, down, mse_down, *numbers)


def degrees(x, y) -> float:
    """The angle between two vectors."""
    cosine = x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def basis(out):
    """Two unit vectors at right angles to `out` and to each other, and `out`."""
    aside = np.cross(out, np.eye(3)[np.abs(out).argmin()])
    aside = aside / np.linalg.norm(aside)
    return aside, np.cross(out, aside), out
