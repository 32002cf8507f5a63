"""What makes it fast changes no result: dropout, precision, compilation, padding, memory."""

import contextlib
import copy
import dataclasses
import os
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import sentences
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.loops import LRC
from benchmarks.workload import Workload
from lrc_lib import RunSpec, run
from lrc_lib.data.batches import collate
from lrc_lib.data.rows import Row
from lrc_lib.errors import InputError, TrainingError
from lrc_lib.losses import cos_nce_target, cos_nce_to, transformer_layer_loss
from lrc_lib.models import _takes_ready_masks, build_student, model_inputs
from lrc_lib.runs import compilation, device, store
from lrc_lib.runs import run as runner
from lrc_lib.runs.device import default_jobs
from lrc_lib.runs.dropout import ATTENTION, CheapDropout, cheap_dropout, drop
from lrc_lib.runs.processes import ProcessGroup, check_processes
from lrc_lib.teacher import LiveTeacher, open_teacher

new_masks = pytest.mark.skipif(
    not _takes_ready_masks(), reason="this transformers has no masking_utils"
)


def workload(teacher, **values):
    rows = [Row(a, b if i % 2 else None, i % 2) for i, (a, b) in enumerate(sentences(48, 5))]
    return Workload(rows, teacher, shape=(2, 24, 32, 2), **values)


@pytest.fixture(scope="module")
def work(tiny_teacher):
    return workload(tiny_teacher, dropout=0.0)


def history(job):
    job.train()
    return job.history()


# p is in 2**-16ths; 1.109375 is bfloat16's nearest number to 1 / 0.9
@pytest.mark.parametrize("kind, scale", [(torch.float32, 1 / 0.9), (torch.bfloat16, 1.109375)])
def test_cheap_dropout_keeps_what_it_should_and_the_mean(kind, scale):
    torch.manual_seed(0)
    dropped = drop(torch.ones(1001, 1001, dtype=kind), 0.1)  # odd: four numbers a draw
    kept = dropped != 0
    assert dropped.unique().tolist() == pytest.approx([0, scale], rel=1e-5)
    assert dropped.double().mean().item() == pytest.approx(1, abs=3 * 0.34 / 1001)
    for a, b in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1])):  # neighbours: independent
        assert (a & b).float().mean().item() == pytest.approx(1 / scale**2, abs=0.002)
    assert not torch.equal(drop(torch.ones(100), 0.5), drop(torch.ones(100), 0.5))


def test_the_gradient_of_cheap_dropout_has_its_mask():
    x = torch.randn(50, 7, requires_grad=True)
    y = drop(x, 0.4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient == 0, y == 0) and (y == 0).any()
    layer = CheapDropout(0.4)
    assert torch.equal(layer.eval()(x), x) and not torch.equal(layer.train()(x), x)


@new_masks
def test_the_written_out_attention_is_torch_s_own_and_leaves_no_trace():
    torch.manual_seed(0)
    model = build_student(2, 24, 32, 2, 50, dropout=0.0).train()
    ids, mask = torch.randint(1, 50, (3, 9)), (torch.arange(9) < torch.tensor([[9], [4], [7]]))
    plain = model(ids, attention_mask=mask.long()).logits
    with cheap_dropout(model):
        assert model.config._attn_implementation == ATTENTION
        assert any(type(m) is CheapDropout for m in model.modules())
        ours = model(ids, attention_mask=mask.long()).logits
    assert torch.allclose(ours, plain, atol=1e-6)
    assert not any(type(m) is CheapDropout for m in model.modules())
    assert model.config._attn_implementation == "sdpa" and ATTENTION not in str(model.config)


@new_masks
def test_training_uses_cheap_dropout_and_other_models_stay_as_they_are(tiny_teacher, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "lrc_lib.runs.dropout.drop", lambda x, p: seen.append(p) or torch.dropout(x, p, True)
    )
    work = workload(tiny_teacher, dropout=0.1)  # its folder lives as long as it does
    work.job(LRC).train()
    assert set(seen) == {0.1} and len(seen) % 3 == 0  # batches
    with cheap_dropout(torch.nn.Sequential(torch.nn.Dropout(0.1))) as _:
        pass


