"""CSV, TSV and JSONL files, read strictly: an error names file and line."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

from lrc_lib.data.rows import read_lines, read_text
from lrc_lib.errors import InputError


@dataclass(frozen=True)
class Table:
    """A file's rows as texts, and the line on which each row starts.

    `columns` are those of the header, or the keys of the first JSON object.
    """

    path: Path
    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]

    def where(self, index: int) -> str:
        """File and line of a row."""
        return f"{self.path}, line {self.lines[index]}"

    def value(self, index: int, column: str) -> str:
        """One field.

        Raises:
            InputError: it is missing or blank (file and line).
        """
        value = self.rows[index].get(column)
        if value is None or not value.strip():
            raise InputError(f"{self.where(index)}: the column '{column}' is missing or empty.")
        return value


def read_table(path: Path) -> Table:
    """Reads a .csv, .tsv (no quoting) or .jsonl file.

    Raises:
        InputError: not UTF-8, a NUL byte, broken JSON or quoting, a row of another width (line).
    """
    if path.suffix == ".jsonl":
        return _read_jsonl(path)
    columns, rows, lines = [], [], []
    for line, fields in _records(path):
        if not columns:
            columns = [name.strip() for name in fields]
            if len(set(columns)) < len(columns):
                raise InputError(f"{path}, line {line}: a column name occurs twice: {columns}.")
        elif len(fields) != len(columns):
            raise InputError(
                f"{path}, line {line}: expected {len(columns)} fields, found {len(fields)}."
            )
        else:
            rows.append(dict(zip(columns, fields, strict=True)))
            lines.append(line)
    if not columns:
        raise InputError(f"{path} is empty; expected a header line and rows.")
    return Table(path, columns, rows, lines)


def _records(path: Path):
    """(line, fields) of each line that is not blank."""
    if path.suffix == ".tsv":
        for line, text in enumerate(read_lines(path), 1):
            if text.strip():
                yield line, text.split("\t")
        return
    reader = csv.reader(re.split(r"(?<=\n)", read_text(path)), strict=True)
    start = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {start}: not valid CSV ({error}). A text with a comma or a quotation "
            'mark is put in quotation marks, and a mark inside it is written twice: "".'
        ) from None


def _read_jsonl(path: Path) -> Table:
    columns, rows, lines = [], [], []
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON ({error}).") from None
        if not isinstance(item, dict):
            raise InputError(f'{where}: expected an object such as {{"text": ..., "label": ...}}.')
        columns = columns or list(item)
        rows.append({key: _as_text(value) for key, value in item.items()})
        lines.append(number)
    return Table(path, columns, rows, lines)


def _as_text(value) -> str | None:
    return value if isinstance(value, str) or value is None else json.dumps(value)
