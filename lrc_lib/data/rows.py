"""The one row format that every reader makes: fixed samples, fingerprints, checks.

Taught in notebooks/02_teacher_and_student.
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError


class Row(NamedTuple):
    """One example: `label` is a class id (int) or a score (float); `text_b` is None or a text."""

    text_a: str
    text_b: str | None
    label: int | float


@dataclass(frozen=True)
class TaskData:
    """All rows of a task that a run uses.

    Attributes:
        task: the task of the rows.
        train: training rows.
        dev: split name -> rows; the names are `task.dev_splits`.
        source: sentences for a table: where the rows come from and what to say about the split.
        fingerprint: 16 hex digits of the sha256 over all rows.
    """

    task: Task
    train: tuple[Row, ...]
    dev: dict[str, tuple[Row, ...]]
    source: str
    fingerprint: str


def fingerprint(train: Sequence[Row], dev: dict[str, Sequence[Row]]) -> str:
    """16 hex digits of the sha256 over the canonical JSON of the rows: order and labels count."""
    digest = hashlib.sha256()
    for name, rows in [("train", train), *sorted(dev.items())]:
        digest.update(json.dumps([name, len(rows)]).encode())
        for row in rows:
            digest.update(json.dumps(list(row)).encode() + b"\n")
    return digest.hexdigest()[:16]


def rank(text: str) -> bytes:
    """A fixed pseudo-random sort key: the same on every machine and Python."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def sample(items: Sequence, count: int) -> tuple:
    """`count` of the items in their order, always the same ones.

    A larger sample contains every smaller one of the same items.

    Args:
        count: 0 for all; more than there are is all, too.

    Raises:
        InputError: count is negative.
    """
    if count < 0:
        raise InputError(f"A number of rows must be 0 (all) or more, not {count}.")
    if count == 0 or count >= len(items):
        return tuple(items)
    chosen = sorted(range(len(items)), key=lambda i: rank(f"row {i}"))[:count]
    return tuple(items[i] for i in sorted(chosen))


def text_key(*texts: str | None) -> str:
    """A key that is equal for equal texts: letters and digits, without case, space or marks."""
    keys = [re.sub(r"[\W_]+", "", (text or "").casefold()) for text in texts]
    return "\n".join(keys if any(keys) else [text or "" for text in texts])


def in_train(train: Sequence[Row], dev: dict[str, Sequence[Row]]) -> dict[str, int]:
    """{dev split: how many of its rows have the texts of a training row}, see `text_key`."""
    known = {text_key(*row[:2]) for row in train}
    return {split: sum(text_key(*row[:2]) in known for row in rows) for split, rows in dev.items()}


def check_rows(rows: Sequence[Row], task: Task, where: str) -> None:
    """Raises `InputError` unless there are rows and each has the task's texts and label.

    Args:
        rows: the rows of one split.
        task: how many texts a row has, and which labels.
        where: names the split in the message.
    """
    if not rows:
        raise InputError(f"{where} has no rows. A split needs at least one.")
    for number, (_, text_b, label) in enumerate(rows, 1):
        problem = ""
        if (text_b is not None) != task.pair:
            problem = f"has {1 + (text_b is not None)} text(s), not {1 + task.pair}"
        elif task.labels and not (isinstance(label, int) and 0 <= label < len(task.labels)):
            problem = f"has the label {label!r}, not one of 0 to {len(task.labels) - 1}"
        elif not task.labels and not (isinstance(label, float) and math.isfinite(label)):
            problem = f"has the score {label!r}, not a finite number"
        if problem:
            raise InputError(f"{where}, row {number}, {problem}.")
