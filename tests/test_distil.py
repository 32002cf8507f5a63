"""One step against the equations: parts, sums, minimum, perturbation, regression; every recipe."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lrc_lib import run
from lrc_lib.data.batches import collate, encode
from lrc_lib.distil import Net, pass_losses, step_losses
from lrc_lib.errors import InputError
from lrc_lib.losses import cos_nce_target, hard_label_loss, soft_label_loss, transformer_layer_loss
from lrc_lib.models import Projection, build_student, load_encoder_classifier, load_tokenizer
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.runs.run import student_net
from lrc_lib.runs.spec import RunSpec, data_of
from lrc_lib.runs.store import run_folder
from lrc_lib.schedule import RECIPES, Recipe
from lrc_lib.teacher import LiveTeacher, TeacherOutput, WithMeans, open_teacher
from lrc_lib.training import Group

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
    return Net(model, recipe, W=Projection(8, 12), pairs=PAIRS, **options)


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
    without = Net(net_of().model, PLAIN, layer_reduction="mean")
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
    targets = net.layer_targets(taught, mask)
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


# ---- rivals and controls


def test_tinybert_compares_embeddings_states_and_scores(batch):
    """Jiao et al., Eqs. 7 to 9, summed over the layers, through W."""
    net = net_of(RECIPES["tinybert"])
    net.pairs, mask = [(0, 0), (1, 2)], batch["attention_mask"]
    states = [*answers().states[:2]]
    scores = torch.randn(4, 2, 7, 7)
    taught = answers()._replace(states=states, attentions=[scores])
    clean, trained = step_losses(net, batch, taught, (1, 0, 0))
    output = net.model(batch["input_ids"], attention_mask=mask, output_hidden_states=True)
    attention = net.model.bert.encoder.layer[0].attention.self
    q, k = (part(output.hidden_states[0]).view(4, 7, 2, 4).transpose(1, 2)
            for part in (attention.query, attention.key))  # fmt: skip
    expected = 0
    for i, n in enumerate(mask.sum(1)):
        for layer in (0, 1):
            gap = net.W(output.hidden_states[layer][i, :n]) - states[layer][i, :n]
            expected += gap.square().mean()
        expected += ((q @ k.mT)[i, :, :n, :n] / 2 - scores[i, :, :n, :n]).square().mean()
    assert trained.item() == pytest.approx(expected.item() / 4, rel=1e-5)
    assert clean.minimum is None


def test_what_belongs_to_a_recipe_goes_before_the_spec(batch):
    taught = answers()
    net = net_of(RECIPES["bert_pkd"], representation="flatten", temperature=1.1)
    assert net.representation == "cls"
    states = [state[:, :1] for state in taught.states]
    clean, _ = step_losses(net, batch, taught._replace(states=states), (1, 0.5, 0.5))
    logits = net.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    soft = 25 * soft_label_loss(logits, taught.logits, 5.0)
    hard = F.cross_entropy(logits, batch["labels"])
    assert clean.soft.item() == pytest.approx(soft.item(), rel=1e-4)
    assert clean.hard.item() == pytest.approx(hard.item(), rel=1e-5)
    total = clean.layers + 0.5 * soft + 0.5 * hard
    assert clean.total.item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(tiny_spec, out, name):
    heads = 4 if name == "tinybert" else tiny_spec.student_heads  # as many as the teacher has
    spec = tiny_spec.replace(recipe=name, student_heads=heads)
    result = run(spec, out, device="cpu")
    history, recipe = result.history, RECIPES[name]
    weights = [recipe.stage1] * 16 * any(recipe.stage1) + [recipe.stage2] * 4
    weights = np.array(weights)  # steps without a loss leave no row
    assert len(history) == len(weights) and np.isfinite(history.loss).all()
    assert 0 <= result.score() <= 1
    parts = history[["layers", "soft", "hard"]].to_numpy(dtype=float)
    assert np.allclose(np.nansum(weights * parts, 1), history.loss, rtol=1e-4)
    assert (np.isnan(parts) == (weights == 0)).all()
    assert history.perturbed.notna().all() == recipe.perturb
    assert ("general" in result.metrics) == recipe.general
    assert ("start" in result.metrics) == bool(recipe.teacher_layers)
    if recipe.general:
        general = spec.general_spec()
        assert general.general_loss == recipe.layer_loss
    if recipe.layer_loss in ("cosine", "centred", "shuffled"):
        assert (history.excess.dropna() >= -1e-5).all()


def test_a_rival_starts_from_the_teacher_s_layers_where_they_fit(tiny_spec, out):
    fits = dict(student_hidden=32, student_intermediate=64, student_heads=4)
    starts = {}
    for name, shape in itertools.product(("distilbert", "bert_pkd"), (fits, {})):
        result = run(tiny_spec.replace(recipe=name, **shape), out, device="cpu")
        starts[name, bool(shape)] = result.metrics["start"]
    assert starts["distilbert", True] == "layers 2, 4 of the teacher"
    assert starts["bert_pkd", True] == "layers 1, 2 of the teacher"
    assert starts["distilbert", False].startswith("random weights: the teacher's layers do not")


@pytest.mark.parametrize("changes, says", [
    ({"recipe": "tinybert"}, "the student's 2 heads, but it is of type bert and has 4"),
    ({"recipe": "bert_pkd", "student_layers": 1}, "BERT-PKD compares no layer"),
])  # fmt: skip
def test_what_does_not_fit_is_one_sentence_and_nothing_is_left(
    tiny_spec, tmp_path, out, changes, says
):
    spec = tiny_spec.replace(**changes)
    with pytest.raises(InputError, match=says):
        run(spec, out, device="cpu")
    assert not run_folder(spec, out).exists()


def test_a_number_of_negatives_fits_into_the_batch():
    assert RunSpec(negative_count=15).general_spec().negative_count == 15
    assert RunSpec(negative_count=20, batch_size=32).general_spec().negative_count == 20
    for changes in ({"negative_count": 16}, {"negative_count": 20, "general_batch_size": 8}):
        with pytest.raises(InputError, match="negative_count = .* must be below (general_)?batch"):
            RunSpec(**{"batch_size": 16} | changes)


def test_settings_of_the_loss_reach_both_distillations(tiny_spec, out):
    first = {}
    for changes in ({}, {"negative_count": 1}, {"recipe": "info_nce"},
                    {"recipe": "info_nce", "info_nce_temperature": 10.0}):  # fmt: skip
        result = run(tiny_spec.replace(**changes), out, device="cpu")
        general = run(result.spec.general_spec(), out, device="cpu")
        first[str(changes)] = (general.history.layers[0], result.history.layers[0])
    assert len(set(first.values())) == 4 and len({pair[0] for pair in first.values()}) == 4


@pytest.fixture(scope="module")
def rows(tiny_spec):
    """(model, encoded training rows) of the tiny task, without fine-tuning."""
    torch.manual_seed(0)
    model = load_encoder_classifier(tiny_spec.teacher, 2)
    return model, encode(data_of(tiny_spec).train, load_tokenizer(tiny_spec.teacher), 16)


@pytest.mark.parametrize("kind", ["flatten", "token", "mean"])
def test_the_training_mean_is_the_same_cached_and_live_and_by_hand(rows, tmp_path, kind):
    model, encoded = rows
    live = LiveTeacher(model, [2, 4], kind, "cpu")
    cached, _ = open_teacher(model, encoded, [2, 4], kind, "cpu", tmp_path / "cache", 1.0)
    batch = collate(encoded, [3, 5, 8])
    ours = [WithMeans(t, encoded, "all", kind, "cpu")([3, 5, 8], batch) for t in (live, cached)]
    whole = collate(encoded, range(len(encoded)))
    real = whole["attention_mask"].unsqueeze(-1)
    for layer, state in enumerate(live(range(len(encoded)), whole).states):
        if kind == "flatten":
            unit = state * real / (state * real).flatten(1).norm(dim=1)[:, None, None]
            mean = unit.mean(0)[: batch["input_ids"].shape[1]]
        elif kind == "token":
            mean = (state / state.norm(dim=-1, keepdim=True) * real).sum(0) / real.sum(0)
            mean = mean[: batch["input_ids"].shape[1]]
        else:
            mean = (state / state.norm(dim=-1, keepdim=True)).mean(0)
        for answer in ours:
            torch.testing.assert_close(answer.means[0][layer], mean, rtol=0, atol=1e-5)


def test_a_random_batch_follows_from_the_batch_and_holds_k_rows(rows):
    model, encoded = rows
    teacher = WithMeans(LiveTeacher(model, [4], "mean", "cpu"), encoded, "random", "mean", "cpu")
    batch = collate(encoded, [3, 5, 8])
    first, again = (teacher(np.array([3, 5, 8]), batch).means[0][0] for _ in range(2))
    other = teacher(np.array([3, 5, 9]), collate(encoded, [3, 5, 9])).means[0][0]
    assert torch.equal(first, again) and not torch.equal(first, other)
    drawn = np.random.default_rng(np.array([3, 5, 8])).choice(len(encoded), 2, replace=False)
    states = teacher.teacher(drawn, collate(encoded, drawn)).states[0]
    mean = (states / states.norm(dim=-1, keepdim=True)).mean(0)
    torch.testing.assert_close(first, mean, rtol=0, atol=1e-5)
    assert teacher([3, 5, 8], batch, (0, 1, 0)).means == ()


@pytest.mark.parametrize("changes", [{"recipe": "info_nce"}, {"negative_count": 3}])
def test_negatives_of_one_process_need_one_process(tiny_spec, rows, monkeypatch, changes):
    group = Group()
    group.processes = 2
    monkeypatch.setattr("lrc_lib.runs.run.current", lambda: group)
    spec = tiny_spec.replace(**changes)
    with pytest.raises(InputError, match="need one process"):
        student_net(spec, RECIPES[spec.recipe], build_student(2, 24, 32, 2, 30), rows[0])
