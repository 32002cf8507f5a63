"""What a training leaves in its folder: scores on dev, predictions, model, tokenizer and W."""

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from lrc_lib.evaluate import compute_metrics, majority_metrics, predict
from lrc_lib.models import count_parameters, quiet_transformers


def finish_run(folder: Path, job, task, tokenizer, dev: dict, train_labels, extra: dict) -> dict:
    """Evaluate on every dev split, save model, tokenizer, W and predictions; return metrics."""
    metrics = {"primary": task.primary, "splits": {}, "majority": {}, "rows": len(train_labels)}
    metrics |= {"pair": task.pair, "max_length": job.spec.max_length or task.max_length}
    arrays = {}
    for split, encoded in dev.items():
        logits = predict(job.model, encoded, job.device)
        scores = compute_metrics(task, logits, encoded.labels)
        metrics["splits"][split] = {"n": len(encoded), **scores}
        metrics["majority"][split] = majority_metrics(task, train_labels, encoded.labels)
        arrays |= {f"{split}/logits": logits, f"{split}/labels": encoded.labels}
    if task.labels:
        job.model.config.id2label = dict(enumerate(task.labels))
        job.model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    np.savez(folder / "predictions.npz", **arrays)
    return metrics | save_run(folder, job, tokenizer) | extra


def save_run(folder: Path, job, tokenizer) -> dict:
    try:
        with quiet_transformers():
            job.model.cpu().save_pretrained(folder / "student")
            tokenizer.save_pretrained(folder / "student")
    except SafetensorError as error:  # how safetensors says that a disk is full
        raise OSError(f"{error}") from error
    for weights in (folder / "student").glob("*.safetensors"):
        # safetensors lets nobody else read them; a store may be shared, so as umask says
        shutil.copymode(folder / "student" / "config.json", weights)
    if job.projection is not None:
        torch.save(job.projection.cpu().state_dict(), folder / "projection.pt")
    return {
        "steps": job.steps_per_epoch * job.epochs,
        "epochs": job.epochs,
        "parameters": count_parameters(job.model),
    }


def first_score(job, task, dev: dict) -> float:
    """The primary metric on the first dev split of the model as it stands."""
    encoded = next(iter(dev.values()))
    return compute_metrics(task, predict(job.model, encoded, job.device), encoded.labels)[
        task.primary
    ]
