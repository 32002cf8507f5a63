"""A disk that is full in the middle of a checkpoint, the history or the result loses nothing."""

import json

import pytest
import torch

from lrc_lib import find, run, training
from lrc_lib.errors import LrcError

resource = pytest.importorskip("resource")  # not on Windows


@pytest.fixture
def full_disk():
    """Call it with a size: no file can grow beyond it, as on a disk that fills up while writing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def steps_in(path) -> list:
    return [json.loads(line)["step"] for line in path.read_text().splitlines() if line[-1] == "}"]


@pytest.mark.parametrize(
    "part, at, room, says",
    [
        ("checkpoint", 12, 20_000, "Cannot write the run .*continues"),
        ("history", 12, 150, "Cannot write the run .*continues"),
        ("result", 20, 20_000, "Cannot write the run .*continues"),
    ],
)
def test_a_full_disk_loses_nothing(
    tiny_spec, out, tmp_path, monkeypatch, full_disk, part, at, room, says
):
    spec = tiny_spec.replace(recipe="lrc_1", seed=40)
    whole = run(spec, out, device="cpu")
    run(spec.teacher_spec(), tmp_path, device="cpu")
    partial = tmp_path / "runs" / f"{spec.run_id()}.partial"
    history, save = partial / "history.jsonl", training.Trainer._save

    def fill_up(trainer, done):
        if done == at and part == "checkpoint":
            full_disk(room)
        save(trainer, done)
        if done == at and part == "history":
            full_disk(history.stat().st_size + room)
        if done == at and part == "result":
            full_disk(room)

    monkeypatch.setattr(training, "FLUSH_STEPS", 4)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "_save", fill_up)
        with pytest.raises(LrcError, match=says):
            run(spec, tmp_path, device="cpu")
    full_disk(resource.RLIM_INFINITY)

    assert find(spec, tmp_path) is None
    kept = torch.load(partial / "checkpoint.pt", weights_only=True)["step"]
    assert kept == {"checkpoint": 10, "history": 12, "result": 20}[part]
    assert not (partial / "checkpoint.partial").exists()
    assert steps_in(history)[:kept] == list(range(kept))
    if part == "history":  # it broke within a line
        assert not history.read_text().endswith("\n")

    resumed, update = [], training.Trainer.update
    monkeypatch.setattr(
        training.Trainer, "update", lambda self, step: resumed.append(step) or update(self, step)
    )
    again = run(spec, tmp_path, device="cpu")
    assert resumed == list(range(kept, 20))
    assert again.history.equals(whole.history)
    ours, theirs = again.student().state_dict(), whole.student().state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
