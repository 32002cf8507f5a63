"""Checkpoints of a training: written at most once a minute, resumed to the bit, shared by runs
that have the same stage 1."""

import json
import math
import os
import shutil
import time

import torch

from .errors import UnavailableError

CHECKPOINT_SECONDS = 60


def save_checkpoint(job, optimizer, step: int, force: bool = False) -> None:
    """Write everything a resumed run needs, at most once in CHECKPOINT_SECONDS; atomic.

    Raises:
        UnavailableError: it could not be written, e.g. on a full disk; the one before is kept.
    """
    path = job.folder / "checkpoint.pt"
    age = time.time() - path.stat().st_mtime if path.exists() else math.inf
    started = time.time() - os.path.getmtime(job.folder / "spec.json")
    if not force and min(age, started) < CHECKPOINT_SECONDS:
        return
    state = {
        "step": step,
        "modules": job.modules.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if job.device.type == "cuda" else [],
    }
    partial = path.with_suffix(".partial")
    try:
        torch.save(state, partial)
    except (OSError, RuntimeError) as error:  # torch's own where its zip file cannot grow
        partial.unlink(missing_ok=True)
        raise UnavailableError(
            f"Cannot write the checkpoint '{path}': is the disk full? Nothing is lost: make room, "
            "and the same command goes on from the checkpoint before."
        ) from error
    os.replace(partial, path)


def share_stage1(job, optimizer, step: int) -> None:
    """Leave the state at the stage boundary and the history up to it in the folder `job.stage1`."""
    if not (job.stage1 / "checkpoint.pt").exists():
        save_checkpoint(job, optimizer, step, force=True)
        for name in ("history.jsonl", "checkpoint.pt"):  # the checkpoint last: then all is there
            partial = job.stage1 / f"{name}.{os.getpid()}.partial"
            shutil.copy(job.folder / name, partial)
            os.replace(partial, job.stage1 / name)


def load_checkpoint(job, optimizer, log) -> int:
    """Continue from the folder's checkpoint, else from a shared stage 1: returns the next step."""
    path = job.folder / "checkpoint.pt"
    if not path.exists():
        log.path.unlink(missing_ok=True)
        if job.stage1 is None or not (job.stage1 / "checkpoint.pt").exists():
            return 0
        shutil.copy(job.stage1 / "history.jsonl", log.path)
        path = job.stage1 / "checkpoint.pt"
    state = torch.load(path, map_location=job.device, weights_only=True)
    job.modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"].cpu())
    if job.device.type == "cuda":
        torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda_rng"]])
    lines = log.path.read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])["step"]
    kept = lines[: state["step"] - first]  # what follows may be torn
    log.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return state["step"]
