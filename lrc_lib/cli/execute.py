"""Executes notebooks, each in a child process (`lrc_lib.cli.child`) with a time limit.

A notebook succeeded if its child ended with code 0, no cell failed, and this same execution wrote
its record of results. papermill's own status is ignored: it calls cells "completed" that a dead
kernel never ran.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lrc_lib.cli.options import OFFLINE
from lrc_lib.cli.unchanged import is_kept, write_key
from lrc_lib.course.notebook import ROOT, SCHEMA, write_json
from lrc_lib.data.text import visible

HEAD = 8  # lines of the cell that failed that are shown
TAIL = 12  # lines of a traceback that are shown
INJECTED = {"injected-parameters", "papermill-error-cell-tag"}  # cells that papermill adds


@dataclass
class Execution:
    """How one notebook went. status: "ok", "failed" or "skipped"; peak_mb is its kernel's."""

    name: str
    status: str
    seconds: float = 0.0
    peak_mb: float = 0.0
    message: str = ""
    cell: int | None = None
    source: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Order:
    """One notebook to execute: `source` with `parameters`, for at most `seconds`.

    `inputs` is a hash of all else that it reads, see `lrc_lib.cli.unchanged`.
    """

    name: str
    source: Path
    parameters: dict
    seconds: float
    inputs: str


def child_environment(threads: int, offline: bool) -> dict[str, str]:
    """The environment of a notebook's process: no display, no widgets, own library first.

    Args:
        threads: for $OMP_NUM_THREADS where the user has not set it.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    fixed = {"LRC_HEADLESS": "1", "MPLBACKEND": "agg", "PYTHONPATH": path}
    fixed |= {"TOKENIZERS_PARALLELISM": "false", **(OFFLINE if offline else {})}
    return {"OMP_NUM_THREADS": str(threads), **os.environ, **fixed}


def execute_all(orders, out: Path, environment: dict, jobs: int, screen, verbose=False):
    """Executes notebooks side by side, if not kept; {name: Execution} in the order given.

    KeyboardInterrupt ends the children, removes their partial files and passes on.
    """
    stop = threading.Event()

    def one(order):
        if stop.is_set():
            return Execution(order.name, "skipped", message="interrupted")
        if is_kept(order, out):
            screen.end(order.name, "kept", "nothing changed")
            return Execution(order.name, "ok", message="kept, nothing changed")
        screen.start(order.name)
        execution = execute(order, out, environment, stop, verbose)
        screen.end(order.name, "done" if execution.status == "ok" else "FAILED", execution.message)
        if execution.status == "failed":
            screen.say(describe(execution))
        return execution

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            return {execution.name: execution for execution in pool.map(one, orders)}
        except BaseException:
            stop.set()
            raise


def describe(execution: Execution) -> str:
    """The cell that failed and the end of its traceback, indented."""
    head = execution.source.splitlines()[:HEAD]
    lines = [f"cell {execution.cell}:"] if execution.cell else []
    lines += [f"> {line}" for line in head] + execution.traceback.splitlines()
    return "\n".join(f"       {line}" for line in lines)


def execute(order: Order, out: Path, environment: dict, stop, verbose=False) -> Execution:
    """Executes one notebook into `out/notebooks/`; setting the event `stop` ends it.

    The copy is `<name>.ipynb` on success and `<name>.failed.ipynb` otherwise; until then it has a
    partial name.
    """
    folder = out / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{order.name}.partial.ipynb"
    final, failed = folder / f"{order.name}.ipynb", folder / f"{order.name}.failed.ipynb"
    for stale in (partial, failed, final.with_suffix(".key")):
        stale.unlink(missing_ok=True)
    token = uuid.uuid4().hex
    job = {"source": str(order.source), "target": str(partial)}
    job |= {"parameters": order.parameters, "verbose": verbose}
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        with subprocess.Popen(
            [sys.executable, "-m", "lrc_lib.cli.child", json.dumps(job)],
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
            stdout=None if verbose else log,
            stderr=None if verbose else subprocess.STDOUT,
            env={**environment, "LRC_TOKEN": token},
            start_new_session=True,  # Ctrl-C reaches this process only, which passes it on
        ) as child:
            ended = _watch(child, order.seconds, stop)
        log.seek(0)
        said = log.read().strip()
    seconds = time.perf_counter() - begun
    if ended == "interrupted":
        partial.unlink(missing_ok=True)
        return Execution(order.name, "skipped", seconds, message="interrupted")
    notebook, result = read_json(partial), out / "results" / f"{order.name}.json"
    record = read_json(result)
    failure = failing_cell(notebook.get("cells", []))
    if ended == "late":
        failure["message"] = (
            f"took longer than {order.seconds / 60:.0f} min and was ended; --limit MINUTES gives "
            "it more"
        )
    elif not notebook:
        failure["message"] = "was not executed: no notebook was written"
    elif child.returncode and not failure:
        failure["message"] = f"its process ended with code {child.returncode}"
    elif not failure and (record.get("token"), record.get("schema")) != (token, SCHEMA):
        failure["message"] = f"ran, but did not write {result}"
    if failure and "cell" not in failure:
        failure["traceback"] = "\n".join(said.splitlines()[-TAIL:])
    if notebook:
        _write(notebook, failed if failure else final)
    partial.unlink(missing_ok=True)
    if not failure:
        write_key(order, out)
    peak = 0.0 if failure else record.get("provenance", {}).get("peak_memory_mb", 0.0)
    return Execution(order.name, "failed" if failure else "ok", seconds, peak, **failure)


def failing_cell(cells: list) -> dict:
    """message, cell, source and traceback of the first cell that failed; {} if none did.

    A code cell failed that shows an error, or that has no number though it is not empty.
    """
    own = [c for c in cells if not INJECTED & set(c.get("metadata", {}).get("tags", []))]
    for number, cell in enumerate(own, 1):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or not source.strip():
            continue
        found = {"cell": number, "source": source}
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                said = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"]))
                message = visible(f"cell {number}: {output['ename']}: {output['evalue']}")[:300]
                shown = "\n".join(visible(said).splitlines()[-TAIL:])
                return found | {"message": message, "traceback": shown}
        if cell["execution_count"] is None:
            why = "was not run to its end: the kernel died (out of memory?) or was ended"
            return found | {"message": f"cell {number} {why}"}
    return {}


def read_json(path: Path) -> dict:
    """The JSON object of a file; {} where there is none, or only a part of it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(notebook: dict, path: Path) -> None:
    """Writes an executed notebook without papermill's status and the state of widgets."""
    for holder in (notebook, *notebook["cells"]):
        holder["metadata"].pop("papermill", None)
    notebook["metadata"].pop("widgets", None)
    write_json(path, notebook)


def _watch(child, seconds: float, stop: threading.Event) -> str:
    """Waits for the child; ends it when it is late or `stop` is set; says what happened."""
    deadline = time.monotonic() + seconds
    while child.poll() is None:
        late = time.monotonic() > deadline
        if late or stop.wait(0.2):
            child.kill()  # its kernel ends itself
            return "late" if late else "interrupted"
    return "done"
