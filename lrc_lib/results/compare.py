"""Systems compared on the same dev rows: intervals, paired differences, verdicts, cases.

All estimates of a column draw the same dev rows, so a difference of two is paired by itself.
Scores are points: 84.3 is 0.843. Taught in notebooks 05_ablations, 07_mse_and_angle and 07.
"""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from lrc_lib.data import get_task, own_task
from lrc_lib.data.tasks import GLUE, Task
from lrc_lib.evaluate import decide, resampled
from lrc_lib.runs.selection import Choice, choice, inflation, settled
from lrc_lib.runs.spec import RunSpec
from lrc_lib.runs.store import find, finished
from lrc_lib.schedule import RECIPES

DRAWS = 1000
BERT = "google-bert/bert-base-uncased"  # the paper's teacher
VERDICTS = ("not reproduced", "not distinguishable", "reproduced", "not run")  # as tables sort them


class Column(NamedTuple):
    """A dev split, scored by its task's primary metric; `paper`: its column there, "" if none."""

    task: Task
    split: str
    title: str
    paper: str


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and what it rests on: n dev rows, seeds, run ids.

    `draws` is (2, DRAWS): with dev rows *and* seeds drawn anew, and with the rows alone. `rows`
    names the dev rows: only estimates on the same ones are subtracted or divided.
    """

    value: float
    draws: np.ndarray
    rows: tuple
    n: int
    seeds: int = 1
    runs: tuple[str, ...] = ()

    @property
    def low(self) -> float:
        """Lower end of the 95 % percentile interval; `high` is the upper one."""
        return float(np.quantile(self.draws[0], 0.025))

    @property
    def high(self) -> float:
        return float(np.quantile(self.draws[0], 0.975))

    def text(self, digits: int = 1, sign: str = "", unit: str = "") -> str:
        """For example "+1.2 points (-0.4 to +2.7)", with sign="+" and unit=" points"."""
        value, low, high = (f"{x:{sign}.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value}{unit} ({low} to {high})"

    def basis(self) -> str:
        """For example "n = 277, 3 seeds"."""
        return f"n = {self.n}, {self.seeds} seed{'s' if self.seeds > 1 else ''}"

    def __sub__(self, other: "Estimate") -> "Estimate":
        return self._paired(other, self.value - other.value, self.draws - other.draws)

    def __truediv__(self, other: "Estimate") -> "Estimate":
        with np.errstate(all="ignore"):
            return self._paired(other, np.divide(self.value, other.value), self.draws / other.draws)

    def _paired(self, other, value, draws):
        if self.rows != other.rows:
            raise ValueError(f"not the same dev rows: {self.rows} and {other.rows}")
        runs, seeds = tuple(dict.fromkeys(self.runs + other.runs)), max(self.seeds, other.seeds)
        return Estimate(float(value), draws, self.rows, self.n, seeds, runs)


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """The plain mean over columns, as the paper's "Avg"."""
    value = float(np.mean([e.value for e in parts]))
    draws, rows = np.mean([e.draws for e in parts], axis=0), tuple(e.rows for e in parts)
    runs = tuple(dict.fromkeys(run for e in parts for run in e.runs))
    return Estimate(value, draws, rows, sum(e.n for e in parts), min(e.seeds for e in parts), runs)


