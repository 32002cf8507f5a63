"""Train runs over a Ray cluster, as `lrc_lib.runs.pool` does over the cores of one machine.

Ray places the runs. If a process or node dies, Ray starts its run again, which continues from the
checkpoint in the run store. The store is a folder that all nodes see.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

from lrc_lib.errors import InputError, LrcError, UnavailableError
from lrc_lib.runs.pool import Outcome, Queue
from lrc_lib.runs.run import run

RETRIES = 5  # how often a run is started again after its process or node died
PASSED_ON = ("_OFFLINE", "OMP_NUM_THREADS")  # endings of the variables that runs get, too


def train_all(specs: dict, out: Path, device: str, address: str, screen) -> dict[str, Outcome]:
    """`lrc_lib.runs.pool.train_all`; each run takes one GPU of the cluster, or one CPU without any.

    Args:
        out: the output folder, under the same path on all nodes.
        address: of the cluster; "" for $RAY_ADDRESS or, without it, a cluster on this machine.

    Raises:
        InputError: `device` asks for GPUs that the cluster does not have.
        UnavailableError: Ray is not installed, or there is no cluster at `address`.
    """
    ray, ours = _connect(address)
    queue, tasks = Queue(specs, out, screen), {}  # {Ray's reference to a task: run id}
    try:
        kind = _resource(ray, device)
        passed_on = {name: v for name, v in os.environ.items() if name.endswith(PASSED_ON)}
        one = {f"num_{kind.lower()}s": 1}
        task = ray.remote(max_retries=RETRIES, runtime_env={"env_vars": passed_on}, **one)(_train)
        while queue.waiting or queue.running:
            places = max(1, int(ray.cluster_resources().get(kind, 1)))
            while len(tasks) < places and (key := queue.start()):
                tasks[task.remote(specs[key], out, device, _note(out, key))] = key
            for reference in ray.wait(list(tasks), timeout=1)[0]:
                key = tasks.pop(reference)
                _note(out, key).unlink(missing_ok=True)
                queue.end(key, *_result(ray, reference))
            for key in tasks.values():
                _show_step(_note(out, key), specs[key].name, screen)
    finally:
        for reference in tasks:
            ray.cancel(reference, force=True)
        queue.close()
        if ours:
            ray.shutdown()
    return {key: queue.outcomes[key] for key in specs}


def _connect(address: str):
    """(module ray, whether this call connected to the cluster)."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise UnavailableError(
            "--ray needs the package ray, which is not installed: "
            'python -m pip install -c constraints.txt -e ".[ray]"'
        ) from None
    if ray.is_initialized():
        return ray, False
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "include_dashboard": False}
    try:
        ray.init(address or None, **quiet)
    except Exception as error:  # Ray raises many kinds
        where, reason = address or "this machine", str(error).strip().split("\n")[0]
        raise UnavailableError(f"No Ray cluster at '{where}': {reason}") from error
    return ray, True


def _resource(ray, device: str) -> str:
    """What a run takes one of: "GPU" or "CPU"."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if device.startswith("cuda") and not gpus:
        raise InputError(f"--device {device}, but the Ray cluster has no GPU. Use --device cpu.")
    return "GPU" if gpus and device != "cpu" else "CPU"


def _note(out: Path, key: str) -> Path:
    """The file in which a run notes its progress, "STEP TOTAL", for the process that waits."""
    return out / "logs" / f"{key}.steps"


def _train(spec, out: Path, device: str, note: Path) -> dict:
    def progress(_, step, total, line):
        note.write_text(f"{step} {total}")

    note.parent.mkdir(parents=True, exist_ok=True)
    return run(spec, out, device, progress).metrics


def _show_step(note: Path, name: str, screen) -> None:
    with suppress(OSError, ValueError):  # not begun, just ended, or half written
        step, total = map(int, note.read_text().split())
        screen.step(name, step, total, "")


def _result(ray, reference) -> tuple[str, object]:
    """("trained", metrics) or ("failed", reason) of a task that is over."""
    try:
        return "trained", ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error  # Ray's own error if the process died
        kind = "" if isinstance(cause, LrcError) else f"{type(cause).__name__}: "
        return "failed", f"{kind}{str(cause).strip()}"
