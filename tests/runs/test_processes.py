"""One run over two processes on the CPU: the same numbers, and all stop when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from lrc_lib import RunSpec, find, run
from lrc_lib.cli.commands import main
from lrc_lib.errors import InputError
from lrc_lib.losses import cos_nce_minimum, transformer_layer_loss
from lrc_lib.runs.processes import Group, ProcessGroup, check_processes, together
from lrc_lib.schedule import get_recipe

# What each of the two processes does; process 0 prints the steps that are reported.
CODE = """
import json, os, sys, time
from pathlib import Path
from lrc_lib import RunSpec, run, training
from lrc_lib.errors import LrcError
from lrc_lib.runs.processes import together

specs, out, pause = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]
(out / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
training.CHECKPOINT_SECONDS = 0

def progress(spec, step, total, line):
    print(f"step {step} of {total}", flush=True)
    time.sleep(float(pause))

try:
    with together(2, "cpu"):
        for values in specs:
            run(RunSpec().replace(**values), out, "cpu", progress)
except LrcError as error:
    sys.exit(f"error: {error}")
"""


def torchrun(specs, out, folder, pause=0):
    """Two processes that train the specs, waiting `pause` seconds at each report."""
    out.mkdir(exist_ok=True)
    (folder / "job.py").write_text(CODE)
    (folder / "specs.json").write_text(json.dumps([json.loads(s.to_json()) for s in specs]))
    words = "-m torch.distributed.run --standalone --nproc-per-node 2".split()
    return subprocess.Popen(
        [sys.executable, *words, *map(str, (folder / "job.py", folder / "specs.json", out, pause))],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def one_of_two(rank: int) -> ProcessGroup:
    """A group of two as `rank` sees it, without the other process."""
    group = ProcessGroup.__new__(ProcessGroup)
    group.rank, group.processes = rank, 2
    return group


OWN = dict(recipe="lrc_1", negatives="process", processes=2, epochs=1)
KILLED = dict(recipe="lrc_1", seed=3, epochs=4)
CHANGES = {
    "lrc": dict(recipe="lrc"),
    "token": dict(recipe="lrc_1", representation="token"),
    "mean": dict(recipe="lrc_1", representation="mean", epochs=1),
    "asked": dict(recipe="lrc_1", cache_gb=0.0, perturb_norm="token", epochs=1),
}


@pytest.fixture(scope="module")
def pairs(tiny_spec, tmp_path_factory):
    """{name: (by one process, by two)} for each change; the second trained all it depends on."""
    folder = tmp_path_factory.mktemp("processes")
    base = tiny_spec.replace(dropout=0.0)
    specs = {name: base.replace(**change) for name, change in CHANGES.items()}
    specs["general"] = specs["lrc"].general_spec()
    others = [base.replace(**OWN), tiny_spec.replace(**KILLED)]
    started = torchrun([*specs.values(), *others], folder / "two", folder)
    said = started.communicate(timeout=300)[0]
    assert started.returncode == 0, said
    # A teacher's own dropout differs between processes, so both learn from the same one.
    (folder / "one" / "runs").mkdir(parents=True)
    teacher = find(specs["lrc"].teacher_spec(), folder / "two").path
    (folder / "one" / "runs" / teacher.name).symlink_to(teacher)
    return {
        name: (run(spec, folder / "one", "cpu"), find(spec, folder / "two"))
        for name, spec in specs.items()
    }


@pytest.mark.parametrize("name", [*CHANGES, "general"])
def test_two_processes_compute_what_one_does(pairs, name):
    one, two = pairs[name]
    assert (one.provenance["processes"], two.provenance["processes"]) == (1, 2)
    ours, theirs = one.history, two.history
    assert len(ours) == one.metrics["steps"] and (ours.step == theirs.step).all()
    if name == "lrc":
        assert len(ours) == 20 and set(ours.stage) == {1, 2} and ours.perturbed.notna().all()
    for column in "loss perturbed layers minimum soft hard rate".split():
        same = np.allclose(ours[column], theirs[column], rtol=0, atol=1e-5, equal_nan=True)
        assert same, column
    ours, theirs = one.student().state_dict(), two.student().state_dict()
    assert all(torch.allclose(ours[key], theirs[key], atol=2e-5) for key in ours)


def test_only_process_0_wrote_the_store(pairs):
    folder = pairs["lrc"][1].path
    teacher = find(pairs["lrc"][1].spec.teacher_spec(), folder.parents[1])
    assert teacher.provenance["processes"] == 2 and teacher.metrics["check"]["passed"]
    assert not list(folder.parent.glob("*.partial"))
    lines = (folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(20))


def test_dropout_and_rows_differ_by_process():
    shares = [one_of_two(rank).share_of(np.arange(16)) for rank in (0, 1)]
    assert sorted(np.concatenate(shares)) == list(range(16)) and len(shares[0]) == 8
    drawn = {}
    for rank, step in ((0, 3), (1, 3), (1, 4), (1, 3)):
        torch.manual_seed(0)
        one_of_two(rank).reseed(0, step)
        numbers = tuple(torch.rand(4).tolist())
        assert drawn.setdefault((rank, step), numbers) == numbers
    assert len(set(drawn.values())) == 3


class Rest(Group):
    """Stands for a group whose other process has these teacher rows."""

    processes = 2

    def __init__(self, rows):
        self.rows = rows

    def sum(self, values):
        return values + self.rows


def test_negatives_come_from_the_rows_of_all_processes():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 4, 8).unbind(0)
    mask = torch.ones(6, 4, dtype=torch.long)
    whole = transformer_layer_loss(student, teacher, mask, reduction="none")[:3]
    flat = teacher.flatten(1)
    rest = Rest(torch.nn.functional.normalize(flat[3:]).sum(0))
    half = student[:3], teacher[:3], mask[:3]
    shared = transformer_layer_loss(*half, reduction="none", group=rest)
    assert torch.allclose(shared, whole, atol=1e-6)
    own = transformer_layer_loss(*half, reduction="none", group=Group())
    assert not torch.allclose(own, whole, atol=1e-3)
    assert torch.allclose(cos_nce_minimum(flat[:3], rest), cos_nce_minimum(flat)[:3], atol=1e-6)


def test_negatives_within_each_process_are_another_run(pairs, tiny_spec):
    spec = tiny_spec.replace(dropout=0.0, **OWN)
    assert find(spec, pairs["lrc"][1].path.parents[1]).metrics["steps"] == 10
    other = spec.replace(processes=4)
    assert len({s.run_id() for s in (spec, other, tiny_spec.replace(recipe="lrc_1"))}) == 3
    assert RunSpec.from_json(spec.to_json()).run_id() == spec.run_id()
    with pytest.raises(InputError, match="within each of 4 processes, but 1 started"):
        run(other, pairs["lrc"][0].path.parents[1], "cpu")
    for change in (dict(negatives="process"), dict(processes=2)):
        with pytest.raises(InputError, match="go together"):
            tiny_spec.replace(**change)


def test_one_of_two_is_killed_and_the_same_command_continues(pairs, tiny_spec, tmp_path):
    whole, spec, out = pairs["lrc"][1].path.parent, tiny_spec.replace(**KILLED), tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    teacher = find(spec.teacher_spec(), whole.parent).path
    (out / "runs" / teacher.name).symlink_to(teacher)
    checkpoint = out / "runs" / f"{spec.run_id()}.partial" / "checkpoint.pt"
    killed = torchrun([spec], out, tmp_path, pause=1)
    while not checkpoint.exists():
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.05)
    os.kill(int((out / "pid-1").read_text()), signal.SIGKILL)
    begun = time.monotonic()
    said = killed.communicate(timeout=60)[0]
    assert time.monotonic() - begun < 30 and killed.returncode
    assert "error: Process 0 of 2 stops" in said and "same command continues from" in said
    assert find(spec, out) is None
    step = torch.load(checkpoint)["step"]
    assert 0 < step < 40

    resumed = torchrun([spec], out, tmp_path)
    said = resumed.communicate(timeout=300)[0]
    assert resumed.returncode == 0, said
    steps = [int(line.split()[1]) for line in said.splitlines() if line.endswith(" of 40")]
    assert step < min(steps) and max(steps) == 40
    ours, theirs = find(spec, out), find(spec, whole.parent)
    assert ours.history.equals(theirs.history) and len(ours.history) == 40
    ours, theirs = ours.student().state_dict(), theirs.student().state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_number_of_processes_is_checked(tmp_path, monkeypatch, capsys, tiny_spec):
    path = tmp_path / "spec.json"
    path.write_text(tiny_spec.to_json())
    command = ["run", str(path), "--out", str(tmp_path)]
    assert main([*command, "--processes", "2"]) == 2
    assert "1 process(es) started, but 2 asked for" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*command, "--processes", "3"]) == 2
    assert "2 process(es) started, but 3 asked for" in capsys.readouterr().err
    with pytest.raises(InputError, match="2 .* started, but 1 asked for.*--processes N"):
        run(tiny_spec, tmp_path, "cpu")
    assert not (tmp_path / "runs").exists()


def test_devices_that_several_processes_cannot_share(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, says in (("cuda", "1 GPU"), ("auto", "1 GPU"), ("cuda:0", "auto, cpu or cuda")):
        with pytest.raises(InputError, match=says), together(2, device):
            pass


@pytest.mark.parametrize(
    "change, says",
    [
        (dict(batch_size=15), "no equal shares for 2"),
        (dict(drop_last=False, batch_size=22), "last batch of an epoch has 13 rows"),
        (dict(negatives="process", processes=2, batch_size=2), "no negatives"),
        (dict(perturb_norm="tensor"), "perturb_norm=sample"),
        (dict(compile="on"), "compile=off"),
        (dict(keep="best"), "keep=last"),
    ],
)
def test_runs_that_two_processes_cannot_train(tiny_spec, change, says):
    spec, recipe = tiny_spec.replace(recipe="lrc_1", **change), get_recipe("lrc_1")
    with pytest.raises(InputError, match=says):
        check_processes(one_of_two(0), spec, 145, spec.batch_size, recipe)
