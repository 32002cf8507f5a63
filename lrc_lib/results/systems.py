"""The systems of a profile, read from the store: their scores, and how they differ from the paper.

Nothing is trained here. Taught in notebooks/05_ablations and 09_glue_results.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from lrc_lib.data import get_task, own_task
from lrc_lib.data.corpus import is_wikipedia, places_of
from lrc_lib.data.tasks import GLUE, Task
from lrc_lib.results.statistics import Estimate, estimate
from lrc_lib.runs.profiles import Profile, student_of
from lrc_lib.runs.selection import Choice, choice, with_choice
from lrc_lib.runs.spec import RunSpec
from lrc_lib.runs.store import find, finished
from lrc_lib.schedule import RECIPES

BERT = "google-bert/bert-base-uncased"  # the paper's teacher


class Column(NamedTuple):
    """A dev split, scored by its task's primary metric.

    `paper` is its column in the paper's Table 1; "" if it has none there.
    """

    task: Task
    split: str
    title: str
    paper: str


def without_place(spec: RunSpec) -> RunSpec:
    """The spec without what changes no score: where its rows lie, its cache, what is kept of it."""
    return spec.replace(data="", cache_gb=0.0, compile="off", save_weights=True)


class Stored:
    """The runs of GLUE tasks in a store, found by their spec without reading their data.

    Args:
        results: runs (`RunResult`). Of each task only the runs on the newest run's rows are kept,
            because runs on other rows cannot be compared with them.
    """

    def __init__(self, results: Iterable):
        self.runs: dict[RunSpec, object] = {}
        sources: dict[tuple, str] = {}
        for result in sorted(results, key=lambda r: r.path.stat().st_mtime, reverse=True):
            source, rows = result.metrics.get("source", ""), result.spec.selection_rows
            task = result.spec.task
            if task in GLUE and sources.setdefault((task, rows), source) == source:
                self.runs.setdefault(without_place(result.spec), result)

    def find(self, spec: RunSpec, out=None):
        """The run of this spec, wherever its data lay, or None; called like the store's `find`."""
        return self.runs.get(without_place(spec))


