import dataclasses
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from word_pieces import word_piece

from lrc_lib import RunSpec, run, training
from lrc_lib.cli.commands import main
from lrc_lib.errors import InputError, TrainingError, UnavailableError
from lrc_lib.models import load_tokenizer
from lrc_lib.runs import run as run_module
from lrc_lib.runs.device import has_bf16
from lrc_lib.runs.run import fit_teacher
from lrc_lib.runs.store import find


def weights(result):
    return {k: v.clone() for k, v in result.student().state_dict().items()}


def test_a_spec_that_is_none():
    with pytest.raises(InputError, match="learning_rate"):
        RunSpec.from_json('{"learning_rat": 1}')
    with pytest.raises(InputError, match="not JSON"):
        RunSpec.from_json("{")


@pytest.mark.parametrize(
    "field, value, says",
    [
        ("recipe", "lrk", "Did you mean 'lrc'"),
        ("representation", "flaten", "Did you mean 'flatten'"),
        ("hard_target", "onehot", "one_hot"),
        ("schedule", "linaer", "linear"),
        ("batch_size", 1, "at least 2"),
        ("temperature", 0, "positive"),
        ("cache_gb", -1, "at least 0 .0: no cache"),
        ("stage_boundary", 1.0, "stage_boundary"),
        ("student_heads", 5, "multiple of student_heads"),
        ("warmup", 1.0, "warmup must be in"),
        ("epochs", "many", "must be of type int"),
        ("epochs", 1.5, "must be of type int"),
        ("drop_last", "perhaps", "must be of type bool"),
    ],
)
def test_bad_values(field, value, says):
    with pytest.raises(InputError, match=says):
        RunSpec().replace(**{field: value})


def test_id_depends_on_what_can_change_the_run_and_on_nothing_else(tiny_spec):
    base = tiny_spec.run_id()
    for change in (
        dict(seed=1), dict(recipe="lrc_g"), dict(epsilon=2.0), dict(teacher_seed=1),
        dict(general_lr=1e-3), dict(train_rows=100), dict(precision="bf16"),
    ):  # fmt: skip
        assert tiny_spec.replace(**change).run_id() != base, change
    assert tiny_spec.replace(cache_gb=0.5, compile="on", precision="fp32").run_id() == base
    assert {s.precision for s in tiny_spec.replace(precision="bf16").dependencies()} == {"bf16"}
    lrc_1 = tiny_spec.replace(recipe="lrc_1")
    assert lrc_1.replace(general_lr=1e-3).run_id() == lrc_1.run_id()
    assert lrc_1.replace(teacher_lr=1e-3).run_id() != lrc_1.run_id()
    finetune = tiny_spec.replace(recipe="finetune")
    assert finetune.replace(teacher_lr=1e-3).run_id() == finetune.run_id()


def test_id_follows_the_data_not_its_folder(tiny_spec, tiny_data, tmp_path):
    import shutil

    copy = tmp_path / tiny_spec.task
    shutil.copytree(tiny_data, copy)
    assert tiny_spec.replace(data=str(copy)).run_id() == tiny_spec.run_id()
    with (copy / "train.csv").open("a") as file:
        file.write("a fine one,good\n")
    from lrc_lib.runs import spec

    spec._task_data.cache_clear()
    spec._run_id.cache_clear()
    assert tiny_spec.replace(data=str(copy)).run_id() != tiny_spec.run_id()


