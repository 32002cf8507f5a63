"""The tables of notebooks 05, 08 and 09 as rows, from the systems of a profile.

A cell that follows from no score is `...`. `lrc_lib.results.verify` holds the rows against the
tables that are kept with the repository.
"""

from collections.abc import Iterable

import numpy as np
from scipy.stats import t

from lrc_lib import paper
from lrc_lib.results.claims import Claim, compare, judge, kept_share, measured, steadier
from lrc_lib.results.statistics import Estimate, mean_of
from lrc_lib.results.systems import Systems
from lrc_lib.schedule import RECIPES

SHOWN = ("teacher", "lrc", "lrc_1", "distilbert", "bert_pkd", "bert_pkd_last", "tinybert", "bert_m",
         "finetune")  # fmt: skip
ABLATED = ("lrc", "lrc_c", "lrc_c_last20", "lrc_s", "lrc_h", "lrc_2", "lrc_g", "lrc_1", "bert_m",
           "finetune")  # fmt: skip
SYSTEMS = {name: (RECIPES[name].summary, name, {}) for name in ABLATED}  # of notebook 05
SYSTEMS["lrc, one-hot"] = ("the usual hard label", "lrc", {"hard_target": "one_hot"})
READINGS = ("lrc_c", "lrc_c_last20", "lrc, one-hot")
WORDS = {"supported": "better without it", "opposite": "worse without it"}  # of notebook 05


def claims(systems: Systems, more: Iterable[Claim] = ()) -> list[Claim]:
    """The paper's claims with their verdicts. `more`: rows that rest on no dev score."""
    return judge([*compare(systems, "paper"), kept_share(systems), steadier(systems), *more])


def verdict(systems: Systems) -> list[list]:
    return [[c.claim, c.paper, c.ours, c.verdict, c.reason] for c in claims(systems)]


def seeds_needed(judged: Iterable[Claim]) -> list[list]:
    """For each tested claim about points: how many seeds find the paper's effect, and 1 point.

    The rows' part of the variance stays as it was measured, and the seeds' part is divided by
    another number of seeds. Found means: in 8 of 10 repetitions, at the first step of Holm's
    correction.
    """
    points = [c for c in judged if c.measured and " points " in c.ours]
    tested = [c for c in points if c.measured.seeds > 1 and c.verdict != "not tested here"]
    rows = []
    for claim in tested:
        e, alpha = claim.measured, 0.05 / len(tested)
        effect = claim.effect and _seeds(e, abs(claim.effect), alpha)
        spread = round(e.scores.std(ddof=1), 2)
        rows.append(
            [claim.claim, claim.effect, spread, e.basis(), effect, _seeds(e, 1, alpha)],
        )
    return rows


def _seeds(e: Estimate, difference: float, alpha: float, most: int = 200) -> int | str:
    seeds = np.arange(2, most + 1)
    of_seeds = e.scores.var(ddof=1) / seeds
    of_rows = max(0, e.error**2 - e.scores.var(ddof=1) / e.seeds)
    total = np.maximum(of_rows + of_seeds, 1e-12)
    freedom = np.maximum(1, total / (of_seeds / (seeds - 1) + of_rows / (e.n - 1) + 1e-300))
    found = total**0.5 * (t.ppf(1 - alpha / 2, freedom) + t.ppf(0.8, freedom))
    return next((int(n) for n, x in zip(seeds, found, strict=True) if x <= difference), "never")


def table1(systems: Systems) -> list[list]:
    """The paper's rows of Table 1 (test) and ours (dev)."""
    rows = [
        [system, "paper, test", *(row[c] for c in paper.COLUMNS), round(paper.average(row), 1), ""]
        for system, row in paper.TABLE_1.items()
    ]
    for recipe in SHOWN:
        found = {c.paper: systems.score(recipe, c) for c in systems.columns if c.paper}
        cells = [_text(found.get(name)) for name in paper.COLUMNS]
        whole = [e.value for e in found.values() if e]
        average = round(np.mean(whole), 1) if len(whole) == len(paper.COLUMNS) else None
        title = f"{RECIPES[recipe].title} ({recipe})" if recipe in RECIPES else recipe
        rows.append([title, "here, dev", *cells, average, systems.differs(recipe)])
    return rows


def other_tasks(systems: Systems) -> list[list]:
    """A row per system and a cell per dev column outside GLUE, and the best constant answer."""
    rows, others = [], [c for c in systems.columns if not c.paper]
    for recipe in SHOWN:
        found = [systems.score(recipe, c) for c in others]
        basis = next((e.basis() for e in found if e), "")
        rows.append([recipe, *map(_text, found), basis])
    best = [constant(systems, c) for c in others]
    rows.append(["best constant answer", *(None if b is None else f"{b:.1f}" for b in best), ""])
    return rows if others else []


