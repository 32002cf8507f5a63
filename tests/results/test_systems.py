"""Systems in a store: which columns and seeds are compared, and claims about them."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fakes import fake, labels_of

from lrc_lib.data.tasks import TASKS
from lrc_lib.results import systems as module
from lrc_lib.results.claims import better, judge, less_fluctuation
from lrc_lib.results.statistics import Interval
from lrc_lib.results.systems import Stored, Systems


@pytest.fixture
def systems(monkeypatch):
    """`Systems` over a store that lacks lrc_c wholly and lrc_2 for seed 0."""
    task = TASKS["mnli"]
    labels = labels_of(task, 60)
    store = {("lrc", seed): fake(task, labels, 2 + seed, f"lrc{seed}") for seed in range(2)} | {
        ("lrc_2", 1): fake(task, labels, 1, "one"),
        ("teacher", 0): fake(task, labels, 5, "t"),
    }

    def spec(task="mnli", recipe="lrc", seed=0):
        key = (recipe, 0 if recipe == "teacher" else seed)
        return SimpleNamespace(keep="last", task=task, data="", key=key)

    monkeypatch.setattr(module, "find", lambda spec, out: store.get(spec.key))
    monkeypatch.setattr(module, "finished", lambda out: [])
    monkeypatch.setattr(Stored, "find", lambda self, spec, out: None)
    profile = SimpleNamespace(
        tasks=("mnli", "reviews", "nli"), data="", select={}, spec=spec,
        seeds_in=lambda *_: (0, 1), is_open=lambda *_: False, candidates=lambda *_: [],
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


def test_a_claim_names_its_columns_and_is_not_run_without_its_systems(systems):
    gain = better(systems, "it helps", "+1.0 points", "lrc", "lrc_2", systems.columns[:2])
    assert (gain.claim, gain.paper, gain.verdict) == ("it helps", "+1.0 points", "reproduced")
    first, second = systems.pair("lrc", "lrc_2", systems.columns[0])
    assert gain.measured.value == pytest.approx(first.value - second.value)  # the same rows twice
    assert gain.ours.startswith(f"{gain.measured.value:+.1f} points (+")
    assert gain.ours.endswith("; MNLI-m, MNLI-mm (dev), n = 120, 1 seed")
    worse = better(systems, "", "", "lrc_2", "lrc", systems.columns[:1])
    assert worse.verdict == "not reproduced"
    for columns in (systems.columns, []):
        missing = better(systems, "it helps", "", "lrc", "lrc_c", columns)
        assert (missing.verdict, missing.ours, missing.measured) == ("not run", "", None)


def test_a_claimed_amount_must_lie_below_the_interval():
    kept = Interval(98, 97.5, 99)
    assert judge("", "", kept, 97.4, " %", basis="dev").ours == "98.0 % (97.5 to 99.0); dev"
    assert [judge("", "", kept, least).verdict for least in (97.4, 98, 99.5)] == [
        "reproduced", "not distinguishable", "not reproduced",
    ]  # fmt: skip


def history(steps, noise):
    """Stage 2 is twice as long as stage 1; its log loss falls by a straight line with `noise`."""
    trend = np.linspace(1, 0, steps)
    late = pd.DataFrame({"stage": 2, "loss": np.exp(trend + noise)})
    return pd.concat([pd.DataFrame({"stage": 1, "loss": np.full(steps // 2, 9.0)}), late])


def test_less_fluctuation_is_that_of_the_log_loss_around_its_trend():
    noise = np.random.default_rng(0).normal(size=(3, 200)) / 100
    halved, plain = ([history(200, factor * x) for x in noise] for factor in (0.5, 1))
    one, steps = less_fluctuation(halved[:1], plain[:1])
    assert one == pytest.approx((50, 50, 50)) and steps == 200 - 20  # a mean over 21 steps
    three, _ = less_fluctuation(halved, plain)
    assert three == pytest.approx((50, 50, 50))
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
