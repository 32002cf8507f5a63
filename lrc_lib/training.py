"""The training loop, and what it keeps: batches, optimiser, history, checkpoints.

`train` is the whole method on one screen, with `lrc_lib.distil.step_losses`. The same loop
fine-tunes teachers (the hard label is then the only loss) and distils on unlabelled text (the
layers are then the only loss). Taught in notebook 04.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from lrc_lib.data.batches import Encoded, collate, epoch_order, steps_per_epoch
from lrc_lib.data.manifest import MANIFEST, is_whole, rename, say_damaged, write_manifest
from lrc_lib.distil import Losses, Net, step_losses
from lrc_lib.errors import InputError, TrainingError
from lrc_lib.models import trim_vocabulary
from lrc_lib.schedule import Recipe, boundary_step, learning_rate_factor, loss_weights
from lrc_lib.teacher import no_teacher, not_finite

FLUSH_STEPS = 20  # losses are read back from the device and written after this many steps
CHECKPOINT_SECONDS = 60
LOSSES = ("loss", "layers", "minimum", "soft", "hard", "perturbed")  # of a line of the history


def train(net: Net, teacher: Callable, trainer: "Trainer") -> None:
    """Train `net` in place, from the trainer's first step (or its checkpoint) to the last.

    Args:
        teacher: f(row numbers, batch, weights) -> `lrc_lib.teacher.TeacherOutput`, or None where no
            weight needs an answer.
        trainer: see `Trainer`.

    Raises:
        TrainingError: a loss is NaN or infinite (names the step, the rows and the likely cause).
        OSError: a checkpoint cannot be written.
    """
    trainer.teacher = teacher
    for step, rows in trainer.steps():
        weights = trainer.weights(step)  # (alpha, beta, gamma) of this step's stage
        rows, batch = trainer.batch(rows)
        with trainer.autocast():  # bfloat16 or nothing; the losses stay in float32
            answers = teacher(rows, batch, weights)
            clean, loss = step_losses(net, batch, answers, weights)
        loss.backward()
        trainer.update(step)
        trainer.record(step, rows, clean, loss)
    trainer.finish()


@dataclass(frozen=True)
class Settings:
    """The numbers of a training run; `lrc_lib.runs.spec.RunSpec` explains them."""

    epochs: int
    batch_size: int = 16
    learning_rate: float = 1e-4
    seed: int = 0
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: float = 0.1
    schedule: str = "linear"
    stage_boundary: float = 0.8
    drop_last: bool = True
    bucket: int = 0


class Group:
    """The processes that train together. This one is the usual case: one process by itself.

    `lrc_lib.runs.processes.ProcessGroup` is the other one.
    """

    rank, processes = 0, 1

    def share_of(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of a batch's rows."""
        return rows[self.rank :: self.processes]

    def reseed(self, seed: int, step: int) -> None:
        """Called before each step, so that the dropout of several processes differs."""

    def same_start(self, net: nn.Module) -> None:
        """Gives all processes the weights of process 0."""

    def average_gradients(self, net: nn.Module) -> None:
        """Makes every gradient its mean over the processes, in place."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes; `values` is overwritten and must not need a gradient."""
        return values

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, like `sum`."""
        return self.sum(values) / self.processes

    def share(self, value):
        """What process 0 has for `value`, which is pickled. Waits for all processes."""
        return value

    @contextmanager
    def workplace(self, folder: Path):
        """The folder to work in: for process 0 `folder`, for the others a temporary one."""
        folder.mkdir(exist_ok=True)
        yield folder


ONE_PROCESS = Group()


class Trainer:
    """What a training run needs besides the method. A checkpoint in `folder` is continued.

    On a CPU a resumed run gives the bit-identical result.

    Args:
        net: see `lrc_lib.distil.Net`; it is moved to the device and set to training mode.
        encoded: the training rows.
        recipe: the loss weights of both stages.
        folder: where `history.jsonl` and `checkpoint.pt` are written.
        report: called as report(step, total, line), with a readable line at the end of an epoch
            and with "" in between.
        stage1: where this folder exists, the state at the stage boundary is read from it or left
            in it, for runs that have the same stage 1.
        score: f() -> dev score of the model as it is; the best epoch of stage 2 is then kept
            instead of the last step. Only stage 2 counts: in stage 1 the head is untrained.
        ids: arrays of all token ids that the model will see in training and scoring.
        group: the processes that share each batch.
        autocast: gives the context of the forward passes of one step.

    Attributes:
        start, total: the first step that is left to do, and the number of steps.
        boundary: the first step of stage 2.
        teacher: what `train` asks; its answers are looked at again where a loss is not finite.

    Raises:
        InputError: fewer rows than one batch.
    """

    def __init__(
        self,
        net: Net,
        encoded: Encoded,
        recipe: Recipe,
        settings: Settings,
        folder: Path,
        device="cpu",
        *,
        report: Callable = lambda step, total, line: None,
        stage1: Path | None = None,
        score: Callable[[], float] | None = None,
        ids: Sequence[np.ndarray] = (),
        group: Group = ONE_PROCESS,
        autocast: Callable = nullcontext,
    ):
        self.net, self.encoded, self.recipe, self.settings = net, encoded, recipe, settings
        self.folder, self.device = Path(folder), torch.device(device)
        self.report, self.stage1, self.score = report, stage1, score
        self.group, self.autocast, self.collate = group, autocast, collate
        self.teacher = no_teacher
        net.to(self.device).train()
        rows, size = len(encoded), settings.batch_size
        self.per_epoch = steps_per_epoch(rows, size, settings.drop_last)
        self.total = self.per_epoch * settings.epochs
        if self.total == 0:
            raise InputError(f"{rows} rows are less than one batch of {size}.")
        group.same_start(net)
        self.words = trim_vocabulary(net.model, ids or [encoded.ids])
        self.optimizer = build_optimizer(
            net, settings.learning_rate, settings.weight_decay, self.device
        )
        self.boundary = boundary_step(self.total, settings.stage_boundary)
        # Without a loss in stage 1 there is nothing to learn in it.
        self.first = 0 if any(recipe.stage1) else self.boundary
        self._waiting: list[tuple[dict, list, dict]] = []
        self.best: dict = {}  # "run", "score" and "step" of stage 2's best epoch
        self.start = max(self.first, self._load())
        if 0 < self.start == self.boundary:  # interrupted before it was shared
            self._share_stage1(self.start)
        self._began, self._saved = time.perf_counter(), time.monotonic()

    # ---- batches

    def steps(self):
        """(step, numbers of the rows in its batch) for all steps that are left to do."""
        known, size = -1, self.settings.batch_size
        for step in range(self.start, self.total):
            epoch, position = divmod(step, self.per_epoch)
            if epoch != known:
                seed, bucket = self.settings.seed, self.settings.bucket
                order = epoch_order(self.encoded.lengths, seed, epoch, size, bucket)
                known = epoch
            self.group.reseed(self.settings.seed, step)
            yield step, order[position * size : (position + 1) * size]

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, dict[str, Tensor]]:
        """This process's share of the rows, and their batch."""
        longest, rows = self.encoded.lengths[rows].max(), self.group.share_of(rows)
        return rows, self.collate(self.encoded, rows, self.device, longest)

    # ---- update

    def weights(self, step: int) -> tuple[float, float, float]:
        """(alpha, beta, gamma) at a 0-based step."""
        return loss_weights(step, self.total, self.recipe, self.settings.stage_boundary)

    def rate(self, step: int) -> float:
        """The learning rate at a 0-based step."""
        s = self.settings
        return s.learning_rate * learning_rate_factor(
            step, self.total, s.warmup, s.schedule, s.stage_boundary
        )

    def update(self, step: int) -> None:
        """An optimiser step with the gradients that are there; afterwards there are none."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.group.average_gradients(self.net)
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimizer.step()
        # None, not zero: AdamW would shrink the untouched head all through stage 1.
        self.optimizer.zero_grad(set_to_none=True)

    # ---- after a step

    def record(self, step: int, rows, clean: Losses, loss: Tensor) -> None:
        """Note a step's losses, and do what is due after it: score on dev, write, save."""
        done, stage = step + 1, 2 if step >= self.boundary else 1
        line = {"step": step, "epoch": step // self.per_epoch, "stage": stage}
        line["rate"] = self.rate(step)
        values = clean._asdict() | {"loss": clean.total}
        values["perturbed"] = loss if self.net.perturb else None
        found = {name: values[name].detach() for name in LOSSES if values[name] is not None}
        self._waiting.append((line, rows, found))
        epoch_ends = done % self.per_epoch == 0 or done == self.total
        if self.score and stage == 2 and epoch_ends:
            line["dev"] = self._keep_if_best(done)
        if done == self.boundary and self._shares():
            self._write_history(done)
            self._share_stage1(done)
        elif done % FLUSH_STEPS == 0 or epoch_ends:
            self._write_history(done)
            if done == self.total or time.monotonic() - self._saved >= CHECKPOINT_SECONDS:
                self._save(done)

    def finish(self) -> None:
        """Leave the model as the run's result: the best state if asked, the whole vocabulary."""
        done = self.total
        if self.score:
            state = _load_whole(self.folder / "best.pt")
            self.net.load_state_dict(state["net"])
            done = state["step"]
        if self.words:
            decay = self.settings.weight_decay
            shrink = math.prod(1 - self.rate(step) * decay for step in range(self.first, done))
            self.net.model.set_input_embeddings(self.words.restore(shrink))

    def _keep_if_best(self, done: int) -> float:
        value = float(self.score())
        self.net.train()
        if not self.best or value > self.best["score"]:  # of equal scores the earliest
            self.best = {"run": self.folder.name, "score": value, "step": done}
            _save_whole(self.best | {"net": self.net.state_dict()}, self.folder / "best.pt")
        return value

    # ---- history: a line of JSON per step

    def _write_history(self, done: int) -> None:
        values = [v.float() for *_, found in self._waiting for v in found.values()]
        values = self.group.mean(torch.stack(values))  # shares of a batch are equal
        values = iter(values.tolist())  # the only value that is read back from the device
        lines = []
        for line, rows, found in self._waiting:
            line |= {name: next(values) for name in found}
            if "minimum" in line:
                line["excess"] = line["layers"] - line["minimum"]
            if not all(math.isfinite(line[name]) for name in found):
                raise TrainingError(self._not_finite(line, rows))
            lines.append(json.dumps(line) + "\n")
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(lines)
        self._waiting.clear()
        text = ""
        if done % self.per_epoch == 0 or done == self.total:
            speed = (done - self.start) / (time.perf_counter() - self._began)
            text = (
                f"epoch {-(-done // self.per_epoch)}/{self.settings.epochs}  "
                f"step {done}/{self.total}  stage {line['stage']}  loss {line['loss']:.4f}  "
                f"{speed:.1f} steps/s"
            )
        self.report(done, self.total, text)

    def _not_finite(self, line: dict, rows) -> str:
        bad = [name for name in LOSSES if not math.isfinite(line.get(name, 0))]
        cause = f"a learning rate of {self.settings.learning_rate:g} that is too high"
        batch = self.collate(self.encoded, rows, self.device)
        answers = self.teacher(rows, batch, self.weights(line["step"]))
        if of_teacher := not_finite(answers, [n for _, n in self.net.pairs]):
            cause = f"{of_teacher} from {self.teacher.source}"
        elif bad == ["perturbed"]:
            cause = "a perturbation (epsilon) that is too large"
        elif line["step"] == 0:
            cause = "weights or labels that are not numbers from the start"
        return (
            f"The loss is not finite at step {line['step']} ({', '.join(bad)}); rows of the batch: "
            f"{[int(i) for i in rows]}. Likely cause: {cause}. Nothing was published; the "
            f"history up to here is in {self.folder / 'history.jsonl'}."
        )

    # ---- checkpoints

    def _save(self, done: int, folder: Path | None = None) -> None:
        """Write everything that a resumed run needs, all of it or nothing."""
        if self.group.rank:  # process 0 saves for all
            return
        folder = folder or self.folder
        cuda = self.device.type == "cuda"
        with (folder / "history.jsonl").open("rb+") as file:
            history = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())  # a checkpoint without its history is of no use
        state = {
            "run": folder.name,
            "history": history,  # of the steps before `done`
            "step": done,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": [torch.cuda.get_rng_state(self.device)] if cuda else [],
        }
        _save_whole(state, folder / "checkpoint.pt")
        self._saved = time.monotonic()

    def _shares(self) -> bool:
        return self.stage1 is not None and self.stage1.exists()

    def _share_stage1(self, done: int) -> None:
        """Leave the state at the stage boundary and the history up to it for other runs."""
        if self.group.rank or not self._shares() or (self.stage1 / MANIFEST).exists():
            return
        self._save(done)
        with FileLock(self.stage1 / "sharing.lock"):
            shutil.copy(self.folder / "history.jsonl", self.stage1)
            self._save(done, self.stage1)
            write_manifest(self.stage1)  # last: then everything is there

    def _load(self) -> int:
        """Continue from a checkpoint, else from a shared stage 1: returns the next step."""
        state = self.group.share(self._state())
        if state is None:
            return 0
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state["cuda_rng"]:
            torch.cuda.set_rng_state(state["cuda_rng"][0], self.device)
        return state["step"]

    def _state(self) -> dict | None:
        """The state to continue from, with the history cut back to it; None if there is none.

        What an interrupted run left behind is used only if all of it can be read.
        """
        path, history = self.folder / "checkpoint.pt", self.folder / "history.jsonl"
        if path.exists():
            try:
                return self._own_state(path, history)
            except Exception as error:  # whatever a damaged file makes of itself
                rename(path, path.with_suffix(".damaged"))
                reason = str(error).split(". ")[0]  # torch adds advice that is not safe
                say_damaged(
                    f"the checkpoint in '{self.folder}' cannot be used ({reason}). It is set "
                    "aside, and the run starts anew."
                )
        for left in (path, history, self.folder / "best.pt"):
            left.unlink(missing_ok=True)
        if self.stage1 is None or not is_whole(self.stage1):
            return None
        shutil.copy(self.stage1 / "history.jsonl", history)
        return self._own_state(self.stage1 / "checkpoint.pt", history)

    def _own_state(self, path: Path, history: Path) -> dict:
        """The state in a checkpoint, with the history cut back to it.

        Raises some exception if a part of it is not there, or is not what this folder's run wrote.
        """
        state = _load_whole(path)
        done = state["step"]
        with history.open("rb+") as file:  # cut in place: needs no room on a disk that was full
            lines = [file.readline() for _ in range(done - self.first)]
            if hashlib.sha256(b"".join(lines)).hexdigest() != state["history"]:
                raise ValueError(f"the history up to step {done} is not the one that was written")
            file.truncate()
        best = self.score and done - done % self.per_epoch > self.boundary  # an epoch was kept
        kept = _load_whole(self.folder / "best.pt") if best else {"run": self.folder.name}
        for part, folder in ((state, path.parent), (kept, self.folder)):
            if part["run"] != folder.name:
                raise ValueError(f"a part of it is of the run '{part['run']}'")
        self.best = {name: kept[name] for name in ("run", "score", "step")} if best else {}
        return state


def build_optimizer(net: nn.Module, learning_rate: float, weight_decay: float, device):
    """AdamW (0.9, 0.999), eps 1e-6, without weight decay on biases and LayerNorm."""
    parameters = list(net.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = torch.device(device).type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-6, fused=fused)


def _save_whole(state: dict, path: Path) -> None:
    """`torch.save` under another name, flushed to disk, then renamed; OSError where it cannot."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # some file systems tell only now that they are full
        rename(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # of torch's own writer
            raise OSError(f"{error}") from error
        raise


def _load_whole(path: Path) -> dict:
    """What `_save_whole` wrote, its checksums compared. Raises some exception if it is not that."""
    with ZipFile(path) as archive:  # torch writes a zip file
        if bad := archive.testzip():
            raise BadZipFile(f"{path.name}: {bad} is not what was written")
    return torch.load(path, map_location="cpu", weights_only=True)
