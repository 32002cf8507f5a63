"""Draws results/figures/circle.gif: a student that follows COS-NCE downhill, for README.

`python tools/circle.py`. Loss and gradient are `lrc_lib.losses.cos_nce` and torch's autograd; the
minimum is where notebook 01 derives it, at v = 3/2 teacher - 1/2 mean of the negatives.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from lrc_lib.course.palette import BLACK, BLUE, GREEN, GREY, VERMILION, ink, use_style
from lrc_lib.losses import cos_nce, cos_nce_target

PATH = Path(__file__).resolve().parents[1] / "results" / "figures" / "circle.gif"
TEACHER, NEGATIVES = 0.0, (45.0, 70.0, 95.0)  # degrees
STARTS = (148.0, -150.0)
STEPS, RATE, HOLD, FPS = 44, 0.11, 12, 12


def unit(degrees) -> torch.Tensor:
    """(..., 2) from degrees (...)."""
    radians = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    return torch.stack([radians.cos(), radians.sin()], -1)


def loss(degrees: torch.Tensor) -> torch.Tensor:
    """Eq. (1) for students (N,) in degrees; (N,)."""
    rows = len(degrees)
    negatives = unit(NEGATIVES).expand(rows, -1, -1)
    return cos_nce(unit(degrees), unit(TEACHER).expand(rows, -1), negatives, reduction="none")


def descent(start: float) -> list[float]:
    """The student's directions, in degrees, on its way down from `start`."""
    found = [start]
    for _ in range(STEPS):
        at = torch.tensor([found[-1]], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(at).sum(), at)
        found.append(found[-1] - RATE * (180 / np.pi) ** 2 * float(slope))
    return [*found, *[found[-1]] * HOLD]


def minimum() -> float:
    """Degrees of v, towards which COS-NCE pulls the student."""
    x, y = cos_nce_target(unit([TEACHER, *NEGATIVES]))[0].tolist()
    return float(np.degrees(np.arctan2(y, x)))


def arrow(ax, degrees, colour, label, style="-", away=1.17, lw=2.4):
    x, y = unit(degrees).tolist()
    line = {"arrowstyle": "-|>", "color": colour, "lw": lw, "linestyle": style, "shrinkA": 0}
    drawn = ax.annotate("", (x, y), (0, 0), arrowprops=line | {"shrinkB": 0})
    where = {"ha": "center", "va": "center", "color": ink(colour), "fontsize": 12}
    return drawn, ax.text(away * x, away * y, label, **where)


def animation() -> FuncAnimation:
    """The frames: a circle with all directions, and the loss with the student on it."""
    use_style()
    fig = Figure(figsize=(8.4, 3.5), layout="constrained", dpi=90)
    circle, curve = fig.subplots(1, 2, width_ratios=(1, 1.5))
    best, angles = minimum(), torch.arange(-180.0, 181.0, 2.0, dtype=torch.float64)
    turn = torch.linspace(0, 360, 200)
    circle.plot(*unit(turn).T, color=GREY, lw=1, ls="-")
    arrow(circle, TEACHER, BLUE, "teacher", away=1.38)
    for number, negative in enumerate(NEGATIVES):
        arrow(circle, negative, VERMILION, "negatives" if number == 1 else "", "--", 1.2, 1.6)
    circle.plot(*unit(best), "*", color=BLACK, markersize=15)
    circle.text(*(1.14 * unit(best)).tolist(), "minimum", ha="left", va="center", fontsize=12)
    circle.set(xlim=(-1.5, 1.95), ylim=(-1.35, 1.4), aspect="equal")
    circle.axis("off")
    curve.plot(angles, loss(angles), color=GREY, ls="-")
    curve.plot(best, loss(torch.tensor([best])), "*", color=BLACK, markersize=15)
    curve.axvline(TEACHER, color=BLUE, ls="-", lw=1.4)
    curve.axvspan(min(NEGATIVES), max(NEGATIVES), color=VERMILION, alpha=0.15, hatch="//", lw=0)
    top = float(loss(angles).max())
    curve.text(TEACHER - 4, top, "teacher", color=ink(BLUE), ha="right", va="top", fontsize=12)
    middle = NEGATIVES[len(NEGATIVES) // 2]
    where = {"ha": "center", "va": "bottom", "color": ink(VERMILION), "fontsize": 12}
    curve.text(middle, float(loss(angles).min()), "negatives", **where)
    curve.set(xlabel="direction of the student, degrees", ylabel="COS-NCE, Eq. (1)")
    curve.set_xticks(range(-180, 181, 60))
    (dot,) = curve.plot([], [], "o", color=GREEN, markersize=11)
    moving = []

    def frame(degrees):
        while moving:
            moving.pop().remove()
        moving.extend(arrow(circle, degrees, GREEN, "student", "-.", away=0.0, lw=3))
        moving[1].set(position=(0.62 * unit(degrees - 24)).tolist())
        dot.set_data([(degrees + 180) % 360 - 180], loss(torch.tensor([degrees])))

    path = [degrees for start in STARTS for degrees in descent(start)]
    return FuncAnimation(fig, frame, path, interval=1000 / FPS)


if __name__ == "__main__":
    animation().save(PATH, PillowWriter(FPS))
    print(f"{PATH}: {PATH.stat().st_size / 1e3:.0f} kB")
