"""`merge`: the runs of many stores in one, and what is left out of it."""

import json
import os
import shutil
import time

import numpy as np
import pytest

from lrc_lib import find, load_profile, run
from lrc_lib.cli.commands import main
from lrc_lib.cli.merge import merge
from lrc_lib.data.manifest import write_manifest
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.runs.store import finished, open_run

NUMBERS = ("history.jsonl", "metrics.json", "provenance.json", "predictions.npz")


@pytest.fixture
def give(learned, tmp_path):
    """give(store, seed, **changed spec) puts a finished run into a store; its folder."""

    def put(store, seed, digits=0.0, name="", **changed):
        spec = learned.spec.replace(seed=seed, **changed)
        folder = tmp_path / store / "runs" / (name or spec.run_id())
        shutil.copytree(learned.path, folder)
        (folder / "spec.json").write_text(spec.to_json())
        if digits:
            arrays = {f"dev/{k}": v + digits for k, v in learned.predictions("dev").items()}
            np.savez(folder / "predictions.npz", **arrays)
        write_manifest(folder)
        return folder

    return put


def test_the_runs_of_all_stores_are_found_in_one(give, learned, tmp_path, capsys):
    for store, seeds in (("a", (0, 1)), ("b", (1, 2)), ("c", (3,))):
        for seed in seeds:
            give(store, seed)
    give("c", 1, digits=1e-3)
    give("b", 1, precision="bf16")
    run(learned.spec.teacher_spec(), tmp_path / "a", device="cpu")
    stores = [str(tmp_path / name) for name in "abc"]
    assert main(["merge", *stores, "--into", str(tmp_path / "all")]) == 0
    said = capsys.readouterr().out
    name = learned.spec.replace(seed=1).run_id()
    for words in (
        "holds 6 runs", "4 in fp32, 1 in bf16", "equal digits, once: 1",
        f"the first is kept: 1 ({name})", "reproduce.py --only 05,09 --out",
    ):  # fmt: skip
        assert words in said
    for seed in range(4):
        result = find(learned.spec.replace(seed=seed), tmp_path / "all")
        assert np.array_equal(result.predictions()["logits"], learned.predictions()["logits"])
        assert result.score() == learned.score() and len(result.history) == len(learned.history)
        with pytest.raises(UnavailableError, match="merged without its weights"):
            result.student()
    assert open_run(learned.spec.teacher_spec().run_id(), tmp_path / "all").student()
    before = sorted((tmp_path / "all").rglob("*"))
    again = merge(stores, tmp_path / "all")  # a second time nothing is new
    assert len(again.runs) == 6 and again.same == 7 and again.other == [name]
    assert sorted((tmp_path / "all").rglob("*")) == before
    with_weights = merge(stores, tmp_path / "whole", weights=True)
    assert len(with_weights.runs) == 6 and find(learned.spec, tmp_path / "whole").student()


def test_all_seeds_of_a_store_are_seeds_of_the_profile(give, tmp_path):
    for seed in (3, 11):
        give("a", seed)
    (tmp_path / "a" / "runs" / "note.txt").write_text("")
    profile = load_profile("smoke", seeds="4-5")
    task = next((tmp_path / "a" / "runs").glob("*11-*")).name.split("-")[0]
    assert list(profile.seed_range) == [4, 5]
    assert profile.seeds_in(tmp_path / "a", task, "finetune") == [3, 4, 5, 11]
    assert profile.seeds_in(tmp_path / "a", task, "lrc") == [4, 5]
    assert "--seeds 1 --first-seed 3 --out" in merge([tmp_path / "a"], tmp_path / "b").lines()[-1]


def pickled(folder):
    np.savez(folder / "predictions.npz", **{"dev/logits": np.array([print], dtype=object)})
    write_manifest(folder)


def linked(folder):
    (folder / "history.jsonl").rename(f"{folder}.h")
    os.symlink(f"{folder}.h", folder / "history.jsonl")


def rewritten(name, text):
    def damage(folder):
        (folder / name).write_text(text)
        write_manifest(folder)

    return damage


