"""Runs trained next to each other, and what they cost."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch

from lrc_lib import find, run
from lrc_lib.cli.cost import cost, encoder_flops, encoder_parameters
from lrc_lib.cli.plan import all_specs, disk_needed, total_disk
from lrc_lib.runs.pool import close_over, threads_by_run, train_all


class Screen:
    """Keeps what is said; calls `at_start` with the name of each run that starts."""

    def __init__(self, at_start=lambda name: None):
        self.lines, self.steps, self.at_start = [], [], at_start

    def start(self, key):
        self.lines.append(f"start {key}")
        self.at_start(key)

    def step(self, key, step, total, text):
        self.steps.append((key, step, total))

    def end(self, key, status, text=""):
        self.lines.append(f"{status} {key} {text}")
        return 1.0

    def say(self, text):
        self.lines.append(text)


def test_all_that_is_needed_comes_first_and_once(tiny_spec):
    students = [tiny_spec, tiny_spec.replace(seed=1), tiny_spec.replace(recipe="finetune")]
    specs = close_over(students)
    assert len(specs) == 5
    kinds = [spec.kind for spec in specs.values()]
    assert kinds == ["teacher", "general", "student", "student", "student"]
    assert set(all_specs(students)) == set(specs.values())


def test_threads_depend_only_on_the_runs_asked_for(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    needs = {"teacher": [], "general": [], "a": ["teacher", "general"], "b": ["a"]}
    assert threads_by_run(needs, jobs=2, cores=4) == {"teacher": 2, "general": 2, "a": 4, "b": 4}
    assert threads_by_run(needs, jobs=1, cores=4) == dict.fromkeys(needs, 4)
    assert threads_by_run(needs, jobs=8, cores=1) == dict.fromkeys(needs, 1)
    for given, threads in (("3", 3), ("5,2", 5), ("0", 4), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert threads_by_run(needs, jobs=1, cores=4) == dict.fromkeys(needs, threads)


def test_a_run_uses_the_threads_that_the_user_set(tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str((os.cpu_count() or 1) + 1))
    spec = tiny_spec.replace(recipe="finetune", epochs=1)
    train_all(close_over([spec]), tmp_path, "cpu", 1, Screen())
    assert find(spec, tmp_path).provenance["threads"] == (os.cpu_count() or 1) + 1


def test_runs_are_trained_side_by_side_and_then_read(tiny_spec, out):
    specs = close_over([tiny_spec, tiny_spec.replace(recipe="lrc_1")])
    screen = Screen()
    outcomes = train_all(specs, out, "cpu", 2, screen)
    assert list(outcomes) == list(specs)
    for key, spec in specs.items():
        assert outcomes[key].status in ("trained", "read"), outcomes[key].message
        assert outcomes[key].metrics == find(spec, out).metrics
    again = Screen()
    outcomes = train_all(specs, out, "cpu", 2, again)
    assert {outcome.status for outcome in outcomes.values()} == {"read"} and not again.lines


def test_recipes_that_differ_in_stage_2_only_train_stage_1_once(tiny_spec, out, tmp_path):
    students = [tiny_spec.replace(recipe=recipe) for recipe in ("lrc_g", "lrc", "lrc_s", "lrc_h")]
    specs, screen = close_over(students), Screen()
    outcomes = train_all(specs, tmp_path, "cpu", 2, screen)
    assert {outcome.status for outcome in outcomes.values()} == {"trained"}
    for spec in students:
        alone = run(spec, out, device="cpu")
        ours, theirs = alone.student().state_dict(), find(spec, tmp_path).student().state_dict()
        assert all(torch.allclose(ours[k], theirs[k], atol=1e-5) for k in ours), spec.name
    ends_of_epochs = {step for name, step, _ in screen.steps if "/lrc_s" in name}
    assert ends_of_epochs == {20}  # the first epoch, 10 steps, was another's
    assert not list((tmp_path / "cache").glob("stage1-*"))


def test_a_failed_run_fails_those_that_need_it_and_no_other(tiny_spec, tmp_path):
    bad = tiny_spec.replace(teacher_lr=1e30)
    specs = close_over([bad, bad.replace(recipe="finetune")])
    screen = Screen()
    outcomes = {o.spec.recipe: o for o in train_all(specs, tmp_path, "cpu", 1, screen).values()}
    statuses = {recipe: outcome.status for recipe, outcome in outcomes.items()}
    assert statuses == {
        "teacher": "failed", "general": "trained", "lrc": "skipped", "finetune": "trained",
    }  # fmt: skip
    assert "not finite" in outcomes["teacher"].message
    assert "which failed" in outcomes["lrc"].message


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_that_is_killed_fails_its_run_only(tiny_spec, tmp_path):
    short = tiny_spec.replace(recipe="finetune")
    specs, killed = close_over([short.replace(epochs=3000), short]), []

    def kill():
        while not any(tmp_path.glob("runs/*.partial/history.jsonl")):
            time.sleep(0.05)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    def at_start(name):
        if not killed:
            killed.append(name)
            threading.Thread(target=kill, daemon=True).start()

    outcomes = list(train_all(specs, tmp_path, "cpu", 1, Screen(at_start)).values())
    assert [outcome.status for outcome in outcomes] == ["failed", "trained"]
    assert "signal 9" in outcomes[0].message and "memory" in outcomes[0].message


@pytest.mark.parametrize(
    "shape, parameters", [((4, 312, 1200), 14_350_248), ((12, 768, 3072), 109_482_240)]
)
def test_parameters_are_counted_as_the_models_have_them(shape, parameters):
    assert encoder_parameters(*shape) == parameters


def test_flops_of_the_paper_s_models_at_128_tokens():
    assert encoder_flops(12, 768, 3072, 128) == pytest.approx(22.3e9, rel=0.01)
    assert encoder_flops(4, 312, 1200, 128) == pytest.approx(1.25e9, rel=0.02)


def test_steps_are_those_that_a_run_takes_and_tokens_those_that_it_reads(tiny_spec, out):
    for spec in (tiny_spec, tiny_spec.teacher_spec(), tiny_spec.general_spec()):
        assert cost(spec).steps == run(spec, out, "cpu").metrics["steps"]
    assert cost(tiny_spec).tokens == cost(tiny_spec.replace(recipe="finetune")).tokens


def test_what_a_recipe_leaves_out_is_not_counted(tiny_spec):
    lrc, plain = cost(tiny_spec), cost(tiny_spec.replace(recipe="lrc_g"))
    control = cost(tiny_spec.replace(recipe="finetune"))
    assert lrc.student / plain.student == pytest.approx(5 / 3)
    assert lrc.teacher > 0 and control.teacher == 0 and control.cache == 0
    uncached = cost(tiny_spec.replace(cache_gb=0.0))
    assert uncached.cache == 0 and uncached.teacher > lrc.teacher


def test_the_cache_of_a_teacher_is_counted_once(tiny_spec, tmp_path):
    specs = [tiny_spec, tiny_spec.replace(seed=1)]
    costs = {spec: cost(spec) for spec in specs}
    assert total_disk(costs) == sum(c.disk for c in costs.values()) + costs[tiny_spec].cache
    assert disk_needed(specs, tmp_path) > total_disk(costs)


def test_the_specs_of_a_profile_for_a_job_array(tmp_path, capsys):
    from lrc_lib import RunSpec
    from lrc_lib.cli.commands import main

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


def test_a_plan_needs_no_data_of_glue_and_no_network(tmp_path, monkeypatch, capsys):
    from lrc_lib import load_profile
    from lrc_lib.cli import plan
    from lrc_lib.cli.terminal import make_console
    from lrc_lib.course.notebook import NOTEBOOKS

    monkeypatch.setattr(plan, "calibrate", lambda *_: (1e9, 1e9))
    monkeypatch.setattr(plan, "is_done", lambda *_: False)
    profile = load_profile("paper", settings="general_data=nli", tasks="rte, cola")
    chosen = [NOTEBOOKS["09_glue_results"]]
    plan.show_plan(make_console(), chosen, profile, tmp_path)
    said = capsys.readouterr().out
    assert "13,950" in said and "48,060" in said  # steps at the paper's epochs
    assert "Nothing was trained" in said and not (tmp_path / "runs").exists()


def test_a_gpu_s_minutes_follow_the_arithmetic_that_the_plan_states():
    from lrc_lib import load_profile
    from lrc_lib.cli.cost import GPU_FLOPS, gpu_minutes

    profile = load_profile("gpu")
    small, plain = (cost(profile.spec("rte", recipe)) for recipe in ("lrc", "finetune"))
    assert gpu_minutes(small) == pytest.approx(13_950 / 150 / 60)  # 150 steps a second
    assert gpu_minutes(plain) == pytest.approx(0.6 * gpu_minutes(small))  # 3 passes, not 5
    live = cost(profile.spec("rte", "lrc").replace(cache_gb=0.0))
    assert live.passes == pytest.approx(small.passes * 32 / 20)  # a pass of 12 layers a step more
    large = cost(load_profile("paper").spec("mnli", "lrc"))
    assert gpu_minutes(large) == pytest.approx((large.student + large.teacher) / GPU_FLOPS / 60)
    logits = cost(profile.spec("rte", "lrc_c"))
    assert logits.cache == 0 and logits.teacher < live.teacher / 80  # asked once, not in 90 epochs


def test_a_plan_puts_rates_and_seeds_of_a_run_in_one_row(tiny_spec):
    from lrc_lib.cli.plan import run_rows

    specs = [tiny_spec.replace(seed=s, learning_rate=r) for s in (0, 1) for r in (1e-4, 1e-3)]
    costs = {spec: cost(spec) for spec in specs}
    minutes = dict.fromkeys(specs, 2.0) | {specs[0]: 0.0}
    ((name, runs, steps, *_, there),) = run_rows(costs, minutes)
    assert name == f"{tiny_spec.task}/lrc" and (runs, steps) == ("4", "20")
    assert there == "1 in the store" and "6.0" in run_rows(costs, minutes)[0]
