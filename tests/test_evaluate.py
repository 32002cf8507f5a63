import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from lrc_lib.data import get_task
from lrc_lib.evaluate import METRICS, bootstrap, compute_metrics, majority_metrics, resampled
from lrc_lib.teacher import check_teacher


def one_hot(classes, width):
    return np.eye(width)[np.asarray(classes)]


def test_metrics_by_hand():
    cola = get_task("cola")
    labels = np.array([1, 1, 0, 0, 1, 0])
    predicted = np.array([1, 0, 0, 0, 1, 1])
    scores = compute_metrics(cola, one_hot(predicted, 2), labels)
    assert scores["matthews"] == pytest.approx((2 * 2 - 1 * 1) / 9)  # tp 2, tn 2, fp 1, fn 1
    assert scores["matthews"] == pytest.approx(matthews_corrcoef(labels, predicted))
    mrpc = compute_metrics(get_task("mrpc"), one_hot(predicted, 2), labels)
    assert mrpc["f1"] == pytest.approx(2 / 3) and mrpc["accuracy"] == pytest.approx(4 / 6)


def test_regression_metrics():
    task = get_task("sts-b")
    labels = np.array([0.0, 1.0, 2.0, 3.0])
    exact = compute_metrics(task, (labels * 2 + 1)[:, None], labels)
    assert exact["pearson"] == pytest.approx(1) and exact["spearman"] == pytest.approx(1)
    assert compute_metrics(task, np.ones((4, 1)), labels)["pearson"] == 0


def test_metrics_the_paper_reports_come_first():
    primaries = {name: get_task(name).primary for name in ("cola", "mrpc", "qqp", "sts-b", "rte")}
    assert primaries["cola"] == "matthews" and primaries["rte"] == "accuracy"
    assert primaries["mrpc"] == primaries["qqp"] == "f1"
    assert primaries["sts-b"] in ("pearson", "spearman")


def test_bootstrap_covers_a_known_rate():
    rng = np.random.default_rng(0)
    task = get_task("rte")
    hits = 0
    for seed in range(40):
        labels = rng.integers(0, 2, 300)
        right = rng.random(300) < 0.7
        logits = one_hot(np.where(right, labels, 1 - labels), 2)
        value, low, high = bootstrap(task, logits, labels, draws=200, seed=seed)
        assert low <= value <= high
        hits += low <= 0.7 <= high
    assert hits >= 33  # 95 % nominal; 33 of 40 is far in the tail


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 3])
def test_resampled_metrics_equal_those_of_the_libraries(metric, classes):
    rng = np.random.default_rng(3)
    if metric in ("pearson", "spearman"):
        labels, predicted = rng.normal(size=(2, 40))
    elif metric == "f1" and classes == 3:
        pytest.skip("binary F1 only")
    else:
        labels, predicted = rng.integers(0, classes, (2, 40))
    rows = rng.integers(0, 40, (30, 40))
    rows[0] = 0  # one row forty times: no variance
    expected = [METRICS[metric](labels[r], predicted[r]) for r in rows]
    assert np.allclose(resampled(metric, labels, predicted, rows), expected, atol=1e-9)


def test_paired_difference_of_a_system_with_itself_is_zero():
    task = get_task("rte")
    logits, labels = np.random.default_rng(1).normal(size=(50, 2)), np.arange(50) % 2
    assert bootstrap(task, logits, labels, other=logits) == (0, 0, 0)


def test_majority():
    task = get_task("rte")
    train, dev = np.array([1, 1, 0]), np.array([1, 0, 0, 0])
    assert majority_metrics(task, train, dev)["accuracy"] == 0.25


def test_check_passes_a_good_teacher_and_stops_a_guessing_one():
    task, rng = get_task("mnli"), np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    good = one_hot(labels, 3) + rng.normal(0, 0.3, (300, 3))
    assert check_teacher(task, good, labels, labels)["passed"]
    guessing = check_teacher(task, rng.normal(size=(300, 3)), labels, labels)
    assert not guessing["passed"] and "majority" in guessing["reason"]


def test_check_notices_another_label_order():
    task, rng = get_task("mnli"), np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    shifted = one_hot((labels + 1) % 3, 3)
    report = check_teacher(task, shifted, labels, labels)
    assert not report["passed"] and "another order" in report["reason"]
