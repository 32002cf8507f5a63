"""Two stages on one budget: where the boundary lies, and what stage 2 still has to spend.

Taught in notebooks/04_two_stage_distillation.
"""

import functools

import numpy as np

from lrc_lib.course.explorers.sliders import bars, explorer, positions
from lrc_lib.course.explorers.sliders import steps as numbers
from lrc_lib.course.palette import BLACK, BLUE, GREEN, GREY, VERMILION
from lrc_lib.schedule import SCHEDULES, Recipe, boundary_step, learning_rate_factor, loss_weights

MOST = 500  # steps that are computed: more would look the same
PARTS = {  # colour, line, marker
    "layers": (BLUE, "-", "o"),
    "soft label": (VERMILION, "--", "s"),
    "hard label": (GREEN, "-.", "D"),
}


def budget(steps, stage2, boundary=0.8, warmup=0.1, schedule="linear"):
    """What a recipe of weights 1 : 0 : 0 and then `stage2` spends, by `lrc_lib.schedule`.

    Args:
        steps: >= 1, of both stages.
        stage2: (alpha, beta, gamma).
        boundary, warmup, schedule: as in `learning_rate_factor`.

    Returns:
        The first step of stage 2; the weights of Eq. (6), (steps, 3); the rates as shares of the
        peak, (steps,); and {what: its share of the run}. A loss's share is its weight times the
        rate, summed over the run, and NaN where no loss has a weight.

    Raises:
        InputError: these are wrong.
    """
    recipe, start = Recipe("", "", stage2=stage2), boundary_step(steps, boundary)
    weights = np.array(
        [loss_weights(i, steps, recipe, boundary) for i in range(steps)], dtype=float
    )
    rates = [learning_rate_factor(i, steps, warmup, schedule, boundary) for i in range(steps)]
    rates = np.array(rates)
    spent = rates @ weights
    parts = spent / spent.sum() if spent.sum() else np.full(3, np.nan)
    shares = {"stage 2: steps": 1 - start / steps}
    shares["stage 2: summed rate"] = rates[start:].sum() / rates.sum()
    shares |= {f"{name}: weight × rate": part for name, part in zip(PARTS, parts, strict=True)}
    return start, weights, rates, shares


def stages_at(
    axes, boundary=0.8, alpha=1.0, beta=1.0, gamma=3.0, schedule="linear", warmup=0.1, steps=MOST
) -> str:
    """Draws weights and rate over the run on the first of two axes, the budget on the second.

    Args:
        boundary: share of the steps before stage 2.
        alpha, beta, gamma: weights of Eq. (6) in stage 2; stage 1 has 1 : 0 : 0.
        schedule, warmup: see `budget`.
        steps: of the run; at most `MOST` are computed.
    """
    steps, stage2 = min(steps, MOST), (alpha, beta, gamma)
    start, weights, rates, shares = budget(steps, stage2, boundary, warmup, schedule)
    x, (above, below) = 100 * np.arange(steps) / steps, axes
    for i, (name, (colour, line, marker)) in enumerate(PARTS.items()):
        look = {"color": colour, "ls": line, "marker": marker, "drawstyle": "steps-post"}
        apart = (0.05 + 0.07 * i, 0.22)  # so that no marker hides another one
        above.plot(x, weights[:, i], markevery=apart, label=f"weight, {name}", **look)
    above.plot(x, rates, color=BLACK, ls=":", label="learning rate / peak")
    above.axvline(100 * start / steps, color=GREY, ls="-", lw=1, label="stage 2 begins")
    above.set(xlim=(0, 100), ylim=(-0.1, max(3.5, 1.1 * weights.max())))
    above.set(xlabel="share of the steps (%)", ylabel="weight, or share of the peak")
    percent = [100 * share for share in shares.values()]
    bars(below, [*shares], percent, 100)
    below.set_xlabel("share of the whole run")
    left, summed, *parts = percent
    return (
        f"The weights jump to {alpha:g}, {beta:g} and {gamma:g} at {boundary:.0%} of the run; the "
        f"learning rate follows the {schedule} schedule. Stage 2 has {left:.0f} % of the steps and "
        f"{summed:.1f} % of the summed rate; it begins at {rates[start]:.0%} of the peak. Of "
        f"weight times rate, {np.nan_to_num(parts[0]):.0f} % goes to the layers and "
        f"{np.nansum(parts[1:]):.0f} % to the labels."
    )


def explore_stages(steps: int = MOST, boundary: float = 0.8, warmup: float = 0.1):
    """Sliders over the boundary, stage 2's weights, warm-up and schedule. (Eq. 6)

    Args:
        steps: of the run, both stages.
        boundary, warmup: where the sliders start.

    Returns:
        The widget; when headless, HTML with a button for each preset.

    Taught in: notebooks/04_two_stage_distillation.
    """
    weights = numbers(0, 5, 0.5)
    controls = {
        "boundary": (
            "boundary (of steps)",
            boundary,
            sorted({boundary, *numbers(0, 0.95, 0.05)}),
        ),
        "alpha": ("stage 2: layers, α", 1.0, weights),
        "beta": ("stage 2: soft, β", 1.0, weights),
        "gamma": ("stage 2: hard, γ", 3.0, weights),
        "schedule": ("learning rate", "linear", SCHEDULES),
        "warmup": ("warm-up (of steps)", warmup, sorted({warmup, *numbers(0, 0.5, 0.05)})),
    }
    return explorer(functools.partial(stages_at, steps=steps), controls, PLACES)


PLACES = {
    "boundary 0.8, linear": {"boundary": 0.8},
    "boundary 0.35": {"boundary": 0.35},
    "0.8, restart": {"boundary": 0.8, "schedule": "restart"},
    "0.8, constant": {"boundary": 0.8, "schedule": "constant"},
}


def draw_stages(steps: int = MOST):
    """Four positions of `explore_stages` as a figure; `steps` of the run.

    Taught in: notebooks/04_two_stage_distillation.
    """
    return positions(functools.partial(stages_at, steps=steps), PLACES)
