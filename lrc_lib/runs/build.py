"""From a spec to a `Job`: load, assemble, train, evaluate, save. One function a kind of run."""

import json
from pathlib import Path

import numpy as np
import torch

from lrc_lib.best import Best
from lrc_lib.data import load_task_data
from lrc_lib.data.batches import encode
from lrc_lib.errors import InputError
from lrc_lib.models import (
    Projection,
    build_student,
    layer_pairs,
    load_encoder_classifier,
    load_tokenizer,
    teacher_folder,
)
from lrc_lib.runs.augmentation import augmented_rows
from lrc_lib.runs.finish import finish_run, first_score, save_run
from lrc_lib.runs.unlabelled import unlabelled_rows
from lrc_lib.schedule import Recipe, get_recipe
from lrc_lib.teacher import check_fits, check_teacher, open_teacher
from lrc_lib.training import Job, train

GENERAL = Recipe("general", "general distillation", stage2=(1, 0, 0), perturb=False)
FINE_TUNE = Recipe("teacher", "teacher", stage1=(0, 0, 1), stage2=(0, 0, 1), perturb=False)


def _encoded(spec, tokenizer):
    data = load_task_data(spec.task, spec.data, spec.train_rows, spec.dev_rows)
    length = spec.max_length or data.task.max_length
    train_rows = encode(data.train, tokenizer, length)
    dev = {split: encode(rows, tokenizer, length) for split, rows in data.dev.items()}
    return data, train_rows, dev


def fine_tune_teacher(spec, out: Path, folder: Path, device, report) -> dict:
    """Fine-tune the teacher on the task (or, with teacher_epochs = 0, take it as it is); check it.

    A teacher that fails its check is kept, with the reason, but no student will learn from it.
    """
    tokenizer = load_tokenizer(spec.teacher)
    data, rows, dev = _encoded(spec, tokenizer)
    task = data.task
    model = load_encoder_classifier(spec.teacher, task.num_labels)
    check_fits(model, tokenizer, rows, spec)
    if spec.teacher_epochs == 0:
        given = json.loads((teacher_folder(spec.teacher) / "config.json").read_text())
        labels = given.get("num_labels") or len(given.get("id2label", {})) or 2
        if labels != task.num_labels:
            raise InputError(
                f"teacher_epochs = 0 takes '{spec.teacher}' as it is, but it has {labels} outputs "
                f"and {task.name} needs {task.num_labels}."
            )
    job = Job(
        model, FINE_TUNE, spec, rows, spec.teacher_epochs, spec.teacher_batch_size,
        spec.teacher_lr, spec.teacher_seed, device, folder,
        regression=task.kind == "regression", hard_target="one_hot", report=report,
    )  # fmt: skip
    if spec.teacher_epochs:
        torch.manual_seed(spec.teacher_seed)
        train(job)
    else:
        (folder / "history.jsonl").touch()
        model.to(device)
    extra = {"source": data.source, "title": task.title}
    metrics = finish_run(folder, job, task, tokenizer, dev, rows.labels, extra)
    first = next(iter(dev))
    with np.load(folder / "predictions.npz") as arrays:
        logits = arrays[f"{first}/logits"]
    return metrics | {"check": check_teacher(task, logits, dev[first].labels, rows.labels)}


