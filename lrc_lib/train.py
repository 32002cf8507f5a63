"""The distillation loop: two stages, gradient perturbation, resume. Taught in notebook 03.

`train` is the whole method on one screen. The same loop fine-tunes teachers (a recipe whose only
loss is the hard label) and distils on unlabelled text (a recipe whose only loss is the layers).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .best import Best
from .checkpoint import load_checkpoint, save_checkpoint, share_stage1
from .data.batches import Encoded, collate, epoch_order, steps_per_epoch
from .errors import InputError
from .execution import in_precision, model_inputs, tuned
from .history import History
from .losses import (
    cos_nce_pull,
    hard_label_loss,
    reduce_states,
    soft_label_loss,
    total_loss,
    transformer_layer_loss,
)
from .models import backbone, embeddings_replaced
from .parallel import Group, current
from .perturbation import perturb_embeddings
from .schedule import Recipe, boundary_step, learning_rate_factor, loss_weights
from .vocabulary import trim_vocabulary


@dataclass
class Job:
    """Everything one training needs. `spec` supplies the values that are only numbers or names.

    `teach(indices, batch, layers)` gives the frozen teacher's `Taught` for a batch, its states only
    if `layers`; `pairs` are 1-based
    (student layer, teacher layer). `report(step, total, line)` is called with a readable line at
    the end of an epoch and with "" in between. Where the folder `stage1` exists, the state at the
    stage boundary is read from it or left in it, for runs that have the same stage 1. With `best`
    the model is scored at the end of each epoch of stage 2, and the best state is the result.
    `group` is the processes among which each batch is shared.
    """

    model: nn.Module
    recipe: Recipe
    spec: object
    encoded: Encoded
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    device: torch.device
    folder: Path
    regression: bool = False
    hard_target: str = "paper"
    teach: Callable | None = None
    pairs: list[tuple[int, int]] = field(default_factory=list)
    projection: nn.Module | None = None
    stage1: Path | None = None
    pad_to: int = 1  # set by `execution.tuned`
    report: Callable = lambda step, total, line: None
    best: Best | None = None
    group: Group = field(default_factory=current)

    @property
    def modules(self) -> nn.ModuleList:
        return nn.ModuleList(m for m in (self.model, self.projection) if m is not None)

    @property
    def negatives_from(self) -> Group | None:
        """The processes whose rows are negatives; None: this process's own."""
        return self.group if self.spec.negatives == "batch" else None

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.encoded), self.batch_size, self.spec.drop_last)


@tuned
def train(job: Job) -> None:
    """Train `job.model` in place, writing `history.jsonl` (a line a step) into `job.folder`.

    An earlier checkpoint in the folder is continued, on CPU to the bit-identical result.

    Raises:
        InputError: fewer rows than one batch.
        TrainingError: a loss is NaN or infinite (names the step, the rows and the likely cause).
    """
    spec, recipe, modules = job.spec, job.recipe, job.modules.to(job.device).train()
    per_epoch, total = job.steps_per_epoch, job.steps_per_epoch * job.epochs
    if total == 0:
        raise InputError(f"{len(job.encoded)} rows are less than one batch of {job.batch_size}.")
    job.group.begin(job)
    words = trim_vocabulary(job.model, job.encoded.ids)
    optimizer = build_optimizer(modules, job.learning_rate, spec.weight_decay, job.device)
    log = History(job)
    boundary = boundary_step(total, spec.stage_boundary)
    first = 0 if any(recipe.stage1) else boundary  # no loss: nothing to learn in stage 1
    start = max(first, load_checkpoint(job, optimizer, log))
    if job.best is not None:
        job.best.begin(resumed=start > boundary)

    def rate(step):
        factor = learning_rate_factor(step, total, spec.warmup, spec.schedule, spec.stage_boundary)
        return job.learning_rate * factor

    def whole_vocabulary(done):
        if words:
            shrink = math.prod(1 - rate(step) * spec.weight_decay for step in range(first, done))
            job.model.set_input_embeddings(words.restore(shrink))

    for step in range(start, total):
        epoch, position = divmod(step, per_epoch)
        if position == 0 or step == start:
            order = epoch_order(job.encoded.lengths, job.seed, epoch, job.batch_size, spec.bucket)
        rows = order[position * job.batch_size : (position + 1) * job.batch_size]
        indices, longest = job.group.share_of(rows), job.encoded.lengths[rows].max()
        if job.pad_to > 1:  # compiled: what the last step's graphs left may be overwritten
            torch.compiler.cudagraph_mark_step_begin()
        batch = collate(job.encoded, indices, job.device, longest, job.pad_to)
        weights = loss_weights(step, total, recipe, spec.stage_boundary)
        job.group.reseed(job.seed, step)
        taught = None
        if weights[0] or weights[1]:
            taught = with_pulls(job, batch, job.teach(indices, batch, layers=bool(weights[0])))

        if recipe.perturb:  # Eqs. (7)-(8): only the loss at the moved embeddings trains
            embeddings = embed(job.model, batch)
            clean = compute_losses(job, batch, taught, weights, embeddings)
            moved = perturb_embeddings(
                embeddings, clean["loss"], spec.perturb_norm, spec.epsilon, batch["attention_mask"]
            )
            trained = compute_losses(job, batch, taught, weights, moved)["loss"]
        else:
            clean = compute_losses(job, batch, taught, weights)
            trained = clean["loss"]

        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        trained.backward()
        job.group.average_gradients(modules)
        nn.utils.clip_grad_norm_(modules.parameters(), spec.clip)
        optimizer.step()
        # None, not zero: AdamW would shrink the untouched head all through stage 1.
        optimizer.zero_grad(set_to_none=True)

        stage = 2 if step >= boundary else 1
        perturbed = trained if recipe.perturb else None
        if weights[0]:
            floor = layer_floor(job, taught)
            clean |= {} if floor is None else {"floor": floor}
        log.add(step, epoch, stage, rate(step), rows, clean, perturbed)
        done = step + 1
        if job.best is not None and done > boundary and (done % per_epoch == 0 or done == total):
            whole_vocabulary(done)
            log.waiting[-1][0]["dev"] = job.best.look(job.modules, done)
            if words:
                job.model.set_input_embeddings(words)
            modules.train()
        if done == boundary and job.stage1 is not None and job.stage1.exists():
            log.flush(done, total)
            share_stage1(job, optimizer, done)
        elif log.due(done, per_epoch, total):
            log.flush(done, total)
            save_checkpoint(job, optimizer, done, force=done == total)
    whole_vocabulary(total)
    if job.best is not None:
        job.best.restore(job.modules)