def test_lrc_end_to_end(tiny_spec, out):
    result = run(tiny_spec, out, device="cpu")
    assert find(tiny_spec.teacher_spec(), out).metrics["check"]["passed"]
    history = result.history
    steps = result.metrics["steps"]
    assert len(history) == steps == 2 * (160 // 16)
    assert (history.stage == 2).sum() == steps - int(steps * 0.8)
    first, second = history[history.stage == 1], history[history.stage == 2]
    assert first.soft.isna().all() and first.hard.isna().all() and first.layers.notna().all()
    assert second[["soft", "hard", "layers"]].notna().all().all()
    total = second.layers + second.soft + 3 * second.hard
    assert np.allclose(total, second.loss, atol=1e-5)
    assert history.perturbed.notna().all() and (history.excess > -1e-5).all()
    assert (history.layers >= history.minimum - 1e-5).all()
    assert history.excess.iloc[-3:].mean() < history.excess.iloc[:3].mean()
    predictions = result.predictions()
    assert predictions["logits"].shape == (60, 2)
    accuracy = (predictions["logits"].argmax(1) == predictions["labels"]).mean()
    assert accuracy == pytest.approx(result.score())
    facts = result.provenance
    assert facts["seconds"] > 0 and facts["peak_memory_mb"] > 0 and facts["versions"]["torch"]


def test_second_time_trains_nothing(tiny_spec, out, monkeypatch):
    first = run(tiny_spec, out, device="cpu")
    monkeypatch.setattr("lrc_lib.runs.run.train", lambda *_: pytest.fail("it trained again"))
    assert run(tiny_spec, out, device="cpu").path == first.path


def test_saved_student_is_a_plain_transformers_model(tiny_spec, out):
    result = run(tiny_spec, out, device="cpu")
    names = {path.name for path in (result.path / "student").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    model, tokenizer = result.student(), result.tokenizer()
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model(**tokenizer("the film was lovely", return_tensors="pt")).logits.shape == (1, 2)
    assert not any("projection" in name for name in model.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        dict(representation="token", layer_map="penultimate", perturb_norm="token",
             schedule="restart", hard_target="one_hot"),
        dict(representation="mean", layer_map="top", perturb_norm="tensor", schedule="constant",
             projection="per_layer", layer_reduction="mean"),
        dict(representation="cls", projection_bias=True, epsilon=-1.0, drop_last=False,
             batch_size=48),
    ],
    ids=str,
)  # fmt: skip
def test_every_alternative_runs_together_with_others(tiny_spec, out, change):
    spec = tiny_spec.replace(recipe="lrc_1", epochs=1, **change)
    result = run(spec, out, device="cpu")
    assert np.isfinite(result.history.loss).all()
    assert result.path != run(tiny_spec.replace(recipe="lrc_1", epochs=1), out, device="cpu").path


def test_general_start_is_used(tiny_spec, out):
    general = run(tiny_spec.general_spec(), out, device="cpu")
    assert general.metrics["texts"] == 64 and general.history.perturbed.isna().all()
    frozen = tiny_spec.replace(learning_rate=1e-12, epochs=1)
    student = run(frozen, out, device="cpu")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.allclose(weights(student)[name], weights(general)[name], atol=1e-6)
    ours, theirs = student.projection().state_dict(), general.projection().state_dict()
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-6) for k in ours)


def test_head_is_untouched_in_stage_one(tiny_spec, out):
    spec = tiny_spec.replace(recipe="lrc_1", stage_boundary=0.95, epochs=1, seed=7)  # 9 of 10 steps
    head = {}
    record = training.Trainer.record

    def spy(self, step, *rest):
        state = self.net.model.classifier.state_dict()
        head[step + 1] = {k: v.clone() for k, v in state.items()}
        record(self, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Trainer, "record", spy)
        run(spec, out, device="cpu")
    assert all(torch.equal(head[1][k], head[9][k]) for k in head[1])
    assert any(not torch.equal(head[9][k], head[10][k]) for k in head[1])


def test_cached_and_live_teacher_teach_the_same(tiny_spec, out, tmp_path):
    spec = tiny_spec.replace(recipe="lrc_1")
    cached = run(spec, out, device="cpu")
    live = run(spec.replace(cache_gb=0.0), tmp_path, device="cpu")
    assert "cached" in cached.metrics["cache"] and "every step" in live.metrics["cache"]
    assert np.allclose(cached.history.loss, live.history.loss, atol=2e-3)
    small = run(spec.replace(cache_gb=1e-9), tmp_path / "small", device="cpu")
    assert re.search(r"logits are cached: .* budget is 1e-09", small.metrics["cache"])
    assert np.allclose(small.history.loss, live.history.loss, atol=2e-3)


def interrupted(spec, out, at):
    """Run until the checkpoint after step `at`, then die; the run must not be published."""
    save = training.Trainer._save

    def die(self, done):
        save(self, done)
        if done >= at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Trainer, "_save", die)
        patch.setattr(training, "FLUSH_STEPS", 1)
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            run(spec, out, device="cpu")
    assert find(spec, out) is None


own_bf16 = pytest.mark.skipif(not has_bf16("cpu"), reason="this CPU has no bfloat16")


# within an epoch, between epochs, in stage 2
@pytest.mark.parametrize(
    "at, change",
    [
        (7, {"seed": 7}), (10, {"seed": 10}), (17, {"seed": 17}),
        pytest.param(17, {"seed": 17, "precision": "bf16"}, marks=own_bf16),
        (10, {"recipe": "centred"}), (10, {"recipe": "shuffled"}),
        (10, {"recipe": "tinybert", "student_heads": 4}),
    ],
    ids=str,
)  # fmt: skip
def test_interrupted_run_goes_on_to_the_bit_identical_result(tiny_spec, out, tmp_path, at, change):
    spec = tiny_spec.replace(**{"recipe": "lrc_1"} | change)
    whole = run(spec, out, device="cpu")
    for dependency in spec.dependencies():
        run(dependency, tmp_path, device="cpu")
    interrupted(spec, tmp_path, at)
    resumed = run(spec, tmp_path, device="cpu")
    ours, theirs = weights(whole), weights(resumed)
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert whole.history.equals(resumed.history)
    assert not (resumed.path / "checkpoint.pt").exists()