def draw_rows(statistic, n: int, seed: int = 0) -> tuple[float, np.ndarray]:
    """A statistic of row numbers (draws, n): for the n rows themselves, and for `DRAWS` draws.

    The draws are `evaluate.bootstrap`'s of that seed, made in blocks to bound the memory.
    """
    rng = np.random.default_rng(seed)
    sizes = [len(part) for part in np.array_split(range(DRAWS), max(1, DRAWS * n // 2_000_000))]
    draws = np.concatenate([statistic(rng.integers(0, n, (size, n))) for size in sizes])
    return float(statistic(np.arange(n)[None])[0]), draws


@functools.lru_cache(maxsize=512)
def _scores(result, task: Task, split: str):
    dev, name = result.predictions(split), f"{task.name}/{split}"
    labels, said = (x.astype(float) for x in (dev["labels"], decide(task, dev["logits"])))
    score = functools.partial(resampled, task.primary, labels, said)
    value, draws = draw_rows(score, len(labels), seed=zlib.crc32(name.encode()))
    return 100 * value, 100 * draws, (name, zlib.crc32(labels.tobytes())), len(labels)


def estimate(results: Sequence, column: Column) -> Estimate:
    """A system's mean score, in points, over its runs, one a seed."""
    values, draws, rows, n = zip(*(_scores(r, *column[:2]) for r in results), strict=True)
    draws, seeds = np.stack(draws), len(results)
    picks = np.random.default_rng(seeds).integers(0, seeds, draws.shape)
    both = np.stack([np.take_along_axis(draws, picks, 0).mean(0), draws.mean(0)])
    ids = tuple(r.id for r in results)
    return Estimate(float(np.mean(values)), both, rows[0], n[0], seeds, ids)


def without_place(spec: RunSpec) -> RunSpec:
    """The spec without the folder that its rows lie in and without its cache's size."""
    return dataclasses.replace(spec, data="", cache_gb=0.0)


class Stored:
    """Runs of GLUE tasks that a store holds, found without their data. Made by `stored`."""

    def __init__(self, results):
        self.runs: dict[RunSpec, object] = {}
        sources: dict[str, str] = {}  # of each task the newest: other rows are not mixed with them
        for result in sorted(results, key=lambda r: r.path.stat().st_mtime, reverse=True):
            source = result.metrics.get("source", "")
            if result.spec.task in GLUE and sources.setdefault(result.spec.task, source) == source:
                self.runs.setdefault(without_place(result.spec), result)

    def find(self, spec: RunSpec, out=None):
        """As `runs.find`, wherever the run's data lay."""
        return self.runs.get(without_place(spec))


def _differences(run, task: Task) -> list[str]:
    spec, metrics = run.spec, run.metrics
    recipe = RECIPES.get(spec.recipe)
    local = Path(spec.teacher).is_absolute()
    teacher = Path(spec.teacher).name if local else spec.teacher
    shape = (spec.student_layers, spec.student_hidden, spec.student_intermediate)
    augmented = task.name in ("rte", "cola") and not spec.augment
    said = {
        f"teacher {teacher}": teacher != BERT and (recipe is None or recipe.uses_teacher),
        f"student {shape[0]} x {shape[1]}": recipe and shape != (4, 312, 1200),
        f"{metrics['epochs']} epochs": recipe and metrics["epochs"] != task.epochs,
        f"general text {Path(spec.general_data).name}": recipe and recipe.general,
        "not augmented": recipe and recipe.general and augmented,
        f"{metrics['rows']:,} training rows": "a fixed sample" in metrics["source"],
        "not GLUE's own split": "not GLUE's own split" in metrics["source"],
    }
    return [what for what, holds in said.items() if holds]


class Systems:
    """The finished runs of a session's profile, and `columns`, its dev splits. Trains nothing.

    Columns are those of the session's tasks, and of other GLUE tasks that were run into the same
    store with the same settings, one call of `reproduce.py --task` after the other.
    """

    def __init__(self, session):
        self.session, self.profile, self.columns = session, session.profile, []
        self.stored, data = Stored(finished(session.out)), session.profile.data
        others = () if own_task(data) else GLUE
        others = [t for t in others if t not in session.tasks and self.runs("lrc", t)]
        for name in (*session.tasks, *others):
            data = "" if name in others else self.profile.spec(name).data
            task = get_task(name, "" if data == "hub" else data)
            for split in task.dev_splits:
                paper = task.paper_columns.get(split, "")
                title = paper or " ".join([task.title, split][: len(task.dev_splits)])
                self.columns.append(Column(task, split, title, paper))

    def _look(self, task: str):
        return find if task in self.session.tasks else self.stored.find

    def runs(self, recipe: str, task: str) -> dict:
        """{seed: RunResult} of those in the store. One teacher teaches all seeds.

        None of a recipe whose learning rate is still to be chosen.
        """
        out, look = self.session.out, self._look(task)
        self.profile = settled(self.profile, task, recipe, out, look)
        if self.profile.is_open(task, recipe):
            return {}
        specs = {s: self.profile.spec(task, recipe, s) for s in self.session.seeds}
        found = {seed: look(spec, out) for seed, spec in specs.items()}
        return {seed: result for seed, result in found.items() if result}

    def differs(self, recipe: str) -> str:
        """What sets a system's runs on GLUE apart from the paper's, by their specs and metrics."""
        found: dict[str, list] = {}
        for column in (c for c in self.columns if c.paper):
            for run in list(self.runs(recipe, column.task.name).values())[:1]:
                for difference in _differences(run, column.task):
                    found.setdefault(difference, []).append(column.paper)
        every = {c.paper for c in self.columns if c.paper and self.runs(recipe, c.task.name)}
        return "; ".join(
            what if set(where) == every else f"{what} ({', '.join(where)})"
            for what, where in found.items()
        )

    def choices(self) -> list[Choice]:
        """The learning rates that were chosen on these dev sets, task by task."""
        tasks = dict.fromkeys(column.task.name for column in self.columns)
        every = ((task, recipe) for task in tasks for recipe in RECIPES)
        made = (
            choice(self.profile, *pair, self.session.out, self._look(pair[0])) for pair in every
        )
        return [found for found in made if found]

    def inflation(self, made: Choice) -> float:
        """Points by which the best rate's score is too high on average, if all are equally good."""
        column = next(c for c in self.columns if c.task.name == made.task)
        return inflation([estimate(runs, column).draws[0] for runs in made.runs.values()])

    def dev_note(self) -> str:
        """What a table of dev scores must say where learning rates were chosen on the same rows."""
        kept = self.profile.spec(self.session.task).keep == "best"
        also = " Each run kept its best epoch of stage 2 on this dev set: optimistic." * kept
        spread = [self.inflation(made) for made in self.choices()]
        if not spread:
            return also
        return also + (
            f" Learning rates: each task's and recipe's best of {len(self.profile.rates)}, chosen "
            f"on this dev set: optimistic. If the rates were equally good, choosing would add "
            f"{min(spread):.1f} to {max(spread):.1f} points on average."
        )

    def score(self, recipe: str, column: Column) -> Estimate | None:
        """A system's score in points; None if it was not run."""
        runs = list(dict.fromkeys(self.runs(recipe, column.task.name).values()))
        return estimate(runs, column) if runs else None

    def pair(self, recipe: str, other: str, column: Column) -> tuple[Estimate, Estimate] | None:
        """Both scores over the seeds that both have, so that they can be subtracted or divided."""
        first, second = (self.runs(name, column.task.name) for name in (recipe, other))
        seeds = [seed for seed in first if seed in second]
        both = [[runs[seed] for seed in seeds] for runs in (first, second)]
        return tuple(estimate(runs, column) for runs in both) if seeds else None


def verdict(measured: Estimate | None, at_least: float = 0.0) -> str:
    """One of `VERDICTS` on "above 0", or on "`at_least` so much", by where the interval lies."""
    if measured is None:
        return "not run"
    if measured.low > at_least or 0 < at_least <= measured.low:
        return "reproduced"
    return "not reproduced" if measured.high < at_least else "not distinguishable"


def auc(score: np.ndarray, event: np.ndarray) -> Estimate:
    """The chance that a row with the event scores above one without; NaN without either kind."""

    def area(rows):
        ranks, hit = rankdata(score[rows], axis=1), event[rows]
        ones = hit.sum(1)
        won, pairs = (ranks * hit).sum(1) - ones * (ones + 1) / 2, ones * (len(score) - ones)
        return np.divide(won, pairs, out=np.full(len(rows), np.nan), where=pairs > 0)

    value, draws = draw_rows(area, len(score))
    return Estimate(value, np.stack([draws, draws]), ("auc", len(score)), len(score))


def cases(chosen: np.ndarray, by: np.ndarray, count: int = 4) -> np.ndarray:
    """Numbers of the `chosen` rows with the largest `by`, largest first, ties by row number."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-by[rows], kind="stable")][:count]
