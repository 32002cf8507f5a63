"""A folder's manifest: the size and the sha256 of each of its files, in `manifest.json`.

It is written last, so a folder that has one is whole; a file that differs from it was changed.
"""

import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"
LEFT_OUT = (".lock", ".partial")


def write_manifest(folder: Path) -> None:
    """Writes the manifest of a folder, {"files": {name: {"size", "sha256"}}}.

    It lists all files, those in subfolders included, except itself, locks and partial files. Names
    are paths in the folder, with forward slashes.

    Raises:
        OSError: a file cannot be read, or the manifest cannot be written.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*")}
    files = {}
    for name, path in sorted(paths.items()):
        if name == MANIFEST or name.endswith(LEFT_OUT) or not path.is_file():
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"size": file.tell(), "sha256": digest}
    partial = Path(folder, f"{MANIFEST}.partial")
    partial.write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, partial.with_name(MANIFEST))
