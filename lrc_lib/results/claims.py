"""The paper's claims as rows: what the paper says, what was measured here, and the verdict.

The comparisons are rows of `claims.toml`. Taught in notebooks/05_ablations,
08_is_it_contrastive and 09_glue_results.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lrc_lib import paper
from lrc_lib.results import statistics
from lrc_lib.results.statistics import CORRELATIONS, Estimate, holm
from lrc_lib.results.systems import Systems
from lrc_lib.schedule import RECIPES

VERDICTS = {  # in the order of the tables: what did not reproduce comes first
    "opposite": "the effect lies on the other side, adjusted p below 0.05",
    "undecided": "neither; the difference that these runs could have found is named",
    "supported": "the effect lies on the claimed side, adjusted p below 0.05",
    "equivalent": "a claim of equality whose 90 % interval lies within its margin",
    "not tested here": "the runs do not put the claim in question, for the reason given",
    "not run": "a system is missing",
}
EQUAL_SEEDS = 20  # so many are needed for "equivalent"
SMALL = 10_000  # training rows; the paper's small tasks are MRPC, RTE and CoLA
TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["claims"]


class Claim(NamedTuple):
    """One row of a table of verdicts.

    Attributes:
        claim: in words.
        paper: what the paper prints, in words.
        measured: None if nothing was run, or if the number has no interval.
        effect: the paper's number in the unit of `measured`; None if it prints none.
        ours: what was measured, in words.
        null: the claim is that `measured` lies above this.
        margin: above 0 for a claim of equality, within this distance of `null`.
        reason: why the verdict is "undecided" or "not tested here".
        verdict: a key of `VERDICTS`; "" before `judge`.
    """

    claim: str
    paper: str = ""
    measured: Estimate | None = None
    effect: float | None = None
    ours: str = ""
    null: float = 0.0
    margin: float = 0.0
    reason: str = ""
    verdict: str = ""


def measured(claim: str, said: str, value: Estimate | None, where="", **more) -> Claim:
    """A row without its verdict. `where` names the columns or steps; `more`: fields of `Claim`,
    and "sign" and "unit" of `Estimate.text`."""
    text = {"unit": more.pop("unit", ""), "sign": more.pop("sign", "")}
    if value is None:
        return Claim(claim, said, **more | {"reason": ""})
    more["reason"] = more.get("reason") or value.fallen()
    return Claim(
        claim, said, value, ours=f"{value.text(1, **text)}; {where}, {value.basis()}", **more
    )


def compare(systems: Systems, table: str, columns: Sequence | None = None) -> list[Claim]:
    """The rows of `claims.toml` for that table, without their verdicts.

    Measured is the mean paired difference over those of the `columns` (all of `systems` if None)
    on which both recipes were run. Columns that are scored by a correlation have a row of their
    own.
    """
    rows = []
    for entry in (entry for entry in TABLE if entry["table"] == table):
        gains: dict[bool, dict] = {}
        known = {entry["first"], entry["second"]} <= RECIPES.keys()
        for column in (systems.columns if columns is None else columns) if known else ():
            pair = systems.pair(
                entry["first"], entry["second"], column, **entry.get("settings", {})
            )
            if pair and (not entry.get("small") or _is_small(systems, entry["first"], column)):
                kind = column.task.primary in CORRELATIONS
                gains.setdefault(kind, {})[column.title] = pair[0] - pair[1]
        rows += [_row(entry, gains[kind], kind, len(gains)) for kind in sorted(gains)]
        rows += [] if gains else [_row(entry, {}, False, 1)]
    return rows


def _is_small(systems: Systems, recipe: str, column) -> bool:
    runs = systems.runs(recipe, column.task.name).values()
    return min(run.metrics["rows"] for run in runs) < SMALL


def _row(entry: dict, gains: dict, correlation: bool, kinds: int) -> Claim:
    effect, said = None, entry.get("where", "")
    if "effect" in entry:
        effect = paper.effect(**entry["effect"])
        said = f"{effect:+z.1f} points ({said})"
    title = entry["claim"] + (" (correlations)" if correlation else " (accuracy, F1)") * (kinds > 1)
    value = statistics.mean_of(list(gains.values())) if gains else None
    where, margin = f"{', '.join(gains)} (dev)", entry.get("margin", 0.0)
    said = said or (f"equal, margin ±{margin:g}" if margin else "")
    more = {"unit": " points", "sign": "+", "effect": effect, "margin": margin}
    return measured(title, said, value, where, **more)


def judge(claims: Sequence[Claim]) -> list[Claim]:
    """The claims of one table with their verdicts, sorted as `VERDICTS`.

    They are one family: Holm-adjusted p values decide, while intervals are drawn uncorrected. A row
    with a `reason`, such as a run that has collapsed, is not tested. One seed decides nothing, and
    neither kind counts in the family.
    """
    family = [c for c in claims if c.measured and not c.reason and c.measured.seeds > 1]
    adjusted = holm([c.measured.p(c.null, c.margin) for c in family])
    left = max(1, len(family) - int((adjusted < 0.05).sum()))  # Holm stopped at 0.05 / left
    found = dict(zip(map(id, family), adjusted, strict=True))
    judged = [_judged(c, found.get(id(c)), 0.05 / left) for c in claims]
    return sorted(judged, key=lambda c: list(VERDICTS).index(c.verdict))


def _judged(claim: Claim, adjusted: float | None, alpha: float) -> Claim:
    value, margin = claim.measured, claim.margin
    if claim.reason or not value:
        return claim._replace(verdict="not tested here" if claim.reason else "not run")
    if adjusted is None:
        return claim._replace(verdict="undecided", reason="one seed says nothing about others")
    low, high = (end - claim.null for end in value.ends(0.9))
    inside = margin and -margin < low and high < margin
    if inside and value.seeds >= EQUAL_SEEDS:
        return claim._replace(verdict="equivalent")
    if adjusted < 0.05:
        good = value.value > claim.null and not margin
        return claim._replace(verdict="supported" if good else "opposite")
    reason = f"could have found a difference of {value.could_find(alpha):.1f}"
    if np.isnan(value.error):
        reason = "too little for an interval"
    elif margin:
        reason = f"90 % interval {low:+z.1f} to {high:+z.1f}, {value.seeds} of {EQUAL_SEEDS} seeds"
    return claim._replace(verdict="undecided", reason=reason)


def kept_share(systems: Systems) -> Claim:
    """How much of its teacher LRC-BERT keeps: the ratio of the mean scores, in percent.

    Only columns that are scored alike are averaged: those like the first one that was run.
    """
    pairs = {c.title: p for c in systems.columns if (p := systems.pair("lrc", "teacher", c))}
    kinds = {title: pair[0].metric in CORRELATIONS for title, pair in pairs.items()}
    alike = [title for title in pairs if kinds[title] == next(iter(kinds.values()))]
    ours, theirs = ([pairs[title][i] for title in alike] for i in (0, 1))
    share = (statistics.mean_of(ours) / statistics.mean_of(theirs)).scaled(100) if pairs else None
    printed = next(c.printed for c in paper.CLAIMS if "% of the teacher" in c.says)
    return measured(
        "it keeps 97.4 % of its teacher", f"{printed} % (average, test)", share,
        f"{', '.join(alike)} (dev)", unit=" %", null=printed, reason=systems.not_the_papers("lrc"),
    )  # fmt: skip


def steadier(systems: Systems) -> Claim:
    """Whether perturbation steadies stage 2 on the profile's main task, see `less_fluctuation`.

    Both systems have the learning rate of `lrc`, so that they differ in one switch only.
    """
    main = systems.profile.main
    perturbed = systems.runs("lrc", main)
    first = next(iter(perturbed.values()), None)
    rates = {"learning_rate": first.spec.learning_rate} if first else {}
    plain = systems.runs("lrc_g", main, **rates)
    seeds = [seed for seed in perturbed if seed in plain]
    histories = ([runs[seed].history for seed in seeds] for runs in (perturbed, plain))
    less, steps = less_fluctuation(*histories)
    column = next(c for c in systems.columns if c.task.name == main)
    pair = systems.pair("lrc_g", "lrc", column, **rates)
    return measured(
        "gradient perturbation steadies training", "a picture (Fig. 5), no number", less,
        f"{main}, stage 2, {steps} steps", sign="+", unit=" % less fluctuation",
        reason=(pair[0] - pair[1]).fallen() if pair else "",
    )  # fmt: skip


def less_fluctuation(perturbed: Sequence, plain: Sequence) -> tuple[Estimate | None, int]:
    """How much less the clean loss fluctuates with perturbation in stage 2, in percent.

    Fluctuation is the standard deviation of the log loss around its running mean, which is a tenth
    of the stage wide; see `lrc_lib.results.statistics.spread_ratio`.

    Args:
        perturbed, plain: histories (`RunResult.history`) with and without perturbation, one per
            seed, in the same order.

    Returns:
        The estimate (None without runs), and the number of steps that it rests on.
    """
    if not perturbed:
        return None, 0
    pairs = [(_residuals(a), _residuals(b)) for a, b in zip(perturbed, plain, strict=True)]
    block = pairs[0][0][1]
    ratio = statistics.spread_ratio([(a, b) for (a, _), (b, _) in pairs], block)
    return ratio.scaled(-100, 100), len(pairs[0][0][0])


def _residuals(history) -> tuple[np.ndarray, int]:
    """The log loss of stage 2 less its running mean, where that fits, and the mean's width."""
    loss = np.log(history.query("stage == 2")["loss"].to_numpy(float))
    width = max(3, len(loss) // 10 // 2 * 2 + 1)
    if len(loss) < width:
        return loss[:0], width
    mean = np.convolve(loss, np.ones(width) / width, "valid")
    return loss[width // 2 :][: len(mean)] - mean, width
