"""Equations (1)-(2) of LRC-BERT as pure functions: the angle, and COS-NCE on it.

Letters, precision and decisions are those of `lrc_lib.losses`, whose first half this is: import
from there. Taught in notebooks/01_cos_nce_geometry.
"""

import functools

import torch
from torch import Tensor

NORM_FLOOR = 1e-6  # below this length a vector counts as zero: its cosine with anything is 0


def full_precision(function):
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


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(NORM_FLOOR)


def reduced(per_sample: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return per_sample
    if reduction == "mean":
        return per_sample.mean()
    raise ValueError(f"reduction must be 'mean' or 'none', not {reduction!r}")


def same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the "
            "same shape; map the student to the teacher's width first (the projection W of Eq. 3)"
        )


@full_precision
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
    return 1 - (unit(x) * unit(y)).sum(-1)


@full_precision
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
    same_shape(student, teacher)
    if negatives.dim() != 3 or negatives.shape[::2] != student.shape or negatives.shape[1] == 0:
        raise ValueError(
            f"negatives must be (B, K, D) with K >= 1 and (B, D) = {tuple(student.shape)}, "
            f"not {tuple(negatives.shape)}"
        )
    positive = angular_distance(teacher, student)
    negative = angular_distance(negatives, student.unsqueeze(1))
    pushed = (2 - (negative - positive.unsqueeze(1))).mean(1) / 2
    return reduced(pushed + positive, reduction)


@full_precision
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
    same_shape(student, teacher)
    at_least_two(student, group)
    return cos_nce_along(student, cos_nce_pull(teacher, group=group), reduction=reduction)


@full_precision
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
    at_least_two(rows, group)
    others, inverse = batch_size(rows, group) - 1, 1 / rows.norm(dim=-1).clamp_min(NORM_FLOOR)
    # 3/2 t - 1/2 (sum - t) / others, with t = rows * inverse: few passes over much memory
    pull = rows * ((1.5 + 0.5 / others) * inverse).unsqueeze(1)
    total = inverse @ rows
    pull -= (0.5 / others) * (total if group is None else group.sum(total))
    return pull.view_as(teacher) * real


@full_precision
def cos_nce_along(student: Tensor, pull: Tensor, mask=None, reduction: str = "mean") -> Tensor:
    r"""COS-NCE from its pull: $2 - \langle z^S, v\rangle / |z^S|$, shapes as in `cos_nce_pull`."""
    tokens = student.norm(dim=-1)
    if mask is not None:
        tokens = tokens * mask
    length = tokens.norm(dim=-1) if student.dim() == 3 else tokens
    product = (student * pull).flatten(1).sum(-1)
    return reduced(2 - product / length.clamp_min(NORM_FLOOR), reduction)


def batch_sum(rows: Tensor, group) -> Tensor:
    """(B, ...) -> (...): the sum over the batch, wherever its rows are. Without gradient there."""
    return rows.sum(0) if group is None else group.sum(rows.sum(0))


def batch_size(rows: Tensor, group) -> int:
    return len(rows) if group is None else len(rows) * group.processes


def at_least_two(batch: Tensor, group, letters: str = "(B, D)") -> None:
    if batch.dim() != letters.count(",") + 1 or batch_size(batch, group) < 2:
        raise ValueError(
            f"in-batch negatives need {letters} with B >= 2, not {tuple(batch.shape)}: "
            "with one sample there is no negative"
        )


@full_precision
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
    at_least_two(teacher, group)
    return 2 - cos_nce_pull(teacher, group=group).norm(dim=-1)
