"""The run format: what an id holds, which settings a kind of run has, whole folders."""

import dataclasses
import hashlib
import json
import shutil

import pytest
import torch

from lrc_lib import RunSpec, find, run
from lrc_lib.course.notebook import output_root
from lrc_lib.data.manifest import MANIFEST
from lrc_lib.errors import InputError
from lrc_lib.runs import spec as spec_module
from lrc_lib.runs.spec import FIELDS, check_kind
from lrc_lib.runs.store import default_out, finished, open_run


def listed(folder) -> dict:
    """{name: sha256} of the files that lie in a folder, its manifest left out."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
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


def test_a_folder_without_a_manifest_is_not_a_run(learned, out, tmp_path):
    copy = tmp_path / "runs" / learned.id
    shutil.copytree(learned.path, copy)
    assert find(learned.spec, tmp_path).path == copy and len(finished(tmp_path)) == 1
    assert open_run(learned.spec.task, tmp_path).id == learned.id
    (copy / MANIFEST).unlink()
    assert find(learned.spec, tmp_path) is None and finished(tmp_path) == []
    with pytest.raises(InputError, match="holds no finished run"):
        open_run(learned.id, tmp_path)


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
    assert tiny_spec.replace(compile="on", cache_gb=3.0).run_id() == tiny_spec.run_id()


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
    assert RunSpec.from_json(json.dumps({"task": "rte"})) == dataclasses.replace(
        RunSpec(), task="rte"
    )