STRANGE = {
    "half-written": (lambda f: f.rename(f"{f}.partial"), "not finished"),
    "without manifest": (lambda f: (f / "manifest.json").unlink(), "not finished"),
    "flipped": (lambda f: (f / "history.jsonl").write_bytes(b"x" * 9), "damaged"),
    "other rows": (rewritten("metrics.json", '{"splits": {"dev": {"n": 3}}}'), "damaged"),
    "pickled": (pickled, "not readable"),
    "no JSON": (rewritten("metrics.json", "{"), "not readable"),
    "later field": (rewritten("spec.json", '{"warp": 9}'), "not readable"),
    "other spec": (rewritten("spec.json", '{"task": "nli"}'), "of other data or of another format"),
    "renamed": (lambda f: f.rename(f.with_name(f.name[:-1] + "x")), "damaged"),
    "outside": (
        lambda f: (f / "manifest.json").write_text('{"files": {"spec.json": 0}}'), "damaged"
    ),
    "linked": (linked, "links"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_not_a_whole_run_of_this_kit_is_counted_and_left_out(give, tmp_path, capsys, kind):
    change, why = STRANGE[kind]
    give("a", 0)
    change(give("b", 1))
    before = sorted(tmp_path.rglob("*"))
    done = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    ((reason, places),) = done.skipped.items()
    assert why in reason and len(places) == 1 and "Skipped" in "".join(done.lines())
    assert [result.spec.seed for result in finished(tmp_path / "all")] == [0]
    assert [path for path in sorted(tmp_path.rglob("*")) if "all" not in path.parts] == before
    with pytest.raises(InputError, match="no finished run in these stores. Skipped"):
        merge([tmp_path / "b"], tmp_path / "none")


def test_data_that_are_not_here_cannot_be_compared_but_specs_can(give, tmp_path):
    name = "opinions-finetune-s0-0123456789"
    elsewhere = dict(task="opinions", data="/not/here", teacher="/neither")
    give("a", 0, name=name, **elsewhere)
    give("b", 0, name=name, **elsewhere, learning_rate=0.5)
    give("c", 0, name=name.replace("finetune", "lrc"), **elsewhere)
    done = merge([tmp_path / store for store in "abc"], tmp_path / "all")
    assert list(done.runs) == [name] and done.skipped == {
        "of another spec than a run of the same id": [f"b/runs/{name}"],
        "of other data or of another format": [f"c/runs/{name.replace('finetune', 'lrc')}"],
    }


def test_code_in_a_stranger_s_run_is_never_run(give, tmp_path, monkeypatch):
    folder = give("a", 0)
    config = json.loads((folder / "student" / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {k: "evil.Evil" for k in (
        "AutoConfig", "AutoModelForSequenceClassification")}}  # fmt: skip
    (folder / "student" / "config.json").write_text(json.dumps(config))
    (folder / "student" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    write_manifest(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    merge([tmp_path / "a"], tmp_path / "all", weights=True)
    (result,) = finished(tmp_path / "all")
    assert not (result.path / "student" / "evil.py").exists()
    for found in (result, open_run(folder.name, tmp_path / "a")):
        with pytest.raises(ValueError, match="trust_remote_code|model type"):
            found.student()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("stores, says", [(["none"], "no folder runs/"), (["a"], "merge into")])
def test_wrong_folders_are_named(give, tmp_path, stores, says):
    give("a", 0)
    with pytest.raises(InputError, match=says):
        merge([tmp_path / store for store in stores], tmp_path / "a")


def test_merging_thirty_stores_takes_less_than_50_ms_a_run(learned, tmp_path):
    for store in range(30):
        for seed in range(10 * store, 10 * (store + 1)):
            spec = learned.spec.replace(seed=seed)
            folder = tmp_path / str(store) / "runs" / spec.run_id()
            folder.mkdir(parents=True)
            for name in NUMBERS:
                os.link(learned.path / name, folder / name)
            (folder / "spec.json").write_text(spec.to_json())
            write_manifest(folder)
    begun = time.perf_counter()
    done = merge([tmp_path / str(store) for store in range(30)], tmp_path / "all")
    assert len(done.runs) == 300 and not done.skipped
    assert time.perf_counter() - begun < 15
