"""The benchmarks compare what does the same work, and count it right."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import sentences

from benchmarks import loops, where
from benchmarks.loops import LRC, SAVINGS, ours
from benchmarks.measure import count_flops, slope, spread, write
from benchmarks.reference import PlainLrc, Savings, all_pairs_cos_nce
from benchmarks.step import LADDER, LEFT_OUT, MEAN, measure
from benchmarks.workload import Workload, full_rows, task_rows
from lrc_lib.data.batches import epoch_order
from lrc_lib.data.rows import Row
from lrc_lib.errors import InputError
from lrc_lib.losses import in_batch_cos_nce
from lrc_lib.runs.device import has_bf16

FLAT = dict(shape=(2, 24, 32, 2), dropout=0.0, warmup=0.0, schedule="constant")


@pytest.fixture(scope="module")
def works(tiny_teacher):
    texts = [Row(a, None, i % 2) for i, (a, _) in enumerate(sentences(48, 5))]
    pairs = [row._replace(text_b=texts[-1].text_a) for row in texts]
    return {
        name: Workload(rows, tiny_teacher, **FLAT)
        for name, rows in (("single", texts), ("pairs", pairs))
    }


@pytest.fixture(scope="module")
def work(works):
    return works["pairs"]


def test_all_pairs_and_closed_form_are_the_same_loss():
    student, teacher = torch.randn(2, 16, 40, generator=torch.Generator().manual_seed(0))
    plain, closed = all_pairs_cos_nce(student, teacher), in_batch_cos_nce(student, teacher)
    assert torch.allclose(plain, closed, atol=1e-6)


def steps_of(work, savings, pad_to=0, precision="fp32"):
    student, projection = work.student()
    step = PlainLrc(
        student, projection, work.teacher, work.cached, work.pairs, work.encoded, pad_to, savings,
        precision=precision,
    )  # fmt: skip
    order = epoch_order(work.encoded.lengths, 0, 0)
    return [step(order[i : i + 16]) for i in (0, 16, 32)]


@pytest.mark.parametrize("rung", [0, len(SAVINGS) // 2, len(SAVINGS)])
def test_rungs_and_the_library_have_the_same_losses(work, rung):
    names = [*SAVINGS][:rung]
    plain = steps_of(work, Savings(**dict.fromkeys(names, True)))
    job = work.job(LRC)
    job.train()
    lines = job.history()
    tolerance = 1e-5 if "cached_teacher" in names else 5e-5  # the cache rounds to float16
    for mine, theirs in zip(lines, plain, strict=True):
        assert mine["loss"] == pytest.approx(float(theirs["clean"]), abs=tolerance)
        assert mine["perturbed"] == pytest.approx(float(theirs["perturbed"]), abs=tolerance)
    assert mine["perturbed"] > mine["loss"]


def test_the_library_less_a_saving_trains_the_same_student(work, monkeypatch):
    monkeypatch.setattr(loops, "BUCKET", 0)  # another order would be another student
    made = []
    usual = Workload.job
    monkeypatch.setattr(
        Workload, "job", lambda *args, **how: made.append(usual(*args, **how)) or made[-1]
    )
    for left_out in ("", *SAVINGS):
        ours(work, LRC, "fp32", left_out)()
    with_it, *without = (job.history()[-1]["perturbed"] for job in made)
    assert without == pytest.approx([with_it] * len(SAVINGS), abs=5e-5)


def test_padding_to_a_fixed_length_changes_no_loss(work):
    for a, b in zip(steps_of(work, Savings()), steps_of(work, Savings(), 40), strict=True):
        assert torch.allclose(a["perturbed"], b["perturbed"], atol=1e-5)


@pytest.mark.skipif(not has_bf16("cpu"), reason="no bfloat16 instructions here")
def test_plain_code_in_bfloat16_is_near(work):
    for a, b in zip(
        steps_of(work, Savings()), steps_of(work, Savings(), precision="bf16"), strict=True
    ):
        assert 0 < abs(float(a["perturbed"] - b["perturbed"])) < 0.1


def test_a_table_has_a_line_for_each_task_and_their_mean(works):
    lines = measure(works, 2, ("plain", "ours", "ours-kd", LADDER[1], LEFT_OUT[1]))
    timed = {(line["key"], line["task"]): line for line in lines if "key" in line}
    assert [task for key, task in timed if key == "plain"] == ["single", "pairs", MEAN]
    each = [timed["plain", task]["gflop_a_step"] for task in (*works, MEAN)]
    assert each[0] < each[1] and each[2] == pytest.approx(sum(each[:2]) / 2)
    assert timed["plain", "pairs"]["gflop_a_step"] > timed["ours", "pairs"]["gflop_a_step"] > 0
    assert 0 < timed["plain", MEAN]["share_of_gemm_rate"]["median"] < 1
    ratios = {line["ratio"]: line for line in lines if "ratio" in line and line["task"] == MEAN}
    assert list(ratios) == ["plain fp32 / ours fp32"]
    assert ratios["plain fp32 / ours fp32"]["times_faster"]["median"] > 0
    (worth,) = (line for line in lines if "saving" in line and line["task"] == MEAN)
    assert worth["on_the_ladder"]["median"] > -1 and "left_out_of_ours" in worth


def test_where_the_time_of_a_step_goes(work):
    (line,) = where.measure({"pairs": work}, ["fp32"])
    assert sum(line["shares"].values()) == pytest.approx(1)
    assert line["shares"].keys() == {*where.KINDS, "the rest"}
    assert line["shares"]["matrix products"] > 0 and line["shares"]["softmax"] > 0
    assert 0 < line["matrix_gflops"] < 2 * line["gemm_gflops"]


def test_an_unknown_line_is_named(works):
    with pytest.raises(InputError, match="No loop 'plane'; there are plain-128, plain, ours"):
        measure(works, 1, ("plane",))


def test_every_saving_is_on_the_ladder():
    assert {f.name for f in dataclasses.fields(Savings)} == set(SAVINGS)


def test_a_batch_has_rows_of_one_task(tmp_path):
    from glue_files import write_glue

    for task in ("cola", "mrpc"):
        write_glue(tmp_path, task)
    rows = task_rows(2, str(tmp_path))
    assert [{row.text_b is None for row in rows[task]} for task in rows] == [{True}, {False}]
    assert [row.label for row in rows["cola"]] == [0, 1]
    assert all(len(row.text_a.split()) == 128 for row in full_rows(rows["mrpc"], 3))


def test_textbrewer_learns_the_same_rows(work):
    pytest.importorskip("textbrewer")
    lines = measure({"pairs": work}, 1, ("tb-128", "tb", "tb-cache", "ours-kd"))
    done = {line["key"]: line["gflop_a_step"] for line in lines[1:] if line.get("task") == "pairs"
            and "key" in line}  # fmt: skip
    assert done["tb-128"] > done["tb"] > done["tb-cache"] > 0
    assert done["ours-kd"] == pytest.approx(done["tb-cache"], rel=0.1)


def test_counters():
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert count_flops(lambda: a @ b) == 2 * 3 * 4 * 5
    x = np.array([1.0, 2.0, 4.0])
    assert slope(x, 3 * x) == pytest.approx(1) and slope(x, 5 + 0 * x) == pytest.approx(0)
    assert spread([3, 1, 2]) == {"median": 2, "low": 1, "high": 3}


def test_the_record_says_where_the_numbers_are_from(tmp_path, capsys):
    write([{"key": "b", "seconds": 1.0}], "step-cpu", str(tmp_path), "cpu")
    head, line = map(json.loads, (tmp_path / "step-cpu.jsonl").read_text().splitlines())
    # A build's local version, such as +cu130, is not in every package's metadata.
    assert head["made"]["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert line["seconds"] == 1.0
    assert capsys.readouterr().out == (tmp_path / "step-cpu.jsonl").read_text() + "\n"