def new_student(spec, tokenizer, num_labels: int):
    """A student of the spec's shape with random weights."""
    return build_student(
        spec.student_layers, spec.student_hidden, spec.student_intermediate, spec.student_heads,
        len(tokenizer), num_labels, spec.dropout, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def new_projection(spec, teacher_width: int, pairs) -> Projection:
    """A fresh W of the spec's kind."""
    return Projection(
        spec.student_hidden, teacher_width, len(pairs), spec.projection, spec.projection_bias
    )


def projection_like(spec, state: dict) -> Projection:
    """W rebuilt from its saved state."""
    width, layers = state["maps.0.weight"].shape[0], sum(k.endswith("weight") for k in state)
    projection = new_projection(spec, width, [None] * layers)
    projection.load_state_dict(state)
    return projection


def distil_general(spec, out: Path, folder: Path, device, report) -> dict:
    """Distil the layers on unlabelled text, alpha only, from the teacher as it was pre-trained."""
    tokenizer = load_tokenizer(spec.teacher)
    encoded, facts = unlabelled_rows(spec, tokenizer, out / "cache", report)
    teacher = load_encoder_classifier(spec.teacher, 2)
    check_fits(teacher, tokenizer, encoded, spec)
    pairs = layer_pairs(spec.student_layers, teacher.config.num_hidden_layers, spec.layer_map)
    torch.manual_seed(spec.general_seed)
    student = new_student(spec, tokenizer, 2)
    projection = new_projection(spec, teacher.config.hidden_size, pairs)
    teach, line = open_teacher(
        teacher, encoded, [n for _, n in pairs], spec.representation, device,
        out / "cache" / folder.stem,
        spec.cache_gb if spec.general_epochs > 1 else 0,  # one pass reuses nothing
        spec.precision,
    )  # fmt: skip
    recipe = Recipe(**{**GENERAL.__dict__, "layer_loss": spec.general_loss})
    job = Job(
        student, recipe, spec, encoded, spec.general_epochs, spec.general_batch_size,
        spec.general_lr, spec.general_seed, device, folder,
        teach=teach, pairs=pairs, projection=projection, report=report,
    )  # fmt: skip
    train(job)
    return {"splits": {}, "cache": line} | facts | save_run(folder, job, tokenizer)


def distil_augmented(spec, out: Path, folder: Path, device, report) -> dict:
    """Distil the layers on the task's augmented rows, alpha only, from its fine-tuned teacher.

    The student is that of general distillation; labels are not looked at.
    """
    fine_tuned, how = _fit_teacher(spec, out), spec.augmentation
    data = load_task_data(spec.task, spec.data, spec.train_rows, spec.dev_rows)
    path = out / "cache" / f"augment-{how.key(data.train)}.jsonl"
    rows = augmented_rows(data.train, data.task, how, path, device, report)
    tokenizer = load_tokenizer(spec.teacher)
    encoded = encode(rows, tokenizer, spec.max_length or data.task.max_length)
    torch.manual_seed(spec.general_seed)
    student = new_student(spec, tokenizer, data.task.num_labels)
    recipe = Recipe(**{**GENERAL.__dict__, "layer_loss": spec.general_loss})
    job = Job(
        student, recipe, spec, encoded, spec.augment_epochs, spec.batch_size,
        spec.learning_rate, spec.general_seed, device, folder, report=report,
    )  # fmt: skip
    line = _taught_by(job, fine_tuned, out, f"-{path.stem}")
    start = _start(job, out)
    train(job)
    facts = {"rows": len(rows), "source": f"{data.source} {how.source}", "general": start.id}
    return {"splits": {}, "cache": line} | facts | save_run(folder, job, tokenizer)


def prepare_student(spec, out: Path, folder: Path, device, report):
    """A student of a task with its teacher and its start, as a job that is ready to be trained.

    Returns:
        (job, a function that evaluates and saves what was trained and gives its metrics).
    """
    recipe = get_recipe(spec.recipe)
    fine_tuned = _fit_teacher(spec, out) if recipe.uses_teacher else None
    tokenizer = load_tokenizer(spec.teacher)
    data, rows, dev = _encoded(spec, tokenizer)
    task = data.task
    student = new_student(spec, tokenizer, task.num_labels)
    job = Job(
        student, recipe, spec, rows, spec.epochs or task.epochs, spec.batch_size,
        spec.learning_rate, spec.seed, device, folder,
        regression=task.kind == "regression",
        hard_target=spec.hard_target if recipe.uses_teacher else "one_hot",
        stage1=out / "cache" / spec.stage1_id() if spec.stage1_id() else None, report=report,
    )  # fmt: skip
    if spec.keep == "best":
        job.best = Best(folder / "best.pt", lambda: first_score(job, task, dev))
    extra = {"source": data.source, "title": task.title}
    if fine_tuned:
        extra["cache"] = _taught_by(job, fine_tuned, out)
    start = _start(job, out)
    if start:
        extra[start.spec.kind] = start.id

    def finish() -> dict:
        kept = {} if job.best is None else {"kept_step": job.best.kept["step"]}
        return finish_run(folder, job, task, tokenizer, dev, rows.labels, extra | kept)

    return job, finish


def distil(spec, out: Path, folder: Path, device, report) -> dict:
    """Train one student of a task by its recipe, from its teacher and its start."""
    job, finish = prepare_student(spec, out, folder, device, report)
    train(job)
    return finish()


def _fit_teacher(spec, out: Path):
    """The run that fine-tuned this run's teacher, if it passed its check."""
    from lrc_lib.runs.run import find

    fine_tuned = find(spec.teacher_spec(), out)
    check = fine_tuned.metrics["check"]
    if not check["passed"]:
        raise InputError(
            f"The teacher of {spec.task} ({fine_tuned.id}) is not fit to teach. "
            f"{check['reason']} Give another --set teacher=, more teacher_epochs or more rows."
        )
    return fine_tuned


def _taught_by(job: Job, fine_tuned, out: Path, rows: str = "") -> str:
    """Gives a job its teacher, layer pairs and W; `rows` names other rows than the task's own."""
    spec, recipe, teacher = job.spec, job.recipe, fine_tuned.student()
    job.pairs = layer_pairs(spec.student_layers, teacher.config.num_hidden_layers, spec.layer_map)
    job.teach, line = open_teacher(
        teacher, job.encoded, [n for _, n in job.pairs], spec.representation, job.device,
        out / "cache" / f"{fine_tuned.id}{rows}", spec.cache_gb, spec.precision,
    )  # fmt: skip
    if "asked" in line:
        job.report(0, job.steps_per_epoch * job.epochs, line)
    if recipe.stage1[0] or recipe.stage2[0]:
        job.projection = new_projection(spec, teacher.config.hidden_size, job.pairs)
    return line


def _start(job: Job, out: Path):
    """Gives a job's student and W the weights of the run that it starts from, if there is one."""
    from lrc_lib.runs.run import find

    start = job.spec.start_spec()
    if start is None:
        return None
    start = find(start, out)
    weights = {k: v for k, v in start.student().state_dict().items() if "classifier" not in k}
    missing = job.model.load_state_dict(weights, strict=False).missing_keys
    assert all("classifier" in name for name in missing), missing
    if job.projection is not None:
        job.projection.load_state_dict(start.projection().state_dict())
    return start


TRAINERS = {
    "teacher": fine_tune_teacher,
    "general": distil_general,
    "augmented": distil_augmented,
    "student": distil,
}