def constant(systems: Systems, column) -> float | None:
    """The best constant answer's score on a dev column, in points; None if `lrc` was not run."""
    run = next(iter(systems.runs("lrc", column.task.name).values()), None)
    return run and 100 * run.metrics["constant"][column.split][column.task.primary]


def _text(e: Estimate | None, sign: str = "") -> str | None:
    return e and e.text(sign=sign)


def _gaps(systems: Systems) -> dict[tuple, Estimate]:
    """{(system, its column): points against `lrc`} of notebook 05."""
    pairs = {
        (name, c): systems.pair(recipe, "lrc", c, **settings)
        for name, (_, recipe, settings) in SYSTEMS.items()
        for c in systems.columns
        if name != "lrc"
    }
    return {key: pair[0] - pair[1] for key, pair in pairs.items() if pair}


def differences(systems: Systems) -> list[list]:
    gaps = _gaps(systems)
    judged = judge([measured(f"{name}/{c.title}", "", e) for (name, c), e in gaps.items()])
    words = {
        c.claim: f"{WORDS.get(c.verdict, c.verdict)}{'; ' * bool(c.reason)}{c.reason}"
        for c in judged
    }
    return [
        [name, SYSTEMS[name][0], c.title, _text(e, "+"), e.basis(), words[f"{name}/{c.title}"]]
        for (name, c), e in gaps.items()
    ]


def readings(systems: Systems) -> list[list]:
    gaps = _gaps(systems)
    found = ((name, c, gaps.get((name, c))) for c in systems.columns for name in READINGS)
    return [[name, c.title, _text(e, "+"), e and e.basis()] for name, c, e in found]


def table4(systems: Systems) -> list[list]:
    pairs = {c.title: p for c in systems.columns if (p := systems.pair("lrc", "lrc_2", c))}
    gains = {title: a - b for title, (a, b) in pairs.items()}
    return [
        [f"here, {title}, {gain.basis()}", *map(_text, pairs[title]), _text(gain, "+")]
        for title, gain in gains.items()
    ]


def seeds(systems: Systems) -> list[list]:
    rows = []
    for column in systems.columns:
        for name, (_, recipe, settings) in SYSTEMS.items():
            e = systems.score(recipe, column, **settings)
            if e and e.seeds > 1:
                spread = [round(x, 2) for x in (e.value, e.scores.std(ddof=1))]
                rows.append([name, column.title, e.seeds, *spread])
    return rows


def _main(systems: Systems) -> list:
    return [c for c in systems.columns if c.task.name == systems.profile.main]


def predictions(systems: Systems) -> list[list]:
    judged = judge(compare(systems, "controls", _main(systems)))
    return [[c.claim, c.paper or "above 0", c.ours, c.verdict, c.reason] for c in judged]


def controls(systems: Systems) -> list[list]:
    """Notebook 08's controls, each a mean over the main task's columns."""
    named = {f"K = {k}": ("lrc", {"negative_count": k}) for k in (1, 3, 7)}
    named |= {name: (name, {}) for name in ("shuffled", "centred", "cosine", "kd")}
    temperature = systems.profile.spec(systems.profile.main, "info_nce").info_nce_temperature
    named[f"info_nce, τ = {temperature:g}"] = ("info_nce", {})
    rows = []
    for label, (recipe, settings) in named.items():
        pairs = [systems.pair(recipe, "lrc", c, **settings) for c in _main(systems)]
        score = mean_of([a for a, _ in pairs]) if all(pairs) else None
        gap = mean_of([a - b for a, b in pairs]) if all(pairs) else None
        rows.append([label, _text(score), _text(gap, "+"), gap and gap.basis(), ...])
    return rows


TABLES = {  # (notebook, table): (its rows, how many cells name a row)
    ("09", "verdict"): (verdict, 1),
    ("09", "seeds-needed"): (lambda systems: seeds_needed(claims(systems)), 1),
    ("09", "table1"): (table1, 2),
    ("09", "other-tasks"): (other_tasks, 1),
    ("05", "differences"): (differences, 3),
    ("05", "readings"): (readings, 2),
    ("05", "table4"): (table4, 1),
    ("05", "seeds"): (seeds, 2),
    ("08", "verdict"): (predictions, 1),
    ("08", "controls"): (controls, 1),
}
