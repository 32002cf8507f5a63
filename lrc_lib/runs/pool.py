"""Train runs next to each other, each as soon as the runs it depends on are finished.

Every worker is a process of its own. If one dies, for example because the machine has no memory
left, only the run that it was training fails.
"""

import multiprocessing
import os
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from joblib import cpu_count

from lrc_lib.data.manifest import MANIFEST, PARTIAL
from lrc_lib.runs.store import find
from lrc_lib.runs.worker import work


@dataclass
class Outcome:
    """How one run went. status: "read", "trained", "failed" or "skipped"."""

    spec: object
    status: str
    seconds: float = 0.0
    message: str = ""
    metrics: dict = field(default_factory=dict)


def all_specs(specs) -> list:
    """The specs and all that they depend on, dependencies first, each once.

    Specs are compared as they are: unlike run ids, this needs no data.
    """
    found: dict = {}
    for spec in specs:
        found |= dict.fromkeys([*all_specs(spec.dependencies()), spec])
    return list(found)


def close_over(specs) -> dict:
    """{run id: spec} of `all_specs`."""
    return {spec.run_id(): spec for spec in all_specs(specs)}


def threads_by_run(needs: dict, jobs: int, cores: int) -> dict:
    """{run id: number of threads}: $OMP_NUM_THREADS, else the cores shared among runs of one depth.

    The numbers depend only on the runs asked for, not on which of them are finished or fast: the
    number of threads changes the last digits of a result.

    Args:
        needs: {run id: ids of the runs it depends on}, dependencies first.
        jobs: the largest number of runs at a time.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return dict.fromkeys(needs, int(asked))
    depth: dict = {}
    for key, before in needs.items():
        depth[key] = 1 + max((depth[other] for other in before), default=-1)
    levels = list(depth.values())
    return {key: max(1, cores // min(jobs, levels.count(depth[key]))) for key in needs}


def train_all(
    specs: dict, out: Path, device: str, jobs: int, screen, at_once: int = 0
) -> dict[str, Outcome]:
    """Read or train every spec. A failed run fails those that depend on it; the others continue.

    Args:
        specs: {run id: spec} from `close_over`.
        out: folder that holds `runs/` and `cache/`.
        device: "auto", "cpu", "cuda" or "mps".
        jobs: the largest number of worker processes; it sets their threads.
        screen: a `lrc_lib.cli.terminal.Screen`.
        at_once: fewer worker processes, with the same threads; 0: `jobs`.

    Returns:
        {run id: Outcome}, in the order of `specs`.

    A KeyboardInterrupt stops the workers and is raised again; their checkpoints are kept.
    """
    queue = Queue(specs, out, screen)
    threads = threads_by_run(queue.needs, jobs, cpu_count())
    count = min(at_once or jobs, len(queue.waiting))
    workers = [Worker(out, device, number) for number in range(count)]
    try:
        while queue.waiting or queue.running:
            for worker in workers:
                if not worker.key and (key := queue.start()):
                    worker.train(key, specs[key], threads[key])
            _listen({worker.connection: worker for worker in workers if worker.key}, queue)
    finally:
        processes = [worker.process for worker in workers if worker.process]
        for process in processes:
            process.kill()  # does nothing to one that has stopped
        for process in processes:
            process.join()
        queue.close()
    return {key: queue.outcomes[key] for key in specs}


def _listen(workers: dict, queue: "Queue") -> None:
    for connection in wait(list(workers), timeout=0.5):  # a timeout: Ctrl-C must work on Windows
        worker = workers[connection]
        try:
            kind, *content = connection.recv()
        except (EOFError, OSError):  # the process is gone
            kind, content = "failed", [worker.cause_of_death()]
        if kind == "step":
            queue.screen.step(queue.specs[worker.key].name, *content)
        else:
            queue.end(worker.key, kind, *content)
            worker.key = ""


class Queue:
    """The runs that are left to train, and the outcomes of the others.

    Attributes:
        needs: {run id: ids of the runs it depends on}.
        waiting, running: run ids.
        outcomes: {run id: Outcome} of the runs that are over or were in the store.
        shared: {run id: folder} of the runs that have their first stage in common with others. The
            first of them to pass the stage boundary leaves its state in the folder; the others
            start from that state, with the same result as if they had trained it themselves.
    """

    def __init__(self, specs: dict, out: Path, screen):
        self.specs, self.screen, self.cache = specs, screen, out / "cache"
        self.needs = {key: [d.run_id() for d in spec.dependencies()] for key, spec in specs.items()}
        self.waiting, self.running, self.outcomes = [], [], {}
        for key, spec in specs.items():
            if result := find(spec, out):
                self.outcomes[key] = Outcome(spec, "read", metrics=result.metrics)
            else:
                self.waiting.append(key)
        stage = {key: specs[key].stage1_id() for key in self.waiting}
        common = {name for name, runs in Counter(stage.values()).items() if name and runs > 1}
        self.shared = {key: self.cache / name for key, name in stage.items() if name in common}
        for folder in self.shared.values():
            folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> str:
        """Take the run that should start next; "" if none can start now.

        Runs that others depend on come first. A run waits while another trains their first stage.
        """
        stages = {self.shared[key] for key in self.running if key in self.shared}
        unfinished = {stage for stage in stages if not (stage / MANIFEST).exists()}
        ready = [
            key
            for key in self.waiting
            if self.shared.get(key) not in unfinished
            and all(other in self.outcomes for other in self.needs[key])
        ]
        wanted = {other for key in self.waiting for other in self.needs[key]}
        order = {key: (key not in wanted, key not in self.shared) for key in ready}
        key = min(ready, key=order.get, default="")
        if key:
            self.waiting.remove(key)
            self.running.append(key)
            self.screen.start(self.specs[key].name)
        return key

    def end(self, key: str, status: str, result) -> None:
        """Note that a run was "trained", with its metrics, or "failed", with the reason."""
        spec = self.specs[key]
        metrics, message = (result, headline(result)) if status == "trained" else ({}, result)
        word = "done" if status == "trained" else "FAILED"
        seconds = self.screen.end(spec.name, word, message)
        self.outcomes[key] = Outcome(spec, status, seconds, message, metrics)
        self.running.remove(key)
        if status == "failed":
            self._skip_dependents({key})

    def _skip_dependents(self, lost: set) -> None:
        for key in list(self.waiting):  # dependencies come first
            if bad := lost.intersection(self.needs[key]):
                spec, message = self.specs[key], f"needs {self.specs[bad.pop()].name}, which failed"
                self.outcomes[key] = Outcome(spec, "skipped", message=message)
                self.screen.say(f"skip   {spec.name}: {message}")
                self.waiting.remove(key)
                lost.add(key)

    def close(self) -> None:
        """Remove what only these runs shared: first stages, answers to general texts and, if no run
        is left to train, a teacher's answers to its task's rows."""
        ended = [o for o in self.outcomes.values() if o.status in ("read", "trained")]
        done = len(ended) == len(self.specs)
        names = [
            "general",
            *(k for k, spec in self.specs.items() if spec.kind == "teacher" and done),
        ]
        answers = [f for name in names for f in self.cache.glob(f"{name}-*") if f.suffix != PARTIAL]
        for folder in (*self.shared.values(), *answers):
            shutil.rmtree(folder, ignore_errors=True)


class Worker:
    """One process that trains the runs it is given, one after the other.

    Attributes:
        key: the id of the run it trains; "" when it is idle.
    """

    def __init__(self, out: Path, device: str, number: int):
        self.log = Path(out) / "logs" / f"worker-{number}.log"
        self.arguments = (str(out), device, str(self.log))
        self.key, self.process = "", None

    def train(self, key: str, spec, threads: int) -> None:
        """Begin to train a run, in a new process if there is none."""
        self.key = key
        if self.process is None or not self.process.is_alive():
            self._start()
        self.connection.send((spec, threads))

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *self.arguments), daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent alone
        self.process.start()
        signal.signal(signal.SIGINT, before)
        theirs.close()

    def cause_of_death(self) -> str:
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            return (
                f"its process was ended by signal {-code}. If nobody sent it, the machine ran out "
                "of memory: try --jobs 1, or --set batch_size=8."
            )
        return f"its process ended with code {code}; see {self.log}"


def headline(metrics: dict) -> str:
    """The main number of a run's metrics: "accuracy 0.812 (dev, n = 277)", or the text it read."""
    for split, values in metrics.get("splits", {}).items():
        primary = metrics["primary"]
        return f"{primary} {values[primary]:.3f} ({split}, n = {values['n']})"
    return f"{metrics['texts']:,} texts, {metrics['tokens']:,} tokens" if "texts" in metrics else ""
