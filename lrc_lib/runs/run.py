"""`run`: every training run is kept; asked for again, it is read and not repeated.

One function per kind of run says how a spec is trained: load, assemble, train, evaluate, save.
Taught in notebook 04.
"""

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError

from lrc_lib import models
from lrc_lib.data.batches import encode
from lrc_lib.data.fingerprints import model_fingerprint
from lrc_lib.data.manifest import PARTIAL, write_whole
from lrc_lib.distil import Net
from lrc_lib.errors import InputError, LrcError
from lrc_lib.evaluate import compute_metrics, constant_metrics, predict, row_keys
from lrc_lib.losses import LAYER_LOSSES
from lrc_lib.runs.augmentation import kept_rows
from lrc_lib.runs.card import model_card
from lrc_lib.runs.compilation import compiled
from lrc_lib.runs.device import autocast, check_precision, matmuls, memory_advice, resolve_device
from lrc_lib.runs.dropout import cheap_dropout
from lrc_lib.runs.processes import check_processes, current
from lrc_lib.runs.progress import default_progress
from lrc_lib.runs.provenance import peak_memory_mb, provenance
from lrc_lib.runs.spec import RunSpec, data_of, usable_length
from lrc_lib.runs.store import RunResult, default_out, find, publish, run_folder, save_projection
from lrc_lib.runs.unlabelled import unlabelled_rows
from lrc_lib.schedule import Recipe, get_recipe
from lrc_lib.teacher import (
    WithMeans,
    cache_bytes,
    check_fits,
    check_teacher,
    no_teacher,
    open_teacher,
)
from lrc_lib.training import Settings, Trainer, train

FINE_TUNE = Recipe("teacher", "teacher", (0, 0, 1), (0, 0, 1), perturb=False, hard_target="one_hot")
DAMAGED = (EOFError, BadZipFile, SafetensorError, UnpicklingError, json.JSONDecodeError)
LAYERS_ONLY = Recipe("general", "general distillation", (1, 0, 0), (1, 0, 0), perturb=False)


def run(
    spec: RunSpec, out=None, device: str = "auto", progress: Callable | None = None
) -> RunResult:
    """Read the run if it exists, resume it if it was interrupted, else train it.

    Runs that it depends on (teacher, general distillation) come first. A second process that asks
    for the same run waits for the first one and then reads. Within
    `lrc_lib.runs.processes.together` all its processes call this and train together.

    Args:
        spec: what to train.
        out: folder that holds `runs/` and `cache/`; see `default_out`.
        device: "auto", "cpu", "cuda" or "mps".
        progress: called as progress(spec, step, total, line); `line` is "" within an epoch. The
            default draws a bar when a person watches, and prints a line per epoch otherwise.

    Raises:
        InputError, UnavailableError, TrainingError: see `lrc_lib.errors`.

    Taught in: notebooks/04_two_stage_distillation.
    """
    group = current()
    done = group.share(find(spec, out))
    if done:
        return done
    for one in (spec, *spec.dependencies()):
        check_length(one)
    for dependency in spec.dependencies():
        run(dependency, out, device, progress)
    folder = run_folder(spec, out)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        with nullcontext() if group.rank else lock:
            done = group.share(find(spec, out))
            if done:
                return done
            with group.workplace(folder.with_name(folder.name + PARTIAL)) as partial:
                _make(spec, Path(out or default_out()), partial, device, progress)
                return group.share(None if group.rank else publish(spec, partial, folder))
    except (OSError, *DAMAGED) as error:
        if isinstance(error, LrcError):
            raise
        raise InputError(
            f"Cannot write the run to '{folder.parent}', or read what it needs: "
            f"{str(error) or repr(error)}. What was saved is kept. Mend that, and the same command "
            "continues from it; damaged files are then found by their checksums and made again."
        ) from error


def check_length(spec: RunSpec) -> None:
    """Refuse rows longer than the teacher (as far as it is here) or the student takes."""
    most, length = models.most_tokens(models.local_config(spec.teacher)), usable_length(spec)
    if length > most:
        name = "general_max_length" if spec.kind == "general" else "max_length"
        raise InputError(
            f"{name} = {length} does not fit {spec.name}: '{spec.teacher}' and its student both "
            f"take at most {most} tokens. Use --set {name}={most}."
        )


