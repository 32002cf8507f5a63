"""Students trained as one come out as if each had trained alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from lrc_lib import find, run, trainee
from lrc_lib import history as history_module
from lrc_lib.dropout import _register
from lrc_lib.models import build_student
from lrc_lib.runs.device import stacking_pays
from lrc_lib.runs.pool import close_over, train_all
from lrc_lib.runs.stacked_runs import run_stack
from lrc_lib.stack import STACKED, stack_modules
from lrc_lib.vocabulary import trim_vocabulary

# Without cheap dropout (a transformers without masking_utils) the masks of a stack are other draws.
SAME_MASKS = bool(_register())
TOGETHER = ("lrc", "lrc_1", "lrc_c", "lrc_s", "lrc_h", "lrc_2", "bert_m")


@pytest.fixture(scope="module")
def tiny_spec(tiny_spec):
    return tiny_spec if SAME_MASKS else tiny_spec.replace(dropout=0.0)


@pytest.fixture(scope="module")
def mixed(tiny_spec):
    """Seven recipes, one of them at three learning rates, over 60 steps with dropout."""
    specs = [tiny_spec.replace(recipe=recipe, epochs=6) for recipe in TOGETHER]
    return [*specs, *(specs[0].replace(learning_rate=rate) for rate in (5e-4, 4e-3))]


@pytest.fixture(scope="module")
def store(mixed, out, tmp_path_factory):
    """A copy of a store that holds what the students start from, and no student."""
    folder = tmp_path_factory.mktemp("stack")
    for key, spec in close_over(mixed).items():
        if spec.kind != "student":
            run(spec, out, "cpu")
            shutil.copytree(out / "runs" / key, folder / "runs" / key)
    return folder


def copy_of(store, folder):
    shutil.copytree(store, folder, dirs_exist_ok=True)
    return folder


def same(alone, stacked, atol=1e-4):
    """Two results of one spec: the same but for rounding."""
    assert alone.id == stacked.id
    ours, theirs = alone.history, stacked.history
    assert list(ours.notna().any()) == list(theirs.notna().any())
    np.testing.assert_allclose(ours, theirs, atol=atol)
    logits = [result.predictions()["logits"] for result in (alone, stacked)]
    np.testing.assert_allclose(*logits, atol=2e-4)
    states = [result.student().state_dict() for result in (alone, stacked)]
    for name in states[0]:
        assert torch.allclose(states[0][name], states[1][name], atol=2e-4), name
    assert {p.name for p in alone.path.iterdir()} == {p.name for p in stacked.path.iterdir()}


def test_each_result_is_the_separate_run_s(mixed, out, store, tmp_path):
    assert len({spec.stack_key() for spec in mixed}) == 1
    assert mixed[0].dropout > 0 or not SAME_MASKS
    stacked = run_stack(mixed, copy_of(store, tmp_path), "cpu")
    for spec, result in zip(mixed, stacked, strict=True):
        alone = run(spec, out, "cpu")
        assert len(alone.history) == 60 and set(alone.history.stage) == {1, 2}
        same(alone, result)
        assert result.provenance["stacked"] == len(mixed)
        assert sum(p.stat().st_size for p in result.path.rglob("*.safetensors")) == sum(
            p.stat().st_size for p in alone.path.rglob("*.safetensors")
        )
    # and what is compared is not always the same: other recipes and rates, other students
    weights = [nn.utils.parameters_to_vector(r.student().parameters()) for r in stacked]
    for i, one in enumerate(weights):
        assert all((one - other).abs().max() > 1e-3 for other in weights[:i])
    assert [r.path for r in run_stack(mixed, tmp_path)] == [r.path for r in stacked]  # now read


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "lrc_g"},
        {"recipe": "finetune"},
        {"recipe": "lrc_c_last20"},
        {"recipe": "lrc_1", "representation": "mean", "projection": "per_layer"},
        {"recipe": "lrc_1", "projection_bias": True, "layer_map": "penultimate"},
        {"recipe": "lrc_1", "keep": "best"},
        {"recipe": "finetune", "task": "reviews-score", "data": "", "train_rows": 64},
        {"recipe": "lrc_1", "cache_gb": 0.0, "bucket": 4},
    ],
    ids=lambda change: "-".join(map(str, change.values())),
)
def test_other_recipes_and_choices_too(tiny_spec, out, store, tmp_path, change):
    spec = tiny_spec.replace(seed=1, **change)
    pair = [spec, spec.replace(learning_rate=5e-4)]
    stacked = run_stack(pair, copy_of(store, tmp_path), "cpu")
    for one, result in zip(pair, stacked, strict=True):
        same(run(one, out, "cpu"), result)
        assert result.metrics.get("kept_step") == run(one, out).metrics.get("kept_step")


def test_a_stack_that_was_interrupted_goes_on_in_either_way(
    tiny_spec, out, store, tmp_path, monkeypatch
):
    pair = [tiny_spec.replace(recipe=recipe, seed=2) for recipe in ("lrc_2", "lrc_c")]
    copy_of(store, tmp_path)
    real = trainee.save_checkpoint

    def dies(job, optimizer, done, force=False):
        real(job, optimizer, done, force=True)
        sizes.append((job.folder / "checkpoint.pt").stat().st_size)
        if done >= 12 and len(sizes) % 2 == 0:  # both are saved
            raise KeyboardInterrupt

    sizes = []
    with monkeypatch.context() as patch:
        patch.setattr(history_module, "FLUSH_STEPS", 4)
        patch.setattr(trainee, "save_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            run_stack(pair, tmp_path, "cpu")
    assert not any(find(spec, tmp_path) for spec in pair)
    first = run(pair[0], tmp_path, "cpu")  # goes on alone
    (second,) = run_stack(pair[1:], tmp_path, "cpu")
    same(run(pair[0], out, "cpu"), first)
    same(run(pair[1], out, "cpu"), second)

    one = (tmp_path / "one").resolve()
    copy_of(store, one)
    alone = []

    def spy(job, optimizer, done, force=False):
        real(job, optimizer, done, force=True)
        alone.append((job.folder / "checkpoint.pt").stat().st_size)

    monkeypatch.setattr(trainee, "save_checkpoint", spy)
    run(pair[0], one, "cpu")
    assert max(sizes) < 1.05 * max(alone)  # a student's own weights, not the whole stack's


def test_who_can_train_together(tiny_spec):
    def together(**change):
        return tiny_spec.replace(**change).stack_key() == tiny_spec.stack_key()

    assert all(together(recipe=recipe) for recipe in TOGETHER) and together(learning_rate=1e-5)
    assert not any(together(recipe=r) for r in ("lrc_g", "finetune", "lrc_c_last20"))
    assert not together(seed=1) and not together(epochs=3) and not together(dropout=0.2)
    alone = [tiny_spec.teacher_spec(), tiny_spec.general_spec()]
    alone += [tiny_spec.replace(representation="token"), tiny_spec.replace(perturb_norm="tensor")]
    alone += [tiny_spec.replace(negatives="process", processes=2)]
    assert not any(spec.stack_key() for spec in alone)


class Screen:
    def __init__(self):
        self.lines = []

    def start(self, key):
        self.lines.append(f"start {key}")

    def step(self, *progress):
        pass

    def end(self, key, status, text=""):
        self.lines.append(f"{status} {key}")
        return 1.0

    def say(self, text):
        self.lines.append(text)


def test_a_pool_stacks_what_it_can_and_shares_the_first_stage(tiny_spec, out, store, tmp_path):
    copy_of(store, tmp_path)
    recipes = ("lrc", "lrc_s", "lrc_h", "bert_m", "lrc_g")
    specs = [tiny_spec.replace(recipe=recipe) for recipe in recipes]
    screen = Screen()
    outcomes = train_all(close_over(specs), tmp_path, "cpu", 1, screen, stack=True)
    assert all(outcome.status in ("trained", "read") for outcome in outcomes.values())
    size = {
        r: find(s, tmp_path).provenance.get("stacked") for r, s in zip(recipes, specs, strict=True)
    }
    # lrc's first stage is that of lrc_s and lrc_h, which wait for it and then train as two
    assert size == {"lrc": 2, "bert_m": 2, "lrc_s": 2, "lrc_h": 2, "lrc_g": None}
    for spec in specs:
        same(run(spec, out, "cpu"), find(spec, tmp_path))


def test_a_stack_with_one_that_fails_is_taken_apart(tiny_spec, out, store, tmp_path):
    copy_of(store, tmp_path)
    good = tiny_spec.replace(recipe="lrc_2", seed=3, clip=1e30)
    bad = good.replace(learning_rate=1e30)
    outcomes = train_all(close_over([good, bad]), tmp_path, "cpu", 1, Screen(), stack=True)
    assert outcomes[good.run_id()].status == "trained"
    assert outcomes[bad.run_id()].status == "failed"
    assert "not finite" in outcomes[bad.run_id()].message
    same(run(good, out, "cpu"), find(good, tmp_path))


def test_stacked_layers_compute_what_the_layers_do():
    torch.manual_seed(0)
    students = [build_student(2, 24, 32, 2, 50, dropout=0.0).eval() for _ in range(3)]
    ids = torch.randint(1, 40, (4, 7))
    ids[2:, 5:] = 0
    mask = (ids != 0).long()
    for student in students[:2]:
        for parameter in student.parameters():  # biases start at zero: nothing to tell apart
            nn.init.normal_(parameter, std=0.3)
    wanted = [student(ids, attention_mask=mask).logits for student in students]
    for student in students:
        trim_vocabulary(student, ids.flatten().numpy())
    stack = stack_modules(students)
    kinds = {type(module) for module in stack.modules()}
    assert set(STACKED.values()) <= kinds and not kinds & {nn.Linear, nn.Embedding, nn.LayerNorm}
    places = torch.arange(7).expand(12, 7)
    logits = stack(
        ids.repeat(3, 1), attention_mask=mask.repeat(3, 1), position_ids=places
    ).logits  # fmt: skip
    assert torch.allclose(logits, torch.cat(wanted), atol=1e-5)
    with torch.no_grad():  # a student's parameters are the stack's own
        students[1].classifier.bias += 1
    moved = stack(ids.repeat(3, 1), attention_mask=mask.repeat(3, 1), position_ids=places).logits
    assert torch.allclose((moved - logits)[4:8], torch.ones(4, 2), atol=1e-5)
    assert torch.equal(moved[:4], logits[:4]) and torch.equal(moved[8:], logits[8:])


def test_a_stack_is_the_default_where_it_was_measured_to_be_faster(tmp_path):
    assert not stacking_pays("cuda", tmp_path)
    for stacked, wanted in ((1.0, True), (3.0, False)):
        line = {"wall_seconds": {"one by one": 9.0, "as one": 2.0, "stacked": stacked}}
        (tmp_path / "table-cuda.jsonl").write_text(f"{{}}\n{json.dumps(line)}\n")
        assert stacking_pays("cuda", tmp_path) is wanted
    assert not stacking_pays("cpu", tmp_path)
    (tmp_path / "table-cpu.jsonl").write_text("{}\n")
    assert not stacking_pays("cpu", tmp_path)
