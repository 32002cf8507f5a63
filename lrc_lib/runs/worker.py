"""A process that trains what `lrc_lib.runs.pool` gives it."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from lrc_lib.errors import LrcError

STOP_SECONDS = 15  # a worker told to stop gets this long


class Worker:
    """One process that trains what it is given, a run or a stack of runs, one after the other."""

    def __init__(self, out, device, number):
        self.arguments = (str(out), device, str(Path(out) / "logs" / f"worker-{number}.log"))
        self.keys: list[str] = []
        self.connection = self.process = None

    def give(self, specs, threads):
        if self.process is None or not self.process.is_alive():
            self.restart()
        self.connection.send((specs, threads))

    def restart(self):
        self.stop()
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *self.arguments), daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker inherits it
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()

    def cause_of_death(self):
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            return (
                f"its process was ended by signal {-code}. If nobody did that, the machine ran out "
                "of memory: try --jobs 1, or --set batch_size=8."
            )
        return f"its process ended with code {code}; see {self.arguments[2]}"

    def tell_to_stop(self):
        if self.process is not None and self.process.is_alive():
            self.process.terminate()

    def stop(self):
        if self.process is None:
            return
        self.tell_to_stop()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        self.process = None


def work(connection, out: str, device: str, log: str) -> None:
    """The worker: (specs, threads) in; ("step", id, ...), ("done", id, metrics) and
    ("failed", id, text) out. A stack that fails is taken apart: then each trains alone."""
    # Ctrl-C reaches the parent, which says when to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    last = 0.0

    def progress(spec, step, total, text):
        nonlocal last
        if text or time.monotonic() - last > 1:
            last = time.monotonic()
            connection.send(("step", spec.run_id(), step, total, text))

    while True:
        try:
            specs, threads = connection.recv()
        except (EOFError, OSError):  # the parent is gone
            return
        if len(specs) > 1:
            try:
                from lrc_lib.runs.stacked_runs import run_stack

                run_stack(specs, out, device, progress)
            except Exception:
                traceback.print_exc()
        for spec in specs:
            try:
                import torch

                from lrc_lib.runs.run import run

                torch.set_num_threads(threads)
                metrics = run(spec, out, device, progress).metrics
                connection.send(("done", spec.run_id(), metrics))
            except (LrcError, OSError) as error:
                traceback.print_exc()
                connection.send(("failed", spec.run_id(), str(error)))
            except Exception as error:
                traceback.print_exc()
                text = f"{type(error).__name__}: {error} (see {log})"
                connection.send(("failed", spec.run_id(), text))
