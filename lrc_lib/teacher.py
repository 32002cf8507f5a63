"""The frozen teacher: its check before it teaches, and the cache of its answers.

Taught in notebooks/02_teacher_and_student.
"""

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from lrc_lib.data.batches import Encoded, by_length, collate, ragged
from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError
from lrc_lib.evaluate import bootstrap, compute_metrics, majority_metrics
from lrc_lib.losses import reduce_states
from lrc_lib.runs.execution import autocast, matmuls, model_inputs


class Taught(NamedTuple):
    """A teacher's answers for one batch.

    states: per mapped layer (B, l, D), reduced as the run's representation says (l = L or 1);
    logits: (B, C); pulls: per layer its `losses.cos_nce_pull`, where that was computed already.
    """

    states: list[Tensor]
    logits: Tensor
    pulls: tuple[Tensor, ...] = ()


class LiveTeacher:
    """Asks the model at every step. Used where the cache would not fit, or would not be reused.

    States are rounded to float16, as the cache stores them, so both teach the same.
    """

    def __init__(self, model, layers, representation, device, precision="fp32"):
        self.precision, self.device = precision, torch.device(device)
        self.model = model.to(device).eval().requires_grad_(False)
        self.layers, self.representation = tuple(layers), representation

    @property
    def asked(self):
        """The model that a training step with a layer loss runs."""
        return self.model

    @torch.no_grad()
    def __call__(self, indices, batch, layers: bool = True) -> Taught:
        with matmuls(self.precision), autocast(self.precision, self.device):
            output = self.model(**model_inputs(self.model, batch), output_hidden_states=layers)
        mask = batch["attention_mask"]
        states = [
            reduce_states(output.hidden_states[n], mask, self.representation)[0].half().float()
            for n in self.layers
            if layers
        ]
        return Taught(states, output.logits.float())


class CachedTeacher:
    """Reads the answers that `build_cache` wrote; without states among them, asks `live` for those.

    On a CPU the states stay on disk, memory-mapped and shared by all processes; on a GPU they are
    moved into its memory once, where they take less than half of what is free there.
    """

    def __init__(self, folder: Path, live: LiveTeacher, device="cpu"):
        self.live, self.states, device = live, None, torch.device(device)
        self.whole = live.representation not in ("mean", "cls")  # a vector for each token
        self.logits = torch.from_numpy(np.load(folder / "logits.npy")).to(device)  # (n, C) float32
        self.offsets = np.load(folder / "offsets.npy")  # (n + 1,)
        if (folder / "states.npy").exists():
            states = np.load(folder / "states.npy", mmap_mode="c")  # (tokens, M, D) float16
            self.states = torch.from_numpy(states)
            if device.type == "cuda" and states.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
                self.states = self.states.to(device)

    @property
    def asked(self):
        """The model that a training step with a layer loss runs; None where its states are here."""
        return self.live.model if self.states is None else None

    def __call__(self, indices, batch, layers: bool = True) -> Taught:
        if layers and self.states is None:
            return self.live(indices, batch)
        indices, device, states = np.asarray(indices), batch["input_ids"].device, []
        if layers:
            starts, ends = self.offsets[indices], self.offsets[indices + 1]
            width = batch["input_ids"].shape[1] if self.whole else 0
            where, real = ragged(starts, ends - starts, self.states.device, width)
            vectors = self.states[where] * real[..., None, None]
            if device.type == "cuda" and self.states.device.type == "cpu":
                vectors = vectors.pin_memory()
            states = list(vectors.to(device, non_blocking=True).float().unbind(2))
        return Taught(states, self.logits[torch.from_numpy(indices).to(device, non_blocking=True)])


def cache_bytes(encoded: Encoded, layers: int, width: int, representation: str) -> int:
    """Size on disk of the cached states: 2 bytes a number, one vector a token (or a row)."""
    reduced = representation in ("mean", "cls")
    return 2 * layers * width * (len(encoded) if reduced else int(encoded.lengths.sum()))


