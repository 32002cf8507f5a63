"""A folder's manifest: the size and the sha256 of each of its files, in `manifest.json`.

It is written last, so a folder that has one is whole; a file that differs from it was changed.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "manifest.json"
LEFT_OUT = (".lock", ".partial")


def write_manifest(folder: Path, names: Iterable[str] | None = None) -> dict:
    """Writes the manifest of a folder and returns it: {"files": {name: {"size", "sha256"}}}.

    Args:
        folder: its files are read once, in blocks.
        names: paths in the folder, with forward slashes. None: all files, those in subfolders
            included, except the manifest itself, locks and partial files.

    Raises:
        OSError: a file is missing or cannot be read, or the manifest cannot be written.
    """
    folder = Path(folder)
    if names is None:
        paths = (path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in paths]
        names = [name for name in names if name != MANIFEST and not name.endswith(LEFT_OUT)]
    files = {}
    for name in sorted(names):
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"size": file.tell(), "sha256": digest}
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / MANIFEST)
    return {"files": files}


def read_manifest(folder: Path) -> dict | None:
    """The manifest of a folder; None where there is none, or none that can be read."""
    try:
        content = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "files" in content else None
