"""Rows to token ids to padded batches, in an order that depends on (seed, epoch) alone.

No DataLoader: the permutation is a pure function, so a resumed run meets the same batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .rows import Row


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows: a list of id arrays each, unpadded, and the labels as one array."""

    input_ids: list[np.ndarray]
    token_type_ids: list[np.ndarray] | None
    labels: np.ndarray  # (n,), int64 classes or float32 scores
    pad_id: int

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) tokens a row, special tokens included."""
        return np.array([len(ids) for ids in self.input_ids])


def encode(rows: Sequence[Row], tokenizer, max_length: int) -> Encoded:
    """Tokenise rows once, truncated to `max_length` tokens (the longer text of a pair first).

    Token types are kept only where the tokenizer's model uses them.
    """
    pairs = [row.text_b for row in rows] if rows and rows[0].text_b is not None else None
    out = tokenizer(
        [row.text_a for row in rows],
        pairs,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
    )
    types = out.get("token_type_ids")
    labels = np.array([row.label for row in rows])
    return Encoded(
        [np.array(ids, dtype=np.int64) for ids in out["input_ids"]],
        None if types is None else [np.array(t, dtype=np.int64) for t in types],
        labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64),
        tokenizer.pad_token_id,
    )


def _padded(arrays: list[np.ndarray], fill: int) -> Tensor:
    out = np.full((len(arrays), max(map(len, arrays))), fill, dtype=np.int64)
    for row, values in zip(out, arrays, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(out)


def collate(encoded: Encoded, indices: Sequence[int], device="cpu") -> dict[str, Tensor]:
    """One batch, padded to its own longest row.

    Returns:
        "input_ids", "attention_mask" and, where used, "token_type_ids", each (B, L) int64;
        "labels" (B,).
    """
    ids = [encoded.input_ids[i] for i in indices]
    batch = {
        "input_ids": _padded(ids, encoded.pad_id),
        "attention_mask": _padded([np.ones(len(row), dtype=np.int64) for row in ids], 0),
        "labels": torch.from_numpy(encoded.labels[list(indices)]),
    }
    if encoded.token_type_ids is not None:
        batch["token_type_ids"] = _padded([encoded.token_type_ids[i] for i in indices], 0)
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def steps_per_epoch(rows: int, batch_size: int, drop_last: bool = True) -> int:
    """Batches in one pass. A last batch of one row is always dropped: it has no negative."""
    whole, rest = divmod(rows, batch_size)
    return whole + (not drop_last and rest > 1)


def epoch_order(lengths, seed: int, epoch: int, batch_size: int = 1, bucket: int = 0) -> np.ndarray:
    """The order of the rows in one epoch: a function of these arguments and nothing else.

    Args:
        lengths: (n,) tokens of each row.
        bucket: 0 for a plain permutation. Else the permutation is cut into pieces of `bucket`
            batches, each piece is sorted by length and the batches are shuffled: less padding,
            but the samples that meet in a batch, the negatives, are then of like length.

    Returns:
        (n,) indices; the rows that do not fill a batch come last.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    if not bucket:
        return order
    whole = len(order) // batch_size * batch_size
    piece = bucket * batch_size
    for start in range(0, whole, piece):
        part = order[start : min(start + piece, whole)]
        order[start : start + len(part)] = part[np.argsort(lengths[part], kind="stable")]
    batches = rng.permutation(order[:whole].reshape(-1, batch_size))
    return np.concatenate([batches.reshape(-1), order[whole:]])


def by_length(encoded: Encoded, batch_size: int) -> Iterator[np.ndarray]:
    """Index batches of like length, for passes whose order does not matter (evaluation)."""
    order = np.argsort(encoded.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
