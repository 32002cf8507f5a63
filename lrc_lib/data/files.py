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

import json
import re
import tomllib
from pathlib import Path

from lrc_lib.data.rows import Row, read_lines, read_text, text_key, to_label
from lrc_lib.data.tables import Table, read_table
from lrc_lib.data.tasks import KINDS, METRICS, TASKS, Task
from lrc_lib.errors import InputError, unknown

SUFFIXES = (".csv", ".tsv", ".jsonl")
LAYOUT = (
    "Your own task is a folder with train.csv and dev.csv (or .tsv, .jsonl), a text column and a "
    "label column."
)
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("question", "sentence"),
)
SINGLES = ("text", "sentence", "review", "content")
SCORES = ("score", "rating")
LABELS = ("label", "labels", "class", "category", "sentiment", *SCORES)
SETTINGS = dict.fromkeys(("name", "title", "label", "kind"), str)
SETTINGS |= dict.fromkeys(("text", "labels", "metrics"), list)
SETTINGS |= dict.fromkeys(("max_length", "epochs"), int)
FIRST = ("train", "dev")
MOST_LABELS = 100


def _split_files(folder: Path) -> dict[str, Path]:
    """Split name -> file: "train", "dev", then each further dev_NAME as NAME, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(train|dev)(?:_(\w+))?", path.stem)
        if path.suffix not in SUFFIXES or not match or (match[1] == "train" and match[2]):
            continue
        split = match[2] or match[1]
        if split in found:
            raise InputError(
                f"'{folder}' has both {found[split].name} and {path.name}; keep one of them."
            )
        found[split] = path
    return dict(sorted(found.items(), key=lambda item: (item[0] not in FIRST, item[0] != "train")))


def holds_task(folder: str) -> bool:
    """Whether a folder has a train or dev file of its own, or a task.toml."""
    return (Path(folder) / "task.toml").exists() or bool(_split_files(Path(folder)))


def _settings(folder: Path) -> dict:
    path = folder / "task.toml"
    if not path.exists():
        return {}
    try:
        given = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None
    for key, value in given.items():
        if key not in SETTINGS:
            raise unknown(f"key in {path}:", key, SETTINGS)
        if key == "text" and isinstance(value, str):
            given[key] = [value]
        elif not isinstance(value, SETTINGS[key]) or isinstance(value, bool) or not value:
            kind = {str: "a text", list: "a list", int: "a whole number above 0"}[SETTINGS[key]]
            raise InputError(f"{path}: '{key}' must be {kind}, not {value!r}.")
    if not 1 <= len(given.get("text", "1")) <= 2:
        raise InputError(f"{path}: 'text' must name one or two columns, not {given['text']}.")
    for key in ("text", "labels", "metrics"):
        if not all(isinstance(item, str | int) for item in given.get(key, ())):
            raise InputError(f"{path}: '{key}' must be a list of texts, not {given[key]}.")
    if given.get("kind", KINDS[0]) not in KINDS:
        raise unknown(f"kind in {path}:", given["kind"], KINDS)
    for metric in given.get("metrics", ()):
        if metric not in METRICS:
            raise unknown(f"metrics in {path}:", metric, METRICS)
    for key in ("max_length", "epochs"):
        if given.get(key, 1) < 1:
            raise InputError(f"{path}: '{key}' must be a whole number above 0, not {given[key]}.")
    return given


def _columns(table: Table, given: dict) -> tuple[list[str], str]:
    """The text columns and the label column."""
    known = {name.lower(): name for name in table.columns}
    texts = given.get("text")
    if not texts:
        pairs = [pair for pair in PAIRS if all(name in known for name in pair)]
        singles = [(name,) for name in SINGLES if name in known]
        texts = [known[name] for name in next(iter(pairs + singles), ())]
    label = given.get("label") or next((known[n] for n in LABELS if n in known), "")
    for column, key in [*((text, "text") for text in texts or [""]), (label, "label")]:
        if not column or column not in table.columns:
            raise InputError(
                f"{table.path}: expected a column {repr(column) if column else f'for the {key}'}; "
                f"found {', '.join(table.columns) or 'none'}. Name it in "
                f"'{table.path.parent / 'task.toml'}': {key} = "
                + ('["COLUMN"].' if key == "text" else '"COLUMN".')
            )
    return texts, label


def _in_order(names: set[str]) -> tuple[str, ...]:
    numbers = all(re.fullmatch(r"-?\d+", name) for name in names)
    return tuple(sorted(names, key=int if numbers else None))


def read_task(data: str) -> Task:
    """The task that a folder describes, from its task.toml, its files' names and its columns.

    Raises:
        InputError: a missing file or column, or a task.toml that does not fit.
    """
    folder = Path(data).resolve()
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
    if not table.rows:
        raise InputError(f"{table.path} has no rows. A split needs at least one.")
    texts, label = _columns(table, given)
    guess = KINDS[label.lower() in SCORES and "labels" not in given]
    kind = given.get("kind", guess)
    labels = tuple(str(item) for item in given.get("labels", ()))
    if kind == "classification" and not labels:
        labels = _in_order({table.value(i, label).strip() for i in range(len(table.rows))})
        if len(labels) > MOST_LABELS:
            raise InputError(
                f"{table.path}: the column '{label}' has {len(labels)} different labels. For "
                'scores write kind = "regression" in task.toml; else list the labels there.'
            )
    if kind == "classification" and len(set(labels)) < max(2, len(labels)):
        raise InputError(f"{table.path}: expected two or more different labels, found {labels}.")
    allowed = ("pearson", "spearman") if kind == "regression" else ("accuracy", "f1", "matthews")
    allowed = tuple(metric for metric in allowed if metric != "f1" or len(labels) == 2)
    for metric in given.get("metrics", ()):
        if metric not in allowed:
            raise unknown(f"metric for a {kind} with {len(labels)} labels:", metric, allowed)
    return Task(
        name=name,
        title=given.get("title", folder.name),
        kind=kind,
        labels=() if kind == "regression" else labels,
        pair=len(texts) == 2,
        metrics=tuple(given.get("metrics", allowed[:2])),
        dev_splits=tuple(split for split in splits if split != "train"),
        max_length=given.get("max_length", 64 * len(texts)),
        epochs=given.get("epochs", 18),
        source="files",
    )


def read(task: Task, data: str) -> tuple[tuple[Row, ...], dict[str, tuple[Row, ...]], str]:
    """Training rows, dev rows and source of the user's own task.

    Raises:
        InputError: the first line of a file that does not fit (file, line, expected and found).
    """
    folder = Path(data).resolve()
    tables = {split: read_table(path) for split, path in _split_files(folder).items()}
    texts, label = _columns(tables["train"], _settings(folder))
    splits = {split: _rows(table, task, texts, label) for split, table in tables.items()}
    train = splits.pop("train")
    source = f"Your own files in '{data}'."
    seen = {text_key(row.text_a, row.text_b) for row in train}
    shared = sum(text_key(r.text_a, r.text_b) in seen for rows in splits.values() for r in rows)
    if shared:
        source += f" {shared:,} dev row(s) have texts that are also in the training file."
    return train, splits, source


def _rows(table: Table, task: Task, texts: list[str], label: str) -> tuple[Row, ...]:
    if not table.rows:
        raise InputError(f"{table.path} has no rows. A split needs at least one.")
    for column in (*texts, label):
        if column not in table.columns:
            raise InputError(
                f"{table.path}, line 1: expected the column '{column}', as in the training file; "
                f"found {', '.join(table.columns)}."
            )
    return tuple(
        Row(
            table.value(i, texts[0]),
            table.value(i, texts[1]) if task.pair else None,
            to_label(table.value(i, label).strip(), task, table.where(i)),
        )
        for i in range(len(table.rows))
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
            rows.append(Row(*texts, to_label(str(item["label"]), task, where)))
        except (ValueError, KeyError, AttributeError):
            raise InputError(f"{where}: expected a row; delete the file and run again.") from None
    return tuple(rows)
