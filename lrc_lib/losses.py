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
Where a batch is spread over processes, `group` (`lrc_lib.parallel.Group`) sums over all its rows.
Taught in notebooks/01_cos_nce_geometry and notebooks/03_two_stage_distillation.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_FLOOR = 1e-6  # below this length a vector counts as zero: its cosine with anything is 0

REPRESENTATIONS = ("flatten", "token", "mean", "cls")
HARD_TARGETS = ("paper", "one_hot")


def _full_precision(function):
    """Run `function` outside autocast, its half-precision tensor arguments cast to float32."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        def widen(x):
            half = isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16)
            return x.float() if half else x

        args = [widen(a) for a in args]
        kwargs = {k: widen(v) for k, v in kwargs.items()}
        device = next(a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        with torch.autocast(device_type=device, enabled=False):
            return function(*args, **kwargs)

    return wrapped


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(NORM_FLOOR)


def _reduce(per_sample: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return per_sample
    if reduction == "mean":
        return per_sample.mean()
    raise ValueError(f"reduction must be 'mean' or 'none', not {reduction!r}")


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the "
            "same shape; map the student to the teacher's width first (the projection W of Eq. 3)"
        )


@_full_precision
def angular_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""How far apart two vectors point: $g(x, y) = 1 - \cos(x, y)$. (Eq. 2)

    Args:
        x, y: (..., D), any lengths; a zero vector has cosine 0 with everything.

    Returns:
        (...), in [0, 2]: 0 same direction, 1 orthogonal, 2 opposite.

    Raises:
        ValueError: the widths differ.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"widths differ: {tuple(x.shape)} and {tuple(y.shape)}")
    return 1 - (_unit(x) * _unit(y)).sum(-1)


@_full_precision
def cos_nce(student: Tensor, teacher: Tensor, negatives: Tensor, reduction: str = "mean") -> Tensor:
    r"""COS-NCE: pull the student towards its teacher, push it from the negatives. (Eq. 1)

    $$\mathcal L_C = \frac{1}{2K}\sum_{i=1}^{K}\bigl[2 - (g(n_i, z^S) - g(z^T, z^S))\bigr]
                     + g(z^T, z^S)$$

    Args:
        student: (B, D), $z^S$, already in the teacher's width.
        teacher: (B, D), $z^T$ of the same samples.
        negatives: (B, K, D), the teacher's outputs for K other samples per row.
        reduction: "mean" over the batch, or "none".

    Returns:
        Scalar, or (B,) with "none"; in [0, 4]. The floor is not 0: see `cos_nce_floor`.

    Raises:
        ValueError: shapes do not fit, or K = 0.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    _same_shape(student, teacher)
    if negatives.dim() != 3 or negatives.shape[::2] != student.shape or negatives.shape[1] == 0:
        raise ValueError(
            f"negatives must be (B, K, D) with K >= 1 and (B, D) = {tuple(student.shape)}, "
            f"not {tuple(negatives.shape)}"
        )
    positive = angular_distance(teacher, student)
    negative = angular_distance(negatives, student.unsqueeze(1))
    pushed = (2 - (negative - positive.unsqueeze(1))).mean(1) / 2
    return _reduce(pushed + positive, reduction)


