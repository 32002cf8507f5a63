"""Metrics and their baselines, predictions, the bootstrap over dev rows, latency, layer geometry.

The metrics come from scikit-learn and SciPy. Taught in notebooks/05_ablations and
07_mse_and_angle.
"""

import functools
import time
import warnings

import numpy as np
import torch
from scipy.stats import pearsonr, rankdata, spearmanr, t
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lrc_lib.data.batches import Encoded, by_length, collate
from lrc_lib.data.rows import rank, text_key
from lrc_lib.data.tasks import Task
from lrc_lib.losses import angular_distance, reduce_states

DRAWS = 1000  # of the bootstrap
COUNTS_AT_ONCE = 2_000_000  # that the bootstrap holds in memory as floats
CHANCE = 0.95  # the quantile of a metric under permuted labels that a model has to beat


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


def constant_metrics(task: Task, labels: np.ndarray) -> dict[str, float]:
    """For each of the task's metrics the score of the best of all constant answers.

    Args:
        labels: (n,), of the rows that are scored. Every class is tried as the constant; the
            correlation of a constant is 0.
    """
    answers = range(task.num_labels) if task.kind == "classification" else (0.0,)
    constants = [np.full(len(labels), answer) for answer in answers]
    return {name: max(METRICS[name](labels, c) for c in constants) for name in task.metrics}


def chance_level(task: Task, logits, labels, draws: int = 200) -> float:
    """The 95 % quantile of the primary metric if the answers were given to the rows at random.

    Args:
        logits: (n, C), whose answers are permuted, always in the same ways.
        labels: (n,).
    """
    rng, guesses = np.random.default_rng(0), decide(task, logits)
    scores = [METRICS[task.primary](labels, rng.permutation(guesses)) for _ in range(draws)]
    return float(np.quantile(scores, CHANCE))


def collapse(task: Task, logits, labels) -> str:
    """Why these answers show that nothing was learned; "" if they do not.

    A model has collapsed if a logit is not finite, if it gives the same answer to every row, or if
    its primary metric is not above that of the best constant answer; for F1 and correlations, whose
    constants are low, also if it is not above the `chance_level` of its answers.
    """
    if bad := int((~np.isfinite(logits)).any(-1).sum()):
        return f"gives no finite answer to {bad} of {len(labels)} rows"
    if len(labels) > 1 and np.ptp(decide(task, logits)) == 0:
        return "gives the same answer to every row"
    score = METRICS[task.primary](labels, decide(task, logits))
    constant = constant_metrics(task, labels)[task.primary]
    if score <= constant:
        return (
            f"has {task.primary} {score:.3f}, not above the best constant answer's {constant:.3f}"
        )
    if task.primary != "accuracy" and score <= (chance := chance_level(task, logits, labels)):
        return (
            f"has {task.primary} {score:.3f}, not above {chance:.3f} of its answers in random order"
        )
    return ""


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


def bootstrap(task: Task, logits, labels, other=None, metric="", keys=None, draws=DRAWS):
    """A metric and its 95 % interval over dev rows, by the rule of `combined`.

    Args:
        logits: (n, C), or a list of such arrays, whose metrics are averaged.
        labels: (n,).
        other: the logits of a second system on the same rows, in the same form. The result is then
            the *paired difference*: the metric of `logits` minus the metric of `other`.
        metric: a name in `METRICS`; "" for the task's primary metric.
        keys: see `row_counts`; None numbers the rows.
        draws: how many times the rows are drawn.

    Returns:
        (value, low, high): three floats, as fractions. The interval covers the choice of dev rows
        only, not the choice of a seed.
    """
    name = metric or task.primary
    counts = row_counts(np.arange(len(labels)) if keys is None else keys, draws)

    def mean_metric(systems):
        guesses = [decide(task, x) for x in (systems if isinstance(systems, list) else [systems])]
        scores = [METRICS[name](labels, guess) for guess in guesses]
        sample = [resampled(name, labels, guess, counts) for guess in guesses]
        return np.append(np.mean(sample, axis=0), np.mean(scores))

    both = mean_metric(logits) - (0 if other is None else mean_metric(other))
    error, freedom = combined(both[-1:], both[None, :-1], len(labels))
    half = error * float(t.ppf(0.975, freedom))
    high = both[-1] + half
    return float(both[-1]), float(both[-1] - half), float(min(high, 1) if other is None else high)


