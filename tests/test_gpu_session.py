"""`python -m benchmarks.gpu`, small, on a CPU: what it needs, what it leaves, and that it stops."""

import json
import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from conftest import sentences

from benchmarks import gpu
from benchmarks.workload import Workload
from lrc_lib.data.rows import Row

ROOT = Path(__file__).resolve().parents[1]
ABSENT = ("datasets", "papermill", "matplotlib", "IPython", "nbformat", "ipywidgets")


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    """RTE that a tiny teacher can learn."""
    folder = tmp_path_factory.mktemp("glue") / "RTE"
    folder.mkdir()
    names = {"good": "entailment", "bad": "not_entailment"}
    for split, count in (("train", 160), ("dev", 60)):
        rows = (f"{i}\t{t}\t{t}\t{names[y]}" for i, (t, y) in enumerate(sentences(count, 1)))
        text = "\n".join(["index\tsentence1\tsentence2\tlabel", *rows]) + "\n"
        (folder / f"{split}.tsv").write_text(text, encoding="utf-8")
    return str(folder.parent)


@pytest.fixture
def session(tmp_path, monkeypatch):
    """The command, for a machine that has none of ABSENT and no network: f(options) -> {part:
    its lines}."""
    forbid = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n"
    (tmp_path / "sitecustomize.py").write_text(forbid, encoding="utf-8")
    path = [str(tmp_path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    for name, value in (("PYTHONPATH", os.pathsep.join(path)), ("LRC_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # one of its parts is pytest
    monkeypatch.chdir(ROOT)

    def run(*options):
        gpu.main(["--device", "cpu", "--out", str(tmp_path), *options])
        return {
            path.stem.removeprefix("gpu-"): list(map(json.loads, path.open()))
            for path in tmp_path.glob("gpu-*.jsonl")
        }

    return run


def test_a_session_measures_every_part_and_its_runs_are_kept(
    session, tiny_teacher, tiny_texts, glue
):
    options = ["--minutes", "10", "--teacher", tiny_teacher, "--glue-dir", glue, "--set"]
    options += [f"general_data={tiny_texts}", "epochs=1", "general_epochs=1", "max_length=24"]
    options += ["general_max_length=24", "teacher_lr=3e-3", "teacher_epochs=8", "student_layers=2"]
    options += ["student_hidden=24", "student_intermediate=32", "student_heads=2"]
    options += ["general_batch_size=16", "precision=fp32"]
    found = session(*options)
    assert set(found) == set(gpu.PARTS)
    assert all(lines[0]["made"]["device"] == "cpu" for lines in found.values())
    assert found["tests"][1]["passed"], found["tests"][1]
    ways = [line["way"] for line in found["steps"][1:]]
    assert ways[0] == "full, teacher plain, fp32" and "short, teacher asked, fp32" in ways
    assert all(line["seconds_a_step"]["median"] > 0 for line in found["steps"][1:])
    assert [line["processes"] for line in found["together"][1:]] == [1, 2]
    assert all(line["steps_a_second"] > 0 for line in found["together"][1:])
    runs = [line["id"] for line in found["train"] if "id" in line]
    assert [name.split("-")[1] for name in runs] == ["lrc", "lrc_1", "finetune"]
    again = session("--_part", "train", *options)
    assert [line["id"] for line in again["train"][1:]] == runs  # read: no epoch was trained


def test_a_session_stops_by_itself_and_says_so(session):
    found = session("--minutes", "0.02", "--only", "train")
    assert found["train"][-1]["why"] == "its time was over; what it had measured is kept"


def test_a_gpu_s_table_begins_with_what_tells_most(monkeypatch):
    monkeypatch.setattr(gpu, "fastest", lambda options: "bf16")
    ways = list(gpu.ways(Namespace(device="cuda")))
    assert len(set(ways)) == len(ways) == 22
    assert ways[4:8] == [
        ("full", "cached", *how)
        for how in (("fp32", "off"), ("tf32", "off"), ("bf16", "off"), ("bf16", "on"))
    ]


@pytest.mark.parametrize("how", [("fp32", "off", False), ("tf32", "on", True)])
def test_a_loop_is_timed_when_it_is_steady(tiny_teacher, monkeypatch, how):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    rows = [Row(text, None, i % 2) for i, (text, _) in enumerate(sentences(48, 5))]
    line = gpu.steady(Workload(rows, tiny_teacher, shape=gpu.TINY), *how, 21)
    assert line["steps"] == 42 and line["seconds_a_step"]["low"] > 0
    assert "compile_failed" not in line
    hours = line["extrapolated_hours"]["mnli"]
    assert hours == pytest.approx(441774 * line["seconds_a_step"]["median"] / 3600)
