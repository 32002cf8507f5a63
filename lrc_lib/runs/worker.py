"""How a worker process of the pool begins: it watches its parent, then loads torch."""

import multiprocessing
import os
import threading


def begin(*arguments) -> None:
    """`lrc_lib.runs.pool.work`, in a process that ends with its parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from lrc_lib.runs.pool import work  # slow

    work(*arguments)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # whatever it does: its checkpoints are whole
