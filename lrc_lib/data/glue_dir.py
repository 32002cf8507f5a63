"""GLUE from a folder in the classic glue_data layout: `CoLA/train.tsv`, `MNLI/dev_matched.tsv`.

The files are tab-separated without quoting. Their texts hold unbalanced quotation marks, so a line
is split at its tabs and quotation marks mean nothing. Columns are found by name.
"""

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lrc_lib.data.rows import Row, text_key
from lrc_lib.data.tables import read_lines, to_label
from lrc_lib.data.tasks import TASKS, Task
from lrc_lib.errors import InputError

LAYOUT = (
    "GLUE's folders are CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI and RTE, each with train.tsv and "
    "dev.tsv (MNLI: dev_matched.tsv and dev_mismatched.tsv)."
)
TEST_LAYOUT = (
    "The GLUE server asks for predictions on each folder's test.tsv (MNLI: test_matched.tsv and "
    "test_mismatched.tsv)."
)


@dataclass(frozen=True)
class Format:
    """How one task's files are written.

    Attributes:
        folder: its usual name; case and hyphens do not count.
        columns: the text columns, then the label column; numbers if there is no header line.
        width: fields per line, if there is no header to count them.
        labels: how the file writes the class ids; () for the names in `Task.labels`.
        official: GLUE's own row counts, training and then each dev split.
        skip_torn: the published file has lines cut in two; they are left out and counted.
        test_columns: text columns of the test file, if they differ from `columns`.
        hub: the configuration and the text columns of the task on the hub, see `lrc_lib.data.hub`.
    """

    folder: str
    columns: tuple
    official: tuple[int, ...]
    hub: dict
    labels: tuple[str, ...] = ()
    width: int = 0
    skip_torn: bool = False
    test_columns: tuple[str, ...] = ()


