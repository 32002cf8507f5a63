"""The run format: what an id holds, which settings a kind of run has, whole folders."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lrc_lib import RunSpec, find, run
from lrc_lib.course.notebook import output_root
from lrc_lib.data.manifest import MANIFEST
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.runs import spec as spec_module
from lrc_lib.runs import store
from lrc_lib.runs.spec import FIELDS, check_kind
from lrc_lib.runs.store import default_out, finished, open_run


def listed(folder) -> dict:
    """{name: sha256} of the files that lie in a folder, its manifest and locks left out."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    paths = [path for path in paths if path.name != MANIFEST]
    digest = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {name: hashlib.sha256(content).hexdigest() for name, content in digest.items()}


def test_a_manifest_lists_every_file_of_runs_caches_and_first_stages(tiny_spec, tmp_path):
    stage1 = tmp_path / "cache" / tiny_spec.stage1_id()
    stage1.mkdir(parents=True)
    result = run(tiny_spec, tmp_path, device="cpu")
    caches = [path.parent for path in (tmp_path / "cache").glob("*/logits.npy")]
    assert caches and (stage1 / MANIFEST).exists()
    for folder in (result.path, find(tiny_spec.teacher_spec(), tmp_path).path, stage1, *caches):
        files = json.loads((folder / MANIFEST).read_text())["files"]
        assert {name: entry["sha256"] for name, entry in files.items()} == listed(folder)
        assert all(entry["size"] == (folder / name).stat().st_size for name, entry in files.items())
    assert {"projection.safetensors", "student/model.safetensors"} <= set(listed(result.path))
    assert not list(tmp_path.rglob("*.pt.partial")) and not list(result.path.glob("*.pt"))


def test_w_is_kept_for_runs_with_a_layer_loss_only(tiny_spec, out):
    shared = run(tiny_spec, out, device="cpu").projection()
    assert [tuple(m.weight.shape) for m in shared.maps] == [(32, tiny_spec.student_hidden)]
    own = tiny_spec.replace(recipe="lrc_1", projection="per_layer", projection_bias=True, epochs=1)
    projection = run(own, out, device="cpu").projection()
    assert len(projection.maps) == tiny_spec.student_layers and projection.maps[0].bias is not None
    assert not torch.equal(projection.maps[0].weight, projection.maps[1].weight)
    finetune = run(tiny_spec.replace(recipe="finetune"), out, device="cpu")
    assert finetune.projection() is None


def test_a_run_without_weights_is_the_same_run_and_its_spec_brings_them_back(learned, tmp_path):
    result = run(learned.spec.replace(save_weights=False), tmp_path, device="cpu")
    assert result.id == learned.id and not (result.path / "student").exists()
    assert (result.predictions()["logits"] == learned.predictions()["logits"]).all()
    for asked in (result.student, result.tokenizer):
        with pytest.raises(UnavailableError, match="`weights` in the profile.*lrc_lib run .*--out"):
            asked()
    assert find(learned.spec, tmp_path).metrics == learned.metrics
    (result.path / MANIFEST).unlink()
    spec = RunSpec.from_json((result.path / "spec.json").read_text())
    assert run(spec, tmp_path, device="cpu").student().num_labels == 2


def test_a_folder_without_a_manifest_is_not_a_run(learned, out, tmp_path):
    copy = tmp_path / "runs" / learned.id
    shutil.copytree(learned.path, copy)
    assert find(learned.spec, tmp_path).path == copy and len(finished(tmp_path)) == 1
    assert open_run(learned.spec.task, tmp_path).id == learned.id
    (copy / MANIFEST).unlink()
    assert find(learned.spec, tmp_path) is None and finished(tmp_path) == []
    with pytest.raises(InputError, match="holds no finished run"):
        open_run(learned.id, tmp_path)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BREAKS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "flipped": flip,
    "foreign": lambda path: path.write_text('{"steps": 1}'),
}
FILES = "spec.json history.jsonl metrics.json predictions.npz provenance.json manifest.json".split()
FILES += ["student/model.safetensors", "student/config.json", "student/tokenizer.json"]


