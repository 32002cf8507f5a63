"""One run over two processes on the CPU: the same numbers, and all stop when one of them dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from lrc_lib import RunSpec, find, run
from lrc_lib.cli.commands import main
from lrc_lib.data.batches import epoch_order
from lrc_lib.errors import InputError
from lrc_lib.losses import cos_nce_floor, transformer_layer_loss
from lrc_lib.runs.processes import Group, Several, check_processes, current, together
from lrc_lib.schedule import get_recipe

# What each of the processes does with the specs of a file, one run after the other.
CODE = """
import json, os, sys, time
from pathlib import Path
from lrc_lib import RunSpec, checkpoint, run, training
from lrc_lib.errors import LrcError
from lrc_lib.runs.processes import together

specs, out, pause = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]
(out / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
checkpoint.CHECKPOINT_SECONDS = 0
share_of, steps = training.Group.share_of, []

def slowly(self, rows):
    steps.append(rows)
    time.sleep(float(pause))
    return share_of(self, rows)

training.Group.share_of = slowly
try:
    with together(2, "cpu"):
        for values in specs:
            run(RunSpec().replace(**values), out, "cpu", lambda *_: None)
    (out / f"steps-{os.environ['RANK']}").write_text(str(len(steps)))
except LrcError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def command_for(specs, out, folder, pause=0.0):
    """[script, arguments] that train the specs, waiting `pause` seconds at each step."""
    out.mkdir(exist_ok=True)
    (folder / "job.py").write_text(CODE)
    (folder / "specs.json").write_text(json.dumps([json.loads(s.to_json()) for s in specs]))
    return [str(folder / "job.py"), str(folder / "specs.json"), str(out), str(pause)]


def two_processes(specs, out, folder):
    """Runs the specs in two processes, started as torchrun would, but sooner."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, started = [sys.executable, *command_for(specs, out, folder)], []
    for rank in range(2):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in names.items()}
        environment |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate(timeout=300)[1] for process in started]
    return [process.returncode for process in started], errors


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
    folder = tmp_path_factory.mktemp("parallel")
    base = tiny_spec.replace(dropout=0.0)
    specs = {name: base.replace(**change) for name, change in CHANGES.items()}
    specs["general"] = specs["lrc"].general_spec()
    specs["process"] = base.replace(recipe="lrc_1", negatives="process", processes=2, epochs=1)
    specs["dropout"] = tiny_spec.replace(**KILLED)
    codes, errors = two_processes(list(specs.values()), folder / "two", folder)
    assert codes == [0, 0], errors
    del specs["process"], specs["dropout"]
    # A teacher's own dropout differs between processes, so both learn from the same one.
    (folder / "one" / "runs").mkdir(parents=True)
    teacher = find(specs["lrc"].teacher_spec(), folder / "two").path
    (folder / "one" / "runs" / teacher.name).symlink_to(teacher)
    found = {}
    for name, spec in specs.items():
        found[name] = run(spec, folder / "one", "cpu"), find(spec, folder / "two")
    return found


@pytest.mark.parametrize("name", [*CHANGES, "general"])
def test_two_processes_compute_what_one_does(pairs, name):
    one, two = pairs[name]
    assert two.path != one.path and two.provenance["processes"] == 2
    assert one.provenance["processes"] == 1
    ours, theirs = one.history, two.history
    assert len(ours) == one.metrics["steps"] and (ours.step == theirs.step).all()
    if name == "lrc":
        assert len(ours) == 20 and set(ours.stage) == {1, 2} and ours.perturbed.notna().all()
    for column in "loss perturbed layers floor soft hard rate".split():
        same = np.allclose(ours[column], theirs[column], rtol=0, atol=1e-5, equal_nan=True)
        assert same, column
    ours, theirs = one.student().state_dict(), two.student().state_dict()
    assert all(torch.allclose(ours[key], theirs[key], atol=2e-5) for key in ours)


def test_dropout_and_rows_differ_by_process_and_all_is_learned(pairs):
    one, two = pairs["lrc"]
    teacher = find(one.spec.teacher_spec(), two.path.parents[1])
    assert teacher.provenance["processes"] == 2 and teacher.metrics["check"]["passed"]
    group = Several.__new__(Several)
    rows, group.processes = epoch_order(np.ones(16), 0, 0), 2
    shares, drawn = [], {}
    for group.rank, step in ((0, 3), (1, 3), (1, 4), (1, 3)):
        torch.manual_seed(0)
        group.reseed(0, step)
        again = drawn.get((group.rank, step))
        drawn[group.rank, step] = torch.rand(4)
        assert again is None or torch.equal(again, drawn[group.rank, step])
    for group.rank in range(2):
        shares.append(group.share_of(rows))
    assert sorted(np.concatenate(shares)) == list(range(16)) and len(shares[0]) == 8
    assert len({tuple(numbers.tolist()) for numbers in drawn.values()}) == 3


def test_only_process_0_wrote_the_store(pairs):
    folder = pairs["lrc"][1].path.parent
    assert not list(folder.glob("*.partial"))
    lines = (pairs["lrc"][1].path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(20))


class Rest(Group):
    """Stands for a group whose other process has these teacher rows."""

    processes = 2

    def __init__(self, sums):
        self.sums = iter(sums)

    def sum(self, values):
        return values + next(self.sums)


def test_negatives_come_from_the_rows_of_all_processes():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 4, 8).unbind(0)
    mask = torch.ones(6, 4, dtype=torch.long)
    whole = transformer_layer_loss(student, teacher, mask, reduction="none")
    flat = teacher.flatten(1)
    unit = flat / flat.norm(dim=1, keepdim=True)
    part = slice(0, 3)
    args = student[part], teacher[part], mask[part]
    shared = transformer_layer_loss(*args, reduction="none", group=Rest([unit[3:].sum(0)]))
    assert torch.allclose(shared, whole[part], atol=1e-6)
    assert not torch.allclose(
        transformer_layer_loss(*args, reduction="none", group=Group()), whole[part], atol=1e-3
    )
    floor = cos_nce_floor(flat[part], Rest([unit[3:].sum(0)]))
    assert torch.allclose(floor, cos_nce_floor(flat)[part], atol=1e-6)


def test_negatives_of_each_process_are_another_run(pairs, tiny_spec):
    spec = tiny_spec.replace(
        dropout=0.0, recipe="lrc_1", negatives="process", processes=2, epochs=1
    )
    result = find(spec, pairs["lrc"][1].path.parents[1])
    assert result.metrics["steps"] == 10
    other = spec.replace(negatives="process", processes=4)
    assert len({s.run_id() for s in (spec, other, RunSpec.replace(tiny_spec, recipe="lrc_1"))}) == 3
    assert RunSpec.from_json(spec.to_json()).run_id() == spec.run_id()
    with pytest.raises(InputError, match="within each of 4 processes, but 1 started"):
        run(other, pairs["lrc"][0].path.parents[1], "cpu")


def test_negatives_and_processes_go_together(tiny_spec):
    for change in (dict(negatives="process"), dict(processes=2)):
        with pytest.raises(InputError, match="go together"):
            tiny_spec.replace(**change)


# --- one process dies


def torchrun(*command, **options):
    words = "-m torch.distributed.run --standalone --nproc-per-node 2".split()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words, *command], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def test_one_of_two_is_killed_and_the_same_command_continues(pairs, tiny_spec, tmp_path):
    whole, spec = pairs["lrc"][1].path.parent, tiny_spec.replace(**KILLED)
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    teacher = find(spec.teacher_spec(), whole.parent).path
    (out / "runs" / teacher.name).symlink_to(teacher)
    partial = out / "runs" / f"{spec.run_id()}.partial"
    killed = torchrun(*command_for([spec], out, tmp_path, pause=0.2))
    while not (partial / "checkpoint.pt").exists():
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.05)
    os.kill(int((out / "pid-1").read_text()), signal.SIGKILL)
    begun = time.monotonic()
    said = killed.communicate(timeout=60)[0]
    assert time.monotonic() - begun < 30 and killed.returncode
    assert "error: Process 0 of 2 stops" in said and "same command continues from" in said
    assert find(spec, out) is None
    step = torch.load(partial / "checkpoint.pt")["step"]
    assert 0 < step < 40

    resumed = torchrun(*command_for([spec], out, tmp_path))
    said = resumed.communicate(timeout=120)[0]
    assert resumed.returncode == 0, said
    assert [(out / f"steps-{rank}").read_text() for rank in (0, 1)] == [str(40 - step)] * 2
    ours, theirs = find(spec, out), find(spec, whole.parent)
    assert ours.history.equals(theirs.history) and len(ours.history) == 40
    ours, theirs = ours.student().state_dict(), theirs.student().state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- the number of processes, and runs that do not fit it


def test_the_number_of_processes_is_asserted(tmp_path, monkeypatch, capsys, tiny_spec):
    path = tmp_path / "spec.json"
    path.write_text(tiny_spec.to_json())
    command = ["run", str(path), "--out", str(tmp_path)]
    assert main([*command, "--processes", "2"]) == 2
    assert "1 process(es) started, but 2 asked for" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command) == 2
    assert "--processes N" in capsys.readouterr().err
    assert main([*command, "--processes", "3"]) == 2
    assert "2 process(es) started, but 3 asked for" in capsys.readouterr().err
    with pytest.raises(InputError, match="--processes"):
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
    monkeypatch.delenv("WORLD_SIZE")
    assert current().processes == 1


@pytest.mark.parametrize(
    "change, says",
    [
        (dict(batch_size=15), "no equal shares for 2"),
        (dict(drop_last=False, batch_size=22), "last batch of an epoch has 13 rows"),
        (dict(perturb_norm="tensor"), "perturb_norm=sample"),
        (dict(compile="on"), "compile=off"),
        (dict(negatives="process", processes=2, batch_size=2), "no negatives"),
        (dict(keep="best"), "keep=last"),
    ],
)
def test_runs_that_several_processes_cannot_train(tiny_spec, change, says):
    spec = tiny_spec.replace(recipe="lrc_1", **change)
    group = Several.__new__(Several)
    group.rank, group.processes = 0, 2
    with pytest.raises(InputError, match=says):
        check_processes(group, spec, 145, spec.batch_size, get_recipe("lrc_1"))
