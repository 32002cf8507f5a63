"""Runs over a Ray cluster, here one of two CPUs on this machine."""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time

import numpy as np
import pytest
from test_pool import Screen

from lrc_lib import find
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.runs import pool, ray_pool
from lrc_lib.runs.pool import close_over

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")


def note_reports():
    """In each worker process: notes who trains what, and saves at every report."""
    import json
    import os
    import time

    from lrc_lib import training
    from lrc_lib.runs import ray_pool

    training.CHECKPOINT_SECONDS, run = 0, ray_pool.run

    def noted(spec, out, device, progress):
        def report(spec, step, total, text):
            line = {"run": spec.run_id(), "pid": os.getpid(), "step": step}
            with open(os.environ["LRC_TEST_NOTES"], "a") as file:
                file.write(json.dumps(line) + "\n")
            progress(spec, step, total, text)
            time.sleep(spec.recipe == "finetune")  # long enough to be killed in the middle

        return run(spec, out, device, report)

    ray_pool.run = noted


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A local Ray of two CPUs; yields the file of its workers' notes."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    notes = tmp_path_factory.mktemp("ray") / "notes.jsonl"
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets there: their paths must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRC_TEST_NOTES", str(notes))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        (notes.parent / "token").write_text(secrets.token_hex(32))  # else Ray makes one in ~
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(notes.parent / "token"))
        for attempt in range(3):  # Ray gives up starting after 30 s, which a busy machine exceeds
            try:
                ray.init(
                    num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False,
                    object_store_memory=80_000_000, _temp_dir=folder,
                    runtime_env={"worker_process_setup_hook": note_reports},
                )  # fmt: skip
                break
            except Exception:
                ray.shutdown()
                if attempt == 2:
                    raise
        yield notes
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def noted(notes, part):
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [note for note in map(json.loads, lines) if part in note["run"]]


@needs_ray
def test_a_killed_worker_s_run_continues_and_all_is_as_in_the_pool(cluster, tiny_spec, tmp_path):
    tiny = tiny_spec.replace(dropout=0.0)
    students = [tiny.replace(recipe="finetune", epochs=4)]
    students += [tiny.replace(recipe=name) for name in ("lrc_1", "lrc_g")]
    specs, screen, killed = close_over(students), Screen(), []
    victim = students[0].run_id()
    checkpoint = tmp_path / "runs" / f"{victim}.partial" / "checkpoint.pt"

    def kill():
        while not checkpoint.exists():
            time.sleep(0.02)
        killed.append(noted(cluster, victim)[-1]["pid"])
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    outcomes = ray_pool.train_all(specs, tmp_path, "cpu", "", screen)
    assert [outcome.status for outcome in outcomes.values()] == ["trained"] * len(specs)
    assert list(outcomes) == list(specs)
    started = [line.split(" ", 1)[1] for line in screen.lines if line.startswith("start")]
    assert sorted(started) == sorted(spec.name for spec in specs.values())
    assert started.index(students[1].name) > started.index(tiny.teacher_spec().name)
    assert {total for name, _, total in screen.steps if name == students[0].name} == {40}
    assert not list((tmp_path / "logs").glob("*.steps"))

    # Another process continued the killed run from its checkpoint; nothing else was done twice.
    notes = noted(cluster, victim)
    second = [note["step"] for note in notes if note["pid"] != killed[0]]
    assert len({note["pid"] for note in notes}) == 2 and 10 < second[0] and second[-1] == 40
    for key in specs:
        assert key == victim or len({note["pid"] for note in noted(cluster, key)}) == 1

    alone = tmp_path / "pool"
    theirs = pool.train_all(specs, alone, "cpu", 1, Screen())
    for key, spec in specs.items():
        ours, other = find(spec, tmp_path).history, find(spec, alone).history
        assert list(ours.step) == list(other.step), spec.name
        assert np.allclose(ours.loss, other.loss, atol=1e-4), spec.name
        assert outcomes[key].metrics.keys() == theirs[key].metrics.keys()

    again = Screen()
    outcomes = ray_pool.train_all(specs, tmp_path, "cpu", "", again)
    assert {outcome.status for outcome in outcomes.values()} == {"read"} and not again.lines


@needs_ray
def test_a_failed_run_fails_those_that_need_it_and_no_other(cluster, tiny_spec, tmp_path):
    bad = tiny_spec.replace(teacher_lr=1e30, recipe="lrc_1")
    specs = close_over([bad, tiny_spec.replace(recipe="finetune", epochs=1)])
    screen = Screen()
    outcomes = ray_pool.train_all(specs, tmp_path, "cpu", "", screen)
    found = {outcome.spec.recipe: outcome for outcome in outcomes.values()}
    statuses = {recipe: outcome.status for recipe, outcome in found.items()}
    assert statuses == {"teacher": "failed", "lrc_1": "skipped", "finetune": "trained"}
    assert found["teacher"].message.startswith("The loss is not finite")
    assert "which failed" in found["lrc_1"].message
    assert any(line.startswith("FAILED") for line in screen.lines)


@needs_ray
def test_gpus_that_the_cluster_has_not(cluster, tiny_spec, tmp_path):
    with pytest.raises(InputError, match="cluster has no GPU"):
        ray_pool.train_all(close_over([tiny_spec]), tmp_path, "cuda", "", Screen())


def test_ray_that_is_not_installed(monkeypatch, tiny_spec, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match="pip install .*ray"):
        ray_pool.train_all(close_over([tiny_spec]), tmp_path, "cpu", "", Screen())