def combined(scores: np.ndarray, draws: np.ndarray, n: int):
    """The standard error of a mean over seeds, and its degrees of freedom: the kit's one rule.

    A seed's score varies with the dev rows and with the seed. All seeds answer the same rows, so
    that the rows' part does not shrink with more seeds: it is the covariance of two seeds' scores
    when rows are drawn. What remains differs from seed to seed and shrinks with their number: the
    variance of the scores over the number of seeds. The sum counts nothing twice.

    Args:
        scores: (..., S), one per seed.
        draws: (..., S, D), the same scores on D draws of the dev rows, the same rows for all seeds.
        n: number of dev rows.

    Returns:
        (standard error, degrees of freedom), each (...), for a t quantile. One seed has the rows'
        part only. The degrees of freedom are the harmonic mean of the two parts' own, weighted by
        each part's share of the variance. (Welch and Satterthwaite weight by the squared shares.
        With three seeds that covers 92.4 % at worst, because it takes the estimated shares for
        the true ones; the plain shares cover 94 %, with two seeds 90 %.)
    """
    count = scores.shape[-1]
    rows = draws.mean(-2).var(-1)
    if count == 1:
        return np.sqrt(rows), np.maximum(n - 1.0, 1.0)
    own = draws.var(-1).sum(-1)
    rows = np.maximum(0, np.nan_to_num(count**2 * rows - own)) / (count * (count - 1))
    return of_parts(rows, scores.var(-1, ddof=1) / count, count, n)


def of_parts(rows, seeds, count, n: int):
    """(standard error, degrees of freedom) of `combined`, from the two parts of the variance.

    Args:
        rows, seeds: the variance of the mean that comes from the rows, and from the seeds.
        count: number of seeds, >= 2.
        n: number of dev rows.
    """
    total = np.maximum(rows + seeds, 1e-300)
    freedom = total / np.maximum(seeds / (count - 1) + rows / max(n - 1, 1), 1e-300)
    return np.sqrt(rows + seeds), np.maximum(freedom, 1.0)


def row_keys(rows) -> np.ndarray:
    """(n,) uint64, one key per `Row`: equal for equal texts, whatever their labels are."""
    hashes = (rank(text_key(row.text_a, row.text_b))[:8] for row in rows)
    return np.array([int.from_bytes(digest, "big") for digest in hashes], dtype=np.uint64)


def row_counts(keys, draws: int = DRAWS) -> np.ndarray:
    """How many times each draw of the bootstrap holds each row: (draws, n), Poisson counts.

    The counts of a row follow from its key alone. Two systems, or two dev sets, that share a row
    draw it together, which makes their difference a paired one.

    Args:
        keys: (n,) whole numbers, one per row.
        draws: how many times the rows are drawn.
    """
    return _row_counts(np.asarray(keys, dtype=np.uint64).tobytes(), draws)


@functools.lru_cache(maxsize=4)
def _row_counts(keys: bytes, draws: int) -> np.ndarray:
    rows = np.frombuffer(keys, dtype=np.uint64).tolist()
    counts = np.empty((draws, len(rows)), dtype=np.uint8)
    for number, key in enumerate(rows):
        counts[:, number] = np.random.default_rng(key).poisson(1, draws)
    return counts


def resampled(metric: str, labels, predicted, counts) -> np.ndarray:
    """A metric on many draws of the rows at once.

    Equal to `METRICS[metric]` on rows that are repeated as often as `counts` says, except that
    "spearman" keeps the ranks of the whole.

    Args:
        metric: a name in `METRICS`.
        labels, predicted: (n,).
        counts: (D, n), from `row_counts`.

    Returns:
        (D,).
    """
    blocks = np.array_split(counts, max(1, counts.size // COUNTS_AT_ONCE))
    if metric == "accuracy":
        return np.concatenate([_means(block, labels == predicted) for block in blocks])
    if metric == "f1":
        parts = np.stack([(labels == 1) & (predicted == 1), labels != predicted], axis=1)
        hits, wrong = np.concatenate([_means(block, parts) for block in blocks]).T
        return 2 * hits / np.maximum(2 * hits + wrong, 1e-12)
    if metric == "matthews":  # the correlation of the classes' indicators, summed over the classes
        classes = np.unique([labels, predicted])
        truth, guess = (x[:, None] == classes for x in (labels, predicted))
    else:
        ranks = rankdata if metric == "spearman" else np.asarray
        truth, guess = (ranks(x)[:, None] for x in (labels, predicted))
    truth, guess = (x - x.mean(0, dtype=float) for x in (truth, guess))
    width, products = truth.shape[1], [truth * guess, truth**2, guess**2]
    parts = np.concatenate([truth, guess, *(x.sum(1, keepdims=True) for x in products)], axis=1)
    means = np.concatenate([_means(block, parts) for block in blocks])
    a, b = means[:, :width], means[:, width : 2 * width]
    both, one, other = means[:, 2 * width :].T - [(a * b).sum(1), (a * a).sum(1), (b * b).sum(1)]
    scale = np.sqrt(np.maximum(one * other, 0))
    return np.divide(both, scale, out=np.zeros(len(both)), where=scale > 1e-12)


def _means(counts, values) -> np.ndarray:
    counts = counts.astype(float)
    return ((counts @ values).T / np.maximum(counts.sum(1), 1)).T


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
