"""The task table: labels, metrics, lengths and epochs of every task the kit knows.

A task is data. To add a built-in one, add a row to `TASKS` and a reader to `lrc_lib.data`.
Taught in notebooks/02_teacher_and_student.
"""

from dataclasses import dataclass

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


_CLASSES, _SCORES = KINDS
_ACCURACY, _F1 = ("accuracy",), ("f1", "accuracy")
_CORRELATIONS = ("pearson", "spearman")
_POLAR = ("negative", "positive")
_NLI = ("entailment", "neutral", "contradiction")
_RTE = ("entailment", "not_entailment")
_BOTH = ("matched", "mismatched")
_REVIEWS = {"pair": False, "dev_splits": _BOTH, "source": "reviews"}
_ONE = {"pair": False}
_TWO = {"pair": True, "max_length": 128}

# fmt: off
_TABLE = (
    Task("reviews", "Reviews", _CLASSES, _POLAR, metrics=("accuracy", "f1"), **_REVIEWS),
    Task("reviews-score", "Review scores", _SCORES, (), metrics=_CORRELATIONS, **_REVIEWS),
    Task("nli", "Grammar NLI", _CLASSES, _NLI, metrics=_ACCURACY, source="nli", **_TWO),
    Task("cola", "CoLA", _CLASSES, ("unacceptable", "acceptable"),
         metrics=("matthews", "accuracy"), epochs=90, **_ONE),
    Task("sst-2", "SST-2", _CLASSES, _POLAR, metrics=_ACCURACY, **_ONE),
    Task("mrpc", "MRPC", _CLASSES, ("not_equivalent", "equivalent"),
         metrics=_F1, epochs=90, **_TWO),
    Task("sts-b", "STS-B", _SCORES, (), metrics=_CORRELATIONS, **_TWO),
    Task("qqp", "QQP", _CLASSES, ("not_duplicate", "duplicate"), metrics=_F1, **_TWO),
    Task("mnli", "MNLI", _CLASSES, _NLI, metrics=_ACCURACY, dev_splits=_BOTH, **_TWO),
    Task("qnli", "QNLI", _CLASSES, _RTE, metrics=_ACCURACY, **_TWO),
    Task("rte", "RTE", _CLASSES, _RTE, metrics=_ACCURACY, epochs=90, **_TWO),
)
# fmt: on
TASKS: dict[str, Task] = {task.name: task for task in _TABLE}