def _make(spec: RunSpec, out: Path, folder: Path, device: str, progress) -> None:
    """Train a run in its partial folder and write everything that a finished run holds."""
    group, started = current(), time.perf_counter()
    device = resolve_device(device)
    check_precision(spec.precision, device)
    loud = functools.partial(progress or default_progress(), spec)
    report = (lambda *_: None) if group.rank else loud  # process 0 reports and writes for all
    whole = spec.replace(save_weights=True)  # who runs this spec again gets them
    write_whole(folder / "spec.json", whole.to_json())
    devices = [device] if device.type == "cuda" else []
    with memory_advice(spec), torch.random.fork_rng(devices=devices):
        torch.manual_seed(spec.seed)
        metrics = KINDS[spec.kind](spec, out, folder, device, report)
    if group.rank:
        return
    facts = provenance(device) | {"processes": group.processes}
    facts |= {"seconds": time.perf_counter() - started, "peak_memory_mb": peak_memory_mb()}
    (folder / "provenance.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    if metrics["splits"] and (folder / "student").exists():  # a model that answers a task
        card = model_card(RunResult(spec, folder))
        (folder / "student" / "README.md").write_text(card, encoding="utf-8")


# ---- one function per kind of run; each returns the run's metrics


def fine_tune_teacher(spec: RunSpec, out: Path, folder: Path, device, report) -> dict:
    """Fine-tune the teacher on the task (or, with teacher_epochs = 0, take it as it is); check it.

    A teacher that fails its check is kept, with the reason, but no student will learn from it.
    """
    tokenizer = models.load_tokenizer(spec.teacher)
    data, rows, dev = task_rows(spec, tokenizer)
    task = data.task
    model = models.load_encoder_classifier(
        spec.teacher, task.num_labels, head=not spec.teacher_epochs
    )
    check_fits(model, tokenizer, rows, spec)
    regression = task.kind == "regression"
    net = Net(model, FINE_TUNE, regression=regression)
    if spec.teacher_epochs:
        torch.manual_seed(spec.teacher_seed)
        trainer = new_trainer(
            spec, net, rows, FINE_TUNE, folder, device, report,
            epochs=spec.teacher_epochs, batch_size=spec.teacher_batch_size,
            learning_rate=spec.teacher_lr, seed=spec.teacher_seed,
        )  # fmt: skip
        train_as(spec, net, no_teacher, trainer)
    else:
        (folder / "history.jsonl").touch()
        net.to(device)
    metrics, logits = evaluate(spec, net, data, rows, dev, device, folder)
    first = next(iter(dev))
    check = check_teacher(task, logits[first], dev[first].labels)
    steps = trainer.total if spec.teacher_epochs else 0
    return metrics | save(net, tokenizer, folder, spec.teacher_epochs, steps) | {"check": check}


def distil_general(spec: RunSpec, out: Path, folder: Path, device, report) -> dict:
    """Distil the layers on unlabelled text, alpha only, from the teacher as it was pre-trained."""
    tokenizer = models.load_tokenizer(spec.teacher)
    rows, facts = unlabelled_rows(spec, tokenizer, out / "cache", report)
    model = models.load_encoder_classifier(spec.teacher, 2)
    check_fits(model, tokenizer, rows, spec)
    torch.manual_seed(spec.general_seed)
    recipe = replace(LAYERS_ONLY, layer_loss=spec.general_loss)
    net = student_net(spec, recipe, new_student(spec, tokenizer, 2), model)
    # Other layer losses and seeds read the same texts. Packed text is too long to be kept for that,
    # and where the layers do not fit, nothing is kept: no weight asks for the logits.
    size = cache_bytes(rows, len(net.pairs), model.config.hidden_size, net.representation)
    once = spec.packed and spec.general_epochs == 1
    budget = 0 if once or size > spec.cache_gb * 1e9 else spec.cache_gb
    cache = out / "cache" / _general_answers(spec, rows) if budget else None
    teacher, facts["cache"] = taught_by(model, spec, net, rows, device, cache, budget)
    trainer = new_trainer(
        spec, net, rows, recipe, folder, device, report,
        epochs=spec.general_epochs, batch_size=spec.general_batch_size,
        learning_rate=spec.general_lr, seed=spec.general_seed,
    )  # fmt: skip
    train_as(spec, net, teacher, trainer)
    saved = save(net, tokenizer, folder, spec.general_epochs, trainer.total)
    return {"splits": {}} | facts | saved


def _general_answers(spec: RunSpec, rows) -> str:
    """A name for the teacher's answers to these rows, from all that they follow from."""
    content = f"{model_fingerprint(spec.teacher)} {spec.precision} ".encode()
    digest = hashlib.sha256(content + rows.ids.tobytes() + rows.offsets.tobytes())
    return f"general-{digest.hexdigest()[:16]}"


def distil_augmented(spec: RunSpec, out: Path, folder: Path, device, report) -> dict:
    """Distil the layers on the task's augmented rows, alpha only, from its fine-tuned teacher.

    The student is that of general distillation; labels are not looked at.
    """
    fine_tuned, how, data = fit_teacher(spec, out), spec.augmentation, data_of(spec)
    texts = kept_rows(data.train, data.task, how, out / "cache", device, report)
    tokenizer = models.load_tokenizer(spec.teacher)
    rows = encode(texts, tokenizer, usable_length(spec))
    torch.manual_seed(spec.general_seed)
    recipe = replace(LAYERS_ONLY, layer_loss=spec.general_loss)
    student, model = new_student(spec, tokenizer, data.task.num_labels), fine_tuned.student()
    net = student_net(spec, recipe, student, model)
    cache = out / "cache" / f"{fine_tuned.id}-augment-{how.key(data.train)}"
    teacher, line = taught_by(model, spec, net, rows, device, cache, spec.cache_gb)
    start = start_from(spec, net, out)
    trainer = new_trainer(
        spec, net, rows, recipe, folder, device, report,
        epochs=spec.augment_epochs, seed=spec.general_seed,
    )  # fmt: skip
    _say_if_live(trainer, line)
    train_as(spec, net, teacher, trainer)
    facts = {"splits": {}, "cache": line, "rows": len(texts), "general": start.id}
    facts["source"] = f"{data.source} {how.source}"
    return facts | save(net, tokenizer, folder, spec.augment_epochs, trainer.total)


def distil(spec: RunSpec, out: Path, folder: Path, device, report) -> dict:
    """Train one student of a task by its recipe, from its teacher and its start."""
    recipe, teacher, extra = get_recipe(spec.recipe), no_teacher, {}
    fine_tuned = fit_teacher(spec, out) if recipe.uses_teacher else None
    tokenizer = models.load_tokenizer(spec.teacher)
    data, rows, dev = task_rows(spec, tokenizer)
    regression = data.task.kind == "regression"
    student = new_student(spec, tokenizer, data.task.num_labels)
    if fine_tuned:
        model = fine_tuned.student()
        net = student_net(spec, recipe, student, model, regression)
        cache = out / "cache" / fine_tuned.id
        teacher, extra["cache"] = taught_by(model, spec, net, rows, device, cache, spec.cache_gb)
        if recipe.teacher_layers:
            extra["start"] = models.start_from_teacher(student, model, recipe.teacher_layers)
    else:
        net = Net(student, recipe, regression=regression)
    start = start_from(spec, net, out)
    if start:
        extra[start.spec.kind] = start.id
    best = spec.keep == "best"
    trainer = new_trainer(
        spec, net, rows, recipe, folder, device, report,
        epochs=spec.epochs or data.task.epochs,
        stage1=out / "cache" / spec.stage1_id() if spec.stage1_id() else None,
        score=functools.partial(_first_score, net, data.task, dev, device) if best else None,
        ids=[rows.ids, *(split.ids for split in dev.values() if best)],
    )  # fmt: skip
    _say_if_live(trainer, extra.get("cache", ""))
    train_as(spec, net, teacher, trainer)
    if best:
        extra["kept_step"] = trainer.best["step"]
    metrics, _ = evaluate(spec, net, data, rows, dev, device, folder)
    counts = trainer.settings.epochs, trainer.total
    return metrics | save(net, tokenizer, folder, *counts, spec.save_weights) | extra


KINDS = {
    "teacher": fine_tune_teacher,
    "general": distil_general,
    "augmented": distil_augmented,
    "student": distil,
}


# ---- what they share


def task_rows(spec: RunSpec, tokenizer):
    """(`TaskData`, encoded training rows, {dev split: encoded rows}) of a spec."""
    data, length = data_of(spec), usable_length(spec)
    dev = {split: encode(rows, tokenizer, length) for split, rows in data.dev.items()}
    return data, encode(data.train, tokenizer, length), dev


def new_student(spec: RunSpec, tokenizer, num_labels: int):
    """A student of the spec's shape with random weights."""
    shape = (*spec.student_shape, spec.student_heads)
    pad = tokenizer.pad_token_id
    return models.build_student(*shape, len(tokenizer), num_labels, spec.dropout, pad_token_id=pad)


def new_projection(spec: RunSpec, teacher_width: int, pairs) -> models.Projection:
    """A fresh W of the spec's kind."""
    return models.Projection(
        spec.student_hidden, teacher_width, len(pairs), spec.projection, spec.projection_bias
    )


def student_net(spec: RunSpec, recipe: Recipe, student, teacher, regression=False) -> Net:
    """A student with a fresh W for a teacher's width, and the losses that the spec names.

    Raises:
        InputError: the layer loss does not fit these models or processes.
    """
    config, kind = teacher.config, LAYER_LOSSES[recipe.layer_loss]
    mapping = kind.layer_map or spec.layer_map
    pairs = kind.pairs(models.layer_pairs(spec.student_layers, config.num_hidden_layers, mapping))
    layered = recipe.stage1[0] or recipe.stage2[0]
    if layered and not pairs:
        raise InputError(f"{recipe.title} compares no layer of a student of this depth and map.")
    if kind.attentions:
        models.check_scores(student, teacher)
    if current().processes > 1 and (recipe.layer_loss == "info_nce" or spec.negative_count):
        raise InputError("InfoNCE and negative_count need one process that has the whole batch.")
    return Net(
        student, recipe, W=new_projection(spec, config.hidden_size, pairs) if layered else None,
        pairs=pairs, regression=regression, representation=spec.representation,
        layer_reduction=spec.layer_reduction, temperature=spec.temperature,
        hard_target=spec.hard_target, norm=spec.perturb_norm, epsilon=spec.epsilon,
        info_nce_temperature=spec.info_nce_temperature, negative_count=spec.negative_count,
        group=current() if spec.negatives == "batch" else None,
    )  # fmt: skip


def fit_teacher(spec: RunSpec, out: Path) -> RunResult:
    """The run that fine-tuned this run's teacher, if it passed its check.

    Raises:
        InputError: it did not pass (with the reason), or it is not in the store.
    """
    fine_tuned = _kept(spec.teacher_spec(), out)
    check = fine_tuned.metrics["check"]
    if not check["passed"]:
        raise InputError(
            f"The teacher of {spec.task} ({fine_tuned.id}) is not fit to teach. "
            f"{check['reason']} Give another --set teacher=, more teacher_epochs or more rows."
        )
    return fine_tuned


def _kept(spec: RunSpec, out: Path) -> RunResult:
    """A run that another one depends on. It was there or was made; it may be lost since."""
    if result := find(spec, out):
        return result
    raise InputError(
        f"The run '{spec.run_id()}' is not in the store '{out}', or cannot be read any more. The "
        "same command makes it again."
    )


def taught_by(model, spec: RunSpec, net: Net, rows, device, cache: Path, budget_gb: float):
    """The teacher of a net, with its answers cached as far as the budget allows; and a line."""
    layers, kind = [n for _, n in net.pairs], net.kind
    with matmuls(spec.precision), autocast(spec.precision, device):
        teacher, line = open_teacher(
            model, rows, layers, net.representation, device, cache, budget_gb, kind.attentions
        )
        if kind.means:
            count = spec.negative_count
            teacher = WithMeans(teacher, rows, kind.means, net.representation, device, count)
    return teacher, line


def start_from(spec: RunSpec, net: Net, out: Path) -> RunResult | None:
    """Give a student and its W the weights of the run that it starts from, if there is one."""
    if spec.start_spec() is None:
        return None
    start = _kept(spec.start_spec(), out)
    weights = {k: v for k, v in start.student().state_dict().items() if "classifier" not in k}
    missing = net.model.load_state_dict(weights, strict=False).missing_keys
    assert all("classifier" in name for name in missing), missing
    if net.W is not None:
        net.W.load_state_dict(start.projection().state_dict())
    return start


def new_trainer(spec, net, rows, recipe, folder, device, report, **more) -> Trainer:
    """A trainer with the spec's settings; `more` replaces some, or is passed on."""
    group = current()
    own = {field.name for field in fields(Settings)}
    values = {name: more.pop(name, getattr(spec, name)) for name in own}
    check_processes(group, spec, len(rows), values["batch_size"], recipe)
    if group.processes > 1:  # a first stage is shared between runs of one process only
        more["stage1"] = None
    context = functools.partial(autocast, spec.precision, device)
    return Trainer(
        net, rows, recipe, Settings(**values), folder, device,
        report=report, group=group, autocast=context, **more,
    )  # fmt: skip


def _say_if_live(trainer: Trainer, line: str) -> None:
    if "runs at every step" in line:
        trainer.report(0, trainer.total, line)


def evaluate(spec: RunSpec, net: Net, data, rows, dev, device, folder: Path):
    """Score a model on every dev split and write `predictions.npz`.

    Returns:
        (metrics, {split: logits (n, C)}).
    """
    task = data.task
    metrics = {"primary": task.primary, "splits": {}, "constant": {}, "rows": len(rows)}
    metrics |= {"pair": task.pair, "max_length": usable_length(spec)}
    metrics |= {"source": data.source, "title": task.title}
    logits = {split: predict(net.model, encoded, device) for split, encoded in dev.items()}
    arrays = {}
    for split, encoded in dev.items():
        scores = compute_metrics(task, logits[split], encoded.labels)
        metrics["splits"][split] = {"n": len(encoded), **scores}
        metrics["constant"][split] = constant_metrics(task, encoded.labels)
        arrays |= {f"{split}/logits": logits[split], f"{split}/labels": encoded.labels}
        arrays[f"{split}/keys"] = row_keys(data.dev[split])
    if task.labels:
        net.model.config.id2label = dict(enumerate(task.labels))
        net.model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    np.savez(folder / "predictions.npz", **arrays)
    return metrics, logits


def _first_score(net: Net, task, dev: dict, device) -> float:
    """The primary metric on the first dev split of the model as it is."""
    encoded = next(iter(dev.values()))
    logits = predict(net.model, encoded, device)
    return compute_metrics(task, logits, encoded.labels)[task.primary]


def save(net: Net, tokenizer, folder: Path, epochs: int, steps: int, weights=True) -> dict:
    """Write model, tokenizer (both only with `weights`) and W; returns what is added to metrics."""
    try:
        if weights:
            with models.quiet_transformers():
                net.model.cpu().save_pretrained(folder / "student")
                tokenizer.save_pretrained(folder / "student")
        if net.W is not None:
            save_projection(net.W, folder)
    except Exception as error:  # safetensors and tokenizers have their own for a full disk
        raise OSError(f"{error}") from error
    for file in (*folder.glob("*.safetensors"), *folder.glob("student/*.safetensors")):
        # safetensors lets nobody else read them; a store may be shared, so as umask says
        shutil.copymode(folder / "spec.json", file)
    return {"steps": steps, "epochs": epochs, "parameters": models.count_parameters(net.model)}


def train_as(spec: RunSpec, net: Net, teacher, trainer: Trainer) -> None:
    """`train` in the contexts that the spec names: TF32, compilation, dropout for a CPU."""
    with ExitStack() as stack:
        stack.enter_context(matmuls(spec.precision))
        fast = spec.compile == "on" and stack.enter_context(compiled(teacher, trainer))
        if not fast and trainer.device.type == "cpu":
            stack.enter_context(cheap_dropout(net.model))
        train(net, teacher, trainer)