def _read_formats() -> dict[str, Format]:
    content = Path(__file__).with_name("glue.toml").read_text(encoding="utf-8")
    return {
        name: Format(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
        for name, given in tomllib.loads(content).items()
    }


FORMATS = _read_formats()
MAX_TORN = 0.001  # share of lines
MAX_SCORE = 5.0  # STS-B
INDEX = ("index", "id")  # how a test file names the row's number
DIAGNOSTIC = ("diagnostic.tsv", "ax.tsv")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_folder(data: str, name: str) -> Path | None:
    """The folder of a GLUE task inside `data`, whatever its case and hyphens; None if none."""
    for path in sorted(Path(data).iterdir()):
        if path.is_dir() and _plain(path.name) == _plain(FORMATS[name].folder):
            return path
    return None


def read(task: Task, data: str) -> tuple[dict[str, tuple[Row, ...]], str]:
    """Split -> rows, and source, of a GLUE task in the folder `data`.

    Raises:
        InputError: a missing folder or file, or a line that does not fit (file, line, expected).
    """
    how = FORMATS[task.name]
    folder = find_folder(data, task.name)
    if folder is None:
        raise InputError(f"There is no folder '{how.folder}' in '{data}'. {LAYOUT}")
    names = {"train": "train.tsv"} | {
        split: "dev.tsv" if split == "dev" else f"dev_{split}.tsv" for split in task.dev_splits
    }
    splits, torn = {}, 0
    for split, file in names.items():
        splits[split], left_out = read_file(folder / file, task)
        torn += left_out
    source = f"{task.title} from '{folder}'."
    counts = tuple(len(rows) for rows in splits.values())
    if counts != how.official:
        source += (
            f" Its files hold {_numbers(counts)} rows, where GLUE's own hold "
            f"{_numbers(how.official)}: not GLUE's own split, which a table must say."
        )
    if torn:
        source += f" {torn} line(s) cut in two were left out."
    return splits, source


def _numbers(counts) -> str:
    return " / ".join(f"{count:,}" for count in counts)


def read_file(path: Path, task: Task) -> tuple[tuple[Row, ...], int]:
    """The rows of one file, and how many torn lines were left out (QQP only).

    Raises:
        InputError: the file is missing, a column is missing, or a line does not fit.
    """
    how = FORMATS[task.name]
    lines = read_lines(path, LAYOUT)
    columns, width, first = how.columns, how.width, 1
    if not width:
        header = _header(path, lines, how.columns)
        columns, width, first = tuple(map(header.index, how.columns)), len(header), 2
    rows, torn = [], 0
    for number, line in enumerate(lines, first):
        fields, where = line.split("\t"), f"{path}, line {number}"
        if len(fields) != width and how.skip_torn:
            torn += 1
            continue
        _check_width(fields, width, where)
        *texts, field = (fields[i] for i in columns)
        label = to_label(field.strip(), task, where, how.labels)
        if task.kind == "regression" and not 0 <= label <= MAX_SCORE:
            raise InputError(f"{where}: expected a score from 0 to {MAX_SCORE:g}, found {field}.")
        rows.append(Row(texts[0], texts[1] if task.pair else None, label))
    if torn > max(10, MAX_TORN * len(lines)):
        raise InputError(
            f"{path}: {torn} of {len(lines)} lines do not have {width} fields between tabs."
        )
    return tuple(rows), torn


def _header(path: Path, lines: list[str], columns) -> list[str]:
    """Takes the first line off `lines`: the names in it, which must hold `columns`."""
    if not lines:
        raise InputError(f"{path} is empty; expected a header line and rows.")
    header = [name.strip() for name in lines.pop(0).split("\t")]
    for name in columns:
        if name not in header:
            raise InputError(
                f"{path}, line 1: expected a header with the column '{name}'; "
                f"found {', '.join(header)!r:.200}."
            )
    return header


def _check_width(fields: list[str], width: int, where: str) -> None:
    if len(fields) != width:
        line = "\t".join(fields)
        raise InputError(
            f"{where}: expected {width} fields between tabs, found {len(fields)}: {line!r:.80}."
        )


def _folders(data: str) -> dict[str, Path]:
    """Task -> its folder in `data`, of the tasks that have one.

    Raises:
        InputError: there is no such folder, or it holds no task.
    """
    found = {name: find_folder(data, name) for name in FORMATS if os.path.isdir(data)}
    if not any(found.values()):
        raise InputError(f"'{data}' is no folder that holds a GLUE task. {LAYOUT}")
    return {name: folder for name, folder in found.items() if folder}


def read_texts(data: str) -> tuple[tuple[str, ...], str]:
    """The texts of all training files in the folder `data`, and their source.

    Of texts that differ in case, space and marks only, the first is taken.

    Raises:
        InputError: see `read_file`.
    """
    folders = _folders(data)
    texts = {}
    for name, folder in folders.items():
        for row in read_file(folder / "train.tsv", TASKS[name])[0]:
            for text in filter(None, row[:2]):
                texts.setdefault(text_key(text), text.strip())
    titles = ", ".join(TASKS[name].title for name in folders)
    source = f"{len(texts):,} texts of GLUE's training rows, without labels: {titles}."
    return tuple(texts.values()), source


def read_held_out(data: str) -> set[str]:
    """Every field with a letter of every file in the folder `data` that is no training file.

    All texts of dev, test and diagnostic files are among them, whatever their columns are.
    """
    files = [file for folder in _folders(data).values() for file in folder.glob("*.tsv")]
    lines = (line for file in files if file.name != "train.tsv" for line in read_lines(file))
    return {field for line in lines for field in line.split("\t") if re.search(r"[^\W\d_]", field)}


def find_diagnostic(data: str) -> Path | None:
    """GLUE's diagnostic set without labels, in any folder of `data`; None if it is not there."""
    found = (path for path in Path(data).glob("*/*") if path.name.lower() in DIAGNOSTIC)
    return min(found, default=None)


def read_test(path: Path, task: Task, count: int) -> tuple[Row, ...]:
    """The rows of a test file in the order of their index, 0 to count - 1; each label is 0.

    The rows of a file without an index column, such as MRPC's original one, keep their order.

    Args:
        path: test.tsv, or the diagnostic set, which has MNLI's columns.
        task: which texts a row has.
        count: rows that the GLUE server scores.

    Raises:
        InputError: the file or a column is missing, a line does not fit, or a row is missing,
            occurs twice or is one too many.
    """
    columns = FORMATS[task.name].test_columns or FORMATS[task.name].columns[:-1]
    lines = read_lines(path, TEST_LAYOUT)
    header = _header(path, lines, columns)
    places = [header.index(name) for name in columns]
    index = next((header.index(name) for name in INDEX if name in header), None)
    rows = {}
    for position, line in enumerate(lines):
        fields, where = line.split("\t"), f"{path}, line {position + 2}"
        _check_width(fields, len(header), where)
        number = str(position) if index is None else fields[index].strip()
        if not re.fullmatch(r"\d{1,9}", number) or int(number) >= count or int(number) in rows:
            raise InputError(
                f"{where}: expected an index from 0 to {count - 1:,} that occurs once, "
                f"found {number!r:.80}."
            )
        texts = [fields[place] for place in places]
        rows[int(number)] = Row(texts[0], texts[1] if task.pair else None, 0)
    missing = next((i for i in range(count) if i not in rows), None)
    if missing is not None:
        raise InputError(
            f"{path} has {len(rows):,} rows, the GLUE server wants {count:,}: the row with index "
            f"{missing} is missing. Get the file again."
        )
    return tuple(rows[i] for i in range(count))
