"""Equations (1)-(6) of LRC-BERT as pure functions on tensors.

Paper: Fu et al., "LRC-BERT: Latent-representation Contrastive Knowledge Distillation for Natural
Language Understanding", AAAI 2021, arXiv 2012.07335.

Letters: `B` samples in the batch, `L` tokens, `D` width, `K` negatives, `C` classes.

The paper is silent on four points. This file decides them, and a switch keeps each alternative:

- A layer's output is an L x D matrix, but g(x, y) takes vectors. `representation="flatten"` reads
  the matrix as one vector, with the padding set to zero.
- The negatives are the other B - 1 rows of the batch, whatever their labels are.
- Eq. (4) has no factor temperature**2, because the paper writes none.
- Eq. (5) softens the one-hot target but not the student, as written. `target="one_hot"` is the
  ordinary cross-entropy that the prose describes.

Each equation comes first as printed, then in the closed form that training uses. After Eq. (3)
follow the layer losses of the paper's rivals and of our controls. All losses are
computed in float32 under autocast and for half-precision inputs (float64 stays float64). Where
several processes share a batch, `group` (`lrc_lib.training.Group`) sums over all its rows.
Taught in notebooks 01, 02 and 04.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

REPRESENTATIONS = ("flatten", "token", "mean", "cls")
HARD_TARGETS = ("paper", "one_hot")
SHORTEST = 1e-6  # a shorter vector is divided by this: its cosines shrink to 0 with its length


# ---- Eqs. (1) and (2): the angle, and COS-NCE on it


def angular_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""How far apart two vectors point: $g(x, y) = 1 - \cos(x, y)$. (Eq. 2)

    Args:
        x, y: (..., D), of any length; a zero vector has cosine 0 with every vector.

    Returns:
        (...), in [0, 2]: 0 same direction, 1 orthogonal, 2 opposite.

    Raises:
        ValueError: the widths differ.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"widths differ: {tuple(x.shape)} and {tuple(y.shape)}")
    return 1 - (unit(x) * unit(y)).sum(-1)


def cos_nce(student: Tensor, teacher: Tensor, negatives: Tensor, reduction: str = "mean") -> Tensor:
    r"""COS-NCE: pull the student towards its teacher, push it from the negatives. (Eq. 1)

    $$\mathcal L_C = \frac{1}{2K}\sum_{i=1}^{K}\bigl[2 - (g(n_i, z^S) - g(z^T, z^S))\bigr]
                     + g(z^T, z^S)$$

    Args:
        student: (B, D), $z^S$, already in the teacher's width.
        teacher: (B, D), $z^T$ of the same samples.
        negatives: (B, K, D), the teacher's outputs for K other samples of each row.
        reduction: "mean" over the batch, or "none".

    Returns:
        Scalar, or (B,) with "none"; in [0, 4]. The minimum is not 0: see `cos_nce_minimum`.

    Raises:
        ValueError: the shapes do not fit, or K = 0.

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


