"""Equations (1)-(6) of LRC-BERT as pure functions on tensors.

Paper: Fu et al., "LRC-BERT: Latent-representation Contrastive Knowledge Distillation for Natural
Language Understanding", AAAI 2021, arXiv 2012.07335.

Letters: `B` samples in the batch, `L` tokens, `D` width, `K` negatives, `C` classes.

Where the paper is silent, this file decides (each has a switch):

- a layer's output is an L x D matrix, g(x, y) takes vectors: `representation="flatten"` reads the
  matrix as one vector, padding set to zero;
- negatives are the other B - 1 rows of the batch, whatever their label;
- Eq. (4) has no factor temperature**2, because the paper writes none;
- Eq. (5) softens the one-hot target but not the student, as written; `target="one_hot"` is the
  ordinary cross-entropy that the prose describes.

All losses are computed in float32 under autocast and half precision (float64 stays float64).
Where a batch is spread over processes, `group` (`lrc_lib.runs.parallel.Group`) sums over all its rows.
Eqs. (1)-(2) stand in `lrc_lib.contrast`. Taught in notebooks 01 and 04.
"""

import torch.nn.functional as F
from torch import Tensor

from lrc_lib.contrast import (
    angular_distance,
    at_least_two,
    batch_sum,
    cos_nce,
    cos_nce_along,
    cos_nce_floor,
    cos_nce_pull,
    full_precision,
    in_batch_cos_nce,
    reduced,
    same_shape,
    unit,
)

__all__ = [
    "HARD_TARGETS",
    "REPRESENTATIONS",
    "angular_distance",
    "cos_nce",
    "cos_nce_floor",
    "hard_label_loss",
    "in_batch_cos_nce",
    "reduce_states",
    "soft_label_loss",
    "total_loss",
    "transformer_layer_loss",
]

REPRESENTATIONS = ("flatten", "token", "mean", "cls")
HARD_TARGETS = ("paper", "one_hot")


def reduce_states(states: Tensor, mask: Tensor, representation: str = "flatten"):
    """What is compared of a layer's output: all its tokens, their mean, or the first.

    Reducing before the projection W gives the same loss as after it, because W is linear, and
    lets a cache keep one vector a sample.

    Args:
        states: (B, L, D) hidden states.
        mask: (B, L), 1 for real tokens and 0 for padding.
        representation: "flatten" and "token" keep (B, L, D); "mean" (over real tokens) and "cls"
            give (B, 1, D).

    Returns:
        (states, mask) of the reduced length.

    Raises:
        ValueError: unknown representation.

    Taught in: notebooks/02_teacher_and_student.
    """
    if representation not in REPRESENTATIONS:
        raise ValueError(f"representation must be one of {REPRESENTATIONS}, not {representation!r}")
    if representation == "cls":
        return states[:, :1], mask[:, :1]
    if representation == "mean":
        weights = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
        return mean, mask.amax(1, keepdim=True)
    return states, mask


@full_precision
def transformer_layer_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    representation: str = "flatten",
    loss: str = "cos_nce",
    reduction: str = "mean",
    group=None,
    pull: Tensor | None = None,
) -> Tensor:
    r"""One layer's distillation loss, $L_C(h^S W, h^T, H^T)$. (Eq. 3)

    Args:
        student: (B, L, D), the student's layer output times W.
        teacher: (B, L, D), the mapped teacher layer's output.
        mask: (B, L), 1 for real tokens, 0 for padding. Samples may have any lengths.
        representation: "flatten" (the L x D matrix as one vector, padding zero, so that two
            samples are compared over the positions that both have), "token" (every position by
            itself, negatives at the same position; where no other sample reaches, the negative
            term is 0), "mean" or "cls".
        loss: "cos_nce", or "mse" (the mean squared difference over the same numbers: BERT_M).
        reduction: "mean" over the batch, or "none" for (B,).
        group: see `in_batch_cos_nce`; all its processes then pad to the same L.
        pull: `cos_nce_pull(teacher, mask, group)` where it is known already; not for "token".

    Returns:
        Scalar or (B,); in [0, 4] for "cos_nce".

    Raises:
        ValueError: shapes differ, B < 2, or an unknown name.

    Taught in: notebooks/02_teacher_and_student, notebooks/04_two_stage_distillation.
    """
    same_shape(student, teacher)
    if mask.shape != student.shape[:2]:
        raise ValueError(f"mask must be {tuple(student.shape[:2])}, not {tuple(mask.shape)}")
    student, _ = reduce_states(student, mask, representation)
    teacher, mask = reduce_states(teacher, mask, representation)
    if loss == "mse":
        per_token = (student - teacher).square().mean(-1)
        return reduced(_masked_mean(per_token, mask), reduction)
    if loss != "cos_nce":
        raise ValueError(f"loss must be 'cos_nce' or 'mse', not {loss!r}")
    if representation == "token":
        return reduced(_token_cos_nce(student, teacher, mask, group), reduction)
    pull = cos_nce_pull(teacher, mask, group) if pull is None else pull
    return cos_nce_along(student, pull, mask, reduction)


