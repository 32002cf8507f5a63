"""The benchmarks compare what does the same work, and count it right."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import sentences

from benchmarks.measure import count_flops, slope, spread, write
from benchmarks.reference import PlainLrc, Savings, all_pairs_cos_nce
from benchmarks.step import LADDER, LRC, measure
from benchmarks.workload import Workload
from lrc_lib.data.batches import epoch_order
from lrc_lib.data.rows import Row
from lrc_lib.losses import in_batch_cos_nce


@pytest.fixture(scope="module")
def work(tiny_teacher):
    texts = sentences(48, 5)
    rows = [Row(a, b if i % 2 else None, i % 2) for i, (a, b) in enumerate(texts)]
    return Workload(
        rows, tiny_teacher, shape=(2, 24, 32, 2), dropout=0.0, warmup=0.0, schedule="constant"
    )


def test_all_pairs_and_closed_form_are_the_same_loss():
    student, teacher = torch.randn(2, 16, 40, generator=torch.Generator().manual_seed(0))
    plain, ours = all_pairs_cos_nce(student, teacher), in_batch_cos_nce(student, teacher)
    assert torch.allclose(plain, ours, atol=1e-6)


def steps_of(work, savings, pad_to=0):
    student, projection = work.student()
    step = PlainLrc(
        student, projection, work.teacher, work.cached, work.pairs, work.encoded, pad_to, savings
    )
    order = epoch_order(work.encoded.lengths, 0, 0)
    return [step(order[i : i + 16]) for i in (0, 16, 32)]


@pytest.mark.parametrize("rung", range(len(LADDER)))
def test_every_rung_and_the_library_have_the_same_losses(work, rung):
    names = [saving for _, _, saving in LADDER[: rung + 1] if saving]
    plain = steps_of(work, Savings(**dict.fromkeys(names, True)))
    job = work.job(LRC)
    job.train()
    lines = job.history()
    tolerance = 1e-5 if "cached_teacher" in names else 5e-5  # the cache rounds to float16
    for ours, theirs in zip(lines, plain, strict=True):
        assert ours["loss"] == pytest.approx(float(theirs["clean"]), abs=tolerance)
        assert ours["perturbed"] == pytest.approx(float(theirs["perturbed"]), abs=tolerance)
    assert ours["perturbed"] > ours["loss"]


def test_padding_to_a_fixed_length_changes_no_loss(work):
    for a, b in zip(steps_of(work, Savings()), steps_of(work, Savings(), 40), strict=True):
        assert torch.allclose(a["perturbed"], b["perturbed"], atol=1e-5)


def test_a_table_line_says_how_much_faster_and_how_close_to_the_machine(work):
    lines = measure(work, rounds=2, keys=("b", "d2", "ours"))
    by_key = {line["key"]: line for line in lines[1:]}
    assert list(by_key) == ["b", "d2", "ours"]
    assert by_key["b"]["gflop_a_step"] > by_key["d2"]["gflop_a_step"] > 0
    assert by_key["ours"]["times_faster_than_b"]["median"] > 0
    assert 0 < by_key["b"]["share_of_gemm_rate"]["median"] < 1
    assert "times_faster_than_b" not in by_key["b"]


def test_every_saving_is_on_the_ladder():
    assert {f.name for f in dataclasses.fields(Savings)} == {name for *_, name in LADDER if name}


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
