"""Dropout on a CPU: the same distribution from cheaper random numbers.

torch draws its masks on a CPU with one float per number, which takes about a tenth of a training
step. Here one 64-bit draw decides about four numbers. Attention is written out, because torch's own
takes a slow path on a CPU when it drops attention weights: its softmax guards against rows without
any real token, and a text always has some.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn

ATTENTION = "lrc_cpu"  # the name under which transformers knows `attention`


def drop(x: Tensor, p: float) -> Tensor:
    """`x` (any shape) with each number set to 0 with probability p, the others times 1 / (1 - p).

    p is rounded to a multiple of 2**-16, and in bfloat16 so that 1 / (1 - p) is a number of that
    type: the mean stays right, and 0.1 becomes 0.0986.
    """
    scale = torch.tensor(2**16 / (2**16 - round(p * 2**16)), dtype=x.dtype).item()
    count, dropped = x.numel(), round((1 - 1 / scale) * 2**16)
    draws = torch.empty((count + 3) // 4, dtype=torch.int64)
    draws.random_(-(2**63), None)
    bits = draws.view(torch.int16)[:count].view(x.shape)
    kept = torch.ge(bits, dropped - 2**15, out=torch.empty(x.shape, dtype=x.dtype))
    return x * kept.mul_(scale)


class CheapDropout(nn.Dropout):
    """`nn.Dropout` for tensors on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and 0 < self.p < 1:
            return drop(x, self.p)
        return super().forward(x)


def attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Softmax attention in the form that transformers asks for.

    query, key, value (B, heads, L, d), an additive mask (B, 1, L, L) or None -> (B, L, heads, d)
    and the weights (B, heads, L, L), after dropout.
    """
    scores = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores += attention_mask
    weights = scores.softmax(-1)
    if dropout:
        weights = module.dropout(weights)
    return (weights @ value).transpose(1, 2).contiguous(), weights


@contextmanager
def cheap_dropout(model: nn.Module):
    """Within this context a BERT on a CPU drops by `drop`; other models stay as they are."""
    config = getattr(model, "config", None)
    usual = getattr(config, "_attn_implementation", None)
    if getattr(config, "model_type", "") != "bert" or usual != "sdpa" or not _register():
        yield
        return
    found = {name: m for name, m in model.named_modules() if type(m) is nn.Dropout}
    for name, module in found.items():
        model.set_submodule(name, CheapDropout(module.p).train(module.training))
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = usual
        for name, module in found.items():
            model.set_submodule(name, module.train(model.get_submodule(name).training))


def _register() -> bool:
    """Makes `attention` known to transformers; False where its version has no place for that."""
    try:
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, eager_mask
    except ImportError:
        return False
    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    return True
