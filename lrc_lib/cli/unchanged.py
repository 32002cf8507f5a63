"""When an executed notebook is kept: nothing that it reads has changed since it was executed.

After each success `out/notebooks/<name>.key` gets one hash of all that the notebook read and of all
that it left. The next call computes the hash again; if it is the same, nothing is executed.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

from lrc_lib.course.notebook import PACKAGE
from lrc_lib.data.manifest import MANIFEST
from lrc_lib.results.kept import FOLDER


def shared_inputs(out: Path, facts: dict) -> str:
    """A hash of what every notebook may read: the library's code, results that came with the
    repository, all installed packages, every finished run of the store, and `facts`."""
    packages = {f"{d.name} {d.version}" for d in importlib.metadata.distributions()}
    files = [p for folder in (PACKAGE, FOLDER) for p in folder.rglob("*") if p.suffix != ".pyc"]
    files += (out / "runs").glob(f"*/{MANIFEST}")
    return _digest(json.dumps([facts, sorted(packages)]), sorted(filter(Path.is_file, files)))


def is_kept(order, out: Path) -> bool:
    """Whether the executed copy of an `Order` and its results are there, and nothing changed."""
    file = out / "notebooks" / f"{order.name}.key"
    key = _key(order, out)
    return key != "" and file.exists() and file.read_bytes() == key.encode()


def write_key(order, out: Path) -> None:
    """Writes the key of a notebook that was just executed."""
    (out / "notebooks" / f"{order.name}.key").write_text(_key(order, out), encoding="utf-8")


def _key(order, out: Path) -> str:
    """A hash of all that a notebook reads and of all that its execution left in `out`; "" where
    something that it left is missing."""
    executed, record = (out / f"notebooks/{order.name}.ipynb", out / f"results/{order.name}.json")
    try:
        figures = json.loads(record.read_text(encoding="utf-8"))["figures"]
        files = [order.source, executed, record, *(record.parent / f["file"] for f in figures)]
        return _digest(json.dumps([order.inputs, order.parameters]), files)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _digest(text: str, files) -> str:
    found = hashlib.sha256(text.encode())
    for path in files:
        found.update(f"\n{path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
