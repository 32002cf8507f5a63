"""Two stages on one budget: where the boundary lies, and what stage 2 still has to spend.

Taught in notebooks/04_two_stage_distillation.
"""

from typing import NamedTuple

import numpy as np

from lrc_lib.course.explorers.controls import choice, explorer, headless, slider
from lrc_lib.course.explorers.picture import Bars, Mark, Panel, View
from lrc_lib.course.explorers.static import positions
from lrc_lib.course.palette import BLACK, BLUE, GREEN, GREY, VERMILION
from lrc_lib.schedule import SCHEDULES, Recipe, boundary_step, learning_rate_factor, loss_weights

MOST = 500  # steps that are worked out: more would not be seen, and a move would take longer
PARTS = ("layers", "soft label", "hard label")


class Budget(NamedTuple):
    """A run's plan, step by step.

    Attributes:
        start: first step of stage 2.
        weights: (steps, 3), those of Eq. (6). rates: (steps,), shares of the peak.
        steps_left, rate_left: what share of the steps and of the summed rate stage 2 has.
        rate_at_start: the rate as stage 2 begins. parts: (3,), each loss's share of
            weight times rate, summed over the run; NaN where no loss has a weight.
    """

    start: int
    weights: np.ndarray
    rates: np.ndarray
    steps_left: float
    rate_left: float
    rate_at_start: float
    parts: np.ndarray


def budget(steps, stage2, boundary=0.8, warmup=0.1, schedule="linear") -> Budget:
    """What a recipe of weights 1 : 0 : 0 and then `stage2` spends, by `lrc_lib.schedule`.

    Args:
        steps: >= 1, of both stages.
        stage2: (alpha, beta, gamma).
        boundary, warmup, schedule: as in `learning_rate_factor`.

    Raises:
        InputError: these are wrong.
    """
    recipe, start = Recipe("", "", stage2=stage2), boundary_step(steps, boundary)
    weights = [loss_weights(step, steps, recipe, boundary) for step in range(steps)]
    rates = [learning_rate_factor(s, steps, warmup, schedule, boundary) for s in range(steps)]
    weights, rates = np.array(weights, dtype=float), np.array(rates)
    spent = (weights * rates[:, None]).sum(0)
    parts = spent / spent.sum() if spent.sum() else np.full(3, np.nan)
    left = 1 - start / steps, rates[start:].sum() / rates.sum()
    return Budget(start, weights, rates, *map(float, left), float(rates[start]), parts)


def stages_view(
    boundary=0.8, alpha=1.0, beta=1.0, gamma=3.0, schedule="linear", warmup=0.1, steps=MOST
) -> View:
    """Left weights and rate over the run, right the budget.

    Args:
        boundary: share of the steps before stage 2.
        alpha, beta, gamma: weights of Eq. (6) in stage 2; stage 1 has 1 : 0 : 0.
        schedule, warmup: see `budget`. steps: of the run; at most `MOST` are worked out.
    """
    plan = budget(min(steps, MOST), (alpha, beta, gamma), boundary, warmup, schedule)
    layers, *labels = np.nan_to_num(plan.parts)
    says = (
        f"Stage 2 has {plan.steps_left:.0%} of the steps and {plan.rate_left:.1%} of the summed "
        f"learning rate; it begins at {plan.rate_at_start:.0%} of the peak. Of weight times rate, "
        f"summed over the run, {layers:.0%} goes to the layers and {sum(labels):.0%} to the labels."
    )
    alt = (
        f"Left: the weights jump to {alpha:g}, {beta:g} and {gamma:g} at {boundary:.0%} of the "
        f"run; the learning rate follows the {schedule} schedule. Right: bars, stage 2 has "
        f"{plan.steps_left:.0%} of the steps and {plan.rate_left:.0%} of the summed rate."
    )
    return View((_course(plan), _spent(plan)), says, alt)


def _course(plan):
    share = 100 * np.arange(len(plan.rates)) / len(plan.rates)
    at, end = 100 * plan.start / len(plan.rates), plan.weights[-1]
    marks = []
    looks = zip((BLUE, VERMILION, GREEN), ("-", "--", "-."), "osD", strict=True)
    for index, look in enumerate(looks):
        before, after, part = (1, 0, 0)[index], end[index], (index + 1) / 4  # none hides another
        marks.append(Mark([0, at, at, 100], [before, before, after, after], *look[:2]))
        x, y = [part * at, at + part * (100 - at)], [before, after]
        marks.append(Mark(x, y, look[0], "", look[2], f"weight, {PARTS[index]}"))
    marks.append(Mark(share, plan.rates, BLACK, ":", label="learning rate / peak"))
    marks.append(Mark([at, at], [0, 6], GREY, "-", label="stage 2 begins", width=1))
    names = "share of the steps (%)", "weight, or share of the peak"
    top = max(3.5, 1.1 * end.max())
    return Panel("what acts when", (0, 100), (-0.1, top), marks, *names)


def _spent(plan):
    values = {"stage 2: steps": plan.steps_left, "stage 2: summed rate": plan.rate_left}
    values |= {f"{name}: weight × rate": v for name, v in zip(PARTS, plan.parts, strict=True)}
    rows = [(name, 100 * v, "none" if v != v else f"{v:.1%}") for name, v in values.items()]
    rows = [(name, 0.0 if v != v else v, words) for name, v, words in rows]
    return Bars("shares of the whole run", rows, 100, BLUE)


def explore_stages(steps: int = MOST, boundary: float = 0.8, warmup: float = 0.1):
    """Sliders over the boundary, stage 2's weights, warm-up and schedule. (Eq. 6)

    Args:
        steps: of the run, both stages.
        boundary, warmup: where the sliders stand first.

    Returns:
        The widget, or None when headless; then one line says where the static figure is.

    Taught in: notebooks/04_two_stage_distillation.
    """
    if headless():
        return None
    controls = {
        "boundary": slider("boundary (share of the steps)", boundary, 0.0, 0.95, 0.05),
        "alpha": slider("stage 2: layers, alpha", 1.0, 0.0, 5.0, 0.5),
        "beta": slider("stage 2: soft label, beta", 1.0, 0.0, 5.0, 0.5),
        "gamma": slider("stage 2: hard label, gamma", 3.0, 0.0, 5.0, 0.5),
        "schedule": choice("learning-rate schedule", SCHEDULES),
        "warmup": slider("warm-up (share of the steps)", warmup, 0.0, 0.5, 0.05),
    }
    return explorer(lambda **values: stages_view(steps=steps, **values), controls)


def draw_stages(steps: int = MOST):
    """Four positions of `explore_stages` as a figure; `steps` of the run.

    Taught in: notebooks/04_two_stage_distillation.
    """
    views = {
        "boundary 0.8, linear": stages_view(steps=steps),
        "boundary 0.35": stages_view(0.35, steps=steps),
        "0.8, restart": stages_view(schedule="restart", steps=steps),
        "0.8, constant": stages_view(schedule="constant", steps=steps),
    }
    return positions(views)
