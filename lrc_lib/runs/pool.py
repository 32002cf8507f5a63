"""Trains runs side by side, each as soon as what it depends on is there.

Workers are processes of their own: one that dies, say for want of memory, fails its run only.
"""

import os
import shutil
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from lrc_lib.runs.worker import Worker


@dataclass
class Outcome:
    """How one run went. status: "read", "trained", "failed" or "skipped"."""

    id: str
    spec: object
    status: str
    seconds: float = 0.0
    message: str = ""
    metrics: dict = field(default_factory=dict)


def close_over(specs) -> dict:
    """{run id: spec} of all specs and, before each of them, all that it depends on."""
    found: dict = {}

    def add(spec):
        key = spec.run_id()
        if key not in found:
            for dependency in spec.dependencies():
                add(dependency)
            found[key] = spec

    for spec in specs:
        add(spec)
    return found


def threads_by_run(needs: dict, jobs: int, cores: int) -> dict:
    """Threads for each run: the cores, shared among the runs of the same depth.

    It depends on the runs asked for alone, not on which are done or quicker: a number of threads
    changes the last digits of a result.
    """
    depth: dict = {}
    for key, before in needs.items():  # dependencies come first
        depth[key] = 1 + max((depth[other] for other in before), default=-1)
    width = {level: list(depth.values()).count(level) for level in depth.values()}
    return {key: max(1, cores // min(jobs, width[level])) for key, level in depth.items()}


def train_all(
    specs: dict, out: Path, device: str, jobs: int, screen, stack: bool = False
) -> dict[str, Outcome]:
    """Reads or trains every spec; a failed run fails those that depend on it, the rest goes on.

    Args:
        specs: {run id: spec} from `close_over`.
        jobs: worker processes at most.
        screen: a `lrc_lib.cli.terminal.Screen`.
        stack: whether runs of one `RunSpec.stack_key` that can start together train as one model.

    Returns:
        {run id: Outcome}, in the order of `specs`.

    KeyboardInterrupt ends the workers, lets it pass and loses no checkpoint.
    """
    needs, outcomes = needs_of(specs), finished(specs, out)
    waiting = [key for key in specs if key not in outcomes]
    threads = threads_by_run(needs, jobs, os.cpu_count() or 1)
    workers = [Worker(out, device, number) for number in range(min(jobs, len(waiting)))]
    shared = shared_stages([specs[key] for key in waiting], out)
    try:
        while waiting or any(worker.keys for worker in workers):
            skip_hopeless(waiting, needs, specs, outcomes, screen)
            _dispatch(waiting, needs, specs, outcomes, workers, threads, shared, screen, stack)
            _listen(workers, specs, outcomes, screen)
    finally:
        for worker in workers:
            worker.tell_to_stop()
        for worker in workers:
            worker.stop()
        for folder in shared.values():
            shutil.rmtree(folder, ignore_errors=True)
    return {key: outcomes[key] for key in specs}


def needs_of(specs: dict) -> dict[str, list[str]]:
    """{run id: ids of the runs it depends on}."""
    return {key: [d.run_id() for d in spec.dependencies()] for key, spec in specs.items()}


def finished(specs: dict, out: Path) -> dict[str, Outcome]:
    """The outcomes of the runs that are in the store already."""
    from lrc_lib.runs.store import find

    results = {key: find(spec, out) for key, spec in specs.items()}
    return {
        key: Outcome(key, specs[key], "read", metrics=result.metrics)
        for key, result in results.items()
        if result is not None
    }


def shared_stages(specs, out: Path) -> dict[str, Path]:
    """{stage-1 id: folder} of the first stages that several of these specs have in common.

    Each folder is made: the first run that passes the boundary leaves its state there, and the
    others start from it, with the same result as if they had trained stage 1 themselves.
    """
    ids = [spec.stage1_id() for spec in specs]
    folders = {key: Path(out) / "cache" / key for key in ids if key and ids.count(key) > 1}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def _left(folder: Path) -> bool:
    return (folder / "checkpoint.pt").exists()


def skip_hopeless(waiting: list, needs, specs, outcomes: dict, screen) -> None:
    """Moves runs that need a failed one from `waiting` to `outcomes`."""
    for key in list(waiting):
        bad = [d for d in needs[key] if d in outcomes and outcomes[d].status in FAILED]
        if bad:
            waiting.remove(key)
            message = f"needs {specs[bad[0]].name}, which failed"
            outcomes[key] = Outcome(key, specs[key], "skipped", message=message)
            screen.say(f"skip   {specs[key].name}: {message}")


FAILED = ("failed", "skipped")


def next_run(waiting, needs, specs, outcomes, running, shared) -> str:
    """The id of the waiting run that is best started now, "" if none can be.

    Those that others wait for come first. A run whose first stage is another's, which is at it,
    waits.
    """
    training = {specs[key].stage1_id() for key in running}
    unfinished = {key for key in training & set(shared) if not _left(shared[key])}
    ready = [
        key
        for key in waiting
        if all(d in outcomes for d in needs[key]) and specs[key].stage1_id() not in unfinished
    ]
    wanted = {d for other in waiting for d in needs[other]}
    leads = {key for key in ready if specs[key].stage1_id() in shared}
    return min(ready, key=lambda key: (key not in wanted, key not in leads), default="")


def _dispatch(waiting, needs, specs, outcomes, workers, threads, shared, screen, stack) -> None:
    for worker in workers:
        if worker.keys:
            continue
        running = [key for other in workers for key in other.keys]
        key = next_run(waiting, needs, specs, outcomes, running, shared)
        while key:  # one run, and with `stack` those that can train with it
            waiting.remove(key)
            screen.start(specs[key].name)
            worker.keys.append(key)
            kind = specs[key].stack_key() if stack else ""
            alike = [other for other in waiting if kind and specs[other].stack_key() == kind]
            running.append(key)
            key = next_run(alike, needs, specs, outcomes, running, shared)
        if worker.keys:
            worker.give([specs[key] for key in worker.keys], threads[worker.keys[0]])


def _listen(workers, specs, outcomes, screen) -> None:
    busy = {worker.connection: worker for worker in workers if worker.keys}
    for connection in wait(list(busy), timeout=0.5) if busy else ():
        worker = busy[connection]
        try:
            messages = [connection.recv()]
        except (EOFError, OSError):  # the process is gone
            cause = worker.cause_of_death()
            messages = [("failed", key, cause) for key in worker.keys]
            worker.restart()
        for kind, key, *content in messages:
            if kind == "step":
                screen.step(specs[key].name, *content)
                continue
            status, message, metrics = "trained", "", {}
            if kind == "failed":
                status, message = "failed", content[0]
            else:
                metrics = content[0]
                message = headline(metrics)
            word = "FAILED" if status == "failed" else "done"
            seconds = screen.end(specs[key].name, word, message)
            outcomes[key] = Outcome(key, specs[key], status, seconds, message, metrics)
            worker.keys.remove(key)


def headline(metrics: dict) -> str:
    """The main number of a run's metrics: "accuracy 0.812 (dev, n = 277)", or the text it read."""
    for split, values in metrics.get("splits", {}).items():
        primary = metrics.get("primary")
        if primary in values:
            return f"{primary} {values[primary]:.3f} ({split}, n = {values.get('n', '?')})"
    if "texts" in metrics:
        return f"{metrics['texts']:,} texts, {metrics['tokens']:,} tokens"
    return ""
