"""The one row format that every reader makes, and what all readers share.

Reading is strict: a file is UTF-8 text with one row per line, and a line that does not fit is an
error that names file and line. Taught in notebooks/02_teacher_and_student.
"""

import hashlib
import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
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


def first_of_each(items: Iterable, key) -> list:
    """The items whose key was not seen before, in order."""
    seen = {}
    for item in items:
        seen.setdefault(key(item), item)
    return list(seen.values())


def check_rows(rows: Sequence[Row], task: Task, where: str) -> None:
    """Raises `InputError` unless there are rows and each has the task's texts and label.

    Args:
        rows: the rows of one split.
        task: how many texts a row has, and which labels.
        where: names the split in the message.
    """
    if not rows:
        raise InputError(f"{where} has no rows. A split needs at least one.")
    for number, row in enumerate(rows, 1):
        problem = None
        if (row.text_b is not None) != task.pair:
            problem = f"has {1 + (row.text_b is not None)} text(s), not {1 + task.pair}"
        elif task.kind == "regression":
            if not isinstance(row.label, float) or not math.isfinite(row.label):
                problem = f"has the score {row.label!r}, not a finite number"
        elif not isinstance(row.label, int) or not 0 <= row.label < task.num_labels:
            problem = f"has the label {row.label!r}, not one of 0 to {task.num_labels - 1}"
        if problem:
            raise InputError(f"{where}, row {number}, {problem}.")


def to_label(text: str, task: Task, where: str, names: Sequence[str] = ()) -> int | float:
    """The class id or score that a field of a file stands for.

    Args:
        text: the field.
        task: regression: a finite number; classification: one of its labels.
        where: file and line, for the message.
        names: the labels as the file writes them; () for `task.labels`.

    Raises:
        InputError: anything else.
    """
    if task.kind == "regression":
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"{where}: expected a number as the score, found {text!r:.80}.")
        return score
    names = tuple(names) or task.labels
    if text not in names:
        expected = ", ".join(repr(name) for name in names)
        raise InputError(f"{where}: expected a label among {expected}; found {text!r:.80}.")
    return names.index(text)


def decoded(raw: bytes, where: str) -> str:
    """A line of a file as text.

    Raises:
        InputError: it is not UTF-8, or holds a NUL byte; `where` names file and line.
    """
    if b"\0" in raw:
        raise InputError(f"{where}: found a NUL byte; expected plain UTF-8 text.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: found the byte 0x{raw[error.start]:02x}, which is not UTF-8. Save the file "
            "as UTF-8."
        ) from None


def read_text(path: Path, expected: str = "") -> str:
    """The whole of a UTF-8 file, without a byte-order mark and with its line ends as they are.

    Raises:
        InputError: the file is missing or unreadable, not UTF-8, or holds a NUL byte.
    """
    try:
        lines = Path(path).read_bytes().removeprefix(BOM_UTF8).split(b"\n")
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is unreadable: {error}"
        raise InputError(f"{path} {reason}. {expected}".strip()) from None
    return "\n".join(decoded(raw, f"{path}, line {n}") for n, raw in enumerate(lines, 1))


def read_lines(path: Path, expected: str = "") -> list[str]:
    """The lines of a UTF-8 file. Only LF and CRLF end a line; other breaks belong to the text.

    Raises:
        InputError: see `read_text`.
    """
    lines = read_text(path, expected).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
