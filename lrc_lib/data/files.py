"""A user's own task: a folder with train.csv and dev.csv (or .tsv, .jsonl), and maybe a task.toml.

    # task.toml, every line optional
    name = "tickets"                    # else the folder's name
    title = "Support tickets"
    text = ["subject", "body"]          # one or two columns
    label = "team"
    labels = ["billing", "technical"]   # else those of the training file, sorted
    kind = "classification"             # or "regression"
    metrics = ["accuracy", "f1"]
    max_length = 128
    epochs = 10

Without a task.toml, columns are found by common names. Texts are data: markup and control
characters stay as they are.
"""

import functools
import json
import re
from pathlib import Path

from lrc_lib.data.rows import Row
from lrc_lib.data.tables import Table, read_lines, read_table, read_toml, to_label
from lrc_lib.data.tasks import KINDS, TASKS, Task
from lrc_lib.errors import InputError, unknown

SUFFIXES = (".csv", ".tsv", ".jsonl")
LAYOUT = (
    "Your own task is a folder with train.csv and dev.csv (or .tsv, .jsonl), a text column and a "
    "label column."
)
TEXTS = (  # columns that are taken where task.toml names none, the first that are there
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text",),
    ("sentence",),
    ("review",),
    ("content",),
)
SCORES = ("score", "rating")
LABELS = ("label", "labels", "class", "category", "sentiment", *SCORES)
SETTINGS = dict.fromkeys(("name", "title", "label", "kind"), "a text")
SETTINGS |= dict.fromkeys(("labels", "metrics"), "a list of texts")
SETTINGS |= dict.fromkeys(("max_length", "epochs"), "a whole number above 0")
SETTINGS["text"] = "a text, or a list of texts"
METRICS = {"regression": ("pearson", "spearman"), "classification": ("accuracy", "f1", "matthews")}
MOST_LABELS = 100


def _split_files(folder: Path) -> dict[str, Path]:
    """Split name -> file: "train", "dev", then each further dev_NAME as NAME, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(train|dev)|dev_(\w+)", path.stem, re.IGNORECASE)
        if path.suffix.lower() not in SUFFIXES or not match:
            continue
        split = match[2] or match[1].lower()
        if split in found:
            raise InputError(
                f"'{folder}' has both {found[split].name} and {path.name}; keep one of them."
            )
        found[split] = path
    return {split: found[split] for split in ("train", "dev", *found) if split in found}


def holds_task(folder: str) -> bool:
    """Whether a folder has a train or dev file of its own, or a task.toml."""
    return (Path(folder) / "task.toml").exists() or bool(_split_files(Path(folder)))


def _settings(folder: Path) -> dict:
    path = folder / "task.toml"
    given = read_toml(path, SETTINGS) if path.exists() else {}
    if isinstance(given.get("text"), str):
        given["text"] = [given["text"]]
    if len(given.get("text", ())) > 2:
        raise InputError(f"{path}: 'text' must name one or two columns, not {given['text']}.")
    if given.get("kind", KINDS[0]) not in KINDS:
        raise unknown(f"kind in {path}:", given["kind"], KINDS)
    return given


def _columns(table: Table, given: dict) -> tuple[list[str], str]:
    """The text columns and the label column."""
    known = {name.lower(): name for name in table.columns}
    usual = next((names for names in TEXTS if known.keys() >= set(names)), ("",))
    texts = given.get("text") or [known.get(name, "") for name in usual]
    label = given.get("label") or next((known[n] for n in LABELS if n in known), "")
    for column, key in [*((text, "text") for text in texts), (label, "label")]:
        if column not in table.columns or not column:
            raise InputError(
                f"{table.path}: expected a column {repr(column) if column else f'for the {key}'}; "
                f"found {', '.join(table.columns) or 'none'}. Name it in "
                f"'{table.path.parent / 'task.toml'}': {key} = "
                + ('["COLUMN"].' if key == "text" else '"COLUMN".')
            )
    return texts, label


def read_task(data: str) -> Task:
    """The task that a folder describes, from its task.toml, its files' names and its columns.

    Raises:
        InputError: a missing file or column, or a task.toml that does not fit.
    """
    folder = Path(data).resolve()
    files = [folder / "task.toml", *_split_files(folder).values()]
    facts = [(path.name, path.stat()) for path in files if path.exists()]
    return _read_task(data, folder, tuple((n, s.st_size, s.st_mtime_ns) for n, s in facts))


@functools.lru_cache(maxsize=8)
def _read_task(data: str, folder: Path, files: tuple) -> Task:
    """The task, read again only if a file's size or time of change differs."""
    given, splits = _settings(folder), _split_files(folder)
    for split, there in (("train", "train" in splits), ("dev", len(splits) > 1)):
        if not there:
            raise InputError(f"'{data}' has no {split}.csv, {split}.tsv or {split}.jsonl. {LAYOUT}")
    name = re.sub(r"[^a-z0-9]+", "-", given.get("name", folder.name).lower()).strip("-") or "own"
    if name in TASKS:
        raise InputError(
            f"The folder '{data}' would be the task '{name}', which is a built-in one. Give it "
            "another name in its task.toml; for GLUE's own files give the folder above it."
        )
    table = read_table(splits["train"])
    texts, label = _columns(table, given)
    scores = label.lower() in SCORES and "labels" not in given
    kind = given.get("kind", "regression" if scores else "classification")
    labels = _labels(table, label, given) if kind == "classification" else ()
    allowed = [m for m in METRICS[kind] if m != "f1" or len(labels) == 2]
    for metric in given.get("metrics", ()):
        if metric not in allowed:
            where = f"metric in {folder / 'task.toml'} for a {kind} with {len(labels)} labels:"
            raise unknown(where, metric, allowed)
    return Task(
        name=name,
        title=given.get("title", folder.name),
        kind=kind,
        labels=labels,
        pair=len(texts) == 2,
        metrics=tuple(given.get("metrics", allowed[:2])),
        dev_splits=tuple(split for split in splits if split != "train"),
        max_length=given.get("max_length", 64 * len(texts)),
        epochs=given.get("epochs", 18),
        source="files",
    )