@pytest.mark.parametrize("how", BREAKS)
def test_one_damaged_run_is_set_aside_and_no_other_run_suffers(learned, tmp_path, capsys, how):
    for name in FILES:
        out = tmp_path / name.replace("/", "-")
        bad, good = out / "runs" / learned.id, out / "runs" / "good-finetune-s0-0123456789"
        for copy in (bad, good):
            shutil.copytree(learned.path, copy)
        spec = learned.spec.replace(task="good", data="")
        (good / "spec.json").write_text(spec.to_json())
        store.write_manifest(good)
        BREAKS[how](bad / name)
        assert [run.id for run in finished(out)] == [good.name]
        assert find(learned.spec, out) is None
        with pytest.raises(InputError, match="Unknown run"):
            open_run(learned.id, out)
        said = capsys.readouterr().err.splitlines()
        if (name, how) == ("manifest.json", "missing"):  # as if it had not been finished
            assert not said and bad.exists()
        else:
            assert len(said) == 1 and f"{learned.id}.damaged" in said[0] and not bad.exists()


def test_a_run_with_a_recipe_that_is_not_here_stays_where_it_is(learned, tmp_path, capsys):
    copy = tmp_path / "runs" / "good-mine-s0-0123456789"
    shutil.copytree(learned.path, copy)
    values = json.loads((copy / "spec.json").read_text()) | {"recipe": "mine"}
    (copy / "spec.json").write_text(json.dumps(values))
    store.write_manifest(copy)
    assert list(finished(tmp_path)) == [] and copy.exists()
    assert not capsys.readouterr().err


def test_a_run_under_another_name_or_with_another_spec_is_refused(learned, tmp_path, capsys):
    other = learned.spec.replace(seed=7)
    for out, spec in ((tmp_path / "renamed", other), (tmp_path / "other", learned.spec)):
        copy = out / "runs" / spec.run_id()
        shutil.copytree(learned.path, copy)
        if spec is learned.spec:
            (copy / "spec.json").write_text(spec.replace(learning_rate=0.5).to_json())
            store.write_manifest(copy)
        assert find(spec, out) is None and (out / "runs" / f"{copy.name}.damaged").exists()
        said = capsys.readouterr().err
        assert "under the name" in said or "spec.json describes another run" in said
    with pytest.raises(InputError, match="cannot be used: it was made under the name"):
        open_run(str(shutil.copytree(learned.path, tmp_path / "mine")), tmp_path)
    moved = learned.spec.replace(
        cache_gb=7.0
    )  # where data lie, and how they are kept, is no matter
    assert find(moved, learned.path.parent.parent).spec == moved


def test_a_history_without_every_step_is_not_published(tiny_spec, tmp_path, monkeypatch, capsys):
    spec = tiny_spec.replace(recipe="finetune", seed=52)
    real = store.publish

    def publish(spec, partial, folder):
        lines = (partial / "history.jsonl").read_text().splitlines(keepends=True)
        (partial / "history.jsonl").write_text("".join(lines[1:]))
        return real(spec, partial, folder)

    with monkeypatch.context() as patch:
        patch.setattr("lrc_lib.runs.run.publish", publish)
        with pytest.raises(UnavailableError, match="not published. The same command trains it"):
            run(spec, tmp_path, device="cpu")
    assert "does not hold every step" in capsys.readouterr().err and not finished(tmp_path)
    assert len(run(spec, tmp_path, device="cpu").history) == 20


@pytest.mark.parametrize("named", ["", "~/somewhere", "relative/out"])
def test_python_and_the_command_line_have_one_default_store(monkeypatch, named):
    monkeypatch.setenv("LRC_OUT", named)
    assert default_out() == output_root()


def test_a_field_that_is_added_later_leaves_every_id_as_it_is(tiny_spec, monkeypatch):
    """Ids hash what differs from the defaults, so a new field with a default changes none."""
    specs = [tiny_spec, tiny_spec.teacher_spec(), tiny_spec.general_spec()]
    before = [spec.run_id() for spec in specs]
    fewer = {name: field for name, field in FIELDS.items() if name != "layer_reduction"}
    monkeypatch.setattr(spec_module, "FIELDS", fewer)  # as before that field was there
    spec_module._run_id.cache_clear()
    assert [spec.run_id() for spec in specs] == before
    spec_module._run_id.cache_clear()


