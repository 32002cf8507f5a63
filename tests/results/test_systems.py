"""Systems in a store: which columns and seeds are compared, and claims about them."""

import functools
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fakes import fake, labels_of, made

from lrc_lib import RunSpec, paper
from lrc_lib.data.tasks import TASKS
from lrc_lib.results import claims as claims_module
from lrc_lib.results import systems as module
from lrc_lib.results.claims import EQUAL_SEEDS, VERDICTS, Claim, compare, judge, less_fluctuation
from lrc_lib.results.statistics import estimate
from lrc_lib.results.systems import Stored, Systems
from lrc_lib.schedule import RECIPES


@pytest.fixture
def systems(monkeypatch):
    """`Systems` over a store that lacks lrc_c wholly and lrc_2 for seed 0."""
    task = TASKS["mnli"]
    labels = labels_of(task, 60)
    store = {("lrc", seed): fake(task, labels, 2 + seed, f"lrc{seed}") for seed in range(2)} | {
        ("lrc_2", 1): fake(task, labels, 1, "one"),
        ("lrc", 1, ("negative_count", 3)): fake(task, labels, 1, "three"),
        ("teacher", 0): fake(task, labels, 5, "t"),
    }

    def spec(task="mnli", recipe="lrc", seed=0, **settings):
        key = (recipe, 0 if recipe == "teacher" else seed, *settings.items())
        changed = functools.partial(spec, task, recipe, seed)
        return SimpleNamespace(keep="last", task=task, data="", key=key, replace=changed)

    monkeypatch.setattr(module, "find", lambda spec, out: store.get(spec.key))
    monkeypatch.setattr(module, "finished", lambda out: [])
    monkeypatch.setattr(Stored, "find", lambda self, spec, out: None)
    profile = SimpleNamespace(
        tasks=("mnli", "reviews", "nli"), data="", select={}, dev_note="", spec=spec,
        seeds_in=lambda out, task, recipe: {"lrc": (0, 1)}.get(recipe, (1,)),
        is_open=lambda *_: False, candidates=lambda *_: [],
    )  # fmt: skip
    return Systems(profile, "")


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


def entries(monkeypatch, *rows):
    """`claims.toml` with these rows only."""
    monkeypatch.setattr(claims_module, "TABLE", [{"table": "t", "claim": "c"} | r for r in rows])


def test_a_claim_names_its_columns_and_is_not_run_without_its_systems(systems, monkeypatch):
    effect = {"by": "gain", "of": [4, "LRC-BERT", "LRC-BERT₂", "MNLI-m"]}
    entries(
        monkeypatch,
        {"first": "lrc", "second": "lrc_2", "effect": effect, "where": "dev"},
        {"first": "lrc", "second": "lrc_c"},
        {"first": "lrc", "second": "a recipe of tomorrow", "margin": 1.0},
        {"table": "another", "first": "lrc", "second": "lrc_2"},
    )
    gain, missing, unknown = compare(systems, "t", systems.columns[:2])
    first, second = systems.pair("lrc", "lrc_2", systems.columns[0])
    assert gain.measured.value == pytest.approx(first.value - second.value)  # the same rows twice
    assert (gain.paper, gain.effect) == ("+4.0 points (dev)", pytest.approx(4.0))
    assert gain.ours.startswith(f"{gain.measured.value:+.1f} points (")
    assert gain.ours.endswith("rows only); MNLI-m, MNLI-mm (dev), n = 60, 1 seed")
    assert (missing.ours, missing.measured, unknown.paper) == ("", None, "equal, margin ±1")
    verdicts = {claim.verdict: claim for claim in judge([gain, missing, unknown])}
    assert list(verdicts) == ["undecided", "not run"]
    assert verdicts["undecided"].reason == "one seed says nothing about others"


def test_a_claim_about_a_setting_compares_a_recipe_with_itself(systems, monkeypatch):
    row = {"first": "lrc", "second": "lrc", "margin": 1.0}
    entries(monkeypatch, *({**row, "settings": {"negative_count": k}} for k in (3, 7)))
    three, seven = compare(systems, "t", systems.columns[:1])
    assert three.measured.runs == ("three", "lrc1") and seven.measured is None
    assert set(systems.runs("lrc", "mnli")) == {0, 1}


def test_columns_of_two_kinds_of_metric_have_rows_of_their_own(systems, monkeypatch):
    task = TASKS["sts-b"]
    labels = labels_of(task, 60)
    scores = {name: [fake(task, labels, 1), fake(task, labels, 2)] for name in ("lrc", "lrc_2")}
    runs = systems.runs

    def both(recipe, name):
        return dict(enumerate(scores[recipe])) if name == "sts-b" else runs(recipe, name)

    monkeypatch.setattr(systems, "runs", both)
    systems.columns = [systems.columns[0], module.Column(task, "dev", "STS-B", "STS-B")]
    entries(monkeypatch, {"first": "lrc", "second": "lrc_2"})
    one, other = compare(systems, "t")
    assert (one.claim, other.claim) == ("c (accuracy, F1)", "c (correlations)")
    assert "; STS-B (dev), n = 60, 2 seeds" in other.ours
    entries(monkeypatch, {"first": "lrc", "second": "lrc_2", "small": True})
    assert len(compare(systems, "t")) == 2  # the runs have 500 training rows
    monkeypatch.setattr(claims_module, "SMALL", 500)
    assert [claim.measured for claim in compare(systems, "t")] == [None]


def test_every_row_of_the_table_is_whole():
    for row in claims_module.TABLE:
        assert row["table"] in ("paper", "controls")
        assert (row["first"] != row["second"]) != ("settings" in row)
        assert row["first"] in RECIPES and RunSpec().replace(**row.get("settings", {}))
        names = "table claim first second settings effect where margin small"
        assert row.keys() <= set(names.split())
        assert "effect" not in row or paper.effect(**row["effect"])
        assert not {"effect", "margin"} <= row.keys()


