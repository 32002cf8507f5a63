"""Comparisons of systems: vectorised metrics, paired intervals, verdicts, AUC, cases."""

import itertools
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from lrc_lib import evaluate
from lrc_lib.data.tasks import TASKS
from lrc_lib.results import compare
from lrc_lib.results.compare import (
    Column,
    Estimate,
    Systems,
    auc,
    cases,
    estimate,
    mean_of,
    verdict,
)

RNG = np.random.default_rng(7)


class Fake:
    """What `compare` needs of a RunResult: an id and dev predictions."""

    def __init__(self, name, logits, labels):
        self.id, self.dev = name, {"logits": logits, "labels": labels}

    def predictions(self, split):
        return self.dev


def fake(task, labels, skill, name="run", rng=RNG):
    """A system that gives the right answer the more surely the larger `skill` is."""
    if task.kind == "regression":
        return Fake(name, (skill * labels + rng.normal(size=len(labels)))[:, None], labels)
    logits = rng.normal(size=(len(labels), task.num_labels))
    logits[np.arange(len(labels)), labels] += skill
    return Fake(name, logits, labels)


def column(name):
    task = TASKS[name]
    return Column(task, task.dev_splits[0], task.title, "")


def labels_of(task, n):
    return (
        RNG.normal(size=n).astype("float32")
        if task.kind == "regression"
        else RNG.integers(0, task.num_labels, n)
    )


@pytest.mark.parametrize("name", ["reviews", "cola", "mrpc", "sts-b", "nli"])
def test_intervals_agree_with_a_plain_loop(name, monkeypatch):
    monkeypatch.setattr(compare, "DRAWS", 100)  # the loop is slow
    where = column(name)
    labels = labels_of(where.task, 90)
    first, second = (fake(where.task, labels, skill) for skill in (1.5, 0.5))
    one, both = estimate([first], where), estimate([first], where) - estimate([second], where)
    rng = np.random.default_rng(zlib.crc32(f"{name}/{where.split}".encode()))
    metric, draws = evaluate.METRICS[where.task.primary], []
    for rows in [np.arange(90), *(rng.integers(0, 90, 90) for _ in range(100))]:
        said = [evaluate.decide(where.task, r.dev["logits"].astype(float)) for r in (first, second)]
        a, b = (100 * metric(labels[rows], s[rows]) for s in said)
        draws.append((a, a - b))
    for got, loop in zip((one, both), np.transpose(draws), strict=True):
        wanted = (loop[0], *np.quantile(loop[1:], [0.025, 0.975]))
        np.testing.assert_allclose((got.value, got.low, got.high), wanted, atol=1e-9)
    assert (both.n, both.seeds) == (90, 1)


def test_blocks_of_draws_do_not_change_them():
    n = 5000  # three blocks
    values = RNG.random(n)
    _, draws = compare.draw_rows(lambda rows: values[rows].mean(1), n, seed=3)
    rng = np.random.default_rng(3)
    whole = [values[rng.integers(0, n, n)].mean() for _ in range(compare.DRAWS)]
    np.testing.assert_allclose(draws, whole)


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    where = column("reviews")
    labels = labels_of(where.task, 400)
    first = fake(where.task, labels, 1.0)
    logits = first.dev["logits"].copy()
    logits[:10] *= -1  # the other system differs on ten rows only
    a, b = estimate([first], where), estimate([Fake("b", logits, labels)], where)
    assert (a - b).draws.std() < 0.5 * np.hypot(a.draws.std(), b.draws.std())


def test_other_rows_are_not_subtracted():
    where = column("reviews")
    a, b = (estimate([fake(where.task, labels_of(where.task, 50), 1)], where) for _ in range(2))
    with pytest.raises(ValueError, match="not the same dev rows"):
        a - b
    with pytest.raises(ValueError, match="not the same dev rows"):
        a / b


def test_seeds_widen_the_interval_only_where_they_differ():
    where = column("reviews")
    labels = labels_of(where.task, 300)
    good, bad = (fake(where.task, labels, skill, f"s{skill}") for skill in (4, 0))
    same, mixed = estimate([good, good], where), estimate([good, bad], where)
    alone = estimate([good], where)
    assert (same.low, same.high) == (alone.low, alone.high)
    assert mixed.value == pytest.approx((alone.value + estimate([bad], where).value) / 2)
    assert mixed.draws[0].std() > 3 * mixed.draws[1].std()
    assert mixed.runs == ("s4", "s0") and mixed.basis() == "n = 300, 2 seeds"


