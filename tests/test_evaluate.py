"""Metrics against the libraries and by hand, the bootstrap, and the teacher's check."""

import numpy as np
import pytest

from lrc_lib import evaluate
from lrc_lib.data import get_task
from lrc_lib.evaluate import METRICS, bootstrap, compute_metrics, draw_rows, resampled
from lrc_lib.teacher import check_teacher

RNG = np.random.default_rng(0)


def one_hot(classes, width):
    return np.eye(width)[np.asarray(classes)]


def test_metrics_by_hand():
    labels = np.array([1, 1, 0, 0, 1, 0])
    logits = one_hot([1, 0, 0, 0, 1, 1], 2)  # two of each class right, one of each wrong
    scores = compute_metrics(get_task("cola"), logits, labels)
    assert scores["matthews"] == pytest.approx((2 * 2 - 1 * 1) / 9)
    mrpc = compute_metrics(get_task("mrpc"), logits, labels)
    assert mrpc["f1"] == pytest.approx(2 / 3) and mrpc["accuracy"] == pytest.approx(4 / 6)
    task, truth = get_task("sts-b"), np.array([0.0, 1.0, 2.0, 3.0])
    exact = compute_metrics(task, (truth * 2 + 1)[:, None], truth)
    assert exact["pearson"] == pytest.approx(1) and exact["spearman"] == pytest.approx(1)
    assert compute_metrics(task, np.ones((4, 1)), truth)["pearson"] == 0


def test_the_metrics_that_the_paper_reports_come_first():
    names = ("cola", "mrpc", "qqp", "sts-b", "rte")
    primaries = [get_task(name).primary for name in names]
    assert primaries == ["matthews", "f1", "f1", "pearson", "accuracy"]


def test_the_majority_answer_is_that_of_the_training_rows():
    train, dev = np.array([1, 1, 0]), np.array([1, 0, 0, 0])
    assert evaluate.majority_metrics(get_task("rte"), train, dev)["accuracy"] == 0.25


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 3])
def test_resampled_metrics_equal_those_of_the_libraries(metric, classes):
    if metric in ("pearson", "spearman"):
        labels, predicted = RNG.normal(size=(2, 40))
    elif metric == "f1" and classes == 3:
        pytest.skip("binary F1 only")
    else:
        labels, predicted = RNG.integers(0, classes, (2, 40))
    rows = RNG.integers(0, 40, (30, 40))
    rows[0] = 0  # one row forty times: no variance
    expected = [METRICS[metric](labels[r], predicted[r]) for r in rows]
    assert np.allclose(resampled(metric, labels, predicted, rows), expected, atol=1e-9)


def test_blocks_of_draws_do_not_change_them():
    n = 5000  # three blocks
    values = RNG.random(n)
    value, draws = draw_rows(lambda rows: values[rows].mean(1), n, seed=3)
    rng = np.random.default_rng(3)
    whole = [values[rng.integers(0, n, n)].mean() for _ in draws]
    assert len(draws) == evaluate.DRAWS and np.allclose(draws, whole)
    assert value == pytest.approx(values.mean())


def test_the_bootstrap_covers_a_known_rate():
    task, hits = get_task("rte"), 0
    for seed in range(40):
        labels = RNG.integers(0, 2, 300)
        logits = one_hot(np.where(RNG.random(300) < 0.7, labels, 1 - labels), 2)
        value, low, high = bootstrap(task, logits, labels, draws=200, seed=seed)
        assert low <= value <= high
        hits += low <= 0.7 <= high
    assert hits >= 33  # 95 % nominal; 33 of 40 is far in the tail


def test_the_bootstrap_averages_seeds_and_pairs_systems():
    task, labels = get_task("rte"), np.arange(50) % 2
    a, b = RNG.normal(size=(2, 50, 2))
    assert bootstrap(task, a, labels, other=a) == (0, 0, 0)
    assert bootstrap(task, [a, b], labels, other=[b, a]) == pytest.approx((0, 0, 0))
    scores = [compute_metrics(task, logits, labels)["accuracy"] for logits in (a, b)]
    assert bootstrap(task, [a, b], labels)[0] == pytest.approx(np.mean(scores))
    assert bootstrap(task, a, labels, other=b)[0] == pytest.approx(scores[0] - scores[1])


def test_the_check_passes_a_good_teacher_and_stops_a_guessing_or_misnumbered_one():
    task, labels = get_task("mnli"), RNG.integers(0, 3, 300)
    good = one_hot(labels, 3) + RNG.normal(0, 0.3, (300, 3))
    assert check_teacher(task, good, labels, labels)["passed"]
    guessing = check_teacher(task, RNG.normal(size=(300, 3)), labels, labels)
    assert not guessing["passed"] and "majority" in guessing["reason"]
    shifted = check_teacher(task, one_hot((labels + 1) % 3, 3), labels, labels)
    assert not shifted["passed"] and "another order" in shifted["reason"]
