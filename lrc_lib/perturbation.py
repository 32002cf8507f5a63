"""Equations (7)-(8): gradient perturbation of the embedding output. Taught in notebook 04.

The loss is differentiated once with respect to the embeddings. The embeddings take a step of fixed
length along that gradient (upwards: towards a *higher* loss), and only the loss at the moved
embeddings trains the student. `emb` is the output of the embedding layer, after its LayerNorm and
dropout. The `inputs_embeds` of transformers are another place: before position, type and LayerNorm.
"""

import torch
from torch import Tensor

NORMS = ("sample", "tensor", "token")


def perturb_embeddings(
    embeddings: Tensor,
    loss: Tensor,
    norm: str = "sample",
    epsilon: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Move the embeddings by `epsilon` along the loss gradient. (Eqs. 7 and 8)

    $$emb' = emb + \epsilon\, g/\|g\|_2,\qquad g = \nabla_{emb}\,\mathcal L_{total}$$

    The paper gives neither epsilon (so 1) nor the axis of the norm. "sample" (one norm for each
    row of the batch) follows Miyato et al. 2017, whom the paper cites.

    Args:
        embeddings: (B, L, d), part of the graph of `loss`.
        loss: scalar. Its graph from the embeddings upwards is consumed; the graph below the
            embeddings stays, and no parameter receives a gradient here.
        norm: what is scaled to length epsilon: "sample" each (L, d) row, "tensor" the whole
            batch, "token" each d-vector.
        epsilon: length of the step; negative values descend.
        mask: (B, L), 1 for real tokens; padding is neither counted nor moved.

    Returns:
        (B, L, d): embeddings + a constant. The step is detached, so a backward pass through the
        result reaches the embedding layer but not the gradient's own dependence on it.
        A zero gradient gives a zero step.

    Raises:
        ValueError: unknown norm, a mask of another shape, or a loss that does not depend on the
            embeddings.

    Taught in: notebooks/04_two_stage_distillation.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, not {norm!r}")
    if mask is not None and mask.shape != embeddings.shape[:2]:
        raise ValueError(f"mask must be {tuple(embeddings.shape[:2])}, not {tuple(mask.shape)}")
    if not (loss.requires_grad and embeddings.requires_grad):
        raise ValueError("loss and embeddings must be part of one autograd graph")
    (gradient,) = torch.autograd.grad(loss, embeddings, allow_unused=True)
    if gradient is None:
        raise ValueError("the loss does not depend on these embeddings")
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    if mask is not None:
        gradient = gradient * mask.unsqueeze(-1)
    axes = {"sample": (1, 2), "tensor": (0, 1, 2), "token": (2,)}[norm]
    # Divide by the largest entry first: gradients of 1e-30 would underflow when squared.
    largest = gradient.abs().amax(dim=axes, keepdim=True)
    scaled = gradient / largest.clamp_min(torch.finfo(gradient.dtype).tiny)
    length = scaled.square().sum(dim=axes, keepdim=True).sqrt().clamp_min(1.0)
    step = epsilon * scaled / length
    return embeddings + step.to(embeddings.dtype).detach()