def test_one_target_serves_both_passes_and_gives_the_least_loss():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 6, 8, generator=generator)
    mask = (torch.arange(6) < torch.tensor([[6], [2], [4], [1], [5]])).long()
    target = cos_nce_target(teacher, mask)
    loss = partial(transformer_layer_loss, teacher=teacher, mask=mask, reduction="none")
    assert torch.equal(loss(student), cos_nce_to(student, target, mask))
    minimum = 2 - target.flatten(1).norm(dim=-1)
    assert torch.allclose(loss(target), minimum, atol=1e-6)  # reached where the student can go
    assert (loss(student) > minimum).all()
    noise = torch.randn(teacher.shape, generator=generator) * (1 - mask).unsqueeze(-1)
    assert torch.equal(cos_nce_target(teacher + noise, mask), target)


def test_a_precision_that_the_device_has_not_is_refused(tiny_spec, tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    device.check_precision("fp32", cpu)
    device.check_precision("tf32", torch.device("cuda"))
    monkeypatch.setattr(device, "has_bf16", lambda _: True)
    assert device.usual_precision("cpu") == "bf16"
    device.check_precision("bf16", cpu)
    with pytest.raises(InputError, match="tf32 is for a CUDA GPU.*fp32"):
        run(tiny_spec.replace(precision="tf32"), tmp_path, "cpu")
    monkeypatch.setattr(device, "has_bf16", lambda _: False)
    assert device.usual_precision("cpu") == "fp32"
    with pytest.raises(InputError, match="bf16 on this CPU.*100 times.*fp32"):
        run(tiny_spec.replace(precision="bf16"), tmp_path, "cpu")


def test_bf16_reaches_the_models_and_not_the_losses(work):
    full, half = history(work.job(LRC)), history(work.job(LRC, precision="bf16"))
    for a, b in zip(full, half, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.02) and a["loss"] != b["loss"]
        assert a["minimum"] == b["minimum"]  # of the teacher's cached states alone
    job = work.job(LRC, precision="bf16")
    with device.autocast("bf16", "cpu"):
        states = work.live()([0, 1, 2], collate(work.encoded, [0, 1, 2])).states[0]
    exact = work.live()([0, 1, 2], collate(work.encoded, [0, 1, 2])).states[0]
    assert states.dtype == torch.float32 and not torch.equal(states, exact)
    assert torch.allclose(states, exact, atol=0.1)
    assert next(job.net.parameters()).dtype == torch.float32


def test_tf32_is_on_during_the_training_only(work, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "lrc_lib.training.step_losses",
        lambda *args: seen.append(torch.get_float32_matmul_precision()) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        work.job(LRC, precision="tf32").train()
    assert seen == ["high"] and torch.get_float32_matmul_precision() == "highest"


def test_a_compilation_that_fails_changes_nothing_and_says_one_line(
    tiny_teacher, monkeypatch, capsys
):
    work = workload(tiny_teacher, dropout=0.1)
    usual = history(work.job(LRC))

    def broken(function, **options):
        def fails(*args, **kwargs):
            torch.rand(3)
            raise RuntimeError("no compiler here\nand a long story")

        return fails

    monkeypatch.setattr(torch, "compile", broken)
    job = work.job(LRC, compile="on")
    assert history(job) == usual and job.trainer.collate is collate
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "no compiler here" in said[0] and "long story" not in said[0]
    assert not any("forward" in m.__dict__ for m in job.net.modules())
    monkeypatch.setattr(torch, "compile", lambda *args, **options: 1 / 0)
    assert history(work.job(LRC, compile="on")) == usual
    monkeypatch.setattr(compilation, "_layers", lambda model: [])
    assert history(work.job(LRC, compile="on")) == usual
    assert "no encoder.layer" in capsys.readouterr().err


@pytest.mark.parametrize("live", [False, True])
def test_few_shapes_change_no_loss(work, monkeypatch, live):
    usual, widths, compiled = history(work.job(LRC)), set(), []

    def compile_(function, **options):
        compiled.append(function)

        def call(states, *args, **kwargs):
            widths.add(states.shape[1])
            return function(states, *args, **kwargs)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(compilation, "pad_step", lambda encoded: 5)
    padded = history(work.job(LRC, work.live() if live else None, compile="on"))
    longest = work.encoded.longest
    assert widths <= {*range(5, longest, 5), longest} and len(widths) > 1
    assert len(compiled) == 2 + 4 * live  # the student's layers, and the running teacher's
    for a, b in zip(usual, padded, strict=True):
        for part in ("loss", "perturbed", "layers", "minimum", "soft", "hard"):
            assert a[part] == pytest.approx(b[part], abs=2e-6 if part != "perturbed" else 1e-5)


def test_several_processes_are_not_compiled(work):
    group = ProcessGroup.__new__(ProcessGroup)
    group.rank, group.processes = 0, 2
    with pytest.raises(InputError, match="compile = on is for one process"):
        check_processes(group, work.spec.replace(compile="on"), 48, 16, LRC)


def test_every_shape_is_tried_before_the_training(work):
    step = compilation.pad_step(work.encoded)
    assert -(-work.encoded.longest // step) <= compilation.SHAPES
    tried = [
        collate(work.encoded, indices, "cpu", pad_to=step)["input_ids"].shape[1]
        for indices in compilation.one_batch_per_shape(work.encoded, 16)
    ]
    for indices in torch.randint(48, (50, 16)):
        assert collate(work.encoded, indices, "cpu", pad_to=step)["input_ids"].shape[1] in tried
    assert len(tried) == len(set(tried))


@pytest.mark.skipif(not os.environ.get("LRC_SLOW_TESTS"), reason="a minute: LRC_SLOW_TESTS=1")
def test_a_real_compilation_gives_the_same_losses(work, capsys):
    usual, ours = history(work.job(LRC)), history(work.job(LRC, compile="on"))
    assert not capsys.readouterr().err
    for a, b in zip(usual, ours, strict=True):
        assert a["perturbed"] == pytest.approx(b["perturbed"], abs=1e-5)


class ReadBacks(TorchDispatchMode):
    """Counts the values that Python takes out of tensors."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


def read_backs(job) -> int:
    with ReadBacks() as seen:
        job.train()
    return seen.count


@new_masks
@pytest.mark.parametrize("live", [False, True])
def test_a_step_waits_for_no_value_of_the_device(work, monkeypatch, live):
    """Counted on a CPU, with the masks that a GPU gets: what grows with the steps is a wait.

    Without hard labels: one_hot checks their range on a CPU, and not on a GPU.
    """
    recipe = dataclasses.replace(LRC, stage1=(1, 1, 0), stage2=(1, 1, 0))
    monkeypatch.setattr(runner, "cheap_dropout", lambda *_: contextlib.nullcontext())
    teacher = work.live() if live else None

    def grows():
        one, three = (read_backs(work.job(recipe, teacher, epochs)) for epochs in (1, 3))
        return three - one

    assert grows() > 0  # transformers looks at the mask
    for module in ("distil", "teacher"):
        ready = partial(model_inputs, ready_mask=True)
        monkeypatch.setattr(f"lrc_lib.{module}.model_inputs", ready)
    assert grows() == 0


@new_masks
def test_a_ready_mask_gives_the_same_answers(work):
    batch = collate(work.encoded, list(range(16)))
    ready = model_inputs(work.teacher, batch, ready_mask=True)
    assert ready["attention_mask"].shape == (16, 1, 1, batch["input_ids"].shape[1])
    with torch.no_grad():
        plain = work.teacher(**model_inputs(work.teacher, batch)).logits
        assert torch.allclose(work.teacher(**ready).logits, plain, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("how", [{}, {"precision": "tf32"}, {"precision": "bf16"}])
@pytest.mark.parametrize("compile_", ["off", "on"])
def test_on_a_gpu_the_losses_are_the_cpu_s(tiny_teacher, work, how, compile_, capsys):
    rows = [Row(a, b if i % 2 else None, i % 2) for i, (a, b) in enumerate(sentences(48, 5))]
    gpu = Workload(rows, tiny_teacher, "cuda", shape=(2, 24, 32, 2), dropout=0.0)
    ours = history(gpu.job(LRC, compile=compile_, **how))
    assert "continues without" not in capsys.readouterr().err
    for a, b in zip(history(work.job(LRC)), ours, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.02 if how else 1e-3)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({}, [r"batch_size=8 \(now 16", r"max_length=32 \(now 64", r"cache_gb=0.5 \(now 1"]),
        ({"batch_size": 2, "cache_gb": 0.0, "max_length": 40}, [r"max_length=20 \(now 40"]),
    ],
)
def test_a_gpu_without_memory_names_what_fits(tiny_spec, tmp_path, monkeypatch, changes, says):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore")

    monkeypatch.setitem(runner.KINDS, "student", full)
    spec = tiny_spec.replace(recipe="finetune", **changes)
    with pytest.raises(TrainingError, match="not enough memory") as caught:
        run(spec, tmp_path, "cpu")
    for what in says:
        assert caught.match(what)
    assert "20.00 MiB" in str(caught.value) and "more" not in str(caught.value)
    assert ("batch_size=" in str(caught.value)) == (not changes)
    assert store.find(spec, tmp_path) is None


def test_memory_advice_names_the_fields_of_the_kind_of_run(tiny_spec):
    for spec, field in (
        (tiny_spec.teacher_spec(), "teacher_batch_size=8"),
        (tiny_spec.general_spec(), "general_max_length=64"),
        (RunSpec(data="hub", task="rte"), "max_length=64"),
    ):
        with pytest.raises(TrainingError, match=field), device.memory_advice(spec):
            raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_budget_of_zero_caches_nothing_and_kinds_of_states_share_no_cache(work, tmp_path):
    teach, line = open_teacher(
        work.teacher, work.encoded, [2, 4], "flatten", "cpu", tmp_path / "none", 0.0
    )
    assert isinstance(teach, LiveTeacher) and "nothing is to be cached" in line
    assert list(tmp_path.iterdir()) == []
    for kind in ("flatten", "token", "mean", "cls"):
        teach, _ = open_teacher(
            work.teacher, work.encoded, [2, 4], kind, "cpu", tmp_path / "cache", 1.0
        )
        batch = collate(work.encoded, [0, 1, 2])
        cached, asked = teach([0, 1, 2], batch).states, teach.live([0, 1, 2], batch).states
        real = batch["attention_mask"].unsqueeze(-1) if kind in ("flatten", "token") else 1
        assert all(torch.equal(a, b * real) for a, b in zip(cached, asked, strict=True))
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3  # flatten = token


def test_jobs_by_device(monkeypatch):
    room = [64e9]
    monkeypatch.setattr(device, "memory", lambda: room[0])
    monkeypatch.setattr(device, "cpu_count", lambda: 16)
    assert [default_jobs(torch.device(kind)) for kind in ("cpu", "cuda", "mps")] == [16, 4, 1]
    for room[0], jobs in ((20e9, 7), (8e9, 2), (4e9, 1), (2e9, 1)):
        assert default_jobs(torch.device("cpu")) == jobs
    monkeypatch.setattr(device, "cpu_count", lambda: 1)
    assert default_jobs(torch.device("cuda")) == 1


LIMITS = {  # /proc/self/cgroup, a file below /sys/fs/cgroup with a limit, the others' content
    "a container, version 2": ("0::/", "memory.max", "max"),
    "a cluster's job, version 2": ("0::/slurm/job_7/step_0", "slurm/job_7/memory.max", "max"),
    "a container, version 1": ("4:memory:/docker/7", "memory/memory.limit_in_bytes", "9" * 19),
    "a job, version 1": ("4:memory:/job", "memory/job/memory.limit_in_bytes", "9" * 19),
}


@pytest.mark.parametrize("own, file, others", LIMITS.values(), ids=LIMITS)
def test_memory_is_the_machine_s_or_that_of_a_cgroup_around(monkeypatch, own, file, others):
    files = {"/proc/self/cgroup": f"3:cpuset:/elsewhere\n{own}\n"}
    monkeypatch.setattr(device.Path, "read_text", lambda p: files.get(p.as_posix(), others))
    assert 1e9 < device.memory() < 1e14
    files[f"/sys/fs/cgroup/{file}"] = "1000000\n"
    assert device.memory() == 1e6


def test_fewer_runs_at_once_where_little_memory_is_free(monkeypatch):
    for free, jobs in ((1, 1), (6, 2), (64, 4)):
        told = SimpleNamespace(available=free << 30)
        monkeypatch.setattr(device.psutil, "virtual_memory", lambda told=told: told)
        assert device.jobs_now(4) == jobs


@pytest.mark.parametrize("value, says", [(1e6, "65,504"), (float("nan"), "not numbers")])
def test_states_that_are_no_numbers_are_not_cached(work, tmp_path, value, says):
    teacher = copy.deepcopy(work.teacher)
    teacher.bert.encoder.layer[1].output.LayerNorm.weight.data[0] *= value
    with pytest.raises(TrainingError, match=f"states of layer 2 that are .*{says}"):
        open_teacher(teacher, work.encoded, [1, 2], "flatten", "cpu", tmp_path / "cache", 1.0)
    assert not [path for path in tmp_path.glob("cache*") if path.suffix == ""]