def _masked_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(per_token.dtype)
    return (per_token * weights).sum(1) / weights.sum(1).clamp_min(1)


def _token_cos_nce(student: Tensor, teacher: Tensor, mask: Tensor, group) -> Tensor:
    at_least_two(student, group, "(B, L, D)")
    weights = mask.to(student.dtype)
    u, t = unit(student), unit(teacher) * weights.unsqueeze(-1)
    positive = (u * t).sum(-1)
    count = batch_sum(weights, group) - weights  # other rows that reach this position
    others = ((u * batch_sum(t, group)).sum(-1) - positive) / count.clamp_min(1)
    return _masked_mean(2 - 1.5 * positive + 0.5 * others, mask)


def _same_logits(student_logits: Tensor, other: Tensor, temperature: float) -> None:
    if student_logits.shape != other.shape:
        raise ValueError(f"logits {tuple(student_logits.shape)} and {tuple(other.shape)} differ")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")


@full_precision
def soft_label_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.1, reduction="mean"
) -> Tensor:
    r"""KL(teacher || student) between softened predictions. (Eq. 4)

    $$\mathcal L_{soft} = \mathrm{softmax}(y^T/\tau)\cdot
      \log\frac{\mathrm{softmax}(y^T/\tau)}{\mathrm{softmax}(y^S/\tau)}$$

    Args:
        student_logits, teacher_logits: (B, C).
        temperature: tau > 0. There is no factor tau**2: the gradient is
            (softmax(y^S/tau) - softmax(y^T/tau)) / tau.
        reduction: "mean" over the batch (never over the classes), or "none".

    Returns:
        Scalar or (B,), >= 0.

    Raises:
        ValueError: shapes differ, or temperature <= 0.

    Taught in: notebooks/04_two_stage_distillation.
    """
    _same_logits(student_logits, teacher_logits, temperature)
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return reduced(F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1), reduction)


@full_precision
def hard_label_loss(
    student_logits: Tensor,
    labels: Tensor,
    temperature: float = 1.1,
    target: str = "paper",
    reduction="mean",
) -> Tensor:
    r"""Cross-entropy against the gold label. (Eq. 5)

    $$\mathcal L_{hard} = -\mathrm{softmax}(y/\tau)\cdot\log\mathrm{softmax}(y^S)$$

    Taken literally, the target of the gold class is softmax(one_hot/tau): 0.7128 for C = 2 and
    0.5538 for C = 3 at tau = 1.1, a heavy label smoothing. Only the target is softened.

    Args:
        student_logits: (B, C).
        labels: (B,), integers in [0, C).
        temperature: tau > 0; unused with `target="one_hot"`.
        target: "paper" (Eq. 5 as printed) or "one_hot" (ordinary cross-entropy).
        reduction: "mean" over the batch, or "none".

    Returns:
        Scalar or (B,), >= 0 (with "paper" never below the target's entropy).

    Raises:
        ValueError: an unknown target, or temperature <= 0.

    Taught in: notebooks/04_two_stage_distillation.
    """
    if target not in HARD_TARGETS:
        raise ValueError(f"target must be one of {HARD_TARGETS}, not {target!r}")
    wanted = F.one_hot(labels, student_logits.shape[-1]).to(student_logits.dtype)
    _same_logits(student_logits, wanted, temperature)
    if target == "paper":
        wanted = (wanted / temperature).softmax(-1)
    return reduced(-(wanted * F.log_softmax(student_logits, dim=-1)).sum(-1), reduction)


def total_loss(layers: Tensor, soft: Tensor, hard: Tensor, weights) -> Tensor:
    r"""$\mathcal L_{total} = \alpha\sum_i \mathcal L_T^i + \beta\mathcal L_{soft}
    + \gamma\mathcal L_{hard}$. (Eq. 6)

    Args:
        layers: scalar, already summed over the M student layers.
        soft, hard: scalars of Eqs. (4) and (5) (mean squared errors for a regression).
        weights: (alpha, beta, gamma); a term of weight 0 is left out, not multiplied by 0, so
            parameters that only it reaches get no gradient at all.

    Returns:
        Scalar.

    Raises:
        ValueError: all three weights are 0.

    Taught in: notebooks/04_two_stage_distillation.
    """
    terms = [w * term for w, term in zip(weights, (layers, soft, hard), strict=True) if w]
    if not terms:
        raise ValueError("all three loss weights are 0: there is nothing to train")
    return sum(terms[1:], terms[0])
