"""The tables of notebooks 05, 08 and 09 as rows, from the systems of a profile.

`python -m lrc_lib verify` holds the rows against the tables that are kept with the repository.
"""

from collections.abc import Iterable

import numpy as np

from lrc_lib import paper
from lrc_lib.results.claims import Claim, compare, judge, kept_share, measured, steadier
from lrc_lib.results.statistics import Estimate, mean_of
from lrc_lib.results.systems import Systems
from lrc_lib.schedule import FEWER_NEGATIVES, RECIPES

SHOWN = ("teacher", "lrc", "lrc_1", "distilbert", "bert_pkd", "bert_pkd_last", "tinybert", "bert_m",
         "finetune")  # fmt: skip
WORDS = {  # of notebook 05, for the systems it compares
    "lrc": "LRC-BERT", "lrc_c": "without COS-NCE", "lrc_c_last20": "without COS-NCE, last 20 %",
    "lrc_s": "without soft loss", "lrc_h": "without hard loss", "lrc_2": "one stage",
    "lrc_g": "without perturbation", "lrc_1": "without general distillation",
    "bert_m": "MSE instead of COS-NCE", "finetune": "no teacher", "one-hot": "usual hard label",
}  # fmt: skip
SYSTEMS = {name: (name, {}) for name in WORDS}  # their recipes and settings
SYSTEMS["one-hot"] = ("lrc", {"hard_target": "one_hot"})
READINGS = ("lrc_c", "lrc_c_last20", "one-hot")
SAID = {"supported": "better without it", "opposite": "worse without it"}  # of notebook 05


def claims(systems: Systems) -> list[Claim]:
    """The paper's claims with their verdicts."""
    return judge([*compare(systems, "paper"), kept_share(systems), steadier(systems)])


def verdict(systems: Systems) -> list[list]:
    return [[c.claim, c.paper, c.ours, c.verdict, c.reason] for c in claims(systems)]


def seeds_needed(judged: Iterable[Claim]) -> list[list]:
    """For each tested claim about points: how many seeds find the paper's effect, and 1 point, at
    the first step of Holm's correction, whose family holds the other tested claims, too."""
    measured = [c for c in judged if c.measured and c.measured.seeds > 1]
    tested = [c for c in measured if c.verdict != "not tested here"]
    rows = []
    for claim in (c for c in tested if " points " in c.ours):
        e, alpha = claim.measured, 0.05 / len(tested)
        effect = claim.effect and e.seeds_to_find(abs(claim.effect), alpha)
        spread = round(e.scores.std(ddof=1), 2)
        one = e.seeds_to_find(1, alpha)
        papers = claim.effect and round(claim.effect, 1)
        rows.append([claim.claim, papers, spread, e.basis(), effect, one])
    return rows


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


def effects(systems: Systems) -> dict[tuple, Estimate]:
    """{(system, its column): points against `lrc`} of notebook 05."""
    pairs = {
        (name, column): systems.pair(recipe, "lrc", column, **settings)
        for name, (recipe, settings) in SYSTEMS.items()
        for column in systems.columns
        if name != "lrc"
    }
    return {key: pair[0] - pair[1] for key, pair in pairs.items() if pair}


def verdicts(found: dict[tuple, Estimate]) -> dict[tuple, Claim]:
    """The verdicts on `effects`, by the same keys; all of them are one family."""
    rows = [measured(f"{WORDS[name]}, {c.title}", "", e) for (name, c), e in found.items()]
    judged = {claim.claim: claim for claim in judge(rows)}
    return {key: judged[row.claim] for key, row in zip(found, rows, strict=True)}


def differences(systems: Systems) -> list[list]:
    found, rows = effects(systems), []
    for (name, column), claim in verdicts(found).items():
        e, words = found[name, column], SAID.get(claim.verdict, claim.verdict)
        words += f"; {claim.reason}" * bool(claim.reason)
        rows.append([WORDS[name], SYSTEMS[name][0], column.title, _text(e, "+"), e.basis(), words])
    return rows


def readings(systems: Systems) -> list[list]:
    every = effects(systems)
    found = ((name, c, every.get((name, c))) for c in systems.columns for name in READINGS)
    return [[WORDS[name], c.title, _text(e, "+"), e and e.basis()] for name, c, e in found]


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
        for name, (recipe, settings) in SYSTEMS.items():
            e = systems.score(recipe, column, **settings)
            if e and e.seeds > 1:
                spread = [round(x, 2) for x in (e.value, e.scores.std(ddof=1))]
                rows.append([WORDS[name], column.title, e.seeds, *spread])
    return rows


def _main(systems: Systems) -> list:
    return [c for c in systems.columns if c.task.name == systems.profile.main]


def predictions(systems: Systems) -> list[list]:
    judged = judge(compare(systems, "controls", _main(systems)))
    return [[c.claim, c.paper or "above 0", c.ours, c.verdict, c.reason] for c in judged]


def controls_of(temperatures: Iterable[float]) -> dict[str, tuple]:
    """{words: (recipe, settings)} of notebook 08's controls, with InfoNCE at these temperatures."""
    named = {f"COS-NCE with K = {k}": ("lrc", {"negative_count": k}) for k in FEWER_NEGATIVES}
    named["negatives of another batch"] = ("shuffled", {})
    named["centring, no negatives"] = ("centred", {})
    named["plain cosine"] = ("cosine", {})
    for x in temperatures:
        named[f"InfoNCE, τ = {x:g}"] = ("info_nce", {"info_nce_temperature": x})
    return named | {"labels only, no layers": ("kd", {})}


def against_lrc(systems: Systems, named: dict[str, tuple]) -> dict[str, tuple]:
    """{words: (score, points against `lrc`)} of those controls that were run, each a mean over the
    main task's columns."""
    found = {}
    for words, (recipe, settings) in named.items():
        pairs = [systems.pair(recipe, "lrc", c, **settings) for c in _main(systems)]
        if all(pairs):
            found[words] = mean_of([a for a, _ in pairs]), mean_of([a - b for a, b in pairs])
    return found


def controls(systems: Systems, temperatures: Iterable[float] = ()) -> list[list]:
    usual = systems.profile.spec(systems.profile.main, "info_nce").info_nce_temperature
    named = controls_of(sorted({usual, *temperatures}))
    found, rows = against_lrc(systems, named), []
    for words, (recipe, _) in named.items():
        score, gap = found.get(words, (None, None))
        rows.append([words, recipe, _text(score), _text(gap, "+"), gap and gap.basis()])
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
