"""A trained student as ONNX: `python -m lrc_lib export RUN --out DIR`.

The exporter is torch's own (`torch.onnx.export` with `dynamo=True`); ONNX Runtime executes the
file. Both need the extra `export`. A file whose logits are not the student's is not handed out.
"""

import importlib.util
import logging
import os
import types
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from lrc_lib.data.batches import Encoded, collate, encode
from lrc_lib.data.manifest import scratch
from lrc_lib.errors import InputError, LrcError
from lrc_lib.evaluate import latency, predict
from lrc_lib.runs.spec import data_of
from lrc_lib.runs.store import RunResult

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INSTALL = 'python -m pip install -c constraints.txt -e ".[export]"'
VERSIONS = "It was tried with the versions in constraints.txt."
LARGEST = 1e-4  # difference between two logits of the same row
ROWS = 256  # dev rows compared
BATCHES = {1: 32, 16: 64}  # batch size -> rows timed


class Export(NamedTuple):
    """What `export` made and measured.

    Attributes:
        path: of the folder: model.onnx, config.json (the labels) and the tokenizer.
        difference: largest absolute difference of a logit between the two models.
        rows: dev rows on which it was found.
        seconds: (engine, batch size) -> seconds per batch; engines are "torch" and "onnx".
    """

    path: Path
    difference: float
    rows: int
    seconds: dict[tuple[str, int], float]


class OnnxClassifier(nn.Module):
    """An ONNX file that is called like a transformers classifier, on the CPU.

    It takes `input_ids`, `attention_mask`, ... of shape (B, L) and returns an object with `logits`
    (B, C), so that `predict` and `latency` take it as they take a model.
    """

    def __init__(self, path):
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as many as the other model has
        self.session = onnxruntime.InferenceSession(
            Path(path).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self.names = [item.name for item in self.session.get_inputs()]
        self.place = nn.Parameter(torch.zeros(0))  # tells `latency` the device

    def forward(self, **batch):
        inputs = {name: batch[name].numpy() for name in self.names}
        (logits,) = self.session.run(["logits"], inputs)
        return types.SimpleNamespace(logits=torch.from_numpy(logits))


def export(result: RunResult, folder) -> Export:
    """Writes a run's student as ONNX with free batch size and length, checked on dev rows.

    Args:
        result: a finished run of a task.
        folder: a new folder; it appears whole or not at all.

    Raises:
        InputError: the extra is not installed, the run is general distillation, the folder is
            there already, or the run's data are no longer where they were.
        LrcError: the model cannot be exported, or its logits differ by more than 1e-4.
    """
    folder = Path(folder)
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(f"Export needs {', '.join(absent)}. Install the extra: {INSTALL}")
    if not result.metrics["splits"]:
        raise InputError(f"{result.id} has learned no task yet; export a student or a teacher.")
    if folder.exists():
        raise InputError(f"'{folder}' is there already. Name a new folder.")
    model, tokenizer, data = result.student(), result.tokenizer(), data_of(result.spec)
    rows = next(iter(data.dev.values()))[:ROWS]
    encoded = encode(rows, tokenizer, result.spec.max_length or data.task.max_length)
    try:
        with scratch(folder) as place:
            made = place / "export"
            made.mkdir()
            write_onnx(model, encoded, made / "model.onnx")
            model.config.save_pretrained(made)
            tokenizer.save_pretrained(made)
            onnx = OnnxClassifier(made / "model.onnx")
            both = ((predict(m, encoded, "cpu", n) for m in (model, onnx)) for n in BATCHES)
            difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in both)
            if not difference <= LARGEST:
                raise LrcError(
                    f"The exported model's logits differ by {difference:.1e} from the student's, "
                    f"more than {LARGEST:g}; nothing was written. {VERSIONS}"
                )
            os.replace(made, folder)
    except OSError as error:
        raise InputError(f"Cannot write '{folder}': {error}.") from None
    seconds = {
        (name, size): latency(one, encoded, count, size) / -(-min(count, len(rows)) // size)
        for name, one in (("torch", model), ("onnx", onnx))
        for size, count in BATCHES.items()
    }
    return Export(folder, difference, len(rows), seconds)


def write_onnx(model: nn.Module, encoded: Encoded, path: Path) -> None:
    """Exports a classifier on the CPU; inputs (batch, length) int64, output "logits" (batch, C).

    Args:
        encoded: its longest row, twice, is the example that the exporter follows.

    Raises:
        LrcError: the exporter cannot follow this model.
    """
    batch = collate(encoded, [encoded.lengths.argmax()] * 2, "cpu")
    batch.pop("labels")
    shapes = {name: {0: "batch", 1: "length"} for name in batch}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # its notes are on other models
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                model, (), path, kwargs=batch, input_names=list(batch), output_names=["logits"],
                dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise LrcError(f"torch cannot export this model: {reason} {VERSIONS}") from error
