"""Training only the word embeddings that the data use: less work, the same result."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

BLOCK = 1 << 24  # token ids that are looked at at a time


class TrimmedEmbedding(nn.Module):
    """The rows of an embedding that occur in the data; the others wait outside the optimiser.

    A row that never occurs has no gradient, and AdamW without a gradient does one thing to it,
    weight decay: multiplying by (1 - rate * decay) at every step. `restore` makes up for it, so
    that trimming saves work and changes nothing but rounding.
    """

    def __init__(self, full: nn.Embedding, used: Tensor):
        super().__init__()
        self.full, self.used = [full], used  # in a list: not a submodule, so not a parameter here
        self.weight = nn.Parameter(full.weight.detach()[used])
        place = torch.zeros(full.num_embeddings, dtype=torch.long, device=used.device)
        place[used] = torch.arange(len(used), device=used.device)
        self.register_buffer("place", place, persistent=False)
        padding = full.padding_idx  # its row gets no gradient
        self.padding_idx = None if padding is None else int(place[padding])

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(self.place[ids], self.weight, self.padding_idx)

    def restore(self, shrink: float) -> nn.Embedding:
        """The whole embedding, a copy; rows that were left out are multiplied by `shrink`."""
        full = copy.deepcopy(self.full[0])
        with torch.no_grad():
            full.weight *= shrink
            full.weight[self.used] = self.weight
        return full


def trim_vocabulary(model: nn.Module, ids) -> TrimmedEmbedding | None:
    """Train only the word embeddings of the token `ids` that occur (an array, repeats allowed).

    The padding token stays as well. `model.set_input_embeddings(trimmed.restore(shrink))` ends it.
    None, and the model stays as it is, where its input embedding is not a plain `nn.Embedding`.
    """
    full = model.get_input_embeddings()
    if type(full) is not nn.Embedding:
        return None
    occurs = np.zeros(full.num_embeddings, dtype=bool)
    occurs[full.padding_idx or 0] = True
    for start in range(0, len(ids), BLOCK):
        occurs[ids[start : start + BLOCK]] = True
    used = torch.from_numpy(np.flatnonzero(occurs))
    trimmed = TrimmedEmbedding(full, used.to(full.weight.device))
    model.set_input_embeddings(trimmed)
    return trimmed