def embed(model: nn.Module, batch: dict) -> Tensor:
    """emb^S: the output of the student's embedding layer (B, L, d)."""
    return backbone(model).embeddings(
        input_ids=batch["input_ids"], token_type_ids=batch.get("token_type_ids")
    )


@in_precision
def compute_losses(job: Job, batch: dict, taught, weights, embeddings=None) -> dict[str, Tensor]:
    """The parts of Eq. (6) for one batch; parts whose weight is 0 are not computed.

    Args:
        taught: the teacher's answers, or None if no weight needs them.
        weights: (alpha, beta, gamma).
        embeddings: (B, L, d) to start from instead of the embedding layer's own output.

    Returns:
        "loss" and, where computed, "layers" (summed over the student's layers), "soft" and
        "hard". Scalars.
    """
    alpha, beta, gamma = weights
    inputs = model_inputs(job.model, batch)
    if embeddings is None:
        output = job.model(**inputs, output_hidden_states=bool(alpha))
    else:
        with embeddings_replaced(job.model, embeddings):
            output = job.model(**inputs, output_hidden_states=bool(alpha))
    spec, parts = job.spec, {}
    if alpha:
        parts["layers"] = _layer_loss(job, output.hidden_states, batch["attention_mask"], taught)
    logits = output.logits.float()
    if beta and job.regression:
        parts["soft"] = F.mse_loss(logits, taught.logits)
    elif beta:
        parts["soft"] = soft_label_loss(logits, taught.logits, spec.temperature)
    if gamma and job.regression:
        parts["hard"] = F.mse_loss(logits[:, 0], batch["labels"])
    elif gamma:
        parts["hard"] = hard_label_loss(logits, batch["labels"], spec.temperature, job.hard_target)
    parts["loss"] = total_loss(parts.get("layers"), parts.get("soft"), parts.get("hard"), weights)
    return parts


def with_pulls(job: Job, batch: dict, taught):
    """`taught` with the part of COS-NCE that is the teacher's alone, for both passes of a step."""
    if job.recipe.layer_loss != "cos_nce" or job.spec.representation == "token":
        return taught
    mask = batch["attention_mask"]
    one = job.spec.representation in ("mean", "cls")  # one vector a row: nothing is padding
    pulls = [cos_nce_pull(t, None if one else mask, job.negatives_from) for t in taught.states]
    return taught._replace(pulls=pulls)


def _layer_loss(job: Job, hidden_states, mask: Tensor, taught) -> Tensor:
    spec, losses = job.spec, []
    shape = "token" if spec.representation == "token" else "flatten"
    for index, ((layer, _), teacher) in enumerate(zip(job.pairs, taught.states, strict=True)):
        states, kept = reduce_states(hidden_states[layer], mask, spec.representation)
        student = job.projection(states, index)
        pull = taught.pulls[index] if taught.pulls else None
        loss = transformer_layer_loss(
            student, teacher, kept, shape, job.recipe.layer_loss, "mean", job.negatives_from, pull
        )
        losses.append(loss)
    return sum(losses) if spec.layer_reduction == "sum" else sum(losses) / len(losses)


def layer_floor(job: Job, taught) -> Tensor | None:
    """The least value that the layer loss can take on this batch, whatever the student.

    None where it is not known: for the MSE it is 0, and "token" has no closed form here.
    """
    floors = [(2 - pull.flatten(1).norm(dim=-1)).mean() for pull in taught.pulls]
    if not floors:
        return None
    return sum(floors) if job.spec.layer_reduction == "sum" else sum(floors) / len(floors)


def build_optimizer(modules: nn.Module, learning_rate: float, weight_decay: float, device):
    """AdamW (0.9, 0.999), eps 1e-6; no weight decay on biases and LayerNorm."""
    parameters = list(modules.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-6, fused=fused)