def test_mean_and_ratio():
    where = column("reviews")
    labels = labels_of(where.task, 80)
    a, b = (estimate([fake(where.task, labels, skill)], where) for skill in (2, 1))
    assert mean_of([a, b]).value == pytest.approx((a.value + b.value) / 2)
    assert mean_of([a, b]).n == 160
    ratio = a / b
    assert ratio.value == pytest.approx(a.value / b.value)
    assert (a / a).low == (a / a).high == 1.0


def made(value, low, high):
    """An estimate with about that interval."""
    draws = np.linspace(low, high, compare.DRAWS)
    return Estimate(value, np.stack([draws, draws]), (), 10)


def test_text():
    shown = made(1.23, 0.0, 3.0).text(1, "+", " points")
    assert shown == "+1.2 points (+0.1 to +2.9)"
    assert made(0.5, 0.5, 0.5).basis() == "n = 10, 1 seed"


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
    ],
)
def test_verdict(span, at_least, answer):
    assert verdict(made(*span), at_least) == answer
    assert answer in compare.VERDICTS


def test_what_is_missing_was_not_run():
    assert verdict(None) == verdict(None, 97.4) == "not run"


def test_auc_is_the_share_of_pairs_won():
    score = RNG.integers(0, 8, 60) + 0.0  # ties
    event = RNG.random(60) < 0.4
    wins = [(s > r) + (s == r) / 2 for s, r in itertools.product(score[event], score[~event])]
    found = auc(score, event)
    assert found.value == pytest.approx(np.mean(wins))
    assert found.low < found.value < found.high
    assert auc(-score, event).value == pytest.approx(1 - found.value)
    assert (found - found).high == 0.0


@pytest.mark.parametrize("event", [np.zeros(20, bool), np.ones(20, bool)])
def test_auc_without_both_kinds_is_not_a_number(event):
    found = auc(np.arange(20.0), event)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_cases_follow_their_rule():
    by = np.array([1.0, 5.0, 3.0, 5.0, 9.0])
    chosen = np.array([True, True, True, True, False])
    assert cases(chosen, by, 3).tolist() == [1, 3, 2]  # ties by row number, row 4 is not chosen
    assert cases(chosen, by, 10).tolist() == [1, 3, 2, 0]
    assert cases(np.zeros(5, bool), by).tolist() == []


@pytest.fixture
def systems(monkeypatch):
    """`Systems` over a store that lacks lrc_c wholly and lrc_2 for seed 0."""
    task = TASKS["mnli"]
    labels = labels_of(task, 60)
    store = {("lrc", seed): fake(task, labels, 2 + seed, f"lrc{seed}") for seed in range(2)} | {
        ("lrc_2", 1): fake(task, labels, 1, "one"),
        ("teacher", 0): fake(task, labels, 5, "t"),
    }

    def spec(recipe, task="mnli", seed=0):
        return SimpleNamespace(
            keep="last", task=task, data="", key=(recipe, 0 if recipe == "teacher" else seed)
        )

    monkeypatch.setattr(compare, "find", lambda spec, out: store.get(spec.key))
    monkeypatch.setattr(compare, "finished", lambda out: [])
    profile = SimpleNamespace(
        data="", rates=(), is_open=lambda *_: False, candidates=lambda *_: [0],
        spec=lambda task, recipe="lrc", seed=0: spec(recipe, task, seed),
    )  # fmt: skip
    tasks = ("mnli", "reviews", "nli")
    monkeypatch.setattr(compare.Stored, "find", lambda self, spec, out: None)
    return Systems(SimpleNamespace(profile=profile, tasks=tasks, seeds=range(2), out=""))


def test_columns_carry_the_papers_names_where_it_has_them(systems):
    assert [(c.title, c.paper) for c in systems.columns] == [
        ("MNLI-m", "MNLI-m"),
        ("MNLI-mm", "MNLI-mm"),
        ("Reviews matched", ""),
        ("Reviews mismatched", ""),
        ("Grammar NLI", ""),
    ]


def test_only_seeds_that_both_systems_have_are_compared(systems):
    where = systems.columns[0]
    first, second = systems.pair("lrc", "lrc_2", where)
    assert first.runs == ("lrc1",) and second.runs == ("one",)
    assert systems.score("lrc", where).runs == ("lrc0", "lrc1")
    first, second = systems.pair("lrc", "teacher", where)
    assert first.seeds == 2 and set(second.runs) == {"t"}
    assert systems.score("teacher", where).seeds == 1


def test_a_system_that_was_not_run_has_no_number(systems):
    where = systems.columns[0]
    assert systems.score("lrc_c", where) is None
    assert systems.pair("lrc_c", "lrc", where) is None
    assert systems.runs("lrc_c", "mnli") == {}