@_full_precision
def in_batch_cos_nce(
    student: Tensor, teacher: Tensor, reduction: str = "mean", group=None
) -> Tensor:
    r"""COS-NCE whose negatives are the teacher's other B - 1 rows, in O(B D). (Eq. 1)

    Eq. (1) is linear in the cosines, so all negatives enter through their mean direction
    $\bar n_i$, the mean of the other rows' unit vectors:

    $$\mathcal L_i = 2 - \langle u_i, v_i\rangle,\qquad
      v_i = \tfrac32\hat t_i - \tfrac12\bar n_i$$

    Args:
        student, teacher: (B, D), B >= 2. The paper's batch of 16 gives K = 15.
        reduction: "mean" over the batch, or "none".
        group: the processes whose rows together are the batch; None: these rows are all.

    Returns:
        Scalar, or (B,) with "none"; in [0, 4]. Equal to `cos_nce` with those negatives.

    Raises:
        ValueError: shapes differ, or B < 2.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    _same_shape(student, teacher)
    _at_least_two(student, group)
    return cos_nce_along(student, cos_nce_pull(teacher, group=group), reduction=reduction)


@_full_precision
def cos_nce_pull(teacher: Tensor, mask: Tensor | None = None, group=None) -> Tensor:
    r"""$v_i$ of `in_batch_cos_nce`: the vector along which a row's student is drawn.

    It depends on the teacher alone, so one serves both passes of a perturbed step and the floor.

    Args:
        teacher: (B, D), or (B, L, D) to be read as one vector a row; B >= 2.
        mask: (B, L), 1 for real tokens. Where a row has none, its student is zero, so is v.
        group: see `in_batch_cos_nce`.

    Returns:
        (B, D) or (B, L, D), like `teacher`.
    """
    real = 1 if mask is None else mask.unsqueeze(-1).to(teacher.dtype)
    rows = (teacher * real).flatten(1)
    _at_least_two(rows, group)
    others, inverse = _batch_size(rows, group) - 1, 1 / rows.norm(dim=-1).clamp_min(NORM_FLOOR)
    # 3/2 t - 1/2 (sum - t) / others, with t = rows * inverse: few passes over much memory
    pull = rows * ((1.5 + 0.5 / others) * inverse).unsqueeze(1)
    total = inverse @ rows
    pull -= (0.5 / others) * (total if group is None else group.sum(total))
    return pull.view_as(teacher) * real


@_full_precision
def cos_nce_along(student: Tensor, pull: Tensor, mask=None, reduction: str = "mean") -> Tensor:
    r"""COS-NCE from its pull: $2 - \langle z^S, v\rangle / |z^S|$, shapes as in `cos_nce_pull`."""
    tokens = student.norm(dim=-1)
    if mask is not None:
        tokens = tokens * mask
    length = tokens.norm(dim=-1) if student.dim() == 3 else tokens
    product = (student * pull).flatten(1).sum(-1)
    return _reduce(2 - product / length.clamp_min(NORM_FLOOR), reduction)


def _batch_sum(rows: Tensor, group) -> Tensor:
    """(B, ...) -> (...): the sum over the batch, wherever its rows are. Without gradient there."""
    return rows.sum(0) if group is None else group.sum(rows.sum(0))


def _batch_size(rows: Tensor, group) -> int:
    return len(rows) if group is None else len(rows) * group.processes


def _at_least_two(batch: Tensor, group, letters: str = "(B, D)") -> None:
    if batch.dim() != letters.count(",") + 1 or _batch_size(batch, group) < 2:
        raise ValueError(
            f"in-batch negatives need {letters} with B >= 2, not {tuple(batch.shape)}: "
            "with one sample there is no negative"
        )


@_full_precision
def cos_nce_floor(teacher: Tensor, group=None) -> Tensor:
    r"""The least value that `in_batch_cos_nce` can take for each row: $2 - |v_i|$.

    With v as in `in_batch_cos_nce` the loss is $2 - \langle u, v\rangle$, so the minimum is
    reached at $u = v/|v|$, and a raw loss says little until this floor is taken off: loss minus
    floor is the *excess* loss that the run store logs.

    Args:
        teacher: (B, D), B >= 2.
        group: see `in_batch_cos_nce`.

    Returns:
        (B,), in [0, 1].

    Taught in: notebooks/01_cos_nce_geometry.
    """
    _at_least_two(teacher, group)
    return 2 - cos_nce_pull(teacher, group=group).norm(dim=-1)


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


@_full_precision
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

    Taught in: notebooks/02_teacher_and_student, notebooks/03_two_stage_distillation.
    """
    _same_shape(student, teacher)
    if mask.shape != student.shape[:2]:
        raise ValueError(f"mask must be {tuple(student.shape[:2])}, not {tuple(mask.shape)}")
    student, _ = reduce_states(student, mask, representation)
    teacher, mask = reduce_states(teacher, mask, representation)
    if loss == "mse":
        per_token = (student - teacher).square().mean(-1)
        return _reduce(_masked_mean(per_token, mask), reduction)
    if loss != "cos_nce":
        raise ValueError(f"loss must be 'cos_nce' or 'mse', not {loss!r}")
    if representation == "token":
        return _reduce(_token_cos_nce(student, teacher, mask, group), reduction)
    pull = cos_nce_pull(teacher, mask, group) if pull is None else pull
    return cos_nce_along(student, pull, mask, reduction)


def _masked_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(per_token.dtype)
    return (per_token * weights).sum(1) / weights.sum(1).clamp_min(1)


def _token_cos_nce(student: Tensor, teacher: Tensor, mask: Tensor, group) -> Tensor:
    _at_least_two(student, group, "(B, L, D)")
    weights = mask.to(student.dtype)
    u, t = _unit(student), _unit(teacher) * weights.unsqueeze(-1)
    positive = (u * t).sum(-1)
    count = _batch_sum(weights, group) - weights  # other rows that reach this position
    others = ((u * _batch_sum(t, group)).sum(-1) - positive) / count.clamp_min(1)
    return _masked_mean(2 - 1.5 * positive + 0.5 * others, mask)


def _same_logits(student_logits: Tensor, other: Tensor, temperature: float) -> None:
    if student_logits.shape != other.shape:
        raise ValueError(f"logits {tuple(student_logits.shape)} and {tuple(other.shape)} differ")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")


@_full_precision
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

    Taught in: notebooks/03_two_stage_distillation.
    """
    _same_logits(student_logits, teacher_logits, temperature)
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return _reduce(F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1), reduction)


@_full_precision
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

    Taught in: notebooks/03_two_stage_distillation.
    """
    if target not in HARD_TARGETS:
        raise ValueError(f"target must be one of {HARD_TARGETS}, not {target!r}")
    wanted = F.one_hot(labels, student_logits.shape[-1]).to(student_logits.dtype)
    _same_logits(student_logits, wanted, temperature)
    if target == "paper":
        wanted = (wanted / temperature).softmax(-1)
    return _reduce(-(wanted * F.log_softmax(student_logits, dim=-1)).sum(-1), reduction)


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

    Taught in: notebooks/03_two_stage_distillation.
    """
    terms = [w * term for w, term in zip(weights, (layers, soft, hard), strict=True) if w]
    if not terms:
        raise ValueError("all three loss weights are 0: there is nothing to train")
    return sum(terms[1:], terms[0])
