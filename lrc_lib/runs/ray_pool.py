"""Trains runs over a Ray cluster, as `pool` does over the cores of one machine.

Ray places the runs, and starts one again whose process or node is gone: it goes on from its
checkpoint in the run store, which lies in a folder that all nodes see."""

import json
import logging
import os
import shutil
from pathlib import Path

from lrc_lib.errors import InputError, LrcError, UnavailableError
from lrc_lib.runs.pool import (
    Outcome,
    finished,
    headline,
    needs_of,
    next_run,
    shared_stages,
    skip_hopeless,
)

RETRIES = 5  # how often a run is started again after its process or node died


def train_all(specs: dict, out: Path, device: str, address: str, screen) -> dict[str, Outcome]:
    """`lrc_lib.runs.pool.train_all`, each run on one GPU of the cluster (one CPU, if it has none).

    Args:
        out: the output folder, under the same path on all nodes.
        address: of the cluster; "" for $RAY_ADDRESS or, without it, a cluster on this machine.

    Raises:
        InputError, UnavailableError: `device` asks for GPUs that are not there; no Ray, no cluster.
    """
    ray, ours = _connect(address)
    needs, outcomes = needs_of(specs), finished(specs, out)
    waiting = [key for key in specs if key not in outcomes]
    shared = shared_stages([specs[key] for key in waiting], out)
    running: dict = {}  # {Ray's reference to a task: run id}
    try:
        kind = _resource(ray, device)
        offline = {name: value for name, value in os.environ.items() if "_OFFLINE" in name}
        one = {f"num_{kind.lower()}s": 1}
        task = ray.remote(max_retries=RETRIES, runtime_env={"env_vars": offline}, **one)(_train)
        while waiting or running:
            skip_hopeless(waiting, needs, specs, outcomes, screen)
            places = max(1, int(ray.cluster_resources().get(kind, 1)))
            for _ in range(places - len(running)):
                key = next_run(waiting, needs, specs, outcomes, running.values(), shared)
                if not key:
                    break
                waiting.remove(key)
                screen.start(specs[key].name)
                running[task.remote(specs[key], str(out), device)] = key
            done = ray.wait(list(running), timeout=1)[0] if running else []
            for reference in done:
                key = running.pop(reference)
                outcomes[key] = _outcome(ray, reference, key, specs[key], screen)
            for key in running.values():
                _show_step(out / "runs" / f"{key}.partial", specs[key], screen)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        for folder in shared.values():
            shutil.rmtree(folder, ignore_errors=True)
        if ours:
            ray.shutdown()
    return {key: outcomes[key] for key in specs}


def _train(spec, out: str, device: str) -> dict:
    from lrc_lib.runs.run import run

    return run(spec, out, device, lambda *_: None).metrics


def _connect(address: str):
    """(module ray, whether it was connected here)."""
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


def _resource(ray, device: str) -> str:  # what a run takes one of
    gpus = ray.cluster_resources().get("GPU", 0)
    if device.startswith("cuda") and not gpus:
        raise InputError(f"--device {device}, but the Ray cluster has no GPU. Use --device cpu.")
    return "GPU" if gpus and device != "cpu" else "CPU"


def _outcome(ray, reference, key: str, spec, screen) -> Outcome:
    status, metrics, word = "trained", {}, "done"
    try:
        metrics = ray.get(reference)
        message = headline(metrics)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)  # what the run raised; none where its process died
        status, message, word = "failed", str(cause), "FAILED"
        if not isinstance(cause, LrcError):
            message = f"{type(cause or error).__name__}: {str(cause or error).strip()}"
    return Outcome(key, spec, status, screen.end(spec.name, word, message), message, metrics)


def _show_step(partial: Path, spec, screen) -> None:
    """Progress as the run's history tells it: the store is all that the nodes share."""
    from lrc_lib.cli.cost import cost

    try:
        last = (partial / "history.jsonl").read_bytes().splitlines()[-1]
        screen.step(spec.name, json.loads(last)["step"] + 1, cost(spec).steps, "")
    except (OSError, IndexError, ValueError):  # not begun, or a line just being written
        pass
