"""What `reproduce.py` makes sure of before it computes anything."""

import os
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

from lrc_lib.data.corpus import is_wikipedia
from lrc_lib.errors import InputError, UnavailableError

SPARE_BYTES = 200e6


def uses_hub(specs) -> bool:
    """Whether a spec's data, teacher, masked LM or text comes from the hub."""

    def remote(model):
        return not (model.startswith("package:") or Path(model).is_dir())

    return any(
        spec.data == "hub"
        or remote(spec.teacher)
        or (spec.augment and remote(spec.augment_mlm))
        or (is_wikipedia(spec.general_data) and (spec.start_spec() or spec.kind == "general"))
        for spec in specs
    )


def claim(out: Path):
    """Makes an output folder and returns its lock, for `with`: one `reproduce.py` at a time has it.

    Notebooks and `python -m lrc_lib run` do not ask for it: each run has a lock of its own.

    Raises:
        InputError: the folder cannot be written, or is another's.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return FileLock(out / "reproduce.lock").acquire(timeout=0)
    except OSError as error:
        taken = "another reproduce.py is at work there; wait until it has ended"
        reason = taken if isinstance(error, Timeout) else error.strerror or error
        raise InputError(
            f"Cannot write to the output folder '{out}': {reason}. Choose another with --out DIR."
        ) from None


def check_space(out: Path, needed: float) -> None:
    """Refuses a disk that is too full for what is about to be trained."""
    free = shutil.disk_usage(out).free
    if free < needed + SPARE_BYTES:
        raise UnavailableError(
            f"The disk of '{out}' has {free / 1e9:.2f} GB free, but about "
            f"{(needed + SPARE_BYTES) / 1e9:.2f} GB are needed. Make room or choose --out DIR."
        )


def set_aside(out: Path, specs: dict) -> None:
    """Moves earlier runs of these specs to `out/set_aside/TIME/`, so that they train again, and
    keeps no executed notebook."""
    folder = out / "set_aside" / time.strftime("%Y%m%d-%H%M%S")
    for key in specs:
        for path in (out / "runs" / key, out / "runs" / f"{key}.partial"):
            if path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                os.replace(path, folder / path.name)
        for cache in (out / "cache").glob(f"*{key}*"):
            shutil.rmtree(cache, ignore_errors=True)
    for file in (out / "notebooks").glob("*.key"):
        file.unlink()