def open_teacher(
    model, encoded: Encoded, layers, representation, device, folder: Path, budget_gb: float,
    precision: str = "fp32",
):  # fmt: skip
    """A teacher whose answers are cached as far as the budget allows.

    The rule: states and logits if the states fit into the budget; else the logits alone, and the
    states are asked at every step that has a layer loss; with a budget of 0 nothing is cached.
    "flatten" and "token" share one cache.

    Args:
        layers: teacher layers, 1-based.
        folder: the cache's own folder, named by teacher and data.
        budget_gb: gigabytes (1e9 bytes) that the states may take.
        precision: of the teacher's forward pass, see `lrc_lib.runs.execution`.

    Returns:
        (teacher, one line that says what is cached and why).
    """
    live = LiveTeacher(model, layers, representation, device, precision)
    if not budget_gb:
        return live, "teacher asked at every step: nothing is to be cached"
    size = cache_bytes(encoded, len(live.layers), model.config.hidden_size, representation) / 1e9
    fits = size <= budget_gb
    kind = representation if representation in ("mean", "cls") else "tokens"
    name = (
        "-".join([folder.name, kind, *map(str, live.layers)]) if fits else f"{folder.name}-logits"
    )
    folder = folder.with_name(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if not (folder / "meta.json").exists():
            build_cache(live, encoded, folder, device, states=fits)
    line = f"teacher outputs cached: {size:.2f} GB"
    if not fits:
        line = (
            "teacher asked for its layers at every step that uses them, its logits are cached: the "
            f"layers would take {size:.2f} GB, the budget is {budget_gb:g} (--set cache_gb=)"
        )
    return CachedTeacher(folder, live, device), line


def build_cache(teacher: LiveTeacher, encoded: Encoded, folder: Path, device, states=True) -> None:
    """Write the teacher's logits and, in float16, its states for all rows, or nothing at all."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    reduced = teacher.representation in ("mean", "cls")
    kept = np.ones(len(encoded), dtype=np.int64) if reduced else encoded.lengths
    offsets = np.concatenate([[0], np.cumsum(kept)])
    shape = (int(offsets[-1]), len(teacher.layers), teacher.model.config.hidden_size)
    if states:
        vectors = np.lib.format.open_memmap(partial / "states.npy", "w+", np.float16, shape)
    logits = np.zeros((len(encoded), teacher.model.config.num_labels), dtype=np.float32)
    for indices in by_length(encoded, 32):
        taught = teacher(indices, collate(encoded, indices, device), states)
        logits[indices] = taught.logits.cpu().numpy()
        if states:
            stacked = torch.stack(taught.states, dim=2).half().cpu().numpy()  # (B, l, M, D)
            for row, index in zip(stacked, indices, strict=True):
                vectors[offsets[index] : offsets[index + 1]] = row[: kept[index]]
    if states:
        vectors.flush()
    np.save(partial / "logits.npy", logits)
    np.save(partial / "offsets.npy", offsets)
    meta = {"rows": len(encoded), "shape": shape, "layers": list(teacher.layers)}
    (partial / "meta.json").write_text(json.dumps(meta))
    os.replace(partial, folder)


def check_fits(teacher, tokenizer, encoded, spec) -> None:
    """Refuse a teacher whose tokenizer or positions do not fit, before an index error does."""
    config = teacher.config
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"The tokenizer of '{spec.teacher}' has {len(tokenizer)} tokens, its model only "
            f"{config.vocab_size} embeddings: they do not belong together."
        )
    longest, positions = int(encoded.lengths.max()), getattr(config, "max_position_embeddings", 512)
    if longest > positions:
        raise InputError(
            f"A row has {longest} tokens, but '{spec.teacher}' has {positions} positions. "
            f"--set max_length={positions} cuts rows to that."
        )


def check_teacher(task: Task, logits, labels, train_labels) -> dict:
    """Is this teacher fit to teach? The rule, on the first dev split:

    - the lower end of the 95 % bootstrap interval of its primary metric lies above the majority
      answer's value, and
    - for classes, no other order of the labels scores clearly better (the upper end of its own
      interval stays below the other order's accuracy): a teacher from elsewhere may number its
      classes differently.

    Returns:
        "passed" and a sentence "reason", with the numbers that decided.
    """
    value, low, high = bootstrap(task, logits, labels, draws=500)
    baseline = majority_metrics(task, train_labels, labels)[task.primary]
    report = {
        "metric": task.primary,
        "value": value,
        "low": low,
        "majority": baseline,
        "passed": False,
    }
    if task.kind == "classification" and task.num_labels <= 4:
        own = compute_metrics(task, logits, labels)
        accuracy = float((logits.argmax(-1) == labels).mean())
        orders = itertools.permutations(range(task.num_labels))
        best = max(orders, key=lambda order: (logits[:, order].argmax(-1) == labels).mean())
        better = float((logits[:, best].argmax(-1) == labels).mean())
        if better - accuracy > 3 * (0.25 / len(labels)) ** 0.5:
            names = ", ".join(task.labels[i] for i in best)
            report["reason"] = (
                f"Its classes seem to be in another order than the task's: accuracy {accuracy:.3f} "
                f"as they stand, {better:.3f} if its outputs were {names}. Metrics now: {own}."
            )
            return report
    report["passed"] = low > baseline
    verb = "beats" if report["passed"] else "does not clearly beat"
    report["reason"] = (
        f"{task.primary} {value:.3f} (95 % interval {low:.3f} to {high:.3f}) {verb} the majority "
        f"answer's {baseline:.3f}."
    )
    return report
