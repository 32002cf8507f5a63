"""LRC-BERT (Fu et al., AAAI 2021, arXiv:2012.07335) as a small library that notebooks teach with.

Importing the package is cheap: `RunSpec`, `run`, `find` and `load_profile` load on first use.
It sets $OMP_WAIT_POLICY to PASSIVE, unless you have set it: torch's threads then sleep while they
wait. Threads that spin instead take the cores from other processes and from each other. OpenMP
reads the variable when torch is first imported, and child processes inherit it.
"""

import os
from importlib import import_module

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "1.0.0"
_HOME = {
    "RunSpec": "runs.spec",
    "RunResult": "runs.store",
    "run": "runs.run",
    "find": "runs.store",
    "load_profile": "runs.profiles",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *_HOME])
