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
from collections import Counter

import numpy as np
import pytest
from test_pool import Screen

from lrc_lib import find
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.runs import pool, ray_pool
from lrc_lib.runs.pool import close_over

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")


def note_each_step():
    """In each worker process: writes down who trains what, and saves at every epoch."""
    import json
    import os
    import time

    from lrc_lib import checkpoint, history

    checkpoint.CHECKPOINT_SECONDS = 0
    add = history.History.add

    def noted(self, step, *rest):
        line = {"run": self.path.parent.stem, "pid": os.getpid(), "step": step}
        with open(os.environ["LRC_TEST_NOTES"], "a") as file:
            file.write(json.dumps(line) + "\n")
        if "-finetune-" in line["run"]:
            time.sleep(0.1)  # long enough to be killed in the middle
        add(self, step, *rest)

    history.History.add = noted


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A local Ray of two CPUs; yields the file in which its workers note their steps."""
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
                    runtime_env={"worker_process_setup_hook": note_each_step},
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
def test_a_killed_worker_s_run_goes_on_and_all_is_as_the_pool_has_it(cluster, tiny_spec, tmp_path):
    tiny = tiny_spec.replace(dropout=0.0)
    students = [tiny.replace(recipe=name) for name in ("finetune", "lrc_1", "lrc_g")]
    specs, screen, killed = close_over(students), Screen(), []
    victim = students[0].run_id()
    partial = tmp_path / "runs" / f"{victim}.partial"

    def kill():
        while not (partial / "checkpoint.pt").exists():
            time.sleep(0.02)
        killed.append(noted(cluster, victim)[-1]["pid"])
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    outcomes = ray_pool.train_all(specs, tmp_path, "cpu", "", screen)
    assert [outcome.status for outcome in outcomes.values()] == ["trained"] * len(specs)
    assert list(outcomes) == list(specs)
    starts = [line for line in screen.lines if line.startswith("start")]
    assert len(starts) == len(specs)
    seen = {name: total for name, step, total in screen.steps if step <= total}
    assert (
        seen.items() <= {s.name: find(s, tmp_path).metrics["steps"] for s in specs.values()}.items()
    )
    assert specs[victim].name in seen and not list((tmp_path / "logs").glob("*.steps"))
    order = [line.split(" ", 1)[1] for line in starts]
    assert order.index(students[1].name) > order.index(tiny.teacher_spec().name)

    # The killed run went on in another process, from its checkpoint.
    steps, pids = noted(cluster, victim), {note["pid"] for note in noted(cluster, victim)}
    assert len(pids) == 2 and killed[0] in pids
    second = [note["step"] for note in steps if note["pid"] != killed[0]]
    assert second[0] > 0 and second == list(range(second[0], 20))
    # Nothing else was done twice.
    for key in specs:
        counts = Counter(note["step"] for note in noted(cluster, key))
        assert set(counts) == set(range(find(specs[key], tmp_path).metrics["steps"]))
        assert key == victim or set(counts.values()) == {1}

    alone = tmp_path / "pool"
    theirs = pool.train_all(specs, alone, "cpu", 1, Screen())
    for key, spec in specs.items():
        ours, other = find(spec, tmp_path).history, find(spec, alone).history
        assert np.allclose(ours.loss, other.loss, atol=1e-4), spec.name
        assert outcomes[key].metrics.keys() == theirs[key].metrics.keys()
        assert outcomes[key].message.split("(")[1:] == theirs[key].message.split("(")[1:]

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
