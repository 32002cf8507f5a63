"""Metrics against the libraries and by hand, the bootstrap, and the teacher's check."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import t

from lrc_lib import evaluate
from lrc_lib.data import get_task
from lrc_lib.data.rows import Row
from lrc_lib.evaluate import METRICS, bootstrap, combined, compute_metrics, resampled, row_counts
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


@pytest.mark.parametrize(
    "name, labels, expected",
    [
        ("rte", [1, 0, 0, 0], {"accuracy": 0.75}),  # whatever the training rows were
        ("mrpc", [1, 0, 0, 0], {"f1": 0.4, "accuracy": 0.75}),  # two different constants
        ("cola", [1, 0, 0, 0], {"matthews": 0.0}),
        ("sts-b", [1.0, 2.0, 3.0], {"pearson": 0.0, "spearman": 0.0}),
    ],
)
def test_the_best_constant_answer_is_the_best_of_all_for_each_metric(name, labels, expected):
    best = evaluate.constant_metrics(get_task(name), np.array(labels))
    assert {metric: best[metric] for metric in expected} == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 3])
def test_resampled_metrics_equal_those_of_the_libraries(metric, classes):
    if metric in ("pearson", "spearman"):
        labels, predicted = RNG.normal(size=(2, 40))
    elif metric == "f1" and classes == 3:
        pytest.skip("binary F1 only")
    else:
        labels, predicted = RNG.integers(0, classes, (2, 40))
    counts = row_counts(range(40), 30)
    counts[0] = 40 * (np.arange(40) == 3)  # one row forty times: no variance
    rows = [np.repeat(np.arange(40), count) for count in counts]
    expected = [METRICS[metric](labels[r], predicted[r]) for r in rows]
    loose = 0.1 if metric == "spearman" else 1e-9  # it keeps the ranks of the whole
    assert np.allclose(resampled(metric, labels, predicted, counts), expected, atol=loose)


def test_blocks_of_draws_do_not_change_them(monkeypatch):
    labels, predicted = RNG.integers(0, 2, (2, 300))
    whole = resampled("f1", labels, predicted, row_counts(range(300)))
    monkeypatch.setattr(evaluate, "COUNTS_AT_ONCE", 70_000)
    assert np.array_equal(whole, resampled("f1", labels, predicted, row_counts(range(300))))


def test_a_row_is_drawn_alike_wherever_it_is_and_rows_of_equal_texts_have_one_key():
    first, second = row_counts([5, 6, 2**64 - 1]), row_counts([2**64 - 1, 7, 5])
    assert np.array_equal(first[:, [0, 2]], second[:, [2, 0]])
    assert not np.array_equal(first[:, 1], second[:, 1])
    assert first.mean() == pytest.approx(1, abs=0.06) and first.var() == pytest.approx(1, abs=0.1)
    rows = [Row("A film!", None, 1), Row("a film", None, 0.3), Row("a film", "b", 1)]
    same, again, other = evaluate.row_keys(rows)
    assert same == again != other


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("rows, interaction", [(0, 0), (0.15, 0), (0.3, 0), (0.5, 0.5), (1, 1)])
def test_nominal_95_percent_intervals_cover_at_least_93(seeds, rows, interaction):
    """The true mean is 0; the seeds' own sd is 1, the dev rows' and the interaction's are given."""
    rng, repeats = np.random.default_rng(seeds), 8000

    def noise(*shape):
        return rows * rng.normal(size=(shape[0], 1, *shape[2:])) + interaction * rng.normal(
            size=shape
        )

    scores = noise(repeats, seeds) + rng.normal(size=(repeats, seeds))
    error, freedom = combined(scores, noise(repeats, seeds, 50), 1000)
    covered = np.abs(scores.mean(1)) <= t.ppf(0.975, freedom) * error
    assert 0.935 <= covered.mean() <= 0.98  # 93 % with three standard errors of the simulation


def test_a_part_that_all_seeds_share_does_not_shrink_with_their_number():
    draws = RNG.normal(size=400)
    error, freedom = combined(np.zeros(4), np.stack([draws] * 4), 100)
    assert (error, freedom) == pytest.approx((draws.std(), 99))  # no seed differs: rows only
    error, freedom = combined(np.array([1.0, 2, 3]), np.zeros((3, 9)), 100)
    assert (error, freedom) == pytest.approx((1 / 3**0.5, 2))  # no noise of rows: Student's
    assert combined(np.zeros(2), np.zeros((2, 9)), 1) == (0, 1)


