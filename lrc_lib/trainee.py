"""What a training has beside the method: optimiser, rate, order of rows, log and checkpoints."""

import math

import torch
from torch import nn

from lrc_lib.checkpoint import load_checkpoint, save_checkpoint, share_stage1
from lrc_lib.data.batches import epoch_order
from lrc_lib.errors import InputError
from lrc_lib.history import History
from lrc_lib.schedule import boundary_step, learning_rate_factor
from lrc_lib.vocabulary import trim_vocabulary


class Trainee:
    """One job under training. An earlier checkpoint in its folder is loaded.

    `start` is the first step that is left to do, `total` the number of steps.

    Raises:
        InputError: fewer rows than one batch.
    """

    def __init__(self, job):
        self.job, spec = job, job.spec
        self.modules = job.modules.to(job.device).train()
        self.per_epoch, self.total = job.steps_per_epoch, job.steps_per_epoch * job.epochs
        if self.total == 0:
            rows = len(job.encoded)
            raise InputError(f"{rows} rows are less than one batch of {job.batch_size}.")
        job.group.begin(job)
        self.words = trim_vocabulary(job.model, job.encoded.ids)
        self.optimizer = build_optimizer(
            self.modules, job.learning_rate, spec.weight_decay, job.device
        )
        self.log = History(job)
        self.boundary = boundary_step(self.total, spec.stage_boundary)
        # without a loss in stage 1 there is nothing to learn in it
        self.first = 0 if any(job.recipe.stage1) else self.boundary
        self.start = max(self.first, load_checkpoint(job, self.optimizer, self.log))
        self.epoch, self.order = -1, None
        if job.best is not None:
            job.best.begin(resumed=self.start > self.boundary)

    def rate(self, step: int) -> float:
        """The learning rate at a 0-based step."""
        spec = self.job.spec
        return self.job.learning_rate * learning_rate_factor(
            step, self.total, spec.warmup, spec.schedule, spec.stage_boundary
        )

    def rows(self, step: int):
        """Indices of the rows of a step's batch."""
        job, (epoch, position) = self.job, divmod(step, self.per_epoch)
        if epoch != self.epoch:
            lengths, bucket = job.encoded.lengths, job.spec.bucket
            self.epoch = epoch
            self.order = epoch_order(lengths, job.seed, epoch, job.batch_size, bucket)
        return self.order[position * job.batch_size : (position + 1) * job.batch_size]

    def update(self, step: int) -> None:
        """An optimiser step with the gradients that are there; afterwards there are none."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.job.group.average_gradients(self.modules)
        nn.utils.clip_grad_norm_(self.modules.parameters(), self.job.spec.clip)
        self.optimizer.step()
        # None, not zero: AdamW would shrink the untouched head all through stage 1.
        self.optimizer.zero_grad(set_to_none=True)

    def record(self, step: int, rows, clean: dict, perturbed) -> None:
        """Log a step's losses and do what is due after it: score on dev, save."""
        job, done = self.job, step + 1
        stage = 2 if step >= self.boundary else 1
        self.log.add(step, step // self.per_epoch, stage, self.rate(step), rows, clean, perturbed)
        epoch_ends = done % self.per_epoch == 0 or done == self.total
        if job.best is not None and done > self.boundary and epoch_ends:
            self._whole_vocabulary(done)
            self.log.waiting[-1][0]["dev"] = job.best.look(job.modules, done)
            if self.words:
                job.model.set_input_embeddings(self.words)
            self.modules.train()
        if done == self.boundary and job.stage1 is not None and job.stage1.exists():
            self.log.flush(done, self.total)
            share_stage1(job, self.optimizer, done)
        elif self.log.due(done, self.per_epoch, self.total):
            self.log.flush(done, self.total)
            save_checkpoint(job, self.optimizer, done, force=done == self.total)

    def finish(self) -> None:
        """Leave the model as the run's result: the whole vocabulary, the best state if asked."""
        self._whole_vocabulary(self.total)
        if self.job.best is not None:
            self.job.best.restore(self.job.modules)

    def _whole_vocabulary(self, done: int) -> None:
        if self.words:
            decay = self.job.spec.weight_decay
            shrink = math.prod(1 - self.rate(step) * decay for step in range(self.first, done))
            self.job.model.set_input_embeddings(self.words.restore(shrink))


def build_optimizer(modules: nn.Module, learning_rate: float, weight_decay: float, device):
    """AdamW (0.9, 0.999), eps 1e-6; no weight decay on biases and LayerNorm."""
    parameters = list(modules.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-6, fused=fused)