def verdict(measured, family=(), **more):
    claims = [Claim("c", measured=measured, **more), *(Claim("", measured=m) for m in family)]
    return next(claim for claim in judge(claims) if claim.claim)


@pytest.mark.parametrize(
    "measured, more, answer, reason",
    [
        (made(9, 1), {}, "supported", ""),
        (made(-9, 1), {}, "opposite", ""),
        (made(3, 1), {}, "undecided", "could have found a difference of 5.4"),
        (made(0, 0), {}, "undecided", "could have found a difference of 0.0"),  # the same answers
        (made(9, 1, 1), {}, "undecided", "one seed"),
        (made(9, np.nan), {}, "undecided", "too little for an interval"),
        (made(99, 0.1), {"null": 97.4}, "supported", ""),
        (made(95, 0.1), {"null": 97.4}, "opposite", ""),
        (made(99, 0.1), {"reason": "another teacher"}, "not tested here", "another teacher"),
        (None, {"reason": "another GPU", "ours": "13.5 times"}, "not tested here", "another GPU"),
        (None, {}, "not run", ""),
        (made(0.2, 0.3, EQUAL_SEEDS), {"margin": 1.0}, "equivalent", ""),
        (made(0.2, 0.3, EQUAL_SEEDS - 1), {"margin": 1.0}, "undecided", "19 of 20 seeds"),
        (made(0.2, 0.9, EQUAL_SEEDS), {"margin": 1.0}, "undecided", "90 % interval -1.4 to +1.8"),
        (made(3, 0.3, 5), {"margin": 1.0}, "opposite", ""),
        (made(-3, 0.3, 5), {"margin": 1.0}, "opposite", ""),
    ],
)
def test_verdicts(measured, more, answer, reason):
    found = verdict(measured, **more)
    assert found.verdict == answer and found.verdict in VERDICTS
    assert reason in found.reason and bool(found.reason) == bool(reason)


def test_the_claims_of_a_table_are_one_family():
    clear = made(6, 1)  # p = 0.027 by itself
    assert verdict(clear).verdict == "supported"
    crowd = verdict(clear, [made(0.5, 1)] * 4)
    assert crowd.verdict == "undecided"
    alone = verdict(made(4, 1)).reason  # among five the first must pass 0.05 / 5
    assert float(crowd.reason.split()[-1]) > float(alone.split()[-1])
    for other in (None, made(9, 1, 1)):  # not run, or one seed: not counted
        assert verdict(clear, [other] * 9).verdict == "supported"
    rows = [
        Claim(word, measured=m) for word, m in zip("ab", (made(9, 1), made(-9, 1)), strict=True)
    ]
    assert [row.verdict for row in judge(rows)] == ["opposite", "supported"]


def test_a_collapsed_system_gets_no_verdict():
    task = TASKS["reviews"]
    labels = labels_of(task, 90)
    runs = [fake(task, labels, skill) for skill in (9, 9, 9, -9)]
    good, bad = (estimate(r, task, "matched") for r in (runs[:2], runs[2:]))
    claim = claims_module.measured("c", "", good - bad, "here")
    (judged,) = judge([claim])
    assert judged.verdict == "not tested here"
    assert judged.reason == "collapsed: fine-tuned student (1 run)"
    assert judged.reason in judged.ours


def history(steps, noise):
    """Stage 2 is twice as long as stage 1; its log loss falls by a straight line with `noise`."""
    trend = np.linspace(1, 0, steps)
    late = pd.DataFrame({"stage": 2, "loss": np.exp(trend + noise)})
    return pd.concat([pd.DataFrame({"stage": 1, "loss": np.full(steps // 2, 9.0)}), late])


def test_less_fluctuation_is_that_of_the_log_loss_around_its_trend():
    noise = np.random.default_rng(0).normal(size=(3, 200)) / 100
    halved, plain = ([history(200, factor * x) for x in noise] for factor in (0.5, 1))
    for count in (1, 3):
        found, steps = less_fluctuation(halved[:count], plain[:count])
        assert (found.value, found.low, found.high) == pytest.approx((50, 50, 50))
        assert (found.seeds, steps) == (count, 200 - 20)  # a mean over 21 steps
    other, _ = less_fluctuation(plain[1:2], plain[:1])
    assert other.low < other.value < other.high and other.low < 0 < other.high
    assert less_fluctuation([], []) == (None, 0)
    short, steps = less_fluctuation([history(8, noise[0, :8])], [history(8, noise[1, :8])])
    assert np.isnan([short.low, short.high]).all() and steps == 6


def test_glue_runs_are_found_in_a_store_without_their_data(tmp_path, tiny_spec):
    """One call of reproduce.py with --task after the other fills Table 1, column by column."""

    def stored(name, spec, source):
        folder = tmp_path / name
        folder.mkdir()
        return SimpleNamespace(spec=spec, path=folder, metrics={"source": source})

    rte = tiny_spec.replace(task="rte", data="/a/folder/that/is/gone")
    first = stored("old", rte.replace(seed=1), "another split")
    os.utime(first.path, (0, 0))
    found = Stored([first, stored("new", rte, "GLUE's")])
    assert found.find(rte.replace(data="hub", cache_gb=3.0)).spec == rte
    assert found.find(rte.replace(epochs=7)) is None
    assert found.find(rte.replace(general_data="other.txt")) is None
    assert found.find(rte.replace(seed=1)) is None  # of other rows: not to be mixed
    assert Stored([stored("x", tiny_spec, "")]).find(tiny_spec) is None  # not GLUE's