def in_batch_cos_nce(
    student: Tensor, teacher: Tensor, reduction: str = "mean", group=None
) -> Tensor:
    r"""COS-NCE whose negatives are the teacher's other B - 1 rows, in O(B D). (Eq. 1)

    Eq. (1) is linear in the cosines, so all negatives enter through $\bar n_i$, the mean of the
    other rows' unit vectors:

    $$\mathcal L_i = 2 - \langle u_i, v_i\rangle,\qquad
      v_i = \tfrac32\hat t_i - \tfrac12\bar n_i$$

    Args:
        student, teacher: (B, D), B >= 2. The paper's batch of 16 gives K = 15.
        reduction: "mean" over the batch, or "none".
        group: the processes whose rows together are the batch; None: these rows are all.

    Returns:
        Scalar, or (B,) with "none"; in [0, 4]. Equal to `cos_nce` with those negatives.

    Raises:
        ValueError: the shapes differ, or B < 2.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    same_shape(student, teacher)
    at_least_two(student, group)
    return reduced(cos_nce_to(student, cos_nce_target(teacher, group=group)), reduction)


def cos_nce_target(teacher: Tensor, mask: Tensor | None = None, group=None) -> Tensor:
    r"""$v_i$ of `in_batch_cos_nce`, the teacher's part of COS-NCE. (Eq. 1)

    The target depends on the teacher alone. Both passes of a perturbed step and the minimum use
    the same one.

    Args:
        teacher: (B, D), or (B, L, D) to be read as one vector per row; B >= 2.
        mask: (B, L), 1 for real tokens. The target is zero where a row has no token.
        group: see `in_batch_cos_nce`.

    Returns:
        (B, D) or (B, L, D), like `teacher`.

    Raises:
        ValueError: B < 2.
    """
    teacher = full_precision(teacher)
    real = 1 if mask is None else mask.unsqueeze(-1).to(teacher.dtype)
    rows = (teacher * real).flatten(1)
    at_least_two(rows, group)
    others, inverse = batch_size(rows, group) - 1, 1 / rows.norm(dim=-1).clamp_min(SHORTEST)
    # 3/2 t - 1/2 (sum - t) / others, with t = rows * inverse: few passes over much memory
    target = rows * ((1.5 + 0.5 / others) * inverse).unsqueeze(1)
    with torch.autocast(rows.device.type, enabled=False):
        total = inverse @ rows
    target -= (0.5 / others) * (total if group is None else group.sum(total))
    return target.view_as(teacher) * real


def cos_nce_to(student: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""COS-NCE of each row from its target: $2 - \langle z^S, v\rangle / |z^S|$. (Eq. 1)

    Args:
        student: (B, D) or (B, L, D), like `target`.
        target: what `cos_nce_target` gives.
        mask: (B, L), 1 for real tokens.

    Returns:
        (B,), in [0, 4].
    """
    student = full_precision(student)
    tokens = student.norm(dim=-1)
    if mask is not None:
        tokens = tokens * mask
    length = tokens.norm(dim=-1) if student.dim() == 3 else tokens
    product = (student * target).flatten(1).sum(-1)
    return 2 - product / length.clamp_min(SHORTEST)


