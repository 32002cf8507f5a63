"""Rows become token ids, and token ids become padded batches in a fixed order.

There is no DataLoader: the order is a pure function of (seed, epoch), so a resumed run sees the
same batches.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lrc_lib.data.rows import Row


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows without padding, end to end: row i is `ids[offsets[i]:offsets[i + 1]]`.

    Memory-mapped ids stay on the disk, and only batches are moved to the device.
    """

    ids: np.ndarray  # (tokens,) int32, or uint16 where that holds them
    types: np.ndarray | None  # (tokens,) int32, where the model uses token types
    offsets: np.ndarray  # (n + 1,) int64
    labels: np.ndarray  # (n,) int64 classes or float32 scores
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) tokens per row, special tokens included."""
        return np.diff(self.offsets)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    @cached_property
    def _on_device(self) -> dict:
        return {}

    def home(self, device) -> torch.device:
        """Where all rows are kept for training on `device`: there, or on the CPU if on disk."""
        return torch.device("cpu" if isinstance(self.ids, np.memmap) else device)

    def tensors(self, device) -> dict[str, Tensor]:
        """All rows as tensors on `device`, moved there once: "ids", "labels" and perhaps "types".

        16-bit ids become int16, because older torch cannot index uint16; `collate` undoes it.
        """
        if device not in self._on_device:
            ids = self.ids.view(np.int16) if self.ids.dtype == np.uint16 else self.ids
            arrays = {"ids": ids, "types": self.types, "labels": self.labels}
            self._on_device[device] = {
                name: torch.from_numpy(array).to(device)
                for name, array in arrays.items()
                if array is not None
            }
        return self._on_device[device]


def encode(rows: Sequence[Row], tokenizer, max_length: int) -> Encoded:
    """Tokenises rows, truncated to `max_length` tokens (the longer text of a pair first).

    Token types are kept only if the tokenizer's model uses them.
    """
    pairs = [row.text_b for row in rows] if rows and rows[0].text_b is not None else None
    out = tokenizer(
        [row.text_a for row in rows],
        pairs,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
    )
    ids, types = (
        np.fromiter(itertools.chain(*out[name]), dtype=np.int32) if name in out else None
        for name in ("input_ids", "token_type_ids")
    )
    offsets = np.cumsum([0, *map(len, out["input_ids"])])
    labels = np.array([row.label for row in rows])
    labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
    return Encoded(ids, types, offsets, labels, tokenizer.pad_token_id)


def joined(parts: Sequence[Encoded]) -> Encoded:
    """The rows of several encodings by one tokenizer, end to end."""
    ids, labels = (np.concatenate([getattr(p, n) for p in parts]) for n in ("ids", "labels"))
    types = None if parts[0].types is None else np.concatenate([p.types for p in parts])
    offsets = np.cumsum(np.concatenate([[0], *(part.lengths for part in parts)]))
    return Encoded(ids, types, offsets, labels, parts[0].pad_id)


def _moved(tensor: Tensor, device) -> Tensor:
    """A CPU tensor on `device`; the CPU does not wait until a GPU has copied it."""
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def ragged(
    starts: np.ndarray, lengths: np.ndarray, device, width: int = 0
) -> tuple[Tensor, Tensor]:
    """The positions of some rows' items in a flat array, as a padded matrix.

    Args:
        starts, lengths: (B,) the first position of each row and its number of items.
        width: pad to this length if the longest row is shorter.

    Returns:
        (B, L) int64 positions (padding points to the row's first item) and (B, L) bool, True for
        items. No value is read back from the device.
    """
    bounds = _moved(torch.from_numpy(np.stack([starts, lengths])), device)
    start, length = bounds.unsqueeze(-1)
    step = torch.arange(max(int(lengths.max()), width), device=device)
    real = step < length
    return start + step * real, real


def collate(
    encoded: Encoded, indices: Sequence[int], device="cpu", longest: int = 0, pad_to: int = 1
) -> dict[str, Tensor]:
    """One batch, padded to its own longest row, or to `longest` tokens if that is more.

    Args:
        indices: (B,) which rows.
        pad_to: pad to the next multiple of this, but not beyond the longest of all rows.

    Returns:
        "input_ids", "attention_mask" and, where used, "token_type_ids", each (B, L) int64;
        "labels" (B,).
    """
    indices, home = np.asarray(indices), encoded.home(device)
    rows, lengths = encoded.tensors(home), encoded.lengths[indices]
    width = math.ceil(max(int(lengths.max()), int(longest)) / pad_to) * pad_to
    where, real = ragged(encoded.offsets[indices], lengths, home, min(width, encoded.longest))
    ids = rows["ids"][where].long()
    if encoded.ids.dtype == np.uint16:
        ids &= 0xFFFF
    batch = {
        "input_ids": ids.masked_fill(~real, encoded.pad_id),
        "attention_mask": real.long(),
        "labels": rows["labels"][torch.from_numpy(indices).to(home, non_blocking=True)],
    }
    if "types" in rows:
        batch["token_type_ids"] = rows["types"][where].long() * real
    if home.type == torch.device(device).type:
        return batch
    return {name: _moved(tensor, device) for name, tensor in batch.items()}


def steps_per_epoch(rows: int, batch_size: int, drop_last: bool = True) -> int:
    """Batches per epoch. A last batch of one row is always dropped, because it has no negative."""
    whole, rest = divmod(rows, batch_size)
    return whole + (not drop_last and rest > 1)


def epoch_order(lengths, seed: int, epoch: int, batch_size: int = 1, bucket: int = 0) -> np.ndarray:
    """The order of the rows in one epoch; it depends on these arguments alone.

    Args:
        lengths: (n,) tokens of each row.
        bucket: 0 for a plain permutation. Else the permutation is cut into pieces of `bucket`
            batches, each piece is sorted by length, and the batches are shuffled. This saves
            padding, but the negatives of a row then have about its length.

    Returns:
        (n,) indices; with `bucket`, rows that fill no batch come last.
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
    """Batches of indices, rows of similar length together; for evaluation, in any order."""
    order = np.argsort(encoded.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
