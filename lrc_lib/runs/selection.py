"""The choice of a learning rate for each task and recipe, made on the dev set.

The rule: for each task and recipe, every rate of the profile's `[select] learning_rate` is trained
with every seed. The rate with the highest mean, over the seeds, of the task's primary metric on
its first dev split is chosen; of equal means the lowest rate wins. All recipes have the same
candidates, also the control, so that none profits from more tries. The score is that of the
finished student.

The best of several noisy numbers is too high: `lrc_lib.results.statistics.inflation` computes by
how much. Taught in notebooks/09_glue_results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrc_lib.runs.profiles import Profile, student_of
from lrc_lib.runs.store import RunResult, find


def best_rate(scores: Mapping[float, Sequence[float]]) -> float:
    """The rate with the highest mean score; of equal means the lowest rate.

    Args:
        scores: {rate: scores}, one score per seed, equally many for each rate.

    Raises:
        ValueError: no rates, no scores, or different numbers of scores.
    """
    counts = {len(values) for values in scores.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"each rate needs a score for each seed, not {dict(scores)}")
    return max(sorted(scores), key=lambda rate: float(np.mean(scores[rate])))


@dataclass(frozen=True)
class Choice:
    """A chosen learning rate, and the runs of all candidates: {rate: runs}, one run per seed."""

    task: str
    recipe: str
    runs: dict[float, list[RunResult]]

    @property
    def scores(self) -> dict[float, list[float]]:
        """{rate: scores}: the primary metric on the first dev split, a fraction per seed."""
        return {rate: [run.score() for run in runs] for rate, runs in self.runs.items()}

    @property
    def rate(self) -> float:
        """The chosen rate, see `best_rate`."""
        return best_rate(self.scores)


def choice(profile: Profile, task: str, recipe: str, out, look: Callable = find) -> Choice | None:
    """The choice for a task and recipe. Nothing is trained.

    Args:
        profile: names the candidates and the seeds.
        task, recipe: names.
        out: the folder that holds the store.
        look: finds a run by `look(spec, out)`.

    Returns:
        None while a candidate is missing in the store, or if there is one rate only.
    """
    if len(profile.candidates(task, recipe)) < 2:
        return None
    runs: dict[float, list] = {}
    for seed in range(profile.seeds):
        for spec in profile.candidates(task, recipe, seed):
            found = look(spec, out)
            if found is None:
                return None
            runs.setdefault(spec.learning_rate, []).append(found)
    return Choice(task, recipe, runs)


def with_chosen_rate(profile: Profile, task: str, recipe: str, out, look=find) -> Profile:
    """The profile with the learning rate of this task and recipe chosen, if all candidates exist.

    Distillation on augmented rows comes before `lrc` and uses the rate of `lrc`. The arguments are
    those of `choice`.
    """
    if not profile.rate_is_open(task, recipe):
        return profile
    found = choice(profile, task, student_of(recipe), out, look)
    if found is None:
        return profile
    return replace(profile, chosen=profile.chosen | {(task, found.recipe): found.rate})
