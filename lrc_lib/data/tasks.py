"""The task table: labels, metrics, lengths and epochs of every task the kit knows.

A task is data; adding a built-in one is adding a row to `TASKS` and a reader in `lrc_lib/data`.
Taught in notebooks/02_teacher_and_student.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lrc_lib.errors import InputError, unknown

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
        dev_splits: ("dev",) or ("matched", "mismatched") or a user's own names.
        max_length: tokens, 64 for one text and 128 for two (TinyBERT, which the paper follows).
        epochs: the paper's: 90 for MRPC, RTE and CoLA, 18 for the rest.
        source: "reviews", "nli", "glue" or "files": which reader.
        paper_columns: dev split -> column of the paper's Table 1; {} outside GLUE.
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
    paper_columns: dict = field(default_factory=dict, hash=False)

    @property
    def num_labels(self) -> int:
        """Width of the classification head: the number of classes, or 1 for a regression."""
        return len(self.labels) or 1

    @property
    def primary(self) -> str:
        """The metric that tables show first."""
        return self.metrics[0]


def _classes(name, title, labels, metrics=("accuracy",), **more) -> Task:
    return Task(name, title, "classification", labels, metrics=metrics, **more)


def _scores(name, title, **more) -> Task:
    return Task(name, title, "regression", (), metrics=("pearson", "spearman"), **more)


_TWO_TEXTS = {"pair": True, "max_length": 128}
_NLI = ("entailment", "neutral", "contradiction")
_RTE = ("entailment", "not_entailment")
_BOTH = ("matched", "mismatched")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _classes(
            "reviews",
            "Reviews",
            ("negative", "positive"),
            ("accuracy", "f1"),
            pair=False,
            dev_splits=_BOTH,
            source="reviews",
        ),
        _scores("reviews-score", "Review scores", pair=False, dev_splits=_BOTH, source="reviews"),
        _classes("nli", "Grammar NLI", _NLI, source="nli", **_TWO_TEXTS),
        _classes(
            "cola",
            "CoLA",
            ("unacceptable", "acceptable"),
            ("matthews", "accuracy"),
            pair=False,
            epochs=90,
            paper_columns={"dev": "CoLA"},
        ),
        _classes(
            "sst-2", "SST-2", ("negative", "positive"), pair=False, paper_columns={"dev": "SST-2"}
        ),
        _classes(
            "mrpc",
            "MRPC",
            ("not_equivalent", "equivalent"),
            ("f1", "accuracy"),
            epochs=90,
            paper_columns={"dev": "MRPC"},
            **_TWO_TEXTS,
        ),
        _scores("sts-b", "STS-B", paper_columns={"dev": "STS-B"}, **_TWO_TEXTS),
        _classes(
            "qqp",
            "QQP",
            ("not_duplicate", "duplicate"),
            ("f1", "accuracy"),
            paper_columns={"dev": "QQP"},
            **_TWO_TEXTS,
        ),
        _classes(
            "mnli",
            "MNLI",
            _NLI,
            dev_splits=_BOTH,
            paper_columns={"matched": "MNLI-m", "mismatched": "MNLI-mm"},
            **_TWO_TEXTS,
        ),
        _classes("qnli", "QNLI", _RTE, paper_columns={"dev": "QNLI"}, **_TWO_TEXTS),
        _classes(
            "rte", "RTE", _RTE, epochs=90, paper_columns={"dev": "RTE"}, **_TWO_TEXTS
        ),
    )
}  # fmt: skip


def get_task(name: str, data: str = "") -> Task:
    """The task of that name, or the one that the folder `data` holds (then `name` may be "").

    Raises:
        InputError: unknown name, a folder that does not exist, or a folder that holds another task.
    """
    own = own_task(data)
    if own is None:
        if name not in TASKS:
            raise unknown("task", name, TASKS)
        return TASKS[name]
    if name not in ("", own.name):
        raise InputError(
            f"The folder '{data}' holds the task '{own.name}', not '{name}'. "
            f"Use --task {own.name}, or leave the folder out for a built-in task."
        )
    return own


def own_task(data: str) -> Task | None:
    """The user's own task in the folder `data` (`lrc_lib/data/files.py` says what it holds).

    None for "", "hub" and a folder without a train file of its own, such as GLUE's.

    Raises:
        InputError: there is no such folder, or its files do not describe a task.
    """
    if data in ("", "hub"):
        return None
    if not Path(data).is_dir():
        raise InputError(f"There is no folder '{data}' to read data from.")
    from lrc_lib.data import files

    return files.read_task(data) if files.holds_task(data) else None


def tasks_in(data: str) -> tuple[str, ...]:
    """Names of the tasks that a folder holds: the user's own one, or GLUE's.

    () for "" and "hub", which do not narrow the choice.

    Raises:
        InputError: the folder does not exist or holds no task.
    """
    own = own_task(data)
    if own is not None:
        return (own.name,)
    if data in ("", "hub"):
        return ()
    from lrc_lib.data import files, glue_dir

    found = tuple(name for name in GLUE if glue_dir.find_folder(data, name))
    if not found:
        raise InputError(f"'{data}' holds no task. {glue_dir.LAYOUT} {files.LAYOUT}")
    return found
