"""The task table: labels, metrics, lengths and epochs of every task the kit knows.

A task is data. To add a built-in one, add it to `tasks.toml` and a reader to `lrc_lib.data`.
Taught in notebooks/02_teacher_and_student.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

METRICS = ("matthews", "accuracy", "f1", "pearson", "spearman")
KINDS = ("classification", "regression")
GLUE = ("cola", "sst-2", "mrpc", "sts-b", "qqp", "mnli", "qnli", "rte")


@dataclass(frozen=True)
class Task:
    """What a task asks and how it is scored.

    Attributes:
        name, title: for the command line and for tables.
        kind: "classification" or "regression".
        labels: the index is the class id; () for a regression.
        pair: whether a row has two texts.
        metrics: names in `METRICS`; the first is the primary one.
        dev_splits: ("dev",), ("matched", "mismatched") or names that a user chose.
        max_length: tokens, 64 for one text and 128 for two (TinyBERT, which the paper follows).
        epochs: the paper's: 90 for MRPC, RTE and CoLA, 18 for the rest.
        source: "reviews", "nli", "glue" or "files": which reader.
    """

    name: str
    title: str
    kind: str
    labels: tuple[str, ...]
    pair: bool
    metrics: tuple[str, ...]
    dev_splits: tuple[str, ...] = ("dev",)
    max_length: int = 64
    epochs: int = 18
    source: str = "glue"

    @property
    def num_labels(self) -> int:
        """Width of the classification head: the number of classes, or 1 for a regression."""
        return len(self.labels) or 1

    @property
    def primary(self) -> str:
        """The metric that tables show first."""
        return self.metrics[0]

    @property
    def paper_columns(self) -> dict[str, str]:
        """Dev split -> column of the paper's Table 1; {} outside GLUE."""
        if self.source != "glue":
            return {}
        names = {"dev": self.title, "matched": f"{self.title}-m", "mismatched": f"{self.title}-mm"}
        return {split: names[split] for split in self.dev_splits if split in names}


def _read_task(name: str, given: dict) -> Task:
    """A table of `tasks.toml` as a task."""
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    values = {"labels": (), "pair": False} | values
    kind = "classification" if values["labels"] else "regression"
    return Task(name=name, kind=kind, max_length=128 if values["pair"] else 64, **values)


_GIVEN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
TASKS = {name: _read_task(name, given) for name, given in _GIVEN.items()}