def test_one_seed_has_the_interval_of_its_rows():
    task, labels = get_task("rte"), np.arange(400) % 2
    logits = one_hot(np.where(np.arange(400) < 300, labels, 1 - labels), 2)  # 75 % right
    value, low, high = bootstrap(task, logits, labels)
    half = t.ppf(0.975, 399) * (0.75 * 0.25 / 400) ** 0.5
    assert value == 0.75 and (value - low, high - value) == pytest.approx((half, half), rel=0.1)
    assert bootstrap(task, one_hot(labels, 2), labels) == (1, 1, 1)
    a, b = RNG.normal(size=(2, 400, 2))
    assert bootstrap(task, a, labels, other=a) == (0, 0, 0)
    assert bootstrap(task, [a, b], labels, other=[b, a]) == pytest.approx((0, 0, 0))
    scores = [compute_metrics(task, logits, labels)["accuracy"] for logits in (a, b)]
    assert bootstrap(task, [a, b], labels)[0] == pytest.approx(np.mean(scores))
    assert bootstrap(task, a, labels, other=b)[0] == pytest.approx(scores[0] - scores[1])


def test_a_collapsed_model_is_recognised():
    task, labels = get_task("rte"), np.arange(40) % 2
    assert evaluate.collapse(task, one_hot(labels, 2), labels) == ""
    broken = one_hot(labels, 2)
    broken[3] = np.nan
    assert "no finite answer to 1 of 40" in evaluate.collapse(task, broken, labels)
    assert "the same answer" in evaluate.collapse(task, one_hot(0 * labels, 2), labels)
    assert "accuracy 0.000, not above" in evaluate.collapse(task, one_hot(1 - labels, 2), labels)
    truth = np.linspace(-1, 1, 40)
    noise = np.abs(truth) - np.abs(truth).mean()  # uncorrelated with the truth
    for mix, why in ((0.05, "of its answers in random order"), (2.0, "")):
        guesses = (noise + mix * truth)[:, None]
        assert why in (found := evaluate.collapse(get_task("sts-b"), guesses, truth))
        assert bool(found) == bool(why)


def test_the_check_passes_a_good_teacher_and_stops_a_guessing_or_misnumbered_one():
    task, labels = get_task("mnli"), RNG.integers(0, 3, 300)
    good = one_hot(labels, 3) + RNG.normal(0, 0.3, (300, 3))
    assert check_teacher(task, good, labels)["passed"]
    guessing = check_teacher(task, np.random.default_rng(1).normal(size=(300, 3)), labels)
    assert not guessing["passed"] and "best constant answer" in guessing["reason"]
    shifted = check_teacher(task, one_hot((labels + 1) % 3, 3), labels)
    assert not shifted["passed"] and "another order" in shifted["reason"]
    one, two, three = task.labels
    assert f"if its outputs were {three}, {one}, {two}." in shifted["reason"]
    good[7, 1] = np.inf
    assert "no finite answer to 1 of 300 rows" in check_teacher(task, good, labels)["reason"]


def test_any_number_of_classes_is_looked_through_for_their_order():
    names = tuple("abcdefgh")
    task = dataclasses.replace(get_task("mnli"), labels=names)
    labels, order = RNG.integers(0, 8, 400), np.array([3, 0, 1, 2, 4, 5, 7, 6])
    assert check_teacher(task, one_hot(labels, 8), labels)["passed"]
    found = check_teacher(task, one_hot(order[labels], 8), labels)
    assert not found["passed"] and "outputs were b, c, d, a, e, f, h, g." in found["reason"]


def test_a_regression_on_another_scale_may_not_teach():
    task, labels = get_task("sts-b"), RNG.uniform(0, 5, 300)
    good = labels[:, None] + RNG.normal(0, 0.5, (300, 1))
    assert check_teacher(task, good, labels)["passed"]
    for other in (good / 5, good + 4, -good):
        found = check_teacher(task, other, labels)
        assert not found["passed"] and "mean squared error" in found["reason"]


@pytest.mark.parametrize("task", ["qqp", "mrpc", "cola", "sts-b", "rte"])
@pytest.mark.parametrize("share", [0.1, 0.37, 0.9])
def test_neither_guesses_nor_a_constant_may_teach(task, share):
    task = get_task(task)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        labels, logits = (rng.random(400) < share).astype(int), rng.normal(size=(400, 2))
        if task.kind == "regression":
            labels, logits = rng.normal(size=400), logits[:, :1]
        for answers in (logits, 0 * logits + 1, 0 * logits + [1, 0][: logits.shape[1]]):
            assert not check_teacher(task, answers, labels)["passed"], seed
