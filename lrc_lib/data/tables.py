"""Files read strictly: UTF-8 text, CSV, TSV and JSONL. An error names file and line."""

import csv
import json
import math
import re
import tomllib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError, unknown


def decoded(raw: bytes, where: str) -> str:
    """A line of a file as text.

    Raises:
        InputError: it is not UTF-8, or holds a NUL byte; `where` names file and line.
    """
    if raw.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
        raise InputError(f"{where}: found UTF-16. Save the file as UTF-8.")
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


FITS = {  # what a value must be, in words -> whether it is that
    "a text": lambda value: isinstance(value, str) and value,
    "a list of texts": lambda value: (  # a label may be a number
        isinstance(value, list) and {*map(type, value)} in ({str}, {int}, {str, int})
    ),
    "a whole number above 0": lambda value: type(value) is int and value > 0,
    "true or false": lambda value: isinstance(value, bool),
    "a table": lambda value: isinstance(value, dict),
}


def read_toml(path: Path, kinds: dict[str, str]) -> dict:
    """The table in a TOML file.

    Args:
        kinds: key -> a key of `FITS`, or several joined by ", or ".

    Raises:
        InputError: see `read_text`; not valid TOML, an unknown key, a value of another kind.
    """
    text = read_text(path)
    try:
        table = tomllib.loads(text)
        repr(table)  # as a message shows it; fails on hexadecimal numbers beyond any use
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None
    for key, value in table.items():
        if key not in kinds:
            raise unknown(f"key in {path}:", key, kinds)
        if not any(FITS[words](value) for words in kinds[key].split(", or ")):
            raise InputError(f"{path}: '{key}' must be {kinds[key]}, not {value!r}.")
    return table


class Record(NamedTuple):
    """One row of a file: where it starts ("FILE, line N"), and its fields by column."""

    where: str
    fields: dict[str, str | None]

    def value(self, column: str) -> str:
        """One field.

        Raises:
            InputError: it is missing or blank (file and line).
        """
        value = self.fields.get(column)
        if value is None or not value.strip():
            raise InputError(f"{self.where}: the column '{column}' is missing or empty.")
        return value


@dataclass(frozen=True)
class Table:
    """A file's rows. `columns` are those of the header, or the keys of the first JSON object."""

    path: Path
    columns: list[str]
    rows: list[Record]

    def __post_init__(self):
        if not self.rows:
            raise InputError(f"{self.path} has no rows. A split needs at least one.")


def read_table(path: Path) -> Table:
    """Reads a .csv, .tsv (no quoting) or .jsonl file.

    Raises:
        InputError: not UTF-8, a NUL byte, broken JSON or quoting, a row of another width, or one
            column only (file and line).
    """
    if path.suffix.lower() == ".jsonl":
        rows = list(_read_jsonl(path))
        return Table(path, list(rows[0].fields) if rows else [], rows)
    lines = _read_tsv(path) if path.suffix.lower() == ".tsv" else _read_csv(path)
    where, header = next(lines, ("", None))
    if header is None:
        raise InputError(f"{path} is empty; expected a header line and rows.")
    columns, rows = [name.strip() for name in header], []
    if len(columns) == 1:
        raise InputError(
            f"{where}: expected two or more columns, found one, {columns[0]!r:.80}. Columns are "
            "separated by commas in a .csv file and by tabs in a .tsv file."
        )
    if len(set(columns)) < len(columns):
        raise InputError(f"{where}: a column name occurs twice: {columns}.")
    for where, fields in lines:
        if len(fields) != len(columns):
            raise InputError(f"{where}: expected {len(columns)} fields, found {len(fields)}.")
        rows.append(Record(where, dict(zip(columns, fields, strict=True))))
    return Table(path, columns, rows)


def _read_tsv(path: Path):
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield f"{path}, line {number}", line.split("\t")


def _read_csv(path: Path):
    reader = csv.reader(re.split(r"(?<=\n)", read_text(path)), strict=True)
    where = f"{path}, line 1"
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield where, fields
            where = f"{path}, line {reader.line_num + 1}"  # a field may hold line breaks
    except csv.Error as error:
        raise InputError(
            f"{where}: not valid CSV ({error}). A text with a comma or a quotation mark is put in "
            'quotation marks, and a mark inside it is written twice: "".'
        ) from None


def _read_jsonl(path: Path):
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            json.dumps(item, ensure_ascii=False).encode()  # "\ud83d" alone is no character
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON ({error}).") from None
        if not isinstance(item, dict):
            raise InputError(f'{where}: expected an object such as {{"text": ..., "label": ...}}.')
        texts = (
            value if isinstance(value, str | None) else json.dumps(value) for value in item.values()
        )
        yield Record(where, dict(zip(item, texts, strict=True)))


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
