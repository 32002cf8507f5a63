"""Estimates and their paired intervals, verdicts, AUC, ratios, and what a choice adds."""

import itertools
import zlib

import numpy as np
import pytest
from fakes import RNG, Fake, fake, labels_of
from scipy.stats import t

from lrc_lib import evaluate
from lrc_lib.data.tasks import TASKS
from lrc_lib.results import statistics
from lrc_lib.results.statistics import Estimate, Interval, auc, cases, geometric_mean, inflation

REVIEWS = TASKS["reviews"]


def of(*results, task=REVIEWS):
    return statistics.estimate(results, task, task.dev_splits[0])


@pytest.mark.parametrize("name", ["reviews", "cola", "mrpc", "sts-b", "nli"])
def test_intervals_agree_with_a_plain_loop(name, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 100)  # the loop is slow
    task = TASKS[name]
    labels = labels_of(task, 90)
    first, second = (fake(task, labels, skill) for skill in (1.5, 0.5))
    one, both = of(first, task=task), of(first, task=task) - of(second, task=task)
    rng = np.random.default_rng(zlib.crc32(f"{name}/{task.dev_splits[0]}".encode()))
    metric, draws = evaluate.METRICS[task.primary], []
    for rows in [np.arange(90), *(rng.integers(0, 90, 90) for _ in range(100))]:
        guesses = [evaluate.decide(task, r.dev["logits"].astype(float)) for r in (first, second)]
        a, b = (100 * metric(labels[rows], guess[rows]) for guess in guesses)
        draws.append((a, a - b))
    for got, loop in zip((one, both), np.transpose(draws), strict=True):
        wanted = (loop[0], *np.quantile(loop[1:], [0.025, 0.975]))
        np.testing.assert_allclose((got.value, got.low, got.high), wanted, atol=1e-9)
    assert (both.n, both.seeds) == (90, 1)


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    labels = labels_of(REVIEWS, 400)
    first = fake(REVIEWS, labels, 1.0)
    logits = first.dev["logits"].copy()
    logits[:10] *= -1  # the other system differs on ten rows only
    a, b = of(first), of(Fake("b", logits, labels))
    assert (a - b).draws.std() < 0.5 * np.hypot(a.draws.std(), b.draws.std())


def test_estimates_on_other_rows_are_neither_subtracted_nor_divided():
    a, b = (of(fake(REVIEWS, labels_of(REVIEWS, 50), 1)) for _ in range(2))
    for combine in (Estimate.__sub__, Estimate.__truediv__):
        with pytest.raises(ValueError, match="not the same dev rows"):
            combine(a, b)


def test_seeds_widen_the_interval_only_where_they_differ():
    labels = labels_of(REVIEWS, 300)
    good, bad = (fake(REVIEWS, labels, skill, f"s{skill}") for skill in (4, 0))
    same, mixed, alone = of(good, good), of(good, bad), of(good)
    assert (same.low, same.high) == (alone.low, alone.high)
    assert mixed.value == pytest.approx((alone.value + of(bad).value) / 2)
    assert mixed.draws[0].std() > 3 * mixed.draws[1].std()
    assert mixed.runs == ("s4", "s0") and mixed.basis() == "n = 300, 2 seeds"


def test_mean_and_ratio():
    labels = labels_of(REVIEWS, 80)
    a, b = (of(fake(REVIEWS, labels, skill)) for skill in (2, 1))
    mean = statistics.mean_of([a, b])
    assert mean.value == pytest.approx((a.value + b.value) / 2)
    assert mean.basis() == "n = 160, 1 seed"
    assert (a / b).value == pytest.approx(a.value / b.value)
    assert (a / a).low == (a / a).high == 1.0


def test_text():
    draws = np.linspace(0.0, 3.0, 1000)
    shown = Estimate(1.23, np.stack([draws, draws]), (), 10).text(1, "+", " points")
    assert shown == "+1.2 points (+0.1 to +2.9)"
    assert Interval(2.0, np.nan, np.nan).text(2) == "2.00 (too few for an interval)"


@pytest.mark.parametrize(
    "span, at_least, answer",
    [
        ((2, 1, 3), 0, "reproduced"),
        ((-2, -3, -1), 0, "not reproduced"),
        ((1, -1, 3), 0, "not distinguishable"),
        ((0, 0, 0), 0, "not distinguishable"),  # the same answers are no gain
        ((99, 98, 100), 97.4, "reproduced"),
        ((97.4, 97.4, 97.4), 97.4, "reproduced"),  # a count has no interval
        ((97, 95, 99), 97.4, "not distinguishable"),
        ((90, 85, 95), 97.4, "not reproduced"),
        ((np.nan, np.nan, np.nan), 0, "not distinguishable"),
        (None, 0, "not run"),
        (None, 97.4, "not run"),
    ],
)
def test_verdict(span, at_least, answer):
    assert statistics.verdict(span and Interval(*span), at_least) == answer
    assert answer in statistics.VERDICTS


def test_auc_is_the_share_of_pairs_won():
    score = RNG.integers(0, 8, 60) + 0.0  # ties
    event = RNG.random(60) < 0.4
    wins = [(s > r) + (s == r) / 2 for s, r in itertools.product(score[event], score[~event])]
    found = auc(score, event)
    assert found.value == pytest.approx(np.mean(wins))
    assert found.low < found.value < found.high
    assert auc(-score, event).value == pytest.approx(1 - found.value)
    assert (found - found).high == 0.0
    for one_kind in (np.zeros(60, bool), np.ones(60, bool)):
        found = auc(score, one_kind)
        assert np.isnan([found.value, found.low, found.high]).all()


def test_a_geometric_mean_has_the_t_interval_of_the_logarithms():
    logs = np.array([0.1, 0.3, 0.2])
    low, high = t.interval(0.95, 2, loc=0.2, scale=0.1 / 3**0.5)
    assert geometric_mean(np.exp(logs)) == pytest.approx(np.exp([0.2, low, high]))
    one = geometric_mean([2.0])
    assert one.value == 2 and np.isnan([one.low, one.high]).all()


def test_a_ratio_of_spreads_draws_the_same_blocks_from_both():
    noise = RNG.normal(size=60)
    paired = statistics.spread_ratio(2 * noise, noise, 5)
    assert paired == pytest.approx((2, 2, 2))  # what both share is gone
    value, low, high = statistics.spread_ratio(2 * RNG.normal(size=60), noise, 5)
    assert low < value < high and low < 2 < high
    few = statistics.spread_ratio(2 * noise[:19], noise[:19], 5)  # three blocks
    assert few.value == pytest.approx(2) and np.isnan([few.low, few.high]).all()


def test_inflation_of_independent_candidates_is_the_expected_maximum():
    three = [5 + 2 * RNG.normal(size=40_000) for _ in range(3)]
    assert inflation(three) == pytest.approx(2 * 0.846, abs=0.03)  # of 3 standard normal numbers
    assert inflation([three[0]] * 3) == pytest.approx(0)  # the same answers: nothing to gain
    assert inflation([three[0], three[0] + 7]) == pytest.approx(0)  # a true lead is not luck


def test_cases_follow_their_rule():
    by = np.array([1.0, 5.0, 3.0, 5.0, 9.0])
    chosen = np.array([True, True, True, True, False])
    assert cases(chosen, by, 3).tolist() == [1, 3, 2]  # ties by row number, row 4 is not chosen
    assert cases(chosen, by, 10).tolist() == [1, 3, 2, 0]
    assert cases(np.zeros(5, bool), by).tolist() == []