class Systems:
    """The finished runs of a profile, by recipe and task.

    `columns` are the dev splits of the profile's tasks, and of other GLUE tasks that were run into
    the same store with the same settings, for example by several calls of `reproduce.py --task`.

    Args:
        profile: for example `session.profile`.
        out: the folder that holds the store, for example `session.out`.
        look: finds a run by `look(spec, out)`; None looks in the store.
    """

    def __init__(self, profile: Profile, out, look: Callable | None = None):
        self.profile, self.out, self.look = profile, out, look
        self.stored = Stored(() if look else finished(out))
        others = () if own_task(profile.data) else GLUE
        others = [t for t in others if t not in profile.tasks and self.runs("lrc", t)]
        self.columns: list[Column] = []
        for name in (*profile.tasks, *others):
            data = profile.spec(name).data if name in profile.tasks else ""
            task = get_task(name, data)
            for split in task.dev_splits:
                paper = task.paper_columns.get(split, "")
                title = f"{task.title} {split}" if len(task.dev_splits) > 1 else task.title
                self.columns.append(Column(task, split, paper or title, paper))

    def _look(self, task: str):
        return self.look or (find if task in self.profile.tasks else self.stored.find)

    def _seeds(self, task: str, recipe: str) -> list[int]:
        return self.profile.seeds_in(self.out, task, recipe)

    def runs(self, recipe: str, task: str, **settings) -> dict:
        """{seed: `RunResult`} of the runs in the store; one teacher serves all seeds.

        Empty if the recipe's settings are still to be chosen. `settings`: fields of `RunSpec` in
        which the runs differ from the profile's.
        """
        self.profile = with_choice(self.profile, task, recipe, self.out, self._look(task))
        if self.profile.is_open(task, recipe):
            return {}
        seeds = self._seeds(task, student_of(recipe))
        specs = {s: self.profile.spec(task, recipe, s).replace(**settings) for s in seeds}
        found = {seed: self._look(task)(spec, self.out) for seed, spec in specs.items()}
        return {seed: result for seed, result in found.items() if result}

    def score(self, recipe: str, column: Column, **settings) -> Estimate | None:
        """A system's score in points; None if it was not run. `settings`: see `runs`."""
        runs = self.runs(recipe, column.task.name, **settings)
        runs = {r.id: (s, r) for s, r in reversed(runs.items())}
        found = dict(reversed(runs.values()))  # one teacher serves all seeds: it counts once
        return estimate(found, column.task, column.split) if found else None

    def pair(self, recipe: str, other: str, column: Column, **settings) -> tuple | None:
        """Both scores over the seeds that both systems have, to be subtracted or divided.

        `settings` are those of the first, see `runs`. Gives two estimates, or None without such a
        seed.
        """
        task = column.task.name
        first, second = self.runs(recipe, task, **settings), self.runs(other, task)
        seeds = [seed for seed in first if seed in second]
        both = [{seed: runs[seed] for seed in seeds} for runs in (first, second)]
        return tuple(estimate(r, column.task, column.split) for r in both) if seeds else None

    def differs(self, recipe: str) -> str:
        """How a system's runs on GLUE differ from the paper's; "" without such runs."""
        found: dict[str, list] = {}
        ran = [c for c in self.columns if c.paper and self.runs(recipe, c.task.name)]
        for column in ran:
            run = next(iter(self.runs(recipe, column.task.name).values()))
            for difference in differences(run, column.task):
                found.setdefault(difference, []).append(column.paper)
        return "; ".join(
            what if len(where) == len(ran) else f"{what} ({', '.join(where)})"
            for what, where in found.items()
        )

    def not_the_papers(self, recipe: str) -> str:
        """Why a number of this recipe cannot be held against the paper's; "" if it can."""
        ran = any(column.paper and self.runs(recipe, column.task.name) for column in self.columns)
        why = self.differs(recipe) if ran else "no column of the paper was run"
        return f"teacher, student and schedule are not the paper's: {why}" * bool(why)

    def choices(self) -> list[Choice]:
        """The settings that were chosen on held-out training rows, task by task."""
        tasks = dict.fromkeys(column.task.name for column in self.columns)
        pairs = ((task, recipe) for task in tasks for recipe in RECIPES)
        found = (choice(self.profile, *pair, self.out, self._look(pair[0])) for pair in pairs)
        return [chosen for chosen in found if chosen]

    def dev_note(self) -> str:
        """A note for tables of dev scores: what was chosen, and on which rows; "" if nothing."""
        note = f" {self.profile.dev_note}" * bool(self.profile.dev_note)
        if self.profile.spec().keep == "best":
            note += " Each run kept its best epoch of stage 2 on this dev set: optimistic."
        if self.choices():
            names = " and ".join(name.replace("_", " ") for name in self.profile.select)
            note += (
                f" Chosen for each task and recipe: {names}, on {self.profile.select_rows:,} "
                "training rows that were held out, not on these dev rows."
            )
        return note


def differences(run, task: Task) -> list[str]:
    """How a run on GLUE differs from the paper's, in words."""
    spec, metrics = run.spec, run.metrics
    recipe = RECIPES.get(spec.recipe)  # None for a teacher
    teacher = Path(spec.teacher).name if Path(spec.teacher).is_absolute() else spec.teacher
    shape = spec.student_shape
    augmented = task.name in ("rte", "cola") and not spec.augment
    places = (Path(place.removeprefix("glue=")).name for place in places_of(spec.general_data))
    holds = {
        f"teacher {teacher}": teacher != BERT and (recipe is None or recipe.uses_teacher),
        f"student {shape[0]} x {shape[1]}": recipe and shape != (4, 312, 1200),
        f"{metrics['epochs']} epochs": recipe and metrics["epochs"] != task.epochs,
        f"general text {', '.join(places)}": recipe
        and recipe.general
        and not is_wikipedia(spec.general_data),
        "not augmented": recipe and recipe.general and augmented,
        f"{metrics['rows']:,} training rows": re.search(
            r"\btrain [\d,]+ \(a fixed sample", metrics["source"]
        ),
        "not GLUE's own split": "not GLUE's own split" in metrics["source"],
    }
    return [difference for difference, is_so in holds.items() if is_so]
