"""The distillation loop: two stages, gradient perturbation, resume. Taught in notebook 04.

`train` is the whole method on one screen. The same loop fine-tunes teachers (a recipe whose only
loss is the hard label) and distils on unlabelled text (a recipe whose only loss is the layers).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from lrc_lib.best import Best
from lrc_lib.data.batches import Encoded, collate, steps_per_epoch
from lrc_lib.losses import (
    cos_nce_pull,
    hard_label_loss,
    reduce_states,
    soft_label_loss,
    total_loss,
    transformer_layer_loss,
)
from lrc_lib.models import backbone, embeddings_replaced
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.runs.execution import in_precision, model_inputs, tuned
from lrc_lib.runs.processes import Group, current
from lrc_lib.schedule import Recipe, loss_weights
from lrc_lib.trainee import Trainee


@dataclass
class Job:
    """Everything one training needs. `spec` supplies the values that are only numbers or names.

    `teach(indices, batch, layers)` gives the frozen teacher's `Taught` for a batch, its states only
    if `layers`; `pairs` are 1-based (student layer, teacher layer). `report(step, total, line)` is
    called with a readable line at the end of an epoch and with "" in between. Where the folder
    `stage1` exists, the state at the stage boundary is read from it or left in it, for runs that
    have the same stage 1. With `best` the model is scored at the end of each epoch of stage 2, and
    the best state is the result. `group` is the processes among which each batch is shared.
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
    generator: torch.Generator = torch.default_generator  # of dropout on a CPU

    @property
    def modules(self) -> nn.ModuleList:
        return nn.ModuleList(m for m in (self.model, self.projection) if m is not None)

    @property
    def generators(self) -> list[torch.Generator]:
        return [self.generator]

    @property
    def negatives_from(self) -> Group | None:
        """The processes whose rows are negatives; None: this process's own."""
        return self.group if self.spec.negatives == "batch" else None

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.encoded), self.batch_size, self.spec.drop_last)

    # What follows, `lrc_lib.stack.Stack` does for several students at once.

    def weights(self, step: int, total: int):
        """(alpha, beta, gamma) at a step."""
        return loss_weights(step, total, self.recipe, self.spec.stage_boundary)

    def batch(self, rows):
        """(indices, batch): this process's share of the rows, and `collate` of it."""
        longest, indices = self.encoded.lengths[rows].max(), self.group.share_of(rows)
        return indices, collate(self.encoded, indices, self.device, longest, self.pad_to)

    def ask(self, indices, batch, weights):
        """The teacher's answers, as far as the weights need them."""
        if not (weights[0] or weights[1]):
            return None
        return with_pulls(self, batch, self.teach(indices, batch, layers=bool(weights[0])))

    @property
    def losses(self) -> list[str]:
        """The layer losses that are used, "cos_nce" or "mse"."""
        return [self.recipe.layer_loss]

    def layer_loss(self, *states, **how) -> Tensor:
        """The loss of one layer."""
        return self.average(transformer_layer_loss(*states, loss=self.losses[0], **how))

    def average(self, rows: Tensor) -> Tensor:
        """(B,) to a scalar."""
        return rows.mean()

    def total(self, parts: dict, weights) -> Tensor:
        return total_loss(parts.get("layers"), parts.get("soft"), parts.get("hard"), weights)

    def update(self, trainees: list[Trainee], step: int) -> None:
        trainees[0].update(step)

    def record(self, trainees: list[Trainee], step: int, rows, clean: dict, perturbed) -> None:
        trainees[0].record(step, rows, clean, perturbed)


def train(job: Job) -> None:
    """Train `job.model` in place, writing `history.jsonl` (a line a step) into `job.folder`.

    An earlier checkpoint in the folder is continued, on CPU to the bit-identical result.

    Raises:
        InputError: fewer rows than one batch.
        TrainingError: a loss is NaN or infinite (names the step, the rows and the likely cause).
    """
    trainee = Trainee(job)
    take_steps(job, [trainee])
    trainee.finish()


@tuned
def take_steps(job: Job, trainees: list[Trainee]) -> None:
    """The method: all steps that are left to do of a job, or of a stack with its trainees."""
    recipe, spec, first = job.recipe, job.spec, trainees[0]
    for step in range(first.start, first.total):
        rows = first.rows(step)
        if job.pad_to > 1:  # compiled: what the last step's graphs left may be overwritten
            torch.compiler.cudagraph_mark_step_begin()
        indices, batch = job.batch(rows)
        weights = job.weights(step, first.total)
        job.group.reseed(job.seed, step)
        taught = job.ask(indices, batch, weights)

        if recipe.perturb:  # Eqs. (7)-(8): only the loss at the moved embeddings trains
            embeddings = embed(job.model, batch)
            clean = compute_losses(job, batch, taught, weights, embeddings)
            moved = perturb_embeddings(
                embeddings, clean["loss"].sum(), spec.perturb_norm, spec.epsilon,
                batch["attention_mask"],
            )  # fmt: skip
            trained = compute_losses(job, batch, taught, weights, moved)["loss"]
        else:
            clean = compute_losses(job, batch, taught, weights)
            trained = clean["loss"]
        trained.sum().backward()  # a sum of one; of a stack's students, each with its own weights

        if weights[0]:
            floor = layer_floor(job, taught)
            clean |= {} if floor is None else {"floor": floor}
        job.update(trainees, step)
        job.record(trainees, step, rows, clean, trained if recipe.perturb else None)


def embed(model: nn.Module, batch: dict) -> Tensor:
    """emb^S: the output of the student's embedding layer (B, L, d)."""
    inputs = {name: ids for name, ids in batch.items() if name.endswith("_ids")}
    return backbone(model).embeddings(**inputs)


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
        parts["soft"] = (logits - taught.logits).square().mean(-1)
    elif beta:
        parts["soft"] = soft_label_loss(logits, taught.logits, spec.temperature, "none")
    if gamma and job.regression:
        parts["hard"] = (logits[:, 0] - batch["labels"]).square()
    elif gamma:
        parts["hard"] = hard_label_loss(
            logits, batch["labels"], spec.temperature, job.hard_target, "none"
        )
    parts |= {name: job.average(parts[name]) for name in ("soft", "hard") if name in parts}
    parts["loss"] = job.total(parts, weights)
    return parts


def with_pulls(job: Job, batch: dict, taught):
    """`taught` with the part of COS-NCE that is the teacher's alone, for both passes of a step."""
    if "cos_nce" not in job.losses or job.spec.representation == "token":
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
        how = {"reduction": "none", "group": job.negatives_from, "pull": pull}
        losses.append(job.layer_loss(student, teacher, kept, shape, **how))
    return sum(losses) if spec.layer_reduction == "sum" else sum(losses) / len(losses)


def layer_floor(job: Job, taught) -> Tensor | None:
    """The least value that the layer loss can take on this batch, whatever the student.

    None where it is not known: for the MSE it is 0, and "token" has no closed form here.
    """
    floors = [job.average(2 - pull.flatten(1).norm(dim=-1)) for pull in taught.pulls]
    if not floors:
        return None
    return sum(floors) if job.spec.layer_reduction == "sum" else sum(floors) / len(floors)
