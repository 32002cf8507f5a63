"""Which device to compute on, and how many trainings at once."""

import json
import os
from pathlib import Path

import torch

from lrc_lib.errors import InputError


def resolve_device(device: str = "auto") -> torch.device:
    """ "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1" or "mps" as a device.

    Raises:
        InputError: unknown, or not on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise InputError(f"device must be auto, cpu, cuda or mps, not '{device}'.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"--device {device}, but this torch ({torch.__version__}) sees no CUDA GPU. "
            "Use --device cpu, or install a CUDA build of torch."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps, but this machine has no MPS. Use --device cpu.")
    return torch.device(device)


def default_jobs(device: torch.device) -> int:
    """Trainings side by side: one a core on a CPU, up to 4 on a CUDA GPU, else one.

    A student of 14M parameters leaves most of a GPU waiting for its next kernel, and processes of
    their own fill it as far as their memory allows; 4 is a guess that was not measured.
    """
    cores = os.cpu_count() or 1
    return {"cpu": cores, "cuda": max(1, min(4, cores // 2))}.get(device.type, 1)


def stacking_pays(device: str, folder: Path) -> bool:
    """Whether `benchmarks.table` measured a stack as faster than processes side by side.

    Args:
        device: "cpu", "cuda" or "mps": the kind of device.
        folder: of the benchmark's results; where there are none for the device it is not.
    """
    try:
        lines = (folder / f"table-{device}.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = json.loads(lines[-1])["wall_seconds"]
        return seconds["stacked"] < seconds["as one"]
    except (OSError, ValueError, LookupError):
        return False
