"""What runs cost, before anything is trained: steps, FLOPs, minutes here, disk.

FLOPs (two per multiply-add) are counted by torch on models that hold no numbers; minutes come from
a few real steps on this machine. Taught in notebooks/00_start_here and 02_teacher_and_student.
"""

import functools
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification

from lrc_lib.cli.terminal import say, show_table
from lrc_lib.data.batches import epoch_order, steps_per_epoch
from lrc_lib.data.corpus import BYTES_PER_TOKEN, SPECIAL_TOKENS, TOKENS_PER_WORD, estimate
from lrc_lib.data.download import PACKAGES
from lrc_lib.data.glue_dir import FORMATS
from lrc_lib.errors import InputError, LrcError
from lrc_lib.losses import LAYER_LOSSES
from lrc_lib.models import build_student, count_parameters, local_config
from lrc_lib.runs.device import autocast, check_precision, matmuls, resolve_device
from lrc_lib.runs.pool import all_specs, threads_by_run
from lrc_lib.runs.run import check_length
from lrc_lib.runs.spec import RunSpec, data_of, task_of, usable_length
from lrc_lib.runs.store import find
from lrc_lib.runs.unlabelled import text_rows
from lrc_lib.schedule import RECIPES, Recipe, boundary_step

SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
BERT_BASE = (12, 768, 3072, 30522)
NOTEBOOK_MINUTES = 0.25  # that one core takes to execute a notebook, measured with all runs there
# Fields in which runs of equal cost differ; with pairs, the length of rows differs a little too.
ALIKE = dict(seed=0, teacher_seed=0, general_seed=0, learning_rate=RunSpec.learning_rate)
LAYERS_ONLY = Recipe("", "", stage1=(0, 0, 0), stage2=(1, 0, 0), perturb=False)


@dataclass(frozen=True)
class Cost:
    """What one run costs by itself; `once` counts what several runs share for the first of them.

    Attributes:
        steps: optimiser steps.
        student, teacher: FLOPs in the student and in the teacher's encoder.
        disk: bytes that the run leaves in the store.
        note: what was assumed.
        first: share of the steps that lie in stage 1, from 0 to 1.
        kept: whether the teacher answers each row once and its answers are kept.
        cache: bytes of the kept answers; 0 where at most the logits are kept.
        corpus: bytes of packed text.
    """

    steps: int
    student: float
    teacher: float
    disk: float
    note: str = ""
    first: float = 0.0
    kept: bool = False
    cache: float = 0.0
    corpus: float = 0.0

    @property
    def space(self) -> float:
        """Bytes in all."""
        return self.disk + self.cache + self.corpus


def teacher_sizes(teacher: str) -> tuple[int, int, int, int]:
    """(layers, width, feed-forward width, vocabulary) of a teacher; nothing is fetched for it.

    A teacher whose config is not on this machine is taken for a BERT-base.
    """
    if package := PACKAGES.get(teacher.partition("package:")[2]):
        return tuple(package.sizes)
    config = local_config(teacher)
    return tuple(getattr(config, name, usual) for name, usual in zip(SIZES, BERT_BASE, strict=True))


def encoder(layers: int, width: int, inner: int, vocabulary: int = 30522, positions: int = 512):
    """A BERT classifier on torch's device "meta": shapes without numbers.

    It has one head of attention: neither FLOPs nor parameters depend on their number.
    """
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=1,
        intermediate_size=inner,
        max_position_embeddings=positions,
        attn_implementation="eager",  # older transformers look into the mask for other kinds
    )
    with torch.device("meta"):
        return BertForSequenceClassification(config)


@functools.lru_cache(maxsize=1024)
def row_flops(shape, length: int, train=True, perturb=False, width=0, vectors=0) -> int:
    """FLOPs for one row of `length` tokens in a BERT classifier, as torch counts them.

    Args:
        shape: (layers, width, feed-forward width).
        train: a training step; else a forward pass alone.
        perturb: whether a pass to the embeddings and back comes first, Eqs. (7)-(8).
        width: the teacher's width, onto which W maps each layer's states, Eq. (3); 0: no W.
        vectors: how many states of a layer W maps.
    """
    model = encoder(*shape, positions=max(512, length))

    def loss():
        output = model(inputs_embeds=embeddings, output_hidden_states=True)
        mapped = [(states[:, :vectors] @ w).sum() for states in output.hidden_states[1:] if width]
        return output.logits.sum() + sum(mapped)

    with torch.device("meta"), torch.set_grad_enabled(train):
        embeddings = torch.empty(1, length, shape[1], requires_grad=train)
        w = torch.empty(shape[1], width, requires_grad=train)
        with FlopCounterMode(display=False) as counter:
            if perturb:
                torch.autograd.grad(loss(), embeddings)
            total = loss()
            if train:
                total.backward()
    return counter.get_total_flops()


