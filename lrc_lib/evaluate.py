"""Metrics and their baselines, predictions, the bootstrap over dev rows, latency, layer geometry.

The metrics come from scikit-learn and SciPy. Taught in notebooks/05_ablations and
07_mse_and_angle.
"""

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lrc_lib.data.batches import Encoded, by_length, collate
from lrc_lib.data.tasks import Task
from lrc_lib.losses import angular_distance, reduce_states

DRAWS = 1000  # of the bootstrap
ROWS_AT_ONCE = 2_000_000  # row numbers that the bootstrap holds in memory


def _correlation(function):
    def metric(truth, predicted):
        if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
            return 0.0  # a constant has no correlation
        return float(function(truth, predicted)[0])

    return metric


def _matthews(truth, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0 by definition if there is only one class
        return float(matthews_corrcoef(truth, predicted))


# The metrics of tasks: (truth (n,), predicted (n,)) -> a fraction.
METRICS = {
    "accuracy": lambda truth, predicted: float(accuracy_score(truth, predicted)),
    "f1": lambda truth, predicted: float(f1_score(truth, predicted, zero_division=0)),
    "matthews": _matthews,
    "pearson": _correlation(pearsonr),
    "spearman": _correlation(spearmanr),
}


def decide(task: Task, logits: np.ndarray) -> np.ndarray:
    """Predictions (n,) from logits (n, C): the largest logit's class, or the regression's score."""
    return logits[:, 0] if task.kind == "regression" else logits.argmax(-1)


def compute_metrics(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The task's metrics {name: fraction} (the paper's 84.3 is 0.843 here).

    Args:
        logits: (n, C); C = 1 for a regression.
        labels: (n,).
    """
    predicted = decide(task, logits)
    return {name: METRICS[name](labels, predicted) for name in task.metrics}


def majority_metrics(task: Task, train_labels: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The task's metrics for the best constant answer, the baseline that a model has to beat.

    Args:
        train_labels: labels of the training rows; their most frequent class, or their mean for a
            regression, is the constant.
        labels: (n,), of the dev rows.
    """
    if task.kind == "regression":
        constant = np.full((len(labels), 1), train_labels.mean())
    else:
        counts = np.bincount(train_labels, minlength=task.num_labels)
        constant = np.tile(counts, (len(labels), 1))
    return compute_metrics(task, constant, labels)


def _inputs(encoded: Encoded, rows, device) -> dict:
    batch = collate(encoded, rows, device)
    return {name: value for name, value in batch.items() if name != "labels"}


@torch.no_grad()
def predict(model, encoded: Encoded, device="cpu", batch_size: int = 64) -> np.ndarray:
    """Logits (n, C), float32, in the order of the rows. The model stays in eval mode."""
    model.eval()
    batches = list(by_length(encoded, batch_size))
    logits = [model(**_inputs(encoded, rows, device)).logits.float().cpu() for rows in batches]
    return torch.cat(logits).numpy()[np.argsort(np.concatenate(batches))]


def bootstrap(task: Task, logits, labels, other=None, metric="", draws=DRAWS, seed=0):
    """A metric and its 95 % percentile interval over resampled dev rows.

    Args:
        logits: (n, C), or a list of such arrays, one per seed. The metrics of a list are averaged
            in each draw: the interval is of the mean over these seeds, and covers the choice of
            dev rows but not the choice of seeds.
        labels: (n,).
        other: the logits of a second system on the same rows, in the same form. The result is then
            the *paired difference*: the metric of `logits` minus the metric of `other`.
        metric: a name in `METRICS`; "" for the task's primary metric.
        draws: how many times the rows are drawn.
        seed: of the random draws.

    Returns:
        (value, low, high): three floats, as fractions.
    """
    name = metric or task.primary

    def mean_metric(systems, rows):
        systems = systems if isinstance(systems, list) else [systems]
        return np.mean([resampled(name, labels, decide(task, x), rows) for x in systems], axis=0)

    def score(rows):
        value = mean_metric(logits, rows)
        return value if other is None else value - mean_metric(other, rows)

    value, sample = draw_rows(score, len(labels), draws, seed)
    low, high = np.quantile(sample, [0.025, 0.975])
    return value, float(low), float(high)


def draw_rows(statistic: Callable, n: int, draws: int = DRAWS, seed: int = 0):
    """A statistic of n rows, and of as many rows drawn from them with repetition.

    This is the one bootstrap of the library. Equal `n`, `draws` and `seed` draw equal rows, so
    that two systems on the same rows can be compared draw by draw.

    Args:
        statistic: maps row numbers (k, n) to values (k,). It is called with blocks of draws, to
            bound the memory.
        n: number of rows.
        draws: how many times n rows are drawn.
        seed: of the random draws.

    Returns:
        The statistic of the rows themselves, and its values (draws,) on the drawn rows.
    """
    rng = np.random.default_rng(seed)
    blocks = np.array_split(range(draws), max(1, draws * n // ROWS_AT_ONCE))
    values = [statistic(rng.integers(0, n, (len(block), n))) for block in blocks]
    return float(statistic(np.arange(n)[None])[0]), np.concatenate(values)


def resampled(metric: str, labels, predicted, rows) -> np.ndarray:
    """A metric on many choices of rows at once; equal to `METRICS[metric]` on each of them.

    Args:
        metric: a name in `METRICS`.
        labels, predicted: (n,).
        rows: row numbers (draws, n).

    Returns:
        (draws,).
    """
    truth, guess = labels[rows], predicted[rows]
    if metric == "accuracy":
        return (truth == guess).mean(1)
    if metric == "f1":
        hits = ((truth == 1) & (guess == 1)).sum(1)
        return 2 * hits / np.maximum(2 * hits + (truth != guess).sum(1), 1)
    if metric == "pearson" or (metric == "matthews" and max(labels.max(), predicted.max()) <= 1):
        # For two classes, Matthews' coefficient is Pearson's of the 0/1 vectors.
        truth = truth - truth.mean(1, keepdims=True, dtype=np.float64)
        guess = guess - guess.mean(1, keepdims=True, dtype=np.float64)
        scale = np.sqrt((truth**2).sum(1) * (guess**2).sum(1))
        return np.where(scale > 0, (truth * guess).sum(1) / np.where(scale > 0, scale, 1), 0.0)
    return np.array([METRICS[metric](t, g) for t, g in zip(truth, guess, strict=True)])


@torch.no_grad()
def latency(model, encoded: Encoded, rows: int = 64, batch_size: int = 16, repeats: int = 3):
    """Seconds for one pass over the first `rows` rows: the best of `repeats`, after a warm-up."""
    model.eval()
    device, chosen = next(model.parameters()).device, range(min(rows, len(encoded)))
    batches = [_inputs(encoded, chosen[i : i + batch_size], device) for i in chosen[::batch_size]]

    def seconds():
        start = time.perf_counter()
        for batch in batches:
            model(**batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds()
    return min(seconds() for _ in range(repeats))


@torch.no_grad()
def layer_geometry(
    student, projection, teacher, pairs, encoded: Encoded, representation="flatten", device="cpu"
) -> dict[str, np.ndarray]:
    """How far each example's student layers are from the teacher's: MSE and angle (Eqs. 2-3).

    Args:
        student, teacher: transformers models.
        projection: the trained W.
        pairs: 1-based (student layer, teacher layer).
        representation: what a layer's output is as a vector, see `lrc_lib.losses.reduce_states`.

    Returns:
        "mse" and "angle", each (n,): means over the mapped layers, per example. "mse" is the mean
        squared difference of two coordinates of h^S W and h^T, "angle" is g(h^S W, h^T) in [0, 2].
        Padding does not count.

    Taught in: notebooks/07_mse_and_angle.
    """
    student.eval()
    teacher.eval()
    out = {name: np.zeros(len(encoded)) for name in ("mse", "angle")}
    for rows in by_length(encoded, 32):
        batch = _inputs(encoded, rows, device)
        mask = batch["attention_mask"]
        ours = student(**batch, output_hidden_states=True).hidden_states
        theirs = teacher(**batch, output_hidden_states=True).hidden_states
        for layer, (m, n) in enumerate(pairs):
            h, kept = reduce_states(ours[m], mask, representation)
            t, _ = reduce_states(theirs[n], mask, representation)
            weights = kept.unsqueeze(-1).to(t.dtype)
            h, t = projection(h, layer) * weights, t * weights
            squared = (h - t).square().sum((1, 2)) / (weights.sum((1, 2)) * t.shape[-1])
            angle = angular_distance(h.flatten(1), t.flatten(1))
            out["mse"][rows] += squared.cpu().double().numpy() / len(pairs)
            out["angle"][rows] += angle.cpu().double().numpy() / len(pairs)
    return out
