"""GLUE, and models, from the Hugging Face hub: the only module that imports `datasets`.

Revisions are pinned. One cheap look at the hub comes first, so that without a network there is one
clear error at once instead of retries; what was fetched before is found without a network.
"""

from pathlib import Path

from ..errors import InputError, UnavailableError
from ..tasks import Task
from .download import is_offline
from .rows import Row

DATASET = "nyu-mll/glue"
REVISIONS = {
    DATASET: "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    "google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
}
# task -> name of the hub's configuration, its text columns
COLUMNS = {
    "cola": ("cola", ("sentence",)),
    "sst-2": ("sst2", ("sentence",)),
    "mrpc": ("mrpc", ("sentence1", "sentence2")),
    "sts-b": ("stsb", ("sentence1", "sentence2")),
    "qqp": ("qqp", ("question1", "question2")),
    "mnli": ("mnli", ("premise", "hypothesis")),
    "qnli": ("qnli", ("question", "sentence")),
    "rte": ("rte", ("sentence1", "sentence2")),
}
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
SECONDS = 5  # for the hub's first answer


def fetch(repo: str, kind: str = "model", patterns: tuple[str, ...] = MODEL_FILES) -> Path:
    """A local folder with files of a hub repository, fetched where they are not cached.

    Args:
        repo: "owner/name"; its revision is the one in `REVISIONS` where it is listed there.
        kind: "model" (the files at the top only) or "dataset".
        patterns: which files, as globs.

    Raises:
        UnavailableError: no network or `--offline`, and not cached; or no such repository.
    """
    import huggingface_hub as hub

    revision, reason = REVISIONS.get(repo), "--offline is set, and it is not cached"
    reachable = not is_offline()
    if reachable:
        try:  # one question without retries: a download would try for half a minute
            hub.HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=SECONDS)
        except Exception as error:  # of the hub, of its transport, or of the system
            reachable, reason = False, _first_line(error)
    try:
        return Path(
            hub.snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"] if kind == "model" else None,
                local_files_only=not reachable,
            )
        )
    except Exception as error:
        raise UnavailableError(
            f"Could not get the {kind} '{repo}' from the Hugging Face hub: "
            f"{_first_line(error) if reachable else reason}. Without the hub: --glue-dir DIR reads "
            "GLUE from a folder, --set teacher=DIR takes a model folder, and the default profile "
            "needs neither. With a network once: python -m lrc_lib fetch."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def read(task: Task) -> tuple[tuple[Row, ...], dict[str, tuple[Row, ...]], str]:
    """Training rows, dev rows and source of a GLUE task, from the hub's "validation" split.

    Raises:
        UnavailableError: see `fetch`, or `datasets` is not installed.
        InputError: the hub's labels or columns are not the ones that were meant.
    """
    config, texts = COLUMNS[task.name]
    folder = fetch(DATASET, "dataset", (f"{config}/*",)) / config
    try:  # after the fetch: its import takes seconds
        from datasets import load_dataset
    except ImportError as error:
        raise UnavailableError(
            "DATA = 'hub' needs the package 'datasets': python -m pip install datasets. "
            "Or read GLUE from a folder: --glue-dir DIR."
        ) from error
    names = {"train": "train"} | {
        split: "validation" if split == "dev" else f"validation_{split}"
        for split in task.dev_splits
    }
    splits = {}
    for split, hub_name in names.items():
        files = sorted(str(path) for path in folder.glob(f"{hub_name}-*.parquet"))
        if not files:
            raise UnavailableError(
                f"The cached copy of {DATASET} in '{folder}' has no '{hub_name}-*.parquet'. Fetch "
                "it with a network once, or read GLUE from a folder: --glue-dir DIR."
            )
        table = load_dataset("parquet", data_files={hub_name: files}, split=hub_name)
        splits[split] = _rows(table, task, texts, f"{DATASET}, {config}, {hub_name}")
    source = f"{task.title} from the hub's {DATASET} at revision {REVISIONS[DATASET][:8]}."
    return splits.pop("train"), splits, source


def _rows(table, task: Task, texts: tuple[str, ...], where: str) -> tuple[Row, ...]:
    missing = [name for name in (*texts, "label") if name not in table.column_names]
    if missing:
        raise InputError(
            f"{where}: expected the column '{missing[0]}', found {', '.join(table.column_names)}."
        )
    names = getattr(table.features["label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise InputError(f"{where}: expected the labels {task.labels}, found {tuple(names)}.")
    kind = float if task.kind == "regression" else int
    columns = [table[name] for name in texts] + ([] if task.pair else [[None] * len(table)])
    return tuple(
        Row(a, b, kind(label)) for a, b, label in zip(*columns, table["label"], strict=True)
    )
