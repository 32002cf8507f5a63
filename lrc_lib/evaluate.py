"""Metrics, predictions, intervals, latency, and the geometry of single examples.

Metrics come from scikit-learn and scipy. Taught in notebooks/05_ablations and 07_mse_and_angle.
"""

import time
import warnings

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lrc_lib.data.batches import Encoded, by_length, collate
from lrc_lib.data.tasks import Task
from lrc_lib.losses import angular_distance, reduce_states


def _correlation(function):
    def metric(truth, predicted):
        if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
            return 0.0  # a constant correlates with nothing
        return float(function(truth, predicted)[0])

    return metric


def _f1(truth, predicted):
    return float(f1_score(truth, predicted, zero_division=0))


def _matthews(truth, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single class in truth or prediction: 0 by definition
        return float(matthews_corrcoef(truth, predicted))


METRICS = {
    "accuracy": lambda truth, predicted: float(accuracy_score(truth, predicted)),
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _correlation(pearsonr),
    "spearman": _correlation(spearmanr),
}


def decide(task: Task, logits: np.ndarray) -> np.ndarray:
    """Predictions from logits (n, C): the class of the largest, or the score (n,) itself."""
    return logits[:, 0] if task.kind == "regression" else logits.argmax(-1)


def compute_metrics(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The task's metrics as fractions (a paper's 84.3 is 0.843 here).

    Args:
        logits: (n, C), C = 1 for a regression.
        labels: (n,).
    """
    predicted = decide(task, logits)
    return {name: METRICS[name](labels, predicted) for name in task.metrics}


def majority_metrics(task: Task, train_labels: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The same metrics for the best constant answer of the training set."""
    if task.kind == "regression":
        constant = np.full((len(labels), 1), train_labels.mean())
    else:
        counts = np.bincount(train_labels, minlength=task.num_labels)
        constant = np.tile(counts, (len(labels), 1))
    return compute_metrics(task, constant, labels)


@torch.no_grad()
def predict(model, encoded: Encoded, device="cpu", batch_size: int = 64) -> np.ndarray:
    """Logits (n, C), float32, in the rows' own order; the model is left in eval mode."""
    model.eval()
    out = None
    for indices in by_length(encoded, batch_size):
        batch = collate(encoded, indices, device)
        batch.pop("labels")
        logits = model(**batch).logits.float().cpu().numpy()
        if out is None:
            out = np.zeros((len(encoded), logits.shape[1]), dtype=np.float32)
        out[indices] = logits
    return out


def bootstrap(
    task: Task, logits, labels, other=None, metric: str = "", draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """A metric and its 95 % percentile interval over resampled dev rows.

    Args:
        logits: (n, C), or a list of such arrays, one a seed: their metrics are averaged in each
            draw, so the interval is of the mean over these seeds and covers the choice of dev
            rows, not of further seeds.
        labels: (n,).
        other: logits of a second system on the same rows; the result is then of the *paired
            difference* logits minus other.
        metric: the task's primary one if empty.

    Returns:
        (value, low, high).
    """
    name = metric or task.primary
    first, second = (
        [decide(task, x) for x in (side if isinstance(side, list) else [side])]
        for side in (logits, [] if other is None else other)
    )
    n = len(labels)
    rows = np.random.default_rng(seed).integers(0, n, (draws, n))
    rows = np.concatenate([np.arange(n)[None], rows])  # the first "draw" is the dev set itself
    values = np.mean([resampled(name, labels, p, rows) for p in first], axis=0)
    if second:
        values = values - np.mean([resampled(name, labels, p, rows) for p in second], axis=0)
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)


def resampled(metric: str, labels, predicted, rows) -> np.ndarray:
    """A metric for many choices of rows at once; equal to `METRICS[metric]` on each.

    Args:
        metric: a name in `METRICS`.
        labels, predicted: (n,).
        rows: (draws, n) indices.

    Returns:
        (draws,).
    """
    truth, guess = labels[rows], predicted[rows]
    if metric == "accuracy":
        return (truth == guess).mean(1)
    if metric == "f1":
        wrong = (truth != guess).sum(1)
        hits = ((truth == 1) & (guess == 1)).sum(1)
        return 2 * hits / np.maximum(2 * hits + wrong, 1)
    if metric == "pearson" or (metric == "matthews" and max(labels.max(), predicted.max()) <= 1):
        # For two classes Matthews' coefficient is Pearson's of the 0/1 vectors.
        truth = truth - truth.mean(1, keepdims=True, dtype=np.float64)
        guess = guess - guess.mean(1, keepdims=True, dtype=np.float64)
        scale = np.sqrt((truth**2).sum(1) * (guess**2).sum(1))
        return np.where(scale > 0, (truth * guess).sum(1) / np.where(scale > 0, scale, 1), 0.0)
    return np.array([METRICS[metric](t, g) for t, g in zip(truth, guess, strict=True)])


@torch.no_grad()
def latency(model, encoded: Encoded, rows: int = 64, batch_size: int = 16, repeats: int = 3):
    """Seconds for one pass over the first `rows` rows, the best of `repeats` after a warm-up."""
    model.eval()
    device = next(model.parameters()).device
    batches = [
        collate(encoded, range(i, min(i + batch_size, rows, len(encoded))), device)
        for i in range(0, min(rows, len(encoded)), batch_size)
    ]
    for batch in batches:
        batch.pop("labels")
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for batch in batches:
            model(**batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


@torch.no_grad()
def layer_geometry(
    student, projection, teacher, pairs, encoded: Encoded, representation="flatten", device="cpu"
) -> dict[str, np.ndarray]:
    """How far each example's student layers lie from the teacher's, in both senses. (Eqs. 2-3)

    Args:
        student, teacher: models with `output_hidden_states`.
        projection: the trained W.
        pairs: 1-based (student layer, teacher layer).

    Returns:
        "mse" and "angle", each (n,): the mean over the mapped layers of the squared difference a
        number, and of g(h^S W, h^T), for each example. Padding does not count.

    Taught in: notebooks/07_mse_and_angle.
    """
    student.eval(), teacher.eval()
    out = {name: np.zeros(len(encoded), dtype=np.float64) for name in ("mse", "angle")}
    for indices in by_length(encoded, 32):
        batch = collate(encoded, indices, device)
        batch.pop("labels")
        mask = batch["attention_mask"]
        ours = student(**batch, output_hidden_states=True).hidden_states
        theirs = teacher(**batch, output_hidden_states=True).hidden_states
        for layer, (m, n) in enumerate(pairs):
            h, kept = reduce_states(ours[m], mask, representation)
            t, _ = reduce_states(theirs[n], mask, representation)
            weights = kept.unsqueeze(-1).to(t.dtype)
            h = projection(h, layer) * weights
            t = t * weights
            squared = (h - t).square().sum((1, 2)) / (weights.sum((1, 2)) * t.shape[-1])
            angle = angular_distance(h.flatten(1), t.flatten(1))
            out["mse"][indices] += squared.cpu().double().numpy() / len(pairs)
            out["angle"][indices] += angle.cpu().double().numpy() / len(pairs)
    return out
