"""Augmented rows: the file, the run in the store and its id, the plan, the command."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from word_pieces import random_model, word_piece

from lrc_lib import RunSpec, load_profile, run
from lrc_lib.cli.commands import main
from lrc_lib.cli.plan import all_specs, cost
from lrc_lib.cli.submission import choose_runs
from lrc_lib.data import Row, get_task, load_task_data
from lrc_lib.data.files import read_jsonl_rows, to_line
from lrc_lib.errors import InputError
from lrc_lib.runs import augmentation as module
from lrc_lib.runs.augmentation import Augmentation, augmented_rows
from lrc_lib.runs.store import find


@pytest.fixture(scope="module")
def how(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("mlm"), word_piece()
    random_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "vectors.glove"
    path.write_text("films 1 2\nplots 1 2.1\nbrightly 3 1\ndully 3 1.1\n")
    return Augmentation(3, str(folder), str(path), seed=1)


ROWS = [Row(f"the film was fine {'brightly ' * i}.", None, i % 2) for i in range(7)]


TASK = get_task("cola")


@pytest.fixture
def chunks(monkeypatch):
    """Chunks of two rows; {"stop": n} interrupts at the n-th chunk, "made" counts rows."""
    state = {"stop": None, "made": 0}
    real = Augmentation.open

    def opened(self, device="cpu"):
        make = real(self, device)

        def chunk(rows, first):
            if first == state["stop"]:
                raise KeyboardInterrupt
            state["made"] += len(rows)
            return make(rows, first)

        return chunk

    monkeypatch.setattr(module, "CHUNK_ROWS", 2)
    monkeypatch.setattr(Augmentation, "open", opened)
    return state


def test_rows_are_made_once_and_then_read(how, chunks, tmp_path):
    path, said = tmp_path / "rows.jsonl", []
    made = augmented_rows(ROWS, TASK, how, path, report=lambda *x: said.append(x))
    assert len(made) == 21 and [row.label for row in made[::3]] == [row.label for row in ROWS]
    assert [done for done, *_ in said] == [2, 4, 6, 7] and "sentences/s" in said[-1][2]
    assert how.masked_lm in said[-1][2]
    assert augmented_rows(ROWS, TASK, how, path) == made and chunks["made"] == 7
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["rows.jsonl"]


def test_an_interrupted_job_continues_to_the_same_bytes(how, chunks, tmp_path):
    whole, path = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl"
    augmented_rows(ROWS, TASK, how, whole)
    chunks.update(stop=4, made=0)
    with pytest.raises(KeyboardInterrupt):
        augmented_rows(ROWS, TASK, how, path)
    assert not path.exists() and chunks["made"] == 4
    chunks["stop"] = None
    augmented_rows(ROWS, TASK, how, path)
    assert path.read_bytes() == whole.read_bytes()
    assert chunks["made"] == len(ROWS)  # nothing twice


def test_what_other_values_began_is_left_alone(how, chunks, tmp_path):
    path = tmp_path / "rows.jsonl"
    chunks["stop"] = 4
    with pytest.raises(KeyboardInterrupt):
        augmented_rows(ROWS, TASK, how, path)
    chunks.update(stop=None, made=0)
    augmented_rows(ROWS, TASK, replace(how, seed=2), path)
    assert chunks["made"] == len(ROWS)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda text: "\n".join(text.splitlines()[:11])[:-5], "line 11: expected a row"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "has 20 rows, not 21"),
        (lambda text: text.replace("unacceptable", "perhaps", 1), "line 1: expected a row"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(how, tmp_path, spoil, says):
    path = tmp_path / "rows.jsonl"
    augmented_rows(ROWS, TASK, how, path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=says):
        augmented_rows(ROWS, TASK, how, path)


def test_no_rows_and_no_vectors_make_no_file(how, tmp_path):
    with pytest.raises(InputError, match="Cannot read the word vectors"):
        augmented_rows(ROWS, TASK, replace(how, glove="none.txt"), tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="no rows to augment"):
        augmented_rows([], TASK, how, tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task, row", [
    ("rte", Row("a \u2028 b", 'it\'s "é" \n', 1)), ("sts-b", Row("a", "b", 2.6)),
    ("cola", Row("a\r\n", None, 0)),
])  # fmt: skip
def test_rows_are_written_and_read_as_they_are(tmp_path, task, row):
    path = tmp_path / "rows.jsonl"
    path.write_text(to_line(row, get_task(task)))
    assert read_jsonl_rows(path, get_task(task)) == (row,)


def test_a_model_without_a_masked_lm_head_is_refused(tiny_teacher, tmp_path):
    with pytest.raises(InputError, match="no masked-LM head"):
        Augmentation(masked_lm=tiny_teacher, teacher=tiny_teacher).open()
    with pytest.raises(InputError, match="The masked LM: .*folder"):
        Augmentation(masked_lm=str(tmp_path / "none"), teacher=tiny_teacher).open()


def test_the_augmented_run_s_id_follows_from_what_it_is_made_of(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("the 1 2\n")
    spec = RunSpec(task="nli", teacher="some/teacher", general_data="nli", augment=20)
    spec = spec.replace(augment_glove=str(path))
    base = spec.augmented_spec().run_id()
    for change in (
        dict(augment=19), dict(augment_mlm="some/model"), dict(augment_epochs=3),
        dict(augment_glove=""), dict(learning_rate=1e-3), dict(teacher_seed=1),
        dict(general_lr=1e-3), dict(train_rows=50), dict(recipe="bert_m"),
    ):  # fmt: skip
        assert spec.replace(**change).augmented_spec().run_id() != base, change
    for same in (dict(seed=3), dict(epochs=3), dict(epsilon=2.0), dict(recipe="lrc_g")):
        assert spec.replace(**same).augmented_spec().run_id() == base, same
    path.rename(tmp_path / "moved.txt")
    assert spec.replace(augment_glove=str(tmp_path / "moved.txt")).augmented_spec().run_id() == base


def test_what_an_augmented_student_needs():
    spec = RunSpec(task="nli", teacher="some/teacher", general_data="nli", augment=20)
    kinds = [s.kind for s in all_specs([spec, spec.replace(recipe="lrc_g")])]
    assert kinds == ["teacher", "general", "augmented", "student", "student"]
    assert [s.kind for s in spec.replace(recipe="lrc_1").dependencies()] == ["teacher"]
    with pytest.raises(InputError, match="augment must be 1 or more"):
        RunSpec(recipe="augmented")
    with pytest.raises(InputError, match="augment must be"):
        RunSpec(augment=-1)
    with pytest.raises(InputError, match="augment_epochs must be at least 1"):
        RunSpec(augment_epochs=0)


def test_a_student_starts_from_its_augmented_run(tiny_spec, out):
    spec = tiny_spec.replace(augment=2, augment_epochs=1)
    frozen = run(spec.replace(learning_rate=1e-12, epochs=1), out, device="cpu")
    begun = find(spec.replace(learning_rate=1e-12).augmented_spec(), out)
    assert frozen.metrics["augmented"] == begun.id
    augmented = run(spec.augmented_spec(), out, device="cpu")
    assert augmented.metrics["rows"] == 320 and augmented.metrics["splits"] == {}
    assert augmented.metrics["general"] == find(spec.general_spec(), out).id
    assert "No masked LM was given" in augmented.metrics["source"]
    history = augmented.history
    assert len(history) == cost(spec.augmented_spec()).steps == 20
    assert (
        history.soft.isna().all() and history.hard.isna().all() and history.perturbed.isna().all()
    )
    assert history.layers.notna().all()
    name = "bert.encoder.layer.0.attention.self.query.weight"
    weights = [result.student().state_dict()[name] for result in (augmented, begun, frozen)]
    general = find(spec.general_spec(), out).student().state_dict()[name]
    assert not torch.allclose(weights[0], general, atol=1e-4)  # it learned
    assert torch.allclose(weights[1], general, atol=1e-6)  # from the generally distilled student
    assert torch.allclose(weights[2], weights[1], atol=1e-6)
    assert len(list((out / "cache").glob("augment-*/rows.jsonl"))) == 1  # two runs, one file
    assert begun.id in (frozen.path / "student" / "README.md").read_text()
    assert not (begun.path / "student" / "README.md").exists()  # its head answers nothing
    with pytest.raises(InputError, match="unlabelled text"):
        choose_runs([begun.id], out)


def test_the_plan_counts_the_augmented_run_and_the_masked_lm():
    profile = load_profile("paper")
    steps = {task: cost(profile.spec(task, "augmented")).steps for task in ("rte", "cola")}
    assert steps == {"rte": 62_240, "cola": 213_760}
    spec = profile.spec("rte", "augmented")
    with_masked_lm, without = cost(spec), cost(spec.replace(augment_mlm=""))
    assert with_masked_lm.teacher > without.teacher and "20 copies" in without.note
    assert not profile.spec("mrpc").augment and not load_profile("laptop").spec().augment


def test_the_command_writes_rows_that_the_kit_can_read(tiny_data, tiny_teacher, tmp_path, capsys):
    folder = tmp_path / "more"
    folder.mkdir()
    task, path = Path(tiny_data).name, folder / "train.jsonl"
    command = ["augment", "--task", task, "--data-dir", tiny_data, "--teacher", tiny_teacher]
    command += ["--copies", "3", "--limit", "9", "--out", str(path), "--device", "cpu"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "sentences/s" in said and "27 rows" in said and said.count("  > ") == 4
    shutil.copy(Path(tiny_data) / "dev.csv", folder)
    data = load_task_data("more", str(folder))
    assert len(data.train) == 27 and data.task.labels == ("bad", "good")
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command[:-4], "--out", str(tmp_path / "x"), "--mlm", tiny_teacher]) == 2
    assert "no masked-LM head" in capsys.readouterr().err
