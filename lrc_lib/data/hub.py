"""GLUE, Wikipedia and models from the Hugging Face hub: the only module that imports `datasets`.

Revisions are pinned. Before a fetch one short question tells whether the hub answers: without a
network the error comes at once, not after retries. What was fetched before needs no network.
"""

from pathlib import Path

from lrc_lib.data.download import is_offline
from lrc_lib.data.glue_dir import FORMATS
from lrc_lib.data.rows import Row
from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError, UnavailableError

DATASET = "nyu-mll/glue"
WIKIPEDIA_DATASET = "wikimedia/wikipedia"
REVISIONS = {
    DATASET: "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    WIKIPEDIA_DATASET: "b04c8d1ceb2f5cd4588862100d08de323dccfbaa",
    "google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
}
# configuration -> articles, bytes (text, titles and addresses), as the dataset's card says
WIKIPEDIA_SIZES = {"20231101.en": (6_407_814, 20_200_062_385)}
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
SECONDS = 5  # for the hub's first answer
WITHOUT_WIKIPEDIA = (
    "Without the hub, give text of your own: --text FILE|DIR, or --set general_data=FILE. For "
    "another revision: --revision, or general_data=wikipedia:CONFIG@REVISION."
)


def fetch(repo: str, kind: str = "model", patterns: tuple[str, ...] = MODEL_FILES) -> Path:
    """A local folder with files of a hub repository; files that are not cached are fetched.

    Args:
        repo: "owner/name", at its revision in `REVISIONS` if it is listed there.
        kind: "model" (the files at the top only) or "dataset".
        patterns: which files, as globs.

    Raises:
        UnavailableError: no network or `--offline`, and not cached; or no such repository.
    """
    import huggingface_hub as hub

    revision = REVISIONS.get(repo)
    reason = out_of_reach(repo, kind, revision)
    try:
        return Path(
            hub.snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"] if kind == "model" else None,
                local_files_only=bool(reason),
            )
        )
    except Exception as error:
        raise UnavailableError(
            f"Could not get the {kind} '{repo}' from the Hugging Face hub: "
            f"{reason or _first_line(error)}. Without the hub: --glue-dir DIR reads "
            "GLUE from a folder, --set teacher=DIR takes a model folder, and the default profile "
            "needs neither. With a network once: python -m lrc_lib fetch."
        ) from error


def out_of_reach(repo: str, kind: str, revision: str | None) -> str:
    """Why the hub does not give this repository at this revision; "" if it does."""
    import huggingface_hub as hub

    if is_offline():
        return "--offline is set, and it is not cached"
    try:  # one question without retries; a download would retry for half a minute
        hub.HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=SECONDS)
    except hub.errors.RevisionNotFoundError:
        return f"the hub has no revision '{revision}' of it (any more)"
    except Exception as error:  # of the hub, of its transport, or of the system
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def read(task: Task) -> tuple[dict[str, tuple[Row, ...]], str]:
    """Split -> rows, and source, of a GLUE task, from the hub's "validation" split.

    Raises:
        UnavailableError: see `fetch`.
        InputError: the hub's labels are not the task's.
    """
    from datasets import load_dataset  # its import takes seconds

    config, texts = FORMATS[task.name].hub.values()
    folder = fetch(DATASET, "dataset", (f"{config}/*",)) / config
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
    return splits, source


def _rows(table, task: Task, texts: tuple[str, ...], where: str) -> tuple[Row, ...]:
    names = getattr(table.features["label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise InputError(f"{where}: expected the labels {task.labels}, found {tuple(names)}.")
    kind = float if task.kind == "regression" else int
    columns = [table[name] for name in texts] + ([] if task.pair else [[None] * len(table)])
    return tuple(
        Row(a, b, kind(label)) for a, b, label in zip(*columns, table["label"], strict=True)
    )


class Articles:
    """The articles of a Wikipedia on the hub, streamed: nothing is kept on disk.

    Args:
        config: "DATE.LANGUAGE", as the hub names it.
        revision: a commit of the hub's repository.
        place: the `place` of an earlier stream, to continue from there.

    Raises:
        InputError: no such configuration.
        UnavailableError: no network, no such revision (any more), or the stream broke off.
    """

    def __init__(self, config: str, revision: str, place=None):
        self.where = f"{WIKIPEDIA_DATASET}, {config}, at revision {revision}"
        self.source = f"Articles of Wikipedia from the hub's {self.where}."
        self.done, self.size = 0, WIKIPEDIA_SIZES.get(config, (0, 0))[0]
        reason = out_of_reach(WIKIPEDIA_DATASET, "dataset", revision)
        if reason:
            raise self._unavailable(reason)
        from datasets import load_dataset

        self.first, table = self.done, _ = place or (0, None)
        try:
            self.table = load_dataset(
                WIKIPEDIA_DATASET, config, split="train", streaming=True, revision=revision
            )
            self.begun = table or self.table.state_dict()
            if table:
                self.table.load_state_dict(table)
        except ValueError as error:
            raise InputError(f"{self.where}: {_first_line(error):.300}.") from error
        except Exception as error:
            raise self._unavailable(_first_line(error)) from error

    @property
    def place(self):
        """Where the next article begins: [articles so far, the state that `datasets` needs].

        Raises:
            UnavailableError: articles were read, but `datasets` says that it is where it began.
        """
        state = self.table.state_dict()
        if self.done > self.first and state == self.begun:
            raise self._unavailable("this version of `datasets` loses its place in a stream")
        return [self.done, state]

    def __iter__(self):
        try:
            for row in self.table:
                self.done += 1
                if "text" not in row:
                    raise InputError(
                        f"{self.where}: expected the column 'text', found {', '.join(row)}."
                    )
                if row["text"].strip():
                    yield row["text"]
        except InputError:
            raise
        except Exception as error:  # of the hub, of its transport, or of the system
            raise self._unavailable(_first_line(error)) from error

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(
            f"Could not read {self.where}: {reason}. {WITHOUT_WIKIPEDIA} What was packed so far is "
            "kept, and the same command continues there."
        )
