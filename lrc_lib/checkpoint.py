"""Checkpoints of a training: written at most once a minute, resumed to the bit, shared by runs
that have the same stage 1."""

import json
import math
import os
import shutil
import time

import torch

from lrc_lib.errors import UnavailableError

CHECKPOINT_SECONDS = 60


def save_checkpoint(job, optimizer, step: int, force: bool = False) -> None:
    """Write everything a resumed run needs, at most once in CHECKPOINT_SECONDS; atomic.

    Raises:
        UnavailableError: it cannot be written, e.g. a full disk; the one before it is kept.
    """
    if job.group.rank:  # process 0 saves for all
        return
    path = job.folder / "checkpoint.pt"
    age = time.time() - path.stat().st_mtime if path.exists() else math.inf
    started = time.time() - os.path.getmtime(job.folder / "spec.json")
    if not force and min(age, started) < CHECKPOINT_SECONDS:
        return
    state = {
        "step": step,
        # copies: a parameter of a stack is a part of a larger tensor, which would be saved whole
        "modules": {name: value.clone() for name, value in job.modules.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "rng": job.generator.get_state(),
        "cuda_rng": [torch.cuda.get_rng_state(job.device)] if job.device.type == "cuda" else [],
    }
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # some file systems tell only now that they are full
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
        partial.unlink(missing_ok=True)
        raise UnavailableError(
            f"Cannot write the checkpoint after step {step} to '{job.folder}': "
            f"{getattr(error, 'strerror', None) or error}. What was saved before is kept; make "
            "room, and the same command goes on from there."
        ) from error


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
    state = job.group.share(_saved(job, log.path))
    if state is None:
        return 0
    job.modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    job.generator.set_state(state["rng"])
    if job.device.type == "cuda" and state["cuda_rng"]:
        torch.cuda.set_rng_state(state["cuda_rng"][0], job.device)
    return state["step"]


def _saved(job, history) -> dict | None:
    """The state to go on from, with `history` cut back to it; None where there is none."""
    path = job.folder / "checkpoint.pt"
    if not path.exists():
        history.unlink(missing_ok=True)
        if job.stage1 is None or not (job.stage1 / "checkpoint.pt").exists():
            return None
        shutil.copy(job.stage1 / "history.jsonl", history)
        path = job.stage1 / "checkpoint.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    kept = 0
    with history.open("rb+") as file:  # cut in place: needs no room on a disk that was full
        for line in file:
            if not line.endswith(b"\n") or json.loads(line)["step"] >= state["step"]:
                break
            kept += len(line)
        file.truncate(kept)
    return state