def cos_nce_minimum(teacher: Tensor, group=None) -> Tensor:
    r"""The least value that `in_batch_cos_nce` can take for each row: $2 - |v_i|$.

    The loss is $2 - \langle u, v\rangle$, so its minimum is reached at $u = v/|v|$. A raw loss says
    little until this minimum is subtracted. The run store logs the difference as the *excess*.

    Args:
        teacher: (B, D), B >= 2.
        group: see `in_batch_cos_nce`.

    Returns:
        (B,), in [0, 1]; in [1.5, 2] where the teacher's vector is zero.

    Raises:
        ValueError: B < 2.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    at_least_two(teacher, group)
    return _target_minimum(cos_nce_target(teacher, group=group))


def _target_minimum(target: Tensor, most: float = 2) -> Tensor:
    return most - target.flatten(1).norm(dim=-1)


# ---- Eq. (3): one layer


class LayerLoss(NamedTuple):
    """A loss between one student layer and one teacher layer, split in two parts.

    Attributes:
        target: f(teacher (B, l, D), mask (B, l)), the teacher's part, computed once per step; with
            the mean direction of other rows (l, D) as a third argument where `LossKind.means`
            asks for one.
        value: f(student (B, l, D), target, mask (B, l)) -> (B,), computed in each pass.
        minimum: f(target) -> (B,), the least possible value; None where it is 0 or not known.
    """

    target: Callable
    value: Callable
    minimum: Callable | None = None


class LossKind(NamedTuple):
    """A layer loss by its name in `LAYER_LOSSES`, and what of both models it compares.

    Attributes:
        build: f(representation, group, temperature, count) -> `LayerLoss`; the last two are
            InfoNCE's temperature and the number of negatives (0: all other rows of the batch).
        representation: the one that belongs to the loss; "" the run's.
        layer_map: likewise, see `lrc_lib.models.layer_pairs`.
        pairs: f(the map's pairs) -> those that are compared; layer 0 is the embeddings.
        attentions: whether the attention scores of these layers are compared as well.
        means: the rows whose mean direction the target needs: "all" training rows, or those of
            a "random" batch; "" none.
    """

    build: Callable
    representation: str = ""
    layer_map: str = ""
    pairs: Callable = list
    attentions: bool = False
    means: str = ""


def layer_loss(
    name: str = "cos_nce", representation: str = "flatten", group=None, temperature=0.1, count=0
) -> LayerLoss:
    r"""The layer loss of that name, for states that `reduce_states` has reduced.

    With $\hat t$ the direction of a teacher's vector and u that of the student's, through W:

    - `cos_nce`: Eq. (1). `mse`: the mean squared difference (BERT_M).
    - `cosine`: $\tfrac32(1 - \langle\hat t, u\rangle)$, its positive term alone on its scale.
      `centred`, `shuffled`: see `away_from`. `info_nce`: see `info_nce_to`.
    - `distilbert` (Sanh et al., 2019): $L_{cos} = 1 - \cos(h^S W, h^T)$, the mean over the tokens
      of the last layer.
    - `pkd_skip`, `pkd_last` (Sun et al., EMNLP 2019), on [CLS]:
      $L_{PT} = \sum_j \|h^S_j W / \|h^S_j W\|_2 - h^T_j / \|h^T_j\|_2\|_2^2$, which is
      $\sum_j 2(1 - \langle\hat t_j, u_j\rangle)$. Skip maps j to j N / M, last takes the teacher's
      top layers; both leave out the last layer, from which the logits come.
    - `tinybert` (Jiao et al., Findings of EMNLP 2020): $L_{embd} = MSE(E^S W, E^T)$, and for each
      mapped layer $L_{hidn} = MSE(H^S W, H^T)$ and $L_{attn}$, see `attention_loss`.

    Args:
        name: a key of `LAYER_LOSSES`, which stands below the losses.
        representation: see `transformer_layer_loss`.
        group: see `in_batch_cos_nce`.
        temperature, count: see `LossKind`.

    Raises:
        ValueError: an unknown name.
    """
    if representation not in REPRESENTATIONS:
        raise ValueError(f"representation must be one of {REPRESENTATIONS}, not {representation!r}")
    if name not in LAYER_LOSSES:
        raise ValueError(f"loss must be one of {tuple(LAYER_LOSSES)}, not {name!r}")
    return LAYER_LOSSES[name].build(representation, group, temperature, count)


def transformer_layer_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    representation: str = "flatten",
    loss: str = "cos_nce",
    reduction: str = "mean",
    group=None,
) -> Tensor:
    r"""One layer's distillation loss, $L_C(h^S W, h^T, H^T)$. (Eq. 3)

    Args:
        student: (B, L, D), the student's layer output times W.
        teacher: (B, L, D), the mapped teacher layer's output.
        mask: (B, L), 1 for real tokens, 0 for padding. The samples may have any lengths.
        representation: "flatten" (the L x D matrix as one vector, padding zero, so that two
            samples are compared over the positions that both have), "token" (every position by
            itself, with the negatives at the same position; where no other sample reaches, the
            negative term is 0), "mean" or "cls".
        loss: "cos_nce", or "mse" (the mean squared difference over the same numbers: BERT_M), or
            another key of `LAYER_LOSSES` that needs this batch alone.
        reduction: "mean" over the batch, or "none" for (B,).
        group: see `in_batch_cos_nce`; all its processes then pad to the same L.

    Returns:
        Scalar or (B,); in [0, 4] for "cos_nce".

    Raises:
        ValueError: the shapes differ, B < 2, or an unknown name.

    Taught in: notebooks/02_teacher_and_student, notebooks/04_two_stage_distillation.
    """
    same_shape(student, teacher)
    if mask.shape != student.shape[:2]:
        raise ValueError(f"mask must be {tuple(student.shape[:2])}, not {tuple(mask.shape)}")
    chosen = layer_loss(loss, representation, group)
    student, _ = reduce_states(student, mask, representation)
    teacher, mask = reduce_states(teacher, mask, representation)
    return reduced(chosen.value(student, chosen.target(teacher, mask), mask), reduction)


def reduce_states(states: Tensor, mask: Tensor, representation: str = "flatten"):
    """What is compared of a layer's output: all its tokens, their mean, or the first token.

    Reducing before the projection W gives the same loss as reducing after it, because W is linear.
    A cache can then keep one vector per sample.

    Args:
        states: (B, L, D) hidden states.
        mask: (B, L), 1 for real tokens and 0 for padding.
        representation: "flatten" and "token" keep (B, L, D); "mean" (over real tokens) and "cls"
            give (B, 1, D).

    Returns:
        (states, mask) of the reduced length.

    Raises:
        ValueError: an unknown representation.

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


def _mse_to(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return _masked_mean((full_precision(student) - teacher).square().mean(-1), mask)


def _token_target(teacher: Tensor, mask: Tensor, group=None) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors (B, L, D), their sum over the batch (L, D), other rows at a position (B, L)."""
    at_least_two(teacher, group, "(B, L, D)")
    weights = mask.to(full_precision(teacher).dtype)
    t = unit(teacher) * weights.unsqueeze(-1)
    return t, batch_sum(t, group), batch_sum(weights, group) - weights


def _token_cos_nce_to(student: Tensor, target: tuple, mask: Tensor) -> Tensor:
    (t, total, count), u = target, unit(student)
    positive = (u * t).sum(-1)
    others = ((u * total).sum(-1) - positive) / count.clamp_min(1)
    return _masked_mean(2 - 1.5 * positive + 0.5 * others, mask)


def _masked_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(per_token.dtype)
    return (per_token * weights).sum(1) / weights.sum(1).clamp_min(1)


def _cos_nce(representation: str, group, temperature: float, count: int) -> LayerLoss:
    if count:
        target = partial(next_rows_target, count=count, representation=representation)
        return _directed(target, representation)
    if representation == "token":
        return LayerLoss(partial(_token_target, group=group), _token_cos_nce_to)
    return LayerLoss(partial(cos_nce_target, group=group), cos_nce_to, _target_minimum)


def _mse(*_) -> LayerLoss:
    return LayerLoss(lambda teacher, mask: full_precision(teacher), _mse_to)


# ---- besides Eq. (3): the layer losses of controls and rivals


def directions(states: Tensor, mask: Tensor, representation: str) -> Tensor:
    r"""$\hat t$: each row, or with "token" each position, divided by its length.

    Args:
        states: (B, l, D), reduced as the representation says.
        mask: (B, l), 1 for real tokens.

    Returns:
        (B, l, D), zero in the padding.
    """
    states = full_precision(states) * mask.unsqueeze(-1)
    if representation == "token":
        return unit(states)
    return unit(states.flatten(1)).view_as(states)


def _directed(target: Callable, representation: str, most: float = 2) -> LayerLoss:
    r"""The loss $c - \langle u, v\rangle$ of a target v, with c = `most`; COS-NCE has c = 2."""
    if representation == "token":
        return LayerLoss(target, partial(_token_to, most=most))
    return LayerLoss(
        target,
        lambda student, v, mask: cos_nce_to(student, v, mask) + (most - 2),
        partial(_target_minimum, most=most),
    )


def _token_to(student: Tensor, target: Tensor, mask: Tensor, most: float) -> Tensor:
    return _masked_mean(most - (unit(student) * target).sum(-1), mask)


def _cosine(scale: float, representation: str, *_) -> LayerLoss:
    r"""$s\,(1 - \langle\hat t, u\rangle)$, for `cosine`, `distilbert` and BERT-PKD."""

    def target(teacher: Tensor, mask: Tensor) -> Tensor:
        return scale * directions(teacher, mask, representation)

    return _directed(target, representation, scale)


def away_from(teacher: Tensor, mask: Tensor, mean: Tensor, representation: str) -> Tensor:
    r"""COS-NCE's target with another vector in place of the mean negative.

    $$v_i = \tfrac32\hat t_i - \tfrac12\mu$$

    With the mean of $\hat t$ over the training rows for $\mu$, this is the control `centred`: the
    minimiser of COS-NCE, $v/|v| = \mathrm{normalize}(\hat t - \mu/3)$, without any negative. With
    the mean of a random batch it is the control `shuffled`.

    Args:
        teacher: (B, l, D); mask: (B, l).
        mean: (l, D) or (B, l, D). It is cut to each row's mask.

    Returns:
        (B, l, D), zero in the padding.
    """
    t = directions(teacher, mask, representation)
    return 1.5 * t - 0.5 * mean * mask.unsqueeze(-1).to(t.dtype)


def _away(representation: str, *_) -> LayerLoss:
    return _directed(partial(away_from, representation=representation), representation)


def next_rows(rows: int, count: int, device=None) -> Tensor:
    """(rows, rows), 1 in line i for its negatives: the `count` rows after i, cyclically.

    At most rows - 1, which are all others; 0 stands for all others too.
    """
    place = torch.arange(rows, device=device)
    gap = (place - place.unsqueeze(1)) % rows
    return ((gap >= 1) & (gap <= (count or rows))).float()


def next_rows_target(
    teacher: Tensor, mask: Tensor, count: int = 0, representation: str = "flatten"
) -> Tensor:
    r"""COS-NCE's target with K = `count` negatives, the next rows of the batch. (Eq. 1)

    $\bar n_i$ is the mean of the K next rows' $\hat t$; with "token", at each position, of those
    that reach it. Several processes each take their own rows.

    Returns:
        (B, l, D). Equal to `cos_nce_target` for K = B - 1.
    """
    at_least_two(teacher, None, "(B, L, D)")
    t = directions(teacher, mask, representation)
    near = next_rows(len(t), count, t.device).to(t.dtype)
    reach = mask.to(t.dtype) if representation == "token" else torch.ones_like(t[:, :1, 0])
    with torch.autocast(t.device.type, enabled=False):
        total, reach = (near @ t.flatten(1)).view_as(t), near @ reach
    return away_from(teacher, mask, total / reach.clamp_min(1).unsqueeze(-1), representation)


def _info_nce(representation: str, group, temperature: float, count: int) -> LayerLoss:
    """The control `info_nce`; see `info_nce_to`. Several processes each take their own rows."""

    def as_vectors(states, mask):  # (B, P, E), and (B, P): 1 where there is a vector
        t = directions(states, mask, representation)
        if representation == "token":
            return t, mask.to(t.dtype)
        return t.flatten(1).unsqueeze(1), torch.ones_like(t[:, :1, 0])

    def target(teacher, mask):
        at_least_two(teacher, None, "(B, L, D)")
        return as_vectors(teacher, mask)

    def value(student, target, mask):
        u, _ = as_vectors(student, mask)
        return _masked_mean(info_nce_to(u, *target, temperature, count), target[1])

    return LayerLoss(target, value)


def info_nce_to(
    student: Tensor, teacher: Tensor, there: Tensor, temperature: float, count: int = 0
) -> Tensor:
    r"""The cosine loss and InfoNCE, on COS-NCE's scale.

    $$\mathcal L_i = 1 + g(\hat t_i, u_i) + \tfrac12\,\tfrac{K+1}{K}\,\tau\,
      \bigl(\mathrm{InfoNCE}_\tau - \log(K+1)\bigr),\qquad
      \mathrm{InfoNCE}_\tau = -\log\frac{e^{\langle\hat t_i,u_i\rangle/\tau}}
      {e^{\langle\hat t_i,u_i\rangle/\tau} + \sum_k e^{\langle\hat t_k,u_i\rangle/\tau}}$$

    For large $\tau$ the last term becomes $\tfrac12\langle\bar n_i - \hat t_i, u_i\rangle$, and the
    loss becomes COS-NCE. A small $\tau$ pushes mostly from the nearest negatives.

    Args:
        student, teacher: (B, P, E) unit vectors, P positions that are compared separately.
        there: (B, P), 1 where the row has that position; only there it is a negative.
        temperature: tau > 0.
        count: K, see `next_rows`.

    Returns:
        (B, P). Without a negative the last term is its limit, $-\tfrac12\langle\hat t,u\rangle$.
    """
    with torch.autocast(student.device.type, enabled=False):
        cosines = torch.einsum("bpe,kpe->bpk", student, teacher)
    near = next_rows(len(teacher), count, teacher.device).bool()
    near = near.unsqueeze(1) & there.bool().T  # (B, P, B)
    own = torch.eye(len(teacher), dtype=torch.bool, device=teacher.device).unsqueeze(1)
    positive, k = cosines.diagonal(dim1=0, dim2=2).T, near.sum(-1)
    summed = (cosines / temperature).masked_fill(~(near | own), -torch.inf).logsumexp(-1)
    contrast = temperature * (summed - (k + 1).to(summed.dtype).log()) - positive
    contrast = torch.where(k > 0, contrast * (k + 1) / k.clamp_min(1), -positive)
    return 2 - positive + contrast / 2


def attention_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""TinyBERT's attention loss of one layer: the mean squared difference of unnormalised scores.

    Jiao et al., Findings of EMNLP 2020, with $A_i$ the scores of head i before the softmax:

    $$L_{attn} = \tfrac1h\sum_{i=1}^h \mathrm{MSE}(A^S_i, A^T_i)$$

    Args:
        student, teacher: (B, heads, L, L), see `lrc_lib.models.attention_scores`.
        mask: (B, L), 1 for real tokens; scores from or to the padding are left out.

    Returns:
        (B,), >= 0.

    Raises:
        ValueError: the shapes differ.
    """
    same_shape(student, teacher)
    real = (mask.unsqueeze(2) * mask.unsqueeze(1)).flatten(1)
    gap = (full_precision(student) - full_precision(teacher)).square().mean(1)
    return _masked_mean(gap.flatten(1), real)


# Every layer loss by its name, see `layer_loss`.
LAYER_LOSSES: dict[str, LossKind] = {
    "cos_nce": LossKind(_cos_nce),
    "mse": LossKind(_mse),
    "cosine": LossKind(partial(_cosine, 1.5)),
    "centred": LossKind(_away, means="all"),
    "shuffled": LossKind(_away, means="random"),
    "info_nce": LossKind(_info_nce),
    "distilbert": LossKind(partial(_cosine, 1), "token", "uniform", lambda pairs: pairs[-1:]),
    "pkd_skip": LossKind(partial(_cosine, 2), "cls", "uniform", lambda pairs: pairs[:-1]),
    "pkd_last": LossKind(partial(_cosine, 2), "cls", "top", lambda pairs: pairs[:-1]),
    "tinybert": LossKind(_mse, "token", pairs=lambda pairs: [(0, 0), *pairs], attentions=True),
}


# ---- Eqs. (4) and (5): soft and hard labels


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
        ValueError: the shapes differ, or temperature <= 0.

    Taught in: notebooks/04_two_stage_distillation.
    """
    _same_logits(student_logits, teacher_logits, temperature)
    student = F.log_softmax(full_precision(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(full_precision(teacher_logits) / temperature, dim=-1)
    return reduced(F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1), reduction)


def scaled_soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    r"""$\tau^2$ times Eq. (4), as in Hinton et al. (2015): gradients then keep their size.

    The arguments are those of `soft_label_loss`. It is the cross-entropy of the rivals' papers
    less the teacher's entropy, which no student changes.
    """
    return temperature**2 * soft_label_loss(student_logits, teacher_logits, temperature)


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
    0.5538 for C = 3 at tau = 1.1, which is a heavy label smoothing. Only the target is softened.

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
    logits = full_precision(student_logits)
    wanted = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    _same_logits(logits, wanted, temperature)
    if target == "paper":
        wanted = (wanted / temperature).softmax(-1)
    return reduced(-(wanted * F.log_softmax(logits, dim=-1)).sum(-1), reduction)


def squared_error(scores: Tensor, wanted: Tensor) -> Tensor:
    """The mean squared error, in place of Eqs. (4) and (5) where the task is a regression.

    Args:
        scores: (B, 1), the student's logits.
        wanted: (B, 1) the teacher's logits, or (B,) gold scores.

    Returns:
        Scalar, >= 0.
    """
    return (full_precision(scores) - wanted.view_as(scores)).square().mean()


# ---- Eq. (6): their sum


def total_loss(layers: Tensor | None, soft: Tensor | None, hard: Tensor | None, weights) -> Tensor:
    r"""$\mathcal L_{total} = \alpha\sum_i \mathcal L_T^i + \beta\mathcal L_{soft}
    + \gamma\mathcal L_{hard}$. (Eq. 6)

    Args:
        layers: scalar, already summed over the M student layers.
        soft, hard: scalars of Eqs. (4) and (5) (mean squared errors for a regression).
        weights: (alpha, beta, gamma). A term of weight 0 is left out, not multiplied by 0, so that
            parameters that only this term reaches get no gradient at all.

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


# ---- what the equations share


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32 if it is in half precision, else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def unit(x: Tensor) -> Tensor:
    """(..., D) -> (..., D): each vector divided by its length, in full precision."""
    x = full_precision(x)
    return x / x.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)


def reduced(per_sample: Tensor, reduction: str) -> Tensor:
    """(B,) as it is ("none"), or its mean ("mean")."""
    if reduction == "none":
        return per_sample
    if reduction == "mean":
        return per_sample.mean()
    raise ValueError(f"reduction must be 'mean' or 'none', not {reduction!r}")


def same_shape(student: Tensor, teacher: Tensor) -> None:
    """Raises `ValueError` unless the two shapes are equal."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the "
            "same shape; map the student to the teacher's width first (the projection W of Eq. 3)"
        )


def at_least_two(batch: Tensor, group, letters: str = "(B, D)") -> None:
    """Raises `ValueError` unless the batch has a negative for each row."""
    if batch.dim() != letters.count(",") + 1 or batch_size(batch, group) < 2:
        raise ValueError(
            f"in-batch negatives need {letters} with B >= 2, not {tuple(batch.shape)}: "
            "with one sample there is no negative"
        )


def batch_size(rows: Tensor, group) -> int:
    """B, counted over all processes of the group."""
    return len(rows) if group is None else len(rows) * group.processes


def batch_sum(rows: Tensor, group) -> Tensor:
    """(B, ...) -> (...): the sum over the batch of all processes; no gradient from the others."""
    return rows.sum(0) if group is None else group.sum(rows.sum(0))


def _same_logits(student_logits: Tensor, other: Tensor, temperature: float) -> None:
    if student_logits.shape != other.shape:
        raise ValueError(f"logits {tuple(student_logits.shape)} and {tuple(other.shape)} differ")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
