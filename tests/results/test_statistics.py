"""Estimates and their paired intervals, AUC, ratios, and what a choice adds."""

import itertools

import numpy as np
import pytest
from fakes import RNG, Fake, fake, labels_of, made
from scipy.stats import t

from lrc_lib import evaluate
from lrc_lib.data.tasks import TASKS
from lrc_lib.results import statistics
from lrc_lib.results.statistics import Estimate, auc, cases

REVIEWS = TASKS["reviews"]


def of(*results, task=REVIEWS):
    return statistics.estimate(results, task, task.dev_splits[0])


@pytest.mark.parametrize("name", ["reviews", "cola", "mrpc", "sts-b", "nli"])
def test_errors_agree_with_a_plain_bootstrap(name):
    task = TASKS[name]
    labels = labels_of(task, 90)
    first, second = (fake(task, labels, skill) for skill in (1.5, 0.5))
    one, both = of(first, task=task), of(first, task=task) - of(second, task=task)
    rng, metric, draws = np.random.default_rng(0), evaluate.METRICS[task.primary], []
    for rows in [np.arange(90), *(rng.integers(0, 90, 90) for _ in range(300))]:
        guesses = [evaluate.decide(task, r.dev["logits"].astype(float)) for r in (first, second)]
        a, b = (100 * metric(labels[rows], guess[rows]) for guess in guesses)
        draws.append((a, a - b))
    for got, loop in zip((one, both), np.transpose(draws), strict=True):
        assert got.value == pytest.approx(loop[0])
        assert got.error == pytest.approx(loop[1:].std(), rel=0.2)
        half = t.ppf(0.975, 89) * got.error
        assert (got.low, got.high) == pytest.approx((got.value - half, got.value + half))
    assert (both.n, both.seeds) == (90, 1)


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    labels = labels_of(REVIEWS, 400)
    first = fake(REVIEWS, labels, 1.0)
    logits = first.dev["logits"].copy()
    logits[:10] *= -1  # the other system differs on ten rows only
    a, b = of(first), of(Fake("b", logits, labels))
    assert (a - b).error < 0.5 * np.hypot(a.error, b.error)


def test_estimates_on_other_rows_or_seeds_are_neither_subtracted_nor_divided():
    a, b = (of(fake(REVIEWS, labels_of(REVIEWS, 50), 1)) for _ in range(2))
    run = fake(REVIEWS, labels_of(REVIEWS, 50), 1)
    c, d = (statistics.estimate({seed: run}, REVIEWS, "matched") for seed in (0, 1))
    for combine in (Estimate.__sub__, Estimate.__truediv__):
        for pair in ((a, b), (c, d)):
            with pytest.raises(ValueError, match="not the same dev rows and seeds"):
                combine(*pair)


def test_runs_on_other_dev_rows_have_no_common_mean():
    with pytest.raises(ValueError, match="different dev rows"):
        of(*(fake(REVIEWS, labels_of(REVIEWS, n), 1) for n in (50, 60)))


def test_seeds_widen_the_interval_only_where_they_differ():
    labels = labels_of(REVIEWS, 300)
    good, bad = (fake(REVIEWS, labels, skill, f"s{skill}") for skill in (4, 1))
    same, mixed, alone = of(good, good), of(good, bad), of(good)
    assert same.error == pytest.approx(alone.error)
    assert mixed.value == pytest.approx((alone.value + of(bad).value) / 2)
    assert mixed.error > 3 * alone.error and mixed.freedom < 2
    assert mixed.runs == ("s4", "s1") and mixed.basis() == "n = 300, 2 seeds"


def test_what_the_seeds_share_is_named():
    labels = labels_of(REVIEWS, 40)

    def basis(recipe, **seeds):
        runs = [fake(REVIEWS, labels, 2) for _ in range(2)]
        for number, run in enumerate(runs):
            run.spec.recipe = recipe
            vars(run.spec).update({name: number for name in seeds})
        return of(*runs).basis()

    assert basis("lrc") == "n = 40, 2 seeds that share one teacher and one general distillation"
    assert basis("lrc_1") == "n = 40, 2 seeds that share one teacher"
    assert basis("lrc", teacher_seed=1) == "n = 40, 2 seeds that share one general distillation"
    assert basis("finetune") == "n = 40, 2 seeds" == basis("lrc", teacher_seed=1, general_seed=1)


def test_a_collapsed_run_is_named():
    labels = labels_of(REVIEWS, 40)
    bad, good = fake(REVIEWS, labels, -9, "bad"), fake(REVIEWS, labels, 9)
    mixed = of(good, bad)
    ((recipe, seed, why),) = mixed.collapsed
    assert (recipe, seed) == ("finetune", 1) and why.startswith("has accuracy 0.")
    assert mixed.text().endswith(", collapsed: fine-tuned student (1 run))")
    assert of(good).fallen() == ""
    assert (of(good, good) - mixed).collapsed == mixed.collapsed and not of(good).collapsed


def test_mean_and_ratio():
    labels = labels_of(REVIEWS, 400)
    a, b = (of(fake(REVIEWS, labels, skill)) for skill in (2, 1))
    mean = statistics.mean_of([a, b])
    assert mean.value == pytest.approx((a.value + b.value) / 2)
    assert (a / b).value == pytest.approx(a.value / b.value)
    exact = a.draws[0] / b.draws[0]
    assert (a / b).error == pytest.approx(exact.std(), rel=0.05)  # the delta method
    assert (a / a).low == (a / a).high == 1.0
    assert (a / b).scaled(100).value == pytest.approx(100 * a.value / b.value)


