"""The loss weights and the learning rate, as functions of the step; and the recipes.

A recipe is one of the paper's systems, a rival of its Table 1, or a control, as data: adding one is
adding a row to `RECIPES`, and at most one layer loss to `lrc_lib.losses.LAYER_LOSSES`.
Taught in notebooks/04_two_stage_distillation and 05_ablations.
"""

import math
from dataclasses import astuple, dataclass, replace

from lrc_lib.errors import InputError, unknown

SCHEDULES = ("linear", "restart", "constant")
FEWER_NEGATIVES = (1, 3, 7)  # in notebook 08, next to the paper's 15


@dataclass(frozen=True)
class Recipe:
    """One system: the weights (alpha, beta, gamma) of Eq. (6) in both stages, and what is on.

    Attributes:
        name: the name in specs and on the command line.
        title: the paper's name for it.
        stage1, stage2: (alpha, beta, gamma); alpha layers, beta soft, gamma hard label.
        layer_loss: a key of `lrc_lib.losses.LAYER_LOSSES`, for general distillation as well.
        perturb: Eqs. (7)-(8) on or off.
        general: start from a generally distilled student.
        summary: what it is for, in one line.
        teacher_layers: start from these layers of the teacher, where the widths are equal: a layer
            map, see `lrc_lib.models.layer_pairs`; "" does not.
        temperature: of `lrc_lib.losses.scaled_soft_loss`; None: Eq. (4) with the run's.
        hard_target: see `lrc_lib.losses.hard_label_loss`; "" the run's.
    """

    name: str
    title: str
    stage1: tuple[float, float, float] = (1, 0, 0)
    stage2: tuple[float, float, float] = (1, 1, 3)
    layer_loss: str = "cos_nce"
    perturb: bool = True
    general: bool = True
    summary: str = ""
    teacher_layers: str = ""
    temperature: float | None = None
    hard_target: str = ""

    @property
    def first_stage(self) -> tuple:
        """What stage 1 follows from: recipes with the same values share it."""
        return astuple(replace(self, name="", title="", stage2=(), summary=""))

    @property
    def uses_teacher(self) -> bool:
        """Whether any stage looks at the teacher."""
        return any(w[0] or w[1] for w in (self.stage1, self.stage2))


def _both(weights):
    return {"stage1": weights, "stage2": weights}


def _control(name: str, title: str, summary: str) -> Recipe:
    return Recipe(name, title, layer_loss=name, summary=summary)


_RIVAL = {"perturb": False, "general": False, "hard_target": "one_hot"}
_PKD = _both((1, 0.5, 0.5)) | _RIVAL | {"teacher_layers": "bottom", "temperature": 5.0}

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("lrc", "LRC-BERT", summary="the whole method"),
        Recipe("lrc_1", "LRC-BERT₁", general=False, summary="no general distillation"),
        Recipe("lrc_c", "LRC-BERT_C", **_both((0, 1, 3)), summary="COS-NCE removed, whole run"),
        Recipe(
            "lrc_c_last20", "LRC-BERT_C (last 20 %)", stage1=(0, 0, 0), stage2=(0, 1, 3),
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
            "finetune", "fine-tuned student", **_both((0, 0, 1)), perturb=False, general=False,
            hard_target="one_hot", summary="no teacher: the control",
        ),
        # The rivals of Table 1. None perturbs, and only TinyBERT has a general distillation of its
        # own. `lrc_lib.losses` gives their equations. Weights and temperatures:
        # - DistilBERT: 5 L_ce + 2 L_mlm + L_cos at temperature 2, as its released code is run; the
        #   task's cross-entropy stands in for L_mlm.
        # - BERT-PKD: (1 - a) L_CE + a L_DS + b L_PT, with a = 0.5 and temperature 5 of the released
        #   code's search (0.2, 0.5, 0.7 and 5, 10, 20). Its b, 10 to 1,000, weighs a mean over
        #   layers and width: 0.007 to 0.65 on our sum, with its 3-layer student. We take 1. From
        #   scratch, on reviews, the student collapses at 1, 0.26 and 0.065: all its [CLS] take the
        #   direction that the teacher's have in common. With b = 0 it learns.
        # - TinyBERT: the layers alone, then L_pred alone at temperature 1.
        Recipe(
            "distilbert", "DistilBERT", **_both((1, 5, 2)), **_RIVAL, layer_loss="distilbert",
            teacher_layers="uniform", temperature=2.0,
            summary="soft and hard labels, cosine of the last layer",
        ),
        Recipe(
            "bert_pkd", "BERT-PKD", **_PKD, layer_loss="pkd_skip",
            summary="soft and hard labels, [CLS] of every (N/M)-th layer (PKD-Skip)",
        ),
        Recipe(
            "bert_pkd_last", "BERT-PKD (last)", **_PKD, layer_loss="pkd_last",
            summary="soft and hard labels, [CLS] of the last layers (PKD-Last)",
        ),
        Recipe(
            "tinybert", "TinyBERT", stage2=(0, 1, 0), layer_loss="tinybert", perturb=False,
            temperature=1.0, summary="embeddings, layers and attention maps, then soft labels",
        ),
        # Controls: what does the loss do? All but `kd` are `lrc` with another layer loss.
        Recipe(
            "kd", "soft and hard labels", **_both((0, 1, 3)), perturb=False, general=False,
            summary="no layer loss anywhere, so no general distillation, and no perturbation",
        ),
        _control("cosine", "cosine", "the positive term alone"),
        _control("centred", "centred cosine", "COS-NCE's minimiser from the training mean"),
        _control("shuffled", "shuffled negatives", "the negatives of another, random batch"),
        _control("info_nce", "InfoNCE", "InfoNCE's contrast on COS-NCE's scale"),
    )
}  # fmt: skip


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
        raise InputError(f"stage_boundary must be in [0, 1), not {boundary}.")
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
        raise InputError(f"warmup must be in [0, 1), not {warmup}.")
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