def _labels(table: Table, column: str, given: dict) -> tuple[str, ...]:
    """The labels as listed in task.toml, else those of the column, sorted."""
    labels = [str(item) for item in given.get("labels", ())]
    if not labels:
        found = {row.value(column).strip() for row in table.rows}
        numbers = all(re.fullmatch(r"-?\d{1,18}", label) for label in found)
        labels = sorted(found, key=lambda label: (int(label) if numbers else 0, label))
        if len(labels) > MOST_LABELS:
            raise InputError(
                f"{table.path}: the column '{column}' has {len(labels)} different labels. For "
                'scores write kind = "regression" in task.toml; else list the labels there.'
            )
    if len(set(labels)) < max(2, len(labels)):
        raise InputError(f"{table.path}: expected two or more different labels, found {labels}.")
    return tuple(labels)


def read(task: Task, data: str) -> tuple[dict[str, tuple[Row, ...]], str]:
    """Split -> rows, and source, of the user's own task.

    Raises:
        InputError: the first line of a file that does not fit (file, line, expected and found).
    """
    folder = Path(data).resolve()
    tables = {split: read_table(path) for split, path in _split_files(folder).items()}
    columns = _columns(tables["train"], _settings(folder))
    splits = {split: _rows(table, task, *columns) for split, table in tables.items()}
    return splits, f"Your own files in '{data}'."


def _rows(table: Table, task: Task, texts: list[str], label: str) -> tuple[Row, ...]:
    for column in (*texts, label):
        if column not in table.columns:
            raise InputError(
                f"{table.path}, line 1: expected the column '{column}', as in the training file; "
                f"found {', '.join(table.columns)}."
            )
    return tuple(
        Row(
            row.value(texts[0]),
            row.value(texts[1]) if task.pair else None,
            to_label(row.value(label).strip(), task, row.where),
        )
        for row in table.rows
    )


def to_line(row: Row, task: Task) -> str:
    """A row as a line of train.jsonl, with the name of its label."""
    label = task.labels[row.label] if task.labels else row.label
    if row.text_b is None:
        return json.dumps({"text": row.text_a, "label": label}) + "\n"
    return json.dumps({"text_a": row.text_a, "text_b": row.text_b, "label": label}) + "\n"


def read_jsonl_rows(path: Path, task: Task) -> tuple[Row, ...]:
    """The rows of a file of lines by `to_line`; a text may be empty.

    Raises:
        InputError: a line that is not a row of the task (file and line).
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {number}"
        try:
            item = json.loads(line)
            texts = item.get("text", item.get("text_a")), item.get("text_b")
            (texts[0] + (texts[1] or "")).encode()  # both are texts
            rows.append(Row(*texts, to_label(str(item["label"]), task, where)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{where}: expected a row; delete the file and run again.") from None
    return tuple(rows)