def encoder_flops(layers: int, width: int, inner: int, length: int) -> int:
    """Forward FLOPs of a BERT for one row of `length` tokens."""
    return row_flops((layers, width, inner), length, train=False)


def row_facts(spec) -> tuple[int, int, int, int, str]:
    """(epochs, batch size, training rows, tokens of a padded row, what was assumed) of a run.

    Where the data of a GLUE task are not here, its published size and the full length are taken.
    """
    length, note = usable_length(spec), ""
    epochs, batch = {
        "teacher": (spec.teacher_epochs, spec.teacher_batch_size),
        "general": (spec.general_epochs, spec.general_batch_size),
        "augmented": (spec.augment_epochs, spec.batch_size),
        "student": (spec.epochs or task_of(spec).epochs, spec.batch_size),
    }[spec.kind]
    if spec.kind == "general" and spec.packed:
        rows, note = estimate(spec.general_data, spec.general_rows, length)
    elif train := _rows_here(spec):
        texts = [f"{row.text_a} {row.text_b or ''}" for row in train]
        rows, length = len(texts), padded_length(texts, length, batch, spec.bucket)
    else:
        rows, note = FORMATS[spec.task].official[0], "GLUE's published size"
        rows = min(rows, spec.train_rows or rows)
    if spec.kind == "augmented":
        rows, note = rows * spec.augment, f"{spec.augment} copies of a row {note}".strip()
    return epochs, batch, rows, length, note


def _rows_here(spec):
    """The rows that a run trains on; () for a task of GLUE whose data are not here."""
    try:
        if spec.kind == "general":
            return text_rows(spec)
        return () if spec.data == "hub" else data_of(spec).train
    except LrcError:
        if spec.kind == "general" or spec.task not in FORMATS:
            raise
        return ()


