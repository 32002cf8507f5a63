"""Executes notebooks, each in a child process with a kernel of the running interpreter.

Whether one succeeded is judged from what it left, never from papermill's own status, which calls
cells "completed" that a dead kernel never ran. Only `reproduce.py` imports papermill: it is the
child's program.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from lrc_lib.course.notebook import ROOT, SCHEMA
from lrc_lib.data.text import visible

GRACE_SECONDS = 15  # between the interrupt and the kill
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
    """One notebook to execute: `source` with `parameters`, for at most `seconds`."""

    name: str
    source: Path
    parameters: dict
    seconds: float


def child_environment(threads: int, offline: bool) -> dict[str, str]:
    """The environment of a notebook's process: no display, no widgets, own library first."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    fixed = {"LRC_HEADLESS": "1", "MPLBACKEND": "agg", "PYTHONPATH": path}
    fixed |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **fixed, **(offline_environment() if offline else {})}


def offline_environment() -> dict[str, str]:
    """What tells the hub's libraries not to try the network; to be set before they load."""
    return dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")


def execute_all(orders, out: Path, environment: dict, jobs: int, screen, verbose=False):
    """Executes notebooks side by side; {name: Execution} in the order given.

    KeyboardInterrupt interrupts the children, removes their partial files and passes on.
    """
    stop = threading.Event()
    done = {}

    def one(order):
        if stop.is_set():
            return Execution(order.name, "skipped", message="interrupted")
        screen.start(order.name)
        execution = execute(order, out, environment, stop, verbose)
        screen.end(order.name, "done" if execution.status == "ok" else "FAILED", execution.message)
        if execution.status == "failed":
            screen.say(describe(execution))
        return execution

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            futures = [pool.submit(one, order) for order in orders]
            for future in as_completed(futures):
                done[future.result().name] = future.result()
        except BaseException:
            stop.set()
            raise
    return {order.name: done[order.name] for order in orders}


def describe(execution: Execution) -> str:
    """The cell that failed and the end of its traceback, indented."""
    head = execution.source.splitlines()[:HEAD]
    lines = [f"cell {execution.cell}:"] if execution.cell else []
    lines += [f"> {line}" for line in head] + execution.traceback.splitlines()
    return "\n".join(f"       {line}" for line in lines)


def execute(order: Order, out: Path, environment: dict, stop=None, verbose=False) -> Execution:
    """Executes one notebook into `out/notebooks/`.

    The copy is `<name>.ipynb` on success and `<name>.failed.ipynb` otherwise; until then it has a
    partial name.
    """
    folder = out / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{order.name}.partial.ipynb"
    final, failed = folder / f"{order.name}.ipynb", folder / f"{order.name}.failed.ipynb"
    for stale in (partial, failed):
        stale.unlink(missing_ok=True)
    token = uuid.uuid4().hex
    job = {"source": str(order.source), "target": str(partial), "verbose": verbose}
    job["parameters"] = order.parameters
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(
            [sys.executable, str(ROOT / "reproduce.py"), "--_notebook", json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=None if verbose else log,
            stderr=subprocess.STDOUT if not verbose else None,
            env={**environment, "LRC_TOKEN": token},
            start_new_session=True,  # Ctrl-C reaches this process only, which passes it on
        )
        ended = _watch(child, order.seconds, stop)
        log.seek(0)
        said = log.read().strip()
    seconds, peak = time.perf_counter() - begun, _peak(folder, order.name)
    if ended == "interrupted":
        partial.unlink(missing_ok=True)
        return Execution(order.name, "skipped", seconds, message="interrupted")
    execution = judge(order.name, partial, child.returncode, out, token)
    execution.seconds, execution.peak_mb = seconds, peak
    if ended == "late":
        execution.status = "failed"
        execution.message = (
            f"took longer than {order.seconds / 60:.0f} min and was ended; --limit MINUTES gives "
            "it more"
        )
    if execution.status != "ok" and execution.cell is None and not execution.traceback:
        execution.traceback = "\n".join(said.splitlines()[-TAIL:])
    if partial.exists():
        _clean(partial)
        os.replace(partial, final if execution.status == "ok" else failed)
    return execution


def judge(name: str, path: Path, returncode: int, out: Path, token: str) -> Execution:
    """What an executed notebook is worth.

    "ok" needs all of: exit code 0; every code cell that is not empty has a number; no cell has an
    error; and `out/results/<name>.json` was written by this very execution.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return Execution(name, "failed", message="was not executed: no notebook was written")
    number = 0
    for cell in cells:
        if INJECTED & set(cell.get("metadata", {}).get("tags", [])):
            continue
        number += 1
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or not source.strip():
            continue
        errors = [o for o in cell.get("outputs", []) if o["output_type"] == "error"]
        if errors:
            lines = [visible(_uncoloured(line)) for line in errors[0].get("traceback", [])]
            shown = "\n".join("\n".join(lines).splitlines()[-TAIL:])
            message = visible(f"cell {number}: {errors[0]['ename']}: {errors[0]['evalue']}")
            return Execution(name, "failed", 0, 0, message[:300], number, source, shown)
        if not isinstance(cell.get("execution_count"), int):
            why = "was not run to its end: the kernel died (out of memory?) or was ended"
            return Execution(name, "failed", 0, 0, f"cell {number} {why}", number, source)
    if returncode:
        return Execution(name, "failed", message=f"its process ended with code {returncode}")
    result = out / "results" / f"{name}.json"
    try:
        record = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    if record.get("token") != token or record.get("schema") != SCHEMA:
        return Execution(name, "failed", message=f"ran, but did not write {result}")
    return Execution(name, "ok")


def _watch(child, seconds: float, stop) -> str:
    """Waits for the child; interrupts it when it is late or `stop` is set; says what happened."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            child.wait(0.2)
            return "done"
        except subprocess.TimeoutExpired:
            pass
        late = time.monotonic() > deadline
        if late or (stop is not None and stop.is_set()):
            _end(child)
            return "late" if late else "interrupted"


def _end(child) -> None:
    for send, seconds in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGTERM, 2)):
        _signal(child, send)
        try:
            child.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue
    _signal(child, getattr(signal, "SIGKILL", signal.SIGTERM))
    child.wait()


def _signal(child, number) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(child.pid, number)
        else:  # Windows
            child.terminate()
    except ProcessLookupError:
        pass


def _peak(folder: Path, name: str) -> float:
    """Peak memory in MB that the child wrote beside the partial notebook, which is removed."""
    path = folder / f".{name}.partial.ipynb.peak"
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return 0.0
    finally:
        path.unlink(missing_ok=True)


def _clean(path: Path) -> None:
    """Drops papermill's status, which cannot be relied on, and the state of widgets."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return
    for holder in (notebook, *notebook.get("cells", [])):
        holder.get("metadata", {}).pop("papermill", None)
    notebook.get("metadata", {}).pop("widgets", None)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


def _uncoloured(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)
