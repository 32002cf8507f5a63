"""The log of a training: `history.jsonl`, a line a step, and the check that losses are finite."""

import json
import math
import time

import torch

from lrc_lib.errors import TrainingError

FLUSH_STEPS = 20  # losses are read back from the device and written this often


class History:
    """Collects losses on the device and writes them a few steps at a time."""

    PARTS = ("loss", "layers", "floor", "soft", "hard")

    def __init__(self, job):
        self.job, self.path = job, job.folder / "history.jsonl"
        self.waiting: list[tuple[dict, list, dict]] = []
        self.started, self.first = time.perf_counter(), None

    def add(self, step, epoch, stage, rate, indices, clean, perturbed) -> None:
        line = {"step": step, "epoch": epoch, "stage": stage, "rate": rate}
        parts = {name: clean[name].detach() for name in self.PARTS if name in clean}
        if perturbed is not None:
            parts["perturbed"] = perturbed.detach()
        self.waiting.append((line, indices, parts))
        self.first = step if self.first is None else self.first

    def due(self, done: int, per_epoch: int, total: int) -> bool:
        return done % FLUSH_STEPS == 0 or done % per_epoch == 0 or done == total

    def flush(self, done: int, total: int) -> None:
        values = torch.stack([v.float() for *_, parts in self.waiting for v in parts.values()])
        values = self.job.group.mean(values)  # shares of a batch are equal
        values = iter(values.tolist())  # the only read-back from the device
        lines = []
        for line, indices, parts in self.waiting:
            line |= {name: next(values) for name in parts}
            if "floor" in line:
                line["excess"] = line["layers"] - line["floor"]
            if not all(math.isfinite(line[name]) for name in parts):
                raise TrainingError(self._not_finite(line, indices))
            lines.append(json.dumps(line))
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        self.waiting.clear()
        per_epoch = self.job.steps_per_epoch
        text = ""
        if done % per_epoch == 0 or done == total:
            rate = (done - self.first) / (time.perf_counter() - self.started)
            text = (
                f"epoch {-(-done // per_epoch)}/{self.job.epochs}  step {done}/{total}  "
                f"stage {line['stage']}  loss {line['loss']:.4f}  {rate:.1f} steps/s"
            )
        self.job.report(done, total, text)

    def _not_finite(self, line: dict, indices) -> str:
        bad = [name for name in (*self.PARTS, "perturbed") if not math.isfinite(line.get(name, 0))]
        cause = f"a learning rate of {self.job.learning_rate:g} that is too high"
        if line["step"] == 0:
            cause = "weights, teacher outputs or labels that are not numbers from the start"
        elif bad == ["perturbed"]:
            cause = f"a perturbation of {self.job.spec.epsilon:g} that is too large"
        return (
            f"The loss is not finite at step {line['step']} ({', '.join(bad)}); rows of the batch: "
            f"{[int(i) for i in indices]}. Likely cause: {cause}. Nothing was published; the "
            f"history up to here is in {self.path}."
        )