def test_ids_hold_what_is_used_not_how_it_was_written(tiny_spec):
    task = spec_module.task_of(tiny_spec)
    spelled = tiny_spec.replace(max_length=task.max_length)
    assert spelled != tiny_spec and spelled.run_id() == tiny_spec.run_id()
    assert tiny_spec.replace(epochs=0).run_id() == tiny_spec.replace(epochs=task.epochs).run_id()
    assert tiny_spec.replace(selection_rows=20).run_id() != tiny_spec.run_id()


def test_rows_to_choose_on_come_from_the_training_rows(tiny_spec, tmp_path):
    spec = tiny_spec.replace(recipe="finetune", selection_rows=40, epochs=1)
    assert run(spec, tmp_path, device="cpu").metrics["splits"]["selection"]["n"] == 40


def test_a_setting_of_another_kind_of_run_is_refused_by_name(tiny_spec):
    for kind, name, owner in (
        ("teacher", "temperature", "student"),
        ("general", "teacher_lr", "teacher"),
        ("augmented", "schedule", "student"),
    ):
        with pytest.raises(InputError, match=f"{name} is a setting of {owner} runs; a {kind} run"):
            check_kind([name], kind)
    with pytest.raises(InputError, match="temperature is a setting of student runs"):
        RunSpec(recipe="general", temperature=3.0)
    check_kind(FIELDS, "student")  # a student's spec holds those of the runs it depends on


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_says_where_it_belongs_and_keeps_its_bounds(name):
    field = FIELDS[name]
    rules = field.metadata
    assert rules["kinds"] and set(rules["kinds"]) <= {"teacher", "general", "augmented", "student"}
    for bound, wrong in (("least", -1), ("above", 0)):
        if rules[bound] is not None:
            with pytest.raises(InputError, match=name):
                RunSpec().replace(**{name: field.type(rules[bound] + min(wrong, 0))})
    if rules["choices"]:
        assert field.default in rules["choices"]
        with pytest.raises(InputError, match=name):
            RunSpec().replace(**{name: "something else"})


def test_json_holds_all_fields_and_reads_back(tiny_spec):
    values = json.loads(tiny_spec.to_json())
    assert set(values) == set(FIELDS) and list(values) == sorted(values)
    assert RunSpec.from_json(tiny_spec.to_json()) == tiny_spec
    assert RunSpec.from_json('{"task": "rte"}') == dataclasses.replace(RunSpec(), task="rte")


def test_nothing_in_a_store_is_unpickled(tiny_spec, out, tmp_path, capsys):
    """Checkpoints alone hold pickles, of tensors: code in one is refused, not run."""
    result = run(tiny_spec, out, device="cpu")
    kinds = {path.suffix for path in result.path.rglob("*") if path.is_file()}
    assert kinds == {".json", ".jsonl", ".npz", ".safetensors", ".md"}
    with np.load(result.path / "predictions.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype.kind for name in arrays} <= set("fiuU")
    for path in (out / "cache").glob("*/*.npy"):
        assert np.load(path, mmap_mode="r", allow_pickle=False).dtype.kind in "fi"

    class Code:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    spec = tiny_spec.replace(recipe="finetune", seed=53, epochs=1)
    partial = tmp_path / "runs" / f"{spec.run_id()}.partial"
    partial.mkdir(parents=True)
    torch.save({"step": 1, "net": Code()}, partial / "checkpoint.pt")
    run(spec, tmp_path, device="cpu")
    said = capsys.readouterr().err
    assert "the checkpoint in" in said and not (tmp_path / "executed").exists()
    assert "\x1b" not in said and "add_safe_globals" not in said  # torch's advice to trust it


def test_no_code_of_the_kit_unpickles_or_trusts():
    never = re.compile(r"pickle\.load|allow_pickle=True|weights_only=False|code=True|\beval\(")
    for path in Path(store.__file__).parents[1].rglob("*.py"):
        found = never.findall(path.read_text(encoding="utf-8").replace(".eval(", ""))
        assert not found, (path, found)