def padded_length(texts, limit: int, batch_size: int, bucket: int = 0) -> int:
    """Mean length of the longest row of a batch, in tokens, estimated from words."""
    words = np.array([len(text.split()) for text in texts])
    lengths = np.minimum(limit, np.ceil(words * TOKENS_PER_WORD) + SPECIAL_TOKENS)
    size = min(batch_size, len(lengths))
    order = epoch_order(lengths, 0, 0, size, bucket)
    return round(lengths[order[: len(order) // size * size]].reshape(-1, size).max(1).mean())


def cost(spec) -> Cost:
    """The `Cost` of training one run, those that it depends on not included.

    Raises:
        LrcError: the data of a task that is not GLUE's, or a text, cannot be read; or its rows may
            be too long, see `lrc_lib.runs.run.check_length`.
    """
    check_length(spec)
    return _cost(replace(spec, **ALIKE))


@functools.lru_cache(maxsize=1024)
def _cost(spec) -> Cost:
    epochs, batch, rows, length, note = row_facts(spec)
    steps = epochs * steps_per_epoch(rows, batch, spec.drop_last)
    seen = steps * batch
    *taught_by, vocabulary = teacher_sizes(spec.teacher)
    taught_by, width = tuple(taught_by), taught_by[1]
    if spec.kind == "teacher":
        flops, disk = seen * row_flops(taught_by, length), _weights(*taught_by, vocabulary)
        return Cost(steps, 0.0, flops, disk, note)

    recipe = RECIPES.get(spec.recipe, LAYERS_ONLY)
    mapped = width if recipe.stage1[0] or recipe.stage2[0] else 0
    shape = spec.student_shape
    vectors = 1 if spec.representation in ("mean", "cls") else length
    student = seen * row_flops(shape, length, True, recipe.perturb, mapped, vectors)
    cache = 2.0 * rows * vectors * spec.student_layers * width * recipe.uses_teacher
    live = LAYER_LOSSES[recipe.layer_loss].attentions or (
        spec.kind == "general" and spec.packed and epochs == 1
    )
    if live or cache > spec.cache_gb * 1e9:
        cache = 0.0
    kept = recipe.uses_teacher and (cache > 0 or not mapped)  # logits alone are always kept
    asked = (rows if kept else seen) * recipe.uses_teacher
    teacher = asked * row_flops(taught_by, length, train=False)
    disk = spec.save_weights * _weights(*shape, vocabulary) + 200 * steps
    if spec.kind == "augmented":
        disk += rows * length * BYTES_PER_TOKEN
        if spec.augment_mlm:  # at most one pass per word; a pass reads one text of a pair only
            words = rows / spec.augment * max(1, length - SPECIAL_TOKENS) / TOKENS_PER_WORD
            teacher += words * row_flops(teacher_sizes(spec.augment_mlm)[:3], length, train=False)
    corpus = 2.0 * rows * length if spec.kind == "general" and spec.packed else 0.0
    first = boundary_step(steps, spec.stage_boundary) / max(1, steps) if _stage1(spec) else 0.0
    return Cost(steps, student, teacher, disk, note, first, kept, cache, corpus)


def _weights(*shape) -> float:
    return 4.0 * count_parameters(encoder(*shape))


def _stage1(spec):
    """What students that can share a first stage have in common; None where there is none.

    It says the same as `spec.stage1_id()`, but needs no data.
    """
    recipe = RECIPES.get(spec.recipe, LAYERS_ONLY)
    same = spec.replace(recipe="lrc", save_weights=True)
    return (same, recipe.first_stage) if any(recipe.stage1) else None


def once(costs: dict) -> dict:
    """{spec: Cost} of runs in this order, with what they share counted for the first of them only.

    They share first stages, kept answers of a teacher (a cache) and packed text.
    """
    seen, found = set(), {}
    for spec, run in costs.items():
        stage1, text = _stage1(spec), (spec.general_data, spec.general_rows, spec.teacher)
        asked = spec.teacher_spec() if spec.kind == "student" else spec
        if spec.kind == "general":  # the texts follow from the seed where some become pairs
            texts = (*text, spec.general_max_length, spec.general_pairs)
            asked = (*texts, spec.general_seed if spec.general_pairs else 0)
        answers = (asked, spec.representation)
        left, new = 1 - run.first * (stage1 in seen), answers not in seen
        found[spec] = replace(
            run,
            student=run.student * left,
            teacher=run.teacher * (new if run.kept else left),
            cache=run.cache * new,
            corpus=run.corpus * (text not in seen),
        )
        seen |= {stage1, text} | ({answers} if run.kept else set())
    return found


def write_specs(specs, folder: Path) -> int:
    """Writes the specs and all that they depend on, dependencies first, as 0.json, 1.json, ...

    Returns:
        How many.

    Raises:
        InputError: the folder is not empty, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"The folder '{folder}' is not empty. Give a new one.")
        for number, spec in enumerate(specs := all_specs(specs)):
            (folder / f"{number}.json").write_text(spec.to_json(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write to '{folder}': {error}") from None
    return len(specs)


def is_done(spec, out) -> bool:
    """Whether the run is in the store; False where its data are not here to tell."""
    try:
        return find(spec, out) is not None
    except LrcError:
        return False


def to_train(specs, out) -> dict:
    """{spec: Cost} of all that `specs` need and that is not in the store, see `once`."""
    return once({spec: cost(spec) for spec in all_specs(specs) if not is_done(spec, out)})


def disk_needed(specs, out) -> float:
    """Bytes that the runs still to be trained will take, caches and a checkpoint included."""
    costs = to_train(specs, out).values()
    checkpoint = 3 * max((run.disk for run in costs), default=0.0)  # with AdamW's state
    return sum(run.space for run in costs) + checkpoint


def calibrate(spec, device="auto", threads: int = 1, seconds: float = 3.0) -> tuple[float, float]:
    """FLOPs per second here of training steps of a spec's student, and of its teacher's encoder.

    Two of the teacher's layers stand for it. Tokens are random, and a row is as long as in the
    spec's data. The median step counts, after a warm-up. With one thread on a CPU, CPU seconds
    are counted, which other processes hardly change; otherwise wall seconds.

    Raises:
        InputError: see `lrc_lib.runs.device.check_precision`.
    """
    device, length = resolve_device(device), min(row_facts(spec)[3], 128)
    check_precision(spec.precision, device)
    clock = {"timer": time.process_time} if device.type == "cpu" and threads == 1 else {}
    ids = torch.randint(1000, 2000, (spec.batch_size, length), device=device)

    def speed(shape, heads):
        model = build_student(*shape, heads).to(device).train()
        fused = device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)

        def step():
            optimizer.zero_grad()
            model(input_ids=ids).logits.sum().backward()
            optimizer.step()

        timer = Timer("step()", globals={"step": step}, num_threads=threads, **clock)
        with matmuls(spec.precision), autocast(spec.precision, device):
            took = timer.blocked_autorange(min_run_time=seconds / 2).median
        return spec.batch_size * row_flops(shape, length) / took

    _, width, inner, _ = teacher_sizes(spec.teacher)
    teacher = speed((2, width, inner), math.gcd(width, 12))
    return speed(spec.student_shape, spec.student_heads), teacher


def minutes(costs: dict, fast: float, slow: float) -> dict:
    """{spec: minutes here}, from {spec: Cost} and the FLOPs per second of `calibrate`."""
    return {s: (run.student / fast + run.teacher / slow) / 60 for s, run in costs.items()}


def elapsed(left: dict, jobs: int) -> float:
    """Minutes until runs are trained, `jobs` at a time: at least as long as the longest chain.

    Args:
        left: {spec: minutes}. A chain is a run with those that it depends on.
    """
    ends: dict = {}
    for spec in all_specs(left):  # dependencies first
        before = [ends[other] for other in spec.dependencies()]
        ends[spec] = left.get(spec, 0.0) + max(before, default=0.0)
    return max(sum(left.values()) / jobs, *ends.values(), 0.0)


def run_rows(costs: dict, left: dict) -> list[tuple]:
    """A row for runs that differ in seed or learning rate only; minutes and MB are sums.

    Args:
        costs: {spec: Cost}.
        left: {spec: minutes here} of those that are not in the store.
    """
    groups: dict = {}
    for spec in costs:
        name = spec.replace(seed=0, learning_rate=1e-4).name.removesuffix(" seed 0")
        groups.setdefault(name, []).append(spec)
    rows = []
    for name, specs in groups.items():
        needed, space = [left[s] for s in specs if s in left], sum(costs[s].space for s in specs)
        one = costs[specs[0]]
        steps, sums = f"{one.steps:,}", (f"{x:,.1f}" for x in (sum(needed), space / 1e6))
        rows.append((name, len(specs), len(needed), steps, *sums, one.note))
    return rows


def show_runs(specs, out, device="auto", jobs: int = 1) -> dict:
    """Prints what runs would cost here; trains nothing.

    Args:
        jobs: the largest number of runs at a time. On a GPU the plan does not count on more than
            one, because how much several runs gain there is not known.

    Returns:
        {spec: minutes here} of those that are not in the store.

    Raises:
        LrcError: text, or the data of a task that is not GLUE's, cannot be read.
    """
    costs = once({spec: cost(spec) for spec in specs})
    waiting, on_cpu = to_train(specs, out), resolve_device(device).type == "cpu"
    jobs, cores = (jobs, cpu_count()) if on_cpu else (1, 1)
    others = os.getloadavg()[0] if on_cpu and hasattr(os, "getloadavg") else 0.0  # of a minute
    threads = threads_by_run({s: s.dependencies() for s in all_specs(specs)}, jobs, cores)
    typical = next((s for s in specs if s.kind == "student"), specs[0])
    left, speeds = {}, ""
    for count in sorted({threads[spec] for spec in waiting}):
        fast, slow = calibrate(typical, device, count)
        left |= minutes({s: c for s, c in waiting.items() if threads[s] == count}, fast, slow)
        speed = f"{fast / 1e9:,.1f} GFLOP/s on the student, {slow / 1e9:,.1f} on the teacher"
        speeds += f" Measured now with {count} thread(s): {speed}."
    columns = ("run", "runs", "to train", "steps of one", "min here", "disk MB", "assumed")
    show_table("Runs", columns, run_rows(costs, left))
    total, disk = elapsed(left, jobs), sum(run.space for run in waiting.values())
    say(
        f"{len(costs) - len(left)} of {len(costs)} run(s) are in the store. What runs share (a "
        f"first stage, a teacher's answers) counts once. Lengths of texts are estimated.{speeds}\n"
        f"In all about {total:,.1f} min ({total / 60:,.1f} h) of training here, {jobs} run(s) at a "
        f"time, and {disk / 1e9:,.2f} GB of disk. Nothing was trained."
    )
    if others > cores / 5:
        shared = total * (1 + others / cores)
        say(f"The machine is busy (load {others:.1f}): next to that, about {shared:,.1f} min.")
    return left


def show_plan(notebooks, profile, out, device="auto", jobs: int = 1) -> None:
    """Prints what each notebook and each run would cost here, see `show_runs`."""
    say(f"Profile {profile.name}: {profile.title} Up to {jobs} run(s) side by side.")
    needs = {notebook.name: all_specs(notebook.needs(profile)) for notebook in notebooks}
    specs = list(dict.fromkeys(spec for own in needs.values() for spec in own))
    left = show_runs(specs, out, device, jobs) if specs else {}
    rows = []
    for name, own in needs.items():
        new = sum(left.pop(spec, 0.0) for spec in own)
        rows.append((name, len(own), f"{new:,.1f}"))
    show_table("Notebooks", ("notebook", "runs", "min to train what no notebook above needs"), rows)
    say(f"To execute them takes about {NOTEBOOK_MINUTES * len(rows) / jobs:,.1f} min more.")
