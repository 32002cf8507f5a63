"""How a number was made: versions, device, threads, commit, time, memory."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "papermill", "datasets")


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB; 0 if the system does not report it."""
    status = Path("/proc/self/status")  # getrusage would count what the parent had before the fork
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def commit() -> str:
    """The repository's commit, with "+" for uncommitted changes; "" outside a repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""

    def git(*words):
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if dirty else "")


def versions() -> dict[str, str]:
    """Installed versions of the packages that matter for a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def provenance(device="cpu") -> dict:
    """Versions, device, threads and commit, for a run or a notebook.

    "threads" is the number that torch computes with: $OMP_NUM_THREADS where it is set.
    """
    name = platform.machine()
    if str(device).startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    return {
        "versions": versions(),
        "system": f"{platform.system()} {platform.release()}",
        "device": str(device),
        "device_name": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }
