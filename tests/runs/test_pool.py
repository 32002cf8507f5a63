"""Runs trained next to each other."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from filelock import FileLock, Timeout

from lrc_lib import find, run
from lrc_lib.cli.plan import all_specs
from lrc_lib.runs.pool import close_over, threads_by_run, train_all
from lrc_lib.runs.store import run_folder


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


@pytest.mark.skipif(os.name == "nt", reason="its OpenMP does not show what it read")
@pytest.mark.parametrize("asked, used", [("", "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_them_to_spin(asked, used):
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    kept |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": asked} if asked else {})
    command = [sys.executable, "-c", "import lrc_lib, torch; torch.ones(9).sum()"]
    said = subprocess.run(command, env=kept, capture_output=True, text=True, check=True).stderr
    assert re.findall(r"OMP_WAIT_POLICY\s*=\s*'(\w+)'", said)[:1] == [used]


def test_runs_are_trained_side_by_side_with_one_first_stage_and_then_read(tiny_spec, out, tmp_path):
    """Recipes that differ in stage 2 only share the first stage."""
    students = [tiny_spec.replace(recipe=recipe) for recipe in ("lrc_g", "lrc", "lrc_s", "lrc_h")]
    specs, screen = close_over(students), Screen()
    other = tmp_path / "cache" / "general-0123.partial"  # another process is writing it
    other.mkdir(parents=True)
    outcomes = train_all(specs, tmp_path, "cpu", 2, screen)
    assert list(outcomes) == list(specs)
    for key, spec in specs.items():
        assert outcomes[key].status == "trained", outcomes[key].message
        assert outcomes[key].metrics == find(spec, tmp_path).metrics
    for spec in students:
        alone = run(spec, out, device="cpu")
        ours, theirs = alone.student().state_dict(), find(spec, tmp_path).student().state_dict()
        assert all(torch.allclose(ours[k], theirs[k], atol=1e-5) for k in ours), spec.name
    ends_of_epochs = {step for name, step, _ in screen.steps if "/lrc_s" in name}
    assert ends_of_epochs == {20}  # the first epoch, 10 steps, was another's
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [other]
    outcomes = train_all(specs, tmp_path, "cpu", 2, again := Screen())
    assert {outcome.status for outcome in outcomes.values()} == {"read"} and not again.lines


@pytest.mark.parametrize("boundary", [0.0, 0.01])  # 0.01 of 10 steps is no step
def test_recipes_without_a_step_in_stage_1_have_nothing_to_share(tiny_spec, tmp_path, boundary):
    spec = tiny_spec.replace(stage_boundary=boundary, epochs=1, general_rows=64)
    specs = close_over([spec, spec.replace(recipe="lrc_s")])
    outcomes = train_all(specs, tmp_path, "cpu", 2, Screen())
    assert {outcome.status for outcome in outcomes.values()} == {"trained"}


def test_a_failed_run_fails_those_that_need_it_and_no_other(tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads := str((os.cpu_count() or 1) + 1))
    bad = tiny_spec.replace(teacher_lr=1e30)
    specs = close_over([bad, bad.replace(recipe="finetune")])
    answers, screen = tmp_path / "cache" / f"{bad.teacher_spec().run_id()}-mean", Screen()
    answers.mkdir(parents=True)
    outcomes = {o.spec.recipe: o for o in train_all(specs, tmp_path, "cpu", 1, screen).values()}
    statuses = {recipe: outcome.status for recipe, outcome in outcomes.items()}
    assert statuses == {
        "teacher": "failed", "general": "trained", "lrc": "skipped", "finetune": "trained",
    }  # fmt: skip
    assert "not finite" in outcomes["teacher"].message and answers.exists()
    assert "which failed" in outcomes["lrc"].message
    control = find(outcomes["finetune"].spec, tmp_path)
    assert control.provenance["threads"] == int(threads)  # as the user set them


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_that_is_killed_fails_its_run_only(tiny_spec, tmp_path):
    short = tiny_spec.replace(recipe="finetune")
    specs, killed, workers = close_over([short.replace(epochs=3000), short]), [], []

    def kill():
        while not any(tmp_path.glob("runs/*.partial/history.jsonl")):
            time.sleep(0.05)
        alone = multiprocessing.active_children()
        workers.append(len(alone))
        os.kill(alone[0].pid, signal.SIGKILL)

    def at_start(name):
        if not killed:
            killed.append(name)
            threading.Thread(target=kill, daemon=True).start()

    outcomes = list(train_all(specs, tmp_path, "cpu", 2, Screen(at_start), at_once=1).values())
    assert [outcome.status for outcome in outcomes] == ["failed", "trained"] and workers == [1]
    assert "signal 9" in outcomes[0].message and "memory" in outcomes[0].message


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_ends_with_the_process_that_started_it(tiny_spec, tmp_path):
    spec = tiny_spec.replace(recipe="finetune", epochs=100_000)
    code = (
        "import sys; from pathlib import Path; from lrc_lib import RunSpec\n"
        "from lrc_lib.cli.terminal import Screen; from lrc_lib.runs.pool import *\n"
        "specs = close_over([RunSpec.from_json(sys.argv[1])])\n"
        "train_all(specs, Path(sys.argv[2]), 'cpu', 1, Screen())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, spec.to_json(), str(tmp_path)])
    lock = run_folder(spec, tmp_path).with_name(f"{spec.run_id()}.lock")
    while not any(tmp_path.glob("runs/*.partial/history.jsonl")):
        time.sleep(0.1)
    with pytest.raises(Timeout):
        FileLock(lock).acquire(timeout=0)
    parent.kill()
    parent.wait()
    FileLock(lock).acquire(timeout=5).lock.release()  # the worker is gone
