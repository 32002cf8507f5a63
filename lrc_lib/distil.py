"""One distillation step: the losses of a batch, clean and perturbed. (Eqs. 3-8)

`Net` decides once what a loss is made of: COS-NCE or another layer loss, classification or
regression, perturbed or not. The step itself has no such branches. Taught in notebook 04.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from lrc_lib import losses
from lrc_lib.models import attention_scores, backbone, embeddings_replaced, model_inputs
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.schedule import Recipe


class Losses(NamedTuple):
    """The parts of Eq. (6) for one batch, as scalars; a part whose weight is 0 is None.

    `layers` is summed over the student's layers. `minimum` is the least value that it can take on
    this batch, whatever the student; only `step_losses` fills it in, where it is known.
    """

    layers: Tensor | None
    soft: Tensor | None
    hard: Tensor | None
    total: Tensor
    minimum: Tensor | None = None


class Net(nn.Module):
    """A model with its projection W and the losses of a recipe by which it is trained.

    Where a recipe or its layer loss sets what an argument sets, too, theirs holds.

    Args:
        model: a transformers classifier.
        recipe: names the losses; see `lrc_lib.schedule.Recipe`.
        W: the projection of Eq. (3); None without a layer loss.
        pairs: 1-based (student layer, teacher layer); (0, 0) are the embeddings.
        regression: the soft and the hard loss are then mean squared errors.
        layer_reduction: "sum" over the layers (the paper's), or "mean".
        norm, epsilon: see `lrc_lib.perturbation.perturb_embeddings`.
        group: the processes whose rows are each other's negatives; None: only one process.
        negative_count: K; 0: all others of the batch.
        The other arguments are those of the losses.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, *, W: nn.Module | None = None,
        pairs: Sequence[tuple[int, int]] = (), regression: bool = False,
        representation: str = "flatten", layer_reduction: str = "sum", temperature: float = 1.1,
        hard_target: str = "paper", norm: str = "sample", epsilon: float = 1.0,
        info_nce_temperature: float = 0.1, negative_count: int = 0, group=None,
    ):  # fmt: skip
        super().__init__()
        self.model, self.W, self.pairs = model, W, list(pairs)
        kind = losses.LAYER_LOSSES[recipe.layer_loss]
        self.kind, self.representation = kind, kind.representation or representation
        shape = self.representation, group, info_nce_temperature, negative_count
        self.layer_loss = losses.layer_loss(recipe.layer_loss, *shape)
        self.layer_weight = 1.0 if layer_reduction == "sum" else 1 / max(1, len(self.pairs))
        target = recipe.hard_target or hard_target
        self.hard_loss = partial(losses.hard_label_loss, temperature=temperature, target=target)
        self.soft_loss = partial(losses.soft_label_loss, temperature=temperature)
        if recipe.temperature is not None:
            self.soft_loss = partial(losses.scaled_soft_loss, temperature=recipe.temperature)
        if regression:
            self.soft_loss = self.hard_loss = losses.squared_error
        moved = partial(perturb_embeddings, norm=norm, epsilon=epsilon)
        self.perturb = moved if recipe.perturb else None

    def embed(self, batch: dict) -> Tensor:
        """emb^S (B, L, d): the output of the student's embedding layer."""
        inputs = {name: ids for name, ids in batch.items() if name.endswith("_ids")}
        return backbone(self.model).embeddings(**inputs)

    def forward(self, batch: dict, embeddings: Tensor | None, hidden_states: bool):
        """The model's output, from `embeddings` (B, L, d) where they are given."""
        inputs = model_inputs(self.model, batch)
        if embeddings is None:
            return self.model(**inputs, output_hidden_states=hidden_states)
        with embeddings_replaced(self.model, embeddings):
            return self.model(**inputs, output_hidden_states=hidden_states)

    def layer_targets(self, answers, mask: Tensor) -> list:
        """The teacher's part of each layer loss, from its reduced states (B, l, D)."""
        kept = mask if self.representation in ("flatten", "token") else mask[:, :1]
        layers = zip(answers.states, *answers.means, strict=True)
        return [self.layer_loss.target(layer, kept, *mean) for layer, *mean in layers]

    def layer_losses(self, hidden_states, targets: list, attentions, mask: Tensor) -> Tensor:
        """The layer losses of Eq. (3), summed over the mapped layers. Scalar.

        `attentions` are the teacher's scores of each mapped layer, for TinyBERT; else empty.
        """
        total = 0.0
        for index, ((m, _), target) in enumerate(zip(self.pairs, targets, strict=True)):
            states, kept = losses.reduce_states(hidden_states[m], mask, self.representation)
            total += self.layer_loss.value(self.W(states, index), target, kept).mean()
        mapped = [m for m, _ in self.pairs if m]
        for m, scores in zip(mapped, attentions, strict=False):
            own = attention_scores(self.model, hidden_states[m - 1], m)
            total += losses.attention_loss(own, scores, mask).mean()
        return self.layer_weight * total

    def layer_minimum(self, targets: list) -> Tensor | None:
        """The least value of `layer_losses` for these targets. Scalar, or None if not known."""
        if not targets or self.layer_loss.minimum is None:
            return None
        return self.layer_weight * sum(self.layer_loss.minimum(t).mean() for t in targets)


def step_losses(net: Net, batch: dict, answers, weights) -> tuple[Losses, Tensor]:
    """The losses of one step.

    With gradient perturbation only the loss at the moved embeddings trains the student. Both passes
    start from the same output of the embedding layer and see the same weights.

    Args:
        net: the model in training mode, with its losses.
        batch: see `lrc_lib.data.batches.collate`.
        answers: the teacher's (`lrc_lib.teacher.TeacherOutput`), or None if no weight needs them.
        weights: (alpha, beta, gamma) of Eq. (6) at this step.

    Returns:
        (the losses of the clean pass, the scalar whose gradient trains the student).

    Taught in: notebooks/04_two_stage_distillation.
    """
    mask = batch["attention_mask"]
    targets = net.layer_targets(answers, mask) if weights[0] else []
    if net.perturb is None:
        clean = pass_losses(net, batch, answers, targets, weights)
        trained = clean.total
    else:
        embeddings = net.embed(batch)  # emb^S, once for both passes
        clean = pass_losses(net, batch, answers, targets, weights, embeddings)
        moved = net.perturb(embeddings, clean.total, mask=mask)  # Eqs. (7)-(8)
        trained = pass_losses(net, batch, answers, targets, weights, moved).total
    return clean._replace(minimum=net.layer_minimum(targets)), trained


def pass_losses(net: Net, batch: dict, answers, targets, weights, embeddings=None) -> Losses:
    """The losses of one pass; a part whose weight is 0 is not computed. (Eqs. 3-6)"""
    alpha, beta, gamma = weights
    output = net(batch, embeddings, bool(alpha))
    layers = soft = hard = None
    if alpha:
        mask = batch["attention_mask"]
        layers = net.layer_losses(output.hidden_states, targets, answers.attentions, mask)
    if beta:
        soft = net.soft_loss(output.logits, answers.logits)
    if gamma:
        hard = net.hard_loss(output.logits, batch["labels"])
    return Losses(layers, soft, hard, losses.total_loss(layers, soft, hard, weights))
