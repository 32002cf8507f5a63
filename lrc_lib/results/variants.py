"""A trained student in three sizes: as it is, with weights in float16, and in int8.

Taught in notebooks/02_teacher_and_student; `python -m lrc_lib pack` writes the table on the card.
"""

import copy
import io
import warnings
from typing import NamedTuple

import torch
from torch import nn

from lrc_lib.data.batches import encode
from lrc_lib.evaluate import bootstrap, latency, predict
from lrc_lib.runs.spec import data_of, usable_length

try:  # torch announces that it will go
    from torch.ao.quantization import (
        default_dynamic_qconfig,
        float_qparams_weight_only_qconfig,
        quantize_dynamic,
    )
except ImportError:
    quantize_dynamic = None

TIMED, PASSES = 64, 3  # dev rows, one at a time, and how often


class Variant(NamedTuple):
    """One form of a student, measured on the CPU on the rows of its first dev split.

    Attributes:
        name: "fp32", "fp16" or "int8".
        bytes: of the weights in a file.
        milliseconds: for one row, one at a time; the best of three passes over 64 rows.
        score, low, high: the task's primary metric in points, and its 95 % interval, rows only.
        n: dev rows.
    """

    name: str
    bytes: int
    milliseconds: float
    score: float
    low: float
    high: float
    n: int


def variants(run) -> list[Variant]:
    """The forms of a run's student, the largest first; int8 only where torch can make it.

    fp16 is a file of half the size: its weights are computed with in float32, since a CPU has no
    fast float16. In int8 the weights of linear layers and word embeddings are 8-bit numbers, and
    the inputs of linear layers are rounded as they come (dynamic quantisation).

    Args:
        run: a finished run of a task (`RunResult`).

    Raises:
        InputError: the run's data are no longer where they were.
    """
    model, data = run.student(), data_of(run.spec)
    rows = next(iter(data.dev.values()))
    encoded = encode(rows, run.tokenizer(), usable_length(run.spec))
    forms = {"fp32": (model, _bytes(model)), "fp16": (half(model).float(), _bytes(half(model)))}
    if small := quantized(model):
        forms["int8"] = (small, _bytes(small))
    timed, found = min(TIMED, len(encoded)), []
    passes = [  # in turns: whatever else the machine does meets all forms
        {name: latency(form, encoded, timed, 1, 1) for name, (form, _) in forms.items()}
        for _ in range(PASSES)
    ]
    for name, (form, size) in forms.items():
        logits = predict(form, encoded)
        score, low, high = (100 * x for x in bootstrap(data.task, logits, encoded.labels))
        milliseconds = 1e3 * min(seconds[name] for seconds in passes) / timed
        found.append(Variant(name, size, milliseconds, score, low, high, len(encoded)))
    return found


def half(model: nn.Module) -> nn.Module:
    """A copy with its weights in float16."""
    return copy.deepcopy(model).half()


def quantized(model: nn.Module) -> nn.Module | None:
    """A copy with linear layers and word embeddings in int8, for the CPU; None if torch cannot."""
    if quantize_dynamic is None:
        return None
    words = next(n for n, part in model.named_modules() if part is model.get_input_embeddings())
    layers = {nn.Linear: default_dynamic_qconfig, words: float_qparams_weight_only_qconfig}
    try:
        with warnings.catch_warnings(action="ignore"):
            return quantize_dynamic(copy.deepcopy(model), layers)
    except RuntimeError:  # no engine for this processor
        return None


def _bytes(model: nn.Module) -> int:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()
