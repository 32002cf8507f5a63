"""One step against the equations: parts, sums, minimum, perturbation, regression."""

import pytest
import torch
import torch.nn.functional as F

from lrc_lib.distil import build_net, pass_losses, step_losses
from lrc_lib.losses import (
    cos_nce_target,
    hard_label_loss,
    soft_label_loss,
    transformer_layer_loss,
)
from lrc_lib.models import Projection, build_student
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.schedule import Recipe
from lrc_lib.teacher import TeacherOutput

PAIRS = [(1, 2), (2, 4), (3, 6)]
WEIGHTS = (0.5, 2.0, 3.0)
PLAIN = Recipe("plain", "", perturb=False)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    mask = (torch.arange(7) < torch.tensor([[7], [3], [5], [4]])).long()
    ids = torch.randint(1, 50, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 1, 0])}


def answers(length=7, classes=2):
    generator = torch.Generator().manual_seed(1)
    states = [torch.randn(4, length, 12, generator=generator) for _ in PAIRS]
    return TeacherOutput(states, torch.randn(4, classes, generator=generator))


def net_of(recipe=PLAIN, labels=2, **options):
    """A student of three layers without dropout, its W, and the losses of a recipe."""
    torch.manual_seed(2)
    model = build_student(3, 8, 8, 2, 50, labels, dropout=0.0).train()
    return build_net(model, recipe, W=Projection(8, 12), pairs=PAIRS, **options)


def by_hand(net, batch, taught, loss="cos_nce", kind="flatten"):
    mask = batch["attention_mask"]
    output = net.model(batch["input_ids"], attention_mask=mask, output_hidden_states=True)
    states = [net.W(output.hidden_states[m]) for m, _ in PAIRS]
    pairs = zip(states, taught.states, strict=True)
    return output, [transformer_layer_loss(s, t, mask, kind, loss) for s, t in pairs]


@pytest.mark.parametrize(
    "loss, kind", [("cos_nce", "flatten"), ("cos_nce", "token"), ("mse", "flatten")]
)
def test_each_part_is_its_equation(batch, loss, kind):
    net = net_of(Recipe("r", "", layer_loss=loss, perturb=False), representation=kind)
    taught = answers()
    clean, trained = step_losses(net, batch, taught, WEIGHTS)
    output, layers = by_hand(net, batch, taught, loss, kind)
    soft = soft_label_loss(output.logits, taught.logits)
    hard = hard_label_loss(output.logits, batch["labels"])
    assert clean.layers.item() == pytest.approx(sum(layers).item(), rel=1e-5)
    assert clean.soft.item() == pytest.approx(soft.item(), rel=1e-5)
    assert clean.hard.item() == pytest.approx(hard.item(), rel=1e-5)
    total = 0.5 * sum(layers) + 2 * soft + 3 * hard
    assert trained is clean.total and trained.item() == pytest.approx(total.item(), rel=1e-5)


def test_the_minimum_is_the_sum_over_the_layers(batch):
    taught, mask = answers(), batch["attention_mask"]
    clean, _ = step_losses(net_of(), batch, taught, (1, 0, 0))
    targets = [cos_nce_target(t, mask).flatten(1) for t in taught.states]  # zero in the padding
    least = sum((2 - target.norm(dim=-1)).mean() for target in targets)
    assert clean.minimum.item() == pytest.approx(least.item(), rel=1e-5)
    assert clean.soft is None and clean.hard is None
    without = build_net(net_of().model, PLAIN, layer_reduction="mean")
    assert without.layer_weight == 1  # no layers: nothing to divide by
    mean, _ = step_losses(net_of(layer_reduction="mean"), batch, taught, (1, 0, 0))
    assert mean.minimum.item() == pytest.approx(least.item() / 3, rel=1e-5)
    assert mean.layers.item() == pytest.approx(clean.layers.item() / 3, rel=1e-5)


@pytest.mark.parametrize("kind", ["mean", "cls"])
def test_reduced_states_give_the_loss_of_whole_ones(batch, kind):
    taught, mask = answers(), batch["attention_mask"]
    net = net_of(representation=kind)
    _, layers = by_hand(net, batch, taught, kind=kind)
    if kind == "cls":
        reduced = [t[:, :1] for t in taught.states]
    else:
        real = mask.unsqueeze(-1)
        reduced = [
            (t * real).sum(1, keepdim=True) / real.sum(1, keepdim=True) for t in taught.states
        ]
    clean, _ = step_losses(net, batch, taught._replace(states=reduced), (1, 0, 0))
    assert clean.layers.item() == pytest.approx(sum(layers).item(), rel=1e-4)


def test_the_perturbed_pass_starts_from_the_moved_embeddings(batch):
    taught, recipe = answers(), Recipe("r", "")
    net = net_of(recipe, norm="token", epsilon=0.3)
    clean, trained = step_losses(net, batch, taught, WEIGHTS)
    embeddings, mask = net.embed(batch), batch["attention_mask"]
    targets = net.layer_targets(taught.states, mask)
    first = pass_losses(net, batch, taught, targets, WEIGHTS, embeddings).total
    moved = perturb_embeddings(embeddings, first, "token", 0.3, mask)
    second = pass_losses(net, batch, taught, targets, WEIGHTS, moved).total
    assert clean.total.item() == pytest.approx(first.item(), rel=1e-6)
    assert trained.item() == pytest.approx(second.item(), rel=1e-6) and trained > clean.total
    usual = step_losses(net_of(recipe), batch, taught, WEIGHTS)[1]
    written = step_losses(net_of(recipe, norm="sample", epsilon=1.0), batch, taught, WEIGHTS)[1]
    assert usual == written > trained  # the default step has length 1 for each row


def test_a_regression_has_squared_errors(batch):
    batch["labels"] = torch.tensor([0.1, 0.7, 0.2, 0.9])
    net, taught = net_of(labels=1, regression=True), answers(classes=1)
    clean, _ = step_losses(net, batch, taught, (0, 1, 1))
    logits = net.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert clean.layers is None and clean.minimum is None
    assert clean.soft.item() == pytest.approx(F.mse_loss(logits, taught.logits).item())
    assert clean.hard.item() == pytest.approx(F.mse_loss(logits[:, 0], batch["labels"]).item())