@pytest.mark.parametrize("recipe", ["lrc_s", "lrc_h"])
def test_a_shared_first_stage_gives_the_bit_identical_result(
    tiny_spec, out, tmp_path, monkeypatch, recipe
):
    spec = tiny_spec.replace(recipe=recipe)
    alone = run(spec, out, device="cpu")
    (tmp_path / "cache" / spec.stage1_id()).mkdir(parents=True)
    run(tiny_spec, tmp_path, device="cpu")
    steps, update = [], training.Trainer.update

    def spy(self, step):
        steps.append(step)
        update(self, step)

    monkeypatch.setattr(training.Trainer, "update", spy)
    shared = run(spec, tmp_path, device="cpu")
    assert steps == [16, 17, 18, 19]  # stage 2 of 20 steps
    ours, theirs = weights(alone), weights(shared)
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert alone.history.equals(shared.history)


def test_only_runs_with_the_same_first_stage_share_it(tiny_spec):
    def shared(**change):
        return tiny_spec.replace(**change).stage1_id() == tiny_spec.stage1_id()

    assert all(shared(recipe=recipe) for recipe in ("lrc", "lrc_s", "lrc_h"))
    assert not any(shared(recipe=r) for r in ("lrc_1", "lrc_2", "lrc_g", "bert_m", "finetune"))
    assert not shared(seed=1) and not shared(learning_rate=1e-3) and not shared(epochs=3)
    assert tiny_spec.replace(recipe="lrc_c_last20").stage1_id() == ""
    assert tiny_spec.teacher_spec().stage1_id() == ""


def test_a_trimmed_vocabulary_changes_nothing_but_rounding(tiny_spec, out, tmp_path, monkeypatch):
    spec = tiny_spec.replace(recipe="finetune", weight_decay=5.0, train_rows=32, epochs=4)
    trimmed = run(spec, tmp_path / "a", device="cpu")
    monkeypatch.setattr(training, "trim_vocabulary", lambda model, ids: None)
    whole = run(spec, tmp_path / "b", device="cpu")
    assert np.allclose(trimmed.history.loss, whole.history.loss, rtol=1e-4)
    ours, theirs = weights(trimmed), weights(whole)
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=2e-4), name


@pytest.mark.parametrize(
    "change, cause", [(dict(learning_rate=1e30, clip=1e30), "learning rate"),
                      (dict(recipe="lrc", epsilon=1e30), "epsilon")]
)  # fmt: skip
def test_not_a_number_stops_the_run_and_says_where(tiny_spec, tmp_path, change, cause):
    spec = tiny_spec.replace(**{"recipe": "finetune"} | change)
    with pytest.raises(TrainingError, match=rf"not finite at step \d+ .*{cause}"):
        run(spec, tmp_path, device="cpu")
    assert find(spec, tmp_path) is None


def test_a_teacher_that_is_lost_is_one_sentence(tiny_spec, tmp_path):
    with pytest.raises(InputError, match="is not in the store .* makes it again"):
        fit_teacher(tiny_spec, tmp_path)


def test_unfit_teacher_refuses_to_teach(tiny_spec, tmp_path):
    spec = tiny_spec.replace(recipe="lrc_1", teacher_lr=1e-9, teacher_epochs=1)
    with pytest.raises(InputError, match="not fit to teach.*constant"):
        run(spec, tmp_path, device="cpu")


def test_ready_made_teacher_is_taken_as_it_is(tiny_spec, out, tmp_path):
    ready = find(tiny_spec.teacher_spec(), out) or run(tiny_spec.teacher_spec(), out, device="cpu")
    spec = tiny_spec.replace(teacher=str(ready.path / "student"), teacher_epochs=0)
    again = run(spec.teacher_spec(), tmp_path, device="cpu")
    assert np.allclose(again.predictions()["logits"], ready.predictions()["logits"], atol=1e-5)


def test_ready_made_teacher_with_another_number_of_labels(tiny_spec, tmp_path):
    from lrc_lib.models import load_encoder_classifier

    folder = tmp_path / "three"
    load_encoder_classifier(tiny_spec.teacher, 3).save_pretrained(folder)
    load_tokenizer(tiny_spec.teacher).save_pretrained(folder)
    spec = tiny_spec.replace(teacher=str(folder), teacher_epochs=0)
    with pytest.raises(InputError, match="weights of a bert with 2 output.*classifier"):
        run(spec, tmp_path, device="cpu")