def test_rows_that_two_columns_share_are_drawn_once():
    labels, keys = labels_of(REVIEWS, 400), np.arange(400, dtype=np.uint64)
    whole = fake(REVIEWS, labels, 1)
    part, other = (
        Fake("part", whole.dev["logits"][:300], labels[:300], keys[:300] + np.uint64(shift))
        for shift in (0, 1000)
    )
    shared, apart = (statistics.mean_of([of(whole), of(x)]) for x in (part, other))
    assert (shared.n, apart.n) == (400, 700)
    assert shared.value == apart.value and shared.error > 1.25 * apart.error


def test_means_are_over_common_seeds_and_never_over_two_kinds_of_metric():
    labels = labels_of(REVIEWS, 60)
    runs = {seed: fake(REVIEWS, labels, seed + 1) for seed in range(3)}
    some, others = (
        statistics.estimate({s: runs[s] for s in seeds}, REVIEWS, "matched")
        for seeds in ((0, 1), (1, 2))
    )
    mean = statistics.mean_of([some, others])
    assert mean.of == (1,) and mean.value == pytest.approx(of(runs[1]).value)
    task = TASKS["sts-b"]
    score = of(fake(task, labels_of(task, 60), 1), task=task)
    with pytest.raises(ValueError, match="never averaged"):
        statistics.mean_of([some, score])
    with pytest.raises(ValueError, match="no seed in common"):
        statistics.mean_of([statistics.estimate({s: runs[s]}, REVIEWS, "matched") for s in (0, 1)])


def test_text():
    half = t.ppf(0.975, 2)
    shown = f"+1.2 points ({1.23 - half:+.1f} to {1.23 + half:+.1f})"
    assert made(1.23, 1).text(1, "+", " points") == shown
    assert made(2.0, np.nan, 1).text(2) == "2.00 (too few for an interval, rows only)"
    assert made(2.0, 1, 1).text(0) == "2 (0 to 4, rows only)"


def test_p_values_intervals_and_the_smallest_difference_agree():
    e = made(5.0, 2.0)
    low, high = e.ends(0.95)
    assert e.p(low) == pytest.approx(0.05) == e.p(high) and e.p(0) > 0.05
    assert e.p(0, margin=5.0) == 1 and e.p(0, margin=5 - (e.value - low)) == pytest.approx(0.05)
    assert made(0.0, 0.0).p() == 1 and made(1.0, 0.0).p() == 0 and made(1.0, np.nan, 1).p() == 1
    rng, true = np.random.default_rng(0), made(0, 1, 20).could_find()
    draws = true + rng.normal(size=4000)
    found = draws / np.sqrt(rng.chisquare(19, 4000) / 19) > t.ppf(0.975, 19)
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_as_many_seeds_as_named_decide_in_8_of_10_repetitions():
    e, rng = made(0.0, 2 / 3**0.5), np.random.default_rng(0)  # sd 2 over the seeds

    def ends(count, true, level):
        scores = true + rng.normal(size=(9000, count)) * e.scores.std(ddof=1)
        half = t.ppf((1 + level) / 2, count - 1) * scores.std(1, ddof=1) / count**0.5
        return scores.mean(1) - half, scores.mean(1) + half

    found = ends(e.seeds_to_find(1.0), 1.0, 0.95)[0] > 0
    low, high = ends(e.seeds_to_find(1.0, 0.1, power=0.9), 0.0, 0.9)
    for share in (found.mean(), ((low > -1) & (high < 1)).mean()):
        assert share == pytest.approx(0.8, abs=0.03)
    assert made(0, 1, 3).seeds_to_find(0.01) == "never"


def test_a_forest_has_a_row_per_estimate_and_the_number_of_each_seed():
    e = made(5.0, 2.0)
    (row,) = statistics.forest({"a": e}).itertuples(index=False)
    assert row == ("a", e.value, e.low, e.high, list(e.scores))


def test_holm_multiplies_the_smallest_by_their_number():
    assert statistics.holm([0.02, 0.04, 0.01]) == pytest.approx([0.04, 0.04, 0.03])
    assert statistics.holm([]).size == 0


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


def test_a_ratio_of_spreads_draws_the_same_blocks_from_both():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 60))
    paired = statistics.spread_ratio([(2 * noise[0], noise[0])], 5)
    assert (paired.value, paired.error) == pytest.approx((2, 0))  # what both share is gone
    one = statistics.spread_ratio([(2 * rng.normal(size=60), noise[0])], 5)
    assert one.low < one.value < one.high and one.low < 2 < one.high
    few = statistics.spread_ratio([(2 * noise[0, :19], noise[0, :19])], 5)  # three blocks
    assert few.value == pytest.approx(2) and np.isnan([few.low, few.high]).all()
    several = statistics.spread_ratio([(rng.normal(size=60), x) for x in noise], 5)
    spread = several.scores.std(ddof=1) / 3**0.5
    assert several.seeds == 3 and several.error == pytest.approx(spread, rel=0.15)


def test_cases_follow_their_rule():
    by = np.array([1.0, 5.0, 3.0, 5.0, 9.0])
    chosen = np.array([True, True, True, True, False])
    assert cases(chosen, by, 3).tolist() == [1, 3, 2]  # ties by row number, row 4 is not chosen
    assert cases(chosen, by, 10).tolist() == [1, 3, 2, 0]
    assert cases(np.zeros(5, bool), by).tolist() == []


def test_a_value_that_rounds_to_zero_has_no_minus():
    assert made(-0.01, 1, 1).text(1).startswith("0.0 ")
    assert made(-0.01, 1, 1).text(1, "+").startswith("+0.0 ")
