"""How a training is computed, not what: precision, compilation, and what to do without memory.

Only `precision` changes a result (by rounding), so only it enters a run's id. Losses stay in
float32 whatever the precision (`lrc_lib.losses`).
"""

import contextlib
import functools
import itertools
import sys

import torch
from torch import nn

from lrc_lib.data import get_task
from lrc_lib.dropout import cheap_dropout
from lrc_lib.errors import InputError, TrainingError

SHAPES = 4  # lengths that batches are padded to when compiled: few, so that graphs are reused


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse what this device computes not at all, or a hundred times slower than fp32.

    Raises:
        InputError: TF32 without CUDA, or bf16 on a CPU that has no instructions for it.
    """
    if precision == "tf32" and device.type != "cuda":
        raise InputError("precision = tf32 is for a CUDA GPU. Use --set precision=fp32 here.")
    if precision == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        raise InputError(
            "precision = bf16 on this CPU, which has no bfloat16 instructions, is about 100 times "
            "slower than fp32. Use --set precision=fp32 here."
        )


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextlib.contextmanager
def matmuls(precision: str):
    """Within this context float32 matrix products may use TF32, if `precision` is "tf32"."""
    usual = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(usual)


def autocast(precision: str, device):
    """The context of a forward pass: bfloat16 where `precision` is "bf16", else nothing."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def in_precision(forward):
    """A decorator for `forward(job, ...)`: runs it under the autocast that the job's spec asks."""

    @functools.wraps(forward)
    def wrapped(job, *args, **kwargs):
        with autocast(job.spec.precision, job.device):
            return forward(job, *args, **kwargs)

    return wrapped


def tuned(train):
    """A decorator for `train(job, ...)`: computes as the job's spec says."""

    @functools.wraps(train)
    def wrapped(job, *args):
        with contextlib.ExitStack() as stack:
            stack.enter_context(matmuls(job.spec.precision))
            fast = job.spec.compile == "on" and stack.enter_context(compiled(job))
            if not fast and job.device.type == "cpu" and job.spec.precision == "fp32":
                stack.enter_context(cheap_dropout(job.model, job.generators))
            return train(job, *args)

    return wrapped


@contextlib.contextmanager
def memory_advice(spec):
    """Turns a GPU's want of memory into an error that names the next smaller settings."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        prefix = {"teacher": "teacher_", "general": "general_"}.get(spec.kind, "")
        rows = getattr(spec, f"{prefix}batch_size")
        data = "" if spec.data == "hub" else spec.data
        longest = "general_max_length" if spec.kind == "general" else "max_length"
        tokens = getattr(spec, longest) or get_task(spec.task, data).max_length
        ways = [f"--set {longest}={max(8, tokens // 2)} (now {tokens}; longer texts are cut)"]
        if rows > 2:
            says = "" if spec.kind == "teacher" else "; fewer negatives: another experiment"
            ways.insert(0, f"--set {prefix}batch_size={max(2, rows // 2)} (now {rows}{says})")
        if spec.kind != "teacher" and spec.cache_gb:
            ways.append(
                f"--set cache_gb={spec.cache_gb / 2:g} (now {spec.cache_gb:g}; cached teacher "
                "outputs lie in its memory where they fit)"
            )
        raise TrainingError(
            f"The GPU has not enough memory for {spec.name}. Try, one after the other: "
            f"{', '.join(ways)}. Or fewer processes (--jobs 1). "
            f"It said: {str(error).strip().splitlines()[0]}"
        ) from error


def model_inputs(model: nn.Module, batch: dict, ready_mask: bool | None = None) -> dict:
    """What a model is called with: the batch without its labels.

    On a GPU (or with `ready_mask`) a BERT gets its mask as attention takes it, (B, 1, 1, L) bool:
    transformers would look whether all of it is 1, and wait for the device at every step.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    if ready_mask is None:
        ready_mask = batch["input_ids"].device.type == "cuda"
    config = getattr(model, "config", None)
    bert = getattr(config, "model_type", "") == "bert"
    if ready_mask and bert and config._attn_implementation == "sdpa" and _takes_ready_masks():
        inputs["attention_mask"] = batch["attention_mask"].bool()[:, None, None]
    return inputs


@functools.cache
def _takes_ready_masks() -> bool:
    try:
        from transformers.masking_utils import create_bidirectional_mask  # noqa: F401
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def compiled(job):
    """Within this context the layers of student and asked teacher run compiled, if that works.

    On CUDA as graphs (`mode="reduce-overhead"`). Layer by layer, since transformers takes hidden
    states from between them; the embeddings are replaced in a perturbed step, and losses stay as
    they are written. Each shape is tried before the training starts; if one fails, all stays as
    it was, and one line says so. Gives True if they are compiled.
    """
    asked = getattr(job.teach, "asked", None)
    layers = [layer for model in (job.model, asked) for layer in _layers(model)]
    try:
        if not layers:
            raise LookupError("this model has no encoder.layer")
        for layer in layers:
            mode = "reduce-overhead" if job.device.type == "cuda" else "default"
            layer.forward = torch.compile(layer.forward, mode=mode, dynamic=False)
        job.pad_to = pad_step(job.encoded)
        _try_every_shape(job)
        works = True
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler may raise: torch's, Triton's, the system's
        _uncompile(layers)
        job.modules.zero_grad(set_to_none=True)
        job.pad_to, works = 1, False
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"compile = on: goes on without, it failed: {reason[:200]}", file=sys.stderr)
    try:
        yield works
    finally:
        _uncompile(layers)


def _layers(model) -> list[nn.Module]:
    base = getattr(model, getattr(model, "base_model_prefix", ""), None)
    return list(getattr(getattr(base, "encoder", None), "layer", ()))


def _uncompile(layers) -> None:
    for layer in layers:
        layer.__dict__.pop("forward", None)


def _try_every_shape(job) -> None:
    """What a step of each stage computes, twice a shape: CUDA graphs are recorded the second time.

    Changes no weight, and draws no random number of the training's.
    """
    import torch._dynamo

    from lrc_lib.training import compute_losses, embed

    config = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, limit, 1024)  # layers times shapes; else it gives up in silence
    modules = job.modules.to(job.device).train()
    total = job.steps_per_epoch * job.epochs
    stages = {job.weights(step, total) for step in (0, total - 1)} - {(0, 0, 0)}
    with torch.random.fork_rng(devices=[job.device] if job.device.type == "cuda" else []):
        for indices, weights in itertools.product(one_batch_per_shape(job), [*stages] * 2):
            torch.compiler.cudagraph_mark_step_begin()
            indices, batch = job.batch(indices)
            taught = job.ask(indices, batch, weights)
            embeddings = embed(job.model, batch)
            clean = compute_losses(job, batch, taught, weights, embeddings)["loss"]
            (gradient,) = torch.autograd.grad(clean.sum(), embeddings)
            moved = compute_losses(job, batch, taught, weights, embeddings + gradient)["loss"]
            moved.sum().backward()
            modules.zero_grad(set_to_none=True)


def pad_step(encoded) -> int:
    """Batches padded to a multiple of this, or to the longest row, have at most SHAPES lengths."""
    return -(-encoded.longest // (8 * SHAPES)) * 8


def one_batch_per_shape(job) -> list:
    """Indices of a batch for each length that batches of this job can be padded to."""
    lengths = job.encoded.lengths
    order = lengths.argsort(kind="stable")
    count = min(job.batch_size, len(order))
    found = {
        -(-lengths[order[end - 1]] // pad_step(job.encoded)): order[end - count : end]
        for end in range(count, len(order) + 1)
    }
    return list(found.values())
