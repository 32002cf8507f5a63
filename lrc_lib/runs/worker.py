"""A worker process of the pool: it watches its parent, then loads torch, then trains."""

import multiprocessing
import os
import threading
import time
import traceback
from pathlib import Path

from lrc_lib.errors import LrcError, one_line


def work(connection, out: str, device: str, log: str) -> None:
    """The loop of a worker process: receives (spec, threads) until the parent closes the pipe.

    Sends ("step", step, total, line) during a run and ("trained", metrics) or ("failed", reason)
    at its end. What the process prints goes to the file `log`.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch  # slow

    from lrc_lib.runs.run import run

    Path(log).parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    last = 0.0

    def progress(spec, step, total, line):
        nonlocal last
        if line or time.monotonic() - last > 1:
            last = time.monotonic()
            connection.send(("step", step, total, line))

    while True:
        try:
            spec, threads = connection.recv()
        except (EOFError, OSError):  # the parent is gone
            return
        torch.set_num_threads(threads)
        try:
            connection.send(("trained", run(spec, out, device, progress).metrics))
        except Exception as error:
            traceback.print_exc()
            known = isinstance(error, (LrcError, OSError))
            reason = f"{error}" if known else f"{type(error).__name__}: {error} (see {log})"
            connection.send(("failed", one_line(reason)))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # whatever it does: its checkpoints are whole
