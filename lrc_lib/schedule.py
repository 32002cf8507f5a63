"""The loss weights and the learning rate, as functions of the step; and the recipes.

A recipe is one of the paper's systems, as data: adding one is adding a row to `RECIPES`.
Taught in notebooks/04_two_stage_distillation and 05_ablations.
"""

import math
from dataclasses import dataclass

from lrc_lib.errors import InputError, unknown

SCHEDULES = ("linear", "restart", "constant")


@dataclass(frozen=True)
class Recipe:
    """One system: the weights (alpha, beta, gamma) of Eq. (6) in both stages, and what is on.

    Attributes:
        name: the name in specs and on the command line.
        title: the paper's name for it.
        stage1, stage2: (alpha, beta, gamma); alpha layers, beta soft, gamma hard label.
        layer_loss: "cos_nce" or "mse".
        perturb: Eqs. (7)-(8) on or off.
        general: start from a generally distilled student.
        summary: what it is for, in one line.
    """

    name: str
    title: str
    stage1: tuple[float, float, float] = (1, 0, 0)
    stage2: tuple[float, float, float] = (1, 1, 3)
    layer_loss: str = "cos_nce"
    perturb: bool = True
    general: bool = True
    summary: str = ""

    @property
    def uses_teacher(self) -> bool:
        """Whether any stage looks at the teacher."""
        return any(w[0] or w[1] for w in (self.stage1, self.stage2))


def _both(weights):
    return {"stage1": weights, "stage2": weights}


RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("lrc", "LRC-BERT", summary="the whole method"),
        Recipe("lrc_1", "LRC-BERT₁", general=False, summary="no general distillation"),
        Recipe("lrc_c", "LRC-BERT_C", **_both((0, 1, 3)), summary="COS-NCE removed, whole run"),
        Recipe(
            "lrc_c_last20",
            "LRC-BERT_C (last 20 %)",
            stage1=(0, 0, 0),
            stage2=(0, 1, 3),
            summary="COS-NCE removed, stage 1 then has no loss and is skipped",
        ),
        Recipe("lrc_s", "LRC-BERT_S", stage2=(1, 0, 3), summary="soft loss removed"),
        Recipe("lrc_h", "LRC-BERT_H", stage2=(1, 1, 0), summary="hard loss removed"),
        Recipe(
            "lrc_2", "LRC-BERT₂", **_both((1, 1, 3)), summary="one stage, all losses throughout"
        ),
        Recipe("lrc_g", "LRC-BERT_g", perturb=False, summary="gradient perturbation removed"),
        Recipe("bert_m", "BERT_M", layer_loss="mse", summary="MSE instead of COS-NCE"),
        Recipe(
            "finetune",
            "fine-tuned student",
            **_both((0, 0, 1)),
            perturb=False,
            general=False,
            summary="no teacher: the control",
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name; `InputError` with the nearest right name otherwise."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def boundary_step(total_steps: int, boundary: float) -> int:
    """First step (0-based) of stage 2: the paper's boundary is 0.8 of the steps.

    Args:
        total_steps: >= 1.
        boundary: in [0, 1).

    Raises:
        InputError: boundary outside [0, 1).
    """
    if not 0 <= boundary < 1:
        raise InputError(f"stage_boundary must be in [0, 1), not {boundary}")
    return math.floor(round(total_steps * boundary, 6))  # 180 * 0.35 is 62.999... in binary


def loss_weights(step: int, total_steps: int, recipe: Recipe, boundary: float = 0.8):
    """(alpha, beta, gamma) at a 0-based step, from the recipe's two stages."""
    return recipe.stage2 if step >= boundary_step(total_steps, boundary) else recipe.stage1


def learning_rate_factor(
    step: int,
    total_steps: int,
    warmup: float = 0.1,
    kind: str = "linear",
    boundary: float = 0.8,
) -> float:
    """The factor in [0, 1] on the peak learning rate at a 0-based step.

    Args:
        step: in [0, total_steps).
        total_steps: of both stages together.
        warmup: share of the steps in [0, 1) over which the factor rises to 1.
        kind: "linear" falls to 0 over both stages (with the paper's boundary, stage 2 then starts
            at 22 % of the peak); "restart" gives each stage a warm-up and a fall of its own;
            "constant" stays at 1 after the warm-up.
        boundary: where "restart" restarts.

    Raises:
        InputError: unknown kind or warm-up outside [0, 1).
    """
    if kind not in SCHEDULES:
        raise unknown("schedule", kind, SCHEDULES)
    if not 0 <= warmup < 1:
        raise InputError(f"warmup must be in [0, 1), not {warmup}")
    if kind == "restart":
        second = boundary_step(total_steps, boundary)
        if step >= second:
            return learning_rate_factor(step - second, total_steps - second, warmup)
        return learning_rate_factor(step, second, warmup)
    rising = round(total_steps * warmup)
    if step < rising:
        return (step + 1) / rising
    if kind == "constant":
        return 1.0
    return (total_steps - step) / (total_steps - rising)