def changed_teacher(folder, change, tokenizer, value=1.0):
    from transformers import BertConfig, BertModel

    shape = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    model = BertModel(BertConfig(**shape, **change))
    model.encoder.layer[0].output.LayerNorm.weight.data *= value
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", ["teacher", "general"])
@pytest.mark.parametrize(
    "change, says",
    [
        (dict(vocab_size=10), r"\d+ tokens, its model 10 embeddings: they do not belong together"),
        (dict(vocab_size=400), r"\d+ tokens, its model 400 embeddings"),
        (dict(vocab_size=60, max_position_embeddings=6), "take at most 6 .*max_length=6"),
    ],
)
def test_teacher_whose_tokenizer_or_positions_do_not_fit(
    tiny_spec, tiny_teacher, tmp_path, kind, change, says
):
    folder = changed_teacher(tmp_path / "teacher", change, load_tokenizer(tiny_teacher))
    spec = getattr(tiny_spec.replace(teacher=folder), f"{kind}_spec")()
    with pytest.raises(InputError, match=says):
        run(spec, tmp_path, device="cpu")


@pytest.mark.parametrize("kind", ["teacher", "general"])
def test_a_teacher_that_does_not_know_the_words_is_refused(tiny_spec, tmp_path, kind):
    folder = changed_teacher(tmp_path / "teacher", dict(vocab_size=40), word_piece())
    spec = getattr(tiny_spec.replace(teacher=folder), f"{kind}_spec")()
    with pytest.raises(InputError, match=r"\d\d% of the training tokens are unknown \(\[UNK\]"):
        run(spec, tmp_path, device="cpu")


def test_a_live_teacher_beyond_float16_is_named_as_the_cause(tiny_spec, tiny_teacher, tmp_path):
    tokenizer = load_tokenizer(tiny_teacher)
    folder = changed_teacher(tmp_path / "teacher", dict(vocab_size=40), tokenizer, value=1e6)
    spec = tiny_spec.replace(teacher=folder, cache_gb=0, layer_map="1,2").general_spec()
    with pytest.raises(TrainingError, match="cause: states of layer 1 .*65,504.* from the teacher"):
        run(spec, tmp_path, device="cpu")


def test_rows_too_long_are_refused_before_anything_is_trained(tiny_spec, tmp_path):
    for name in ("max_length", "general_max_length"):
        with pytest.raises(InputError, match=f"^{name} = 600 does not fit .*{name}=128"):
            run(tiny_spec.replace(**{name: 600}), tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [EOFError(), FileNotFoundError(2, "No such file", "x")])
def test_a_file_that_vanished_or_was_cut_is_no_bare_error(tiny_spec, tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setitem(run_module.KINDS, "student", fail)
    with pytest.raises(InputError, match="or read what it needs: .*(EOF|No such file).*checksums"):
        run(tiny_spec.replace(recipe="finetune", seed=77), tmp_path, device="cpu")


def test_two_processes_train_once(tiny_spec, tmp_path):
    spec = tiny_spec.replace(recipe="finetune", seed=5)
    (tmp_path / "spec.json").write_text(spec.to_json())
    code = (
        "import sys; from lrc_lib import RunSpec, run; import lrc_lib.runs.run as b\n"
        "real = b.train\n"
        "def train(*a): print('TRAINED', flush=True); real(*a)\n"
        "b.train = train\n"
        "run(RunSpec.from_json(open(sys.argv[1]).read()), sys.argv[2], device='cpu')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "spec.json"), str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(text.count("TRAINED") for text in outputs) == 1


def test_unwritable_output_is_an_input_error(tiny_spec, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="Cannot write"):
        run(tiny_spec.replace(recipe="finetune", seed=9), tmp_path / "file", device="cpu")


@pytest.mark.parametrize(
    "lost, asked",
    [
        ("history.jsonl", lambda result: result.history),
        ("predictions.npz", lambda result: result.predictions()),
        ("student/model.safetensors", lambda result: result.student()),
        ("student", lambda result: result.tokenizer()),
        ("provenance.json", lambda result: result.provenance),
    ],
)
def test_a_run_that_lost_a_file_says_which_command_makes_it_again(
    learned, out, tmp_path, lost, asked
):
    copy = tmp_path / "runs" / learned.id
    shutil.copytree(learned.path, copy)
    path = copy / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UnavailableError, match=f"{lost} is missing.*lrc_lib run .*--out") as said:
        asked(dataclasses.replace(learned, path=copy))
    if lost != "student":
        return
    (copy / "manifest.json").unlink()  # what it says
    command = re.search(r"`python -m lrc_lib (.*)`", str(said.value))[1]
    assert main(command.split()) == 0
    assert asked(dataclasses.replace(learned, path=copy))
