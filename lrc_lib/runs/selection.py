"""The choice of settings for each task and recipe, made on rows that judge nothing.

The rule: a profile's `[select]` lists the candidates, learning rates and perhaps representations,
and how many training rows are held out. For each task and recipe, every candidate is trained on the
other training rows, with the same seeds, and scored on the held-out rows by the task's primary
metric. The candidate with the highest mean is chosen; of equal means the one that comes first. All
recipes have the same candidates, also the control, so that none profits from more tries. The runs
that are reported then train on all training rows, and the dev rows have chosen nothing.

Taught in notebooks/09_glue_results.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrc_lib.runs.profiles import Profile, student_of
from lrc_lib.runs.store import RunResult, find
from lrc_lib.schedule import RECIPES


def best(scores: Mapping[tuple, Sequence[float]]) -> tuple:
    """The candidate with the highest mean score; of equal means the one that comes first.

    Args:
        scores: {candidate: scores}, one score per seed, equally many for each candidate.

    Raises:
        ValueError: no candidates, no scores, or different numbers of scores.
    """
    counts = {len(values) for values in scores.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"each candidate needs a score for each seed, not {dict(scores)}")
    return max(scores, key=lambda candidate: float(np.mean(scores[candidate])))


@dataclass(frozen=True)
class Choice:
    """The chosen settings, and the runs of all candidates: {candidate: runs}, one run per seed.

    A candidate is a tuple of values, in the order of `fields`.
    """

    task: str
    recipe: str
    fields: tuple[str, ...]
    runs: dict[tuple, list[RunResult]]

    @property
    def scores(self) -> dict[tuple, list[float]]:
        """{candidate: scores}: the primary metric on the held-out rows, a fraction per seed."""
        return {values: [run.score() for run in runs] for values, runs in self.runs.items()}

    @property
    def values(self) -> dict:
        """The chosen value of each field, see `best`."""
        return dict(zip(self.fields, best(self.scores), strict=True))


def choice(profile: Profile, task: str, recipe: str, out, look: Callable = find) -> Choice | None:
    """The choice for a task and recipe. Nothing is trained.

    Args:
        profile: names the candidates; choices that it has already are not looked at.
        task, recipe: names.
        out: the folder that holds the store.
        look: finds a run by `look(spec, out)`.

    Returns:
        None while a candidate is missing in the store, or if there is nothing to choose.
    """
    fields, runs = tuple(profile.select), {}
    for spec in replace(profile, chosen={}).candidates(task, recipe):
        found = look(spec, out)
        if found is None:
            return None
        runs.setdefault(tuple(getattr(spec, name) for name in fields), []).append(found)
    return Choice(task, recipe, fields, runs) if runs else None


def with_choice(profile: Profile, task: str, recipe: str, out, look=find) -> Profile:
    """The profile with the settings of this task and recipe chosen, if all candidates exist.

    The general distillation and the one on augmented rows that come before `lrc` have the settings
    of `lrc`. The arguments are those of `choice`.
    """
    if not profile.is_open(task, recipe):
        return profile
    found = choice(profile, task, student_of(recipe), out, look)
    if found is None:
        return profile
    return replace(profile, chosen=profile.chosen | {(task, found.recipe): found.values})


def with_choices(profile: Profile, out) -> Profile:
    """The profile with everything chosen whose candidates exist."""
    for task in profile.tasks:
        for recipe in RECIPES:
            profile = with_choice(profile, task, recipe, out)
    return profile


def to_choose(profile: Profile, specs: Iterable) -> list:
    """Those of the specs that must be trained before the others are known; [] without [select]."""
    return [spec for spec in specs if profile.select and spec.selection_rows]
