"""Compiled layers: a context that the runner enters around the training loop."""

import itertools
import sys
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from lrc_lib.data.batches import collate
from lrc_lib.distil import pass_losses
from lrc_lib.training import Trainer

SHAPES = 4  # lengths that batches are padded to: few, so that graphs are reused


@contextmanager
def compiled(teacher, trainer: Trainer):
    """Within this context the layers of student and running teacher are compiled, if that works.

    On CUDA they run as graphs (`mode="reduce-overhead"`). They are compiled layer by layer, since
    transformers takes hidden states from between them. Each shape is tried before training starts.
    If one fails, everything stays as it was, and one line says so. Gives True if they are compiled.
    """
    models = (trainer.net.model, getattr(teacher, "running", None))
    layers = [layer for model in models for layer in _layers(model)]
    try:
        if not layers:
            raise LookupError("this model has no encoder.layer")
        for layer in layers:
            mode = "reduce-overhead" if trainer.device.type == "cuda" else "default"
            layer.forward = torch.compile(layer.forward, mode=mode, dynamic=False)
        trainer.collate = partial(_collate_few_lengths, pad_to=pad_step(trainer.encoded))
        _try_every_shape(teacher, trainer)
        works = True
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler may raise: torch's, Triton's, the system's
        _uncompile(layers)
        trainer.net.zero_grad(set_to_none=True)
        trainer.collate, works = collate, False
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"compile = on failed, training continues without: {reason[:200]}", file=sys.stderr)
    try:
        yield works
    finally:
        _uncompile(layers)
        trainer.collate = collate


def _collate_few_lengths(*args, pad_to: int) -> dict:
    torch.compiler.cudagraph_mark_step_begin()  # the last step is over
    return collate(*args, pad_to=pad_to)


def _layers(model) -> list[nn.Module]:
    base = getattr(model, getattr(model, "base_model_prefix", ""), None)
    return list(getattr(getattr(base, "encoder", None), "layer", ()))


def _uncompile(layers) -> None:
    for layer in layers:
        layer.__dict__.pop("forward", None)


def _try_every_shape(teacher, trainer: Trainer) -> None:
    """Compute a step of each stage, twice per shape: CUDA graphs are recorded the second time.

    Changes no weight, and draws no random number of the training run's.
    """
    import torch._dynamo

    config = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, limit, 1024)  # layers times shapes; otherwise it gives up in silence
    net, cuda = trainer.net, trainer.device.type == "cuda"
    stages = {trainer.recipe.stage1, trainer.recipe.stage2} - {(0, 0, 0)}
    shapes = one_batch_per_shape(trainer.encoded, trainer.settings.batch_size)
    with torch.random.fork_rng(devices=[trainer.device] if cuda else []):
        for rows, weights in itertools.product(shapes, [*stages] * 2):
            rows, batch = trainer.batch(rows)
            with trainer.autocast():
                answers = teacher(rows, batch, weights)
                targets = net.layer_targets(answers, batch["attention_mask"]) if weights[0] else []
                embeddings = net.embed(batch)
                clean = pass_losses(net, batch, answers, targets, weights, embeddings).total
                (gradient,) = torch.autograd.grad(clean, embeddings)
                moved = pass_losses(
                    net, batch, answers, targets, weights, embeddings + gradient
                ).total
            moved.backward()
            net.zero_grad(set_to_none=True)


def pad_step(encoded) -> int:
    """Batches padded to a multiple of this, or to the longest row, have at most SHAPES lengths."""
    return -(-encoded.longest // (8 * SHAPES)) * 8


def one_batch_per_shape(encoded, batch_size: int) -> list:
    """Row numbers of a batch for each length that batches can be padded to."""
    lengths = encoded.lengths
    order = lengths.argsort(kind="stable")
    count = min(batch_size, len(order))
    found = {
        -(-lengths[order[end - 1]] // pad_step(encoded)): order[end - count : end]
        for end in range(count, len(order) + 1)
    }
    return list(found.values())
