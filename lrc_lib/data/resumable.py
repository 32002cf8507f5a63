"""A file that takes hours to write: it is written in parts, and an interrupted writing continues.

After each part the file is flushed to the disk. Then a small record next to it says how many bytes
are whole, where to continue, and a sha256 of both. Bytes after those, a torn part, are cut off. A
file that lost some of these bytes, or has others in their place, is written again from the start.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lrc_lib.data.manifest import PARTIAL, is_whole, rename, write_manifest, write_whole
from lrc_lib.errors import LrcError, UnavailableError


@contextmanager
def sole_writer(target: Path, partial: Path, what: str):
    """Holds the lock of `target` while the block writes `partial` and renames it to `target`.

    Args:
        what: names the content in the error.

    Raises:
        UnavailableError: the disk refuses, e.g. because it is full; what was written is kept.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            yield
    except LrcError:
        raise
    except OSError as error:
        raise UnavailableError(
            f"Cannot write {what} to '{target.parent}': {error.strerror or error}. What was "
            f"written is kept in '{partial.name}'; make room, and the same command continues there."
        ) from error


def whole_folder(folder: Path, what: str, make: Callable[[Path], object]) -> Path:
    """A folder of the cache that agrees with its manifest. Where it is not there, `make` fills its
    partial folder, perhaps after an interruption; see `sole_writer` for `what` and errors."""
    partial = folder.with_name(folder.name + PARTIAL)
    with sole_writer(folder, partial, what):
        if not is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)  # left without its manifest
            make(partial)
            write_manifest(partial)
            rename(partial, folder)
    return folder


def write_parts(
    path: Path, record: Path, begin: dict, parts: Callable[[dict], Iterator[tuple[bytes, dict]]]
) -> dict:
    """Appends parts to a file until there are no more, and skips those that it has already.

    Args:
        path: the file; its folder is made if need be.
        record: the file for the state, as JSON.
        begin: the state before the first part.
        parts: parts(state) yields (bytes, the state after them) from that state on. The code
            after its `yield` runs when the part is on the disk.

    Returns:
        The state after the last part, with "bytes", the size of the file.

    Raises:
        OSError: the disk refused; see `sole_writer`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state, digest = _begun(path, record, begin)
    with path.open("ab") as file:
        file.truncate(state["bytes"])
        for content, after in parts(state):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            digest.update(content)
            state = {**after, "bytes": file.tell()}
            write_whole(record, json.dumps({**state, "sha256": _seal(digest, state)}))
    return state


def _begun(path: Path, record: Path, begin: dict):
    """(the recorded state, the hash so far), from the beginning where the file is not what was
    recorded."""
    try:
        state = json.loads(record.read_text(encoding="utf-8"))
        with path.open("rb") as file:
            digest, left = hashlib.sha256(), state["bytes"]
            while block := file.read(min(left, 1 << 20)):
                digest.update(block)
                left -= len(block)
        if state.pop("sha256") == _seal(digest, state):
            return state, digest
    except Exception:  # whatever a damaged record makes of itself
        pass
    return {**begin, "bytes": 0}, hashlib.sha256()


def _seal(digest, state: dict) -> str:
    """The sha256 of what was written so far and of the state after it."""
    both = digest.copy()
    both.update(json.dumps(state, sort_keys=True).encode())
    return both.hexdigest()
