"""A folder's manifest: its name, and the size and the sha256 of each of its files.

It lies in `manifest.json` and is written last, so a folder that has one is whole. `is_whole` checks
a folder against its manifest before it is trusted, once per process; this reads all files, about
1 GB per second. A folder that differs is set aside: it is renamed to `<name>.damaged`, and made
again when it is needed.
"""

import functools
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lrc_lib.errors import one_line

MANIFEST = "manifest.json"
PARTIAL, DAMAGED = ".partial", ".damaged"  # suffixes of what is not finished, and of what is broken
ASIDE = (PARTIAL, DAMAGED)
LEFT_OUT = (".lock", *ASIDE)


def rename(source: Path, target: Path) -> None:
    """`os.replace`, which Windows refuses while another process, such as a virus scanner, reads a
    file of it: there it is tried for two seconds."""
    for wait in (0.1, 0.4, 1.5) if sys.platform == "win32" else ():
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(wait)
    os.replace(source, target)


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it holds all of `text` or what it held before, after a crash too."""
    partial = path.with_name(f"{path.name}{PARTIAL}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    rename(partial, path)


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """An empty folder next to `target`, in which it is made. It is deleted after the block, and
    before it: a process that was killed may have left it.

    Raises:
        OSError: it cannot be made.
    """
    place = target.with_name(f".{target.name}{PARTIAL}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def files_in(folder: Path) -> dict[str, Path]:
    """{name: path} of all files in a folder and its subfolders.

    Raises:
        OSError: a folder cannot be listed; `Path.rglob` would take it for an empty one.
    """

    def refuse(error: OSError):
        raise error

    places = os.walk(folder, onerror=refuse)
    paths = [Path(place, name) for place, _, names in places for name in names]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def write_manifest(folder: Path, without=()) -> None:
    """Writes the manifest of a folder, {"name": its name, "files": {name: {"size", "sha256"}}}.

    It lists all files, those in subfolders included, except itself, those in `without`, locks,
    partial and temporary files. Names are paths in the folder, with forward slashes. The name of
    the folder is the one that it will have without ".partial".

    Raises:
        OSError: a file cannot be read, or the manifest cannot be written.
    """
    folder, files = Path(folder), {}
    for name, path in sorted(files_in(folder).items()):
        passing = name.endswith(LEFT_OUT) or path.name.startswith(".tmp")
        if passing or name in (MANIFEST, *without):
            continue
        files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    content = {"name": folder.name.removesuffix(PARTIAL), "files": files}
    write_whole(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def sealed(content: dict) -> dict:
    """A JSON object with "sha256", the hash of everything else in it."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True)
    return rest | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def fault(folder: Path, wanted: Callable = lambda name: True) -> str:
    """How a folder differs from its manifest, as a clause; "" if it does not.

    Args:
        wanted: f(name of a file): whether it is to be looked at.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        name = manifest.get("name", folder.name)
        if name != folder.name:
            return f"it was made under the name '{name}'"
        for name, entry in manifest["files"].items():
            path = folder / name
            if not wanted(name):
                continue
            if not path.is_file() or path.stat().st_size != entry["size"]:
                return f"{name} is missing or has lost a part"
            if _sha256(path) != entry["sha256"]:
                return f"{name} is not what was written (its sha256 differs)"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"its {MANIFEST} or a file cannot be read ({error})"
    return ""


def is_whole(folder: Path) -> bool:
    """Whether a folder has a manifest and is what that says; a folder that is not is set aside.

    It is read once per process, as long as the manifest stays the same.
    """
    try:
        return _is_whole(folder, (folder / MANIFEST).stat().st_mtime_ns)
    except OSError:
        return False


@functools.lru_cache(maxsize=1 << 16)
def _is_whole(folder: Path, stamp: int) -> bool:
    found = fault(folder)
    if found:
        set_aside(folder, found)
    return not found


def set_aside(folder: Path, why: str) -> None:
    """Renames a folder to `<name>.damaged` and says so on standard error, in one line."""
    target = folder.with_name(folder.name + DAMAGED)
    try:
        shutil.rmtree(target, ignore_errors=True)  # an earlier one
        rename(folder, target)
        then = f"It is set aside as '{target.name}' and made again when it is needed."
    except OSError as error:
        then = f"It is not used, but cannot be set aside ({error.strerror}): please delete it."
    say_damaged(f"'{folder}': {why}. {then}")


def say_damaged(text: str) -> None:
    """One line on standard error. It may quote the damaged file."""
    print(one_line(f"damaged: {text}"), file=sys.stderr, flush=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
