"""Which learning rate: one of the same few for each task and recipe, chosen on the dev set.

The rule: for each task and recipe, every rate of the profile's `[select] learning_rate` is trained
with every seed; chosen is the rate with the highest mean, over the seeds, of the task's primary
metric on its first dev split. Of equal means the lowest rate wins. Every recipe has the same
candidates, the control too, so that none is favoured by more tries. A dev score belongs to a
student at the end of its run, in stage 2: in stage 1 its head is untrained and says nothing.

The best of several noisy numbers is too high: `inflation` says by how much it can be. Taught in
notebooks/09_glue_results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrc_lib.runs.profiles import student_of
from lrc_lib.runs.store import RunResult, find


def best_rate(scores: Mapping[float, Sequence[float]]) -> float:
    """The rate with the highest mean score; of equal ones the lowest.

    Args:
        scores: {rate: scores}, a score a seed, as many for each rate.

    Raises:
        ValueError: no rates, no scores, or not as many for each.
    """
    counts = {len(values) for values in scores.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"each rate needs a score for each seed, not {dict(scores)}")
    return max(sorted(scores), key=lambda rate: float(np.mean(scores[rate])))


@dataclass(frozen=True)
class Choice:
    """A learning rate that was chosen: the runs of each candidate, a run a seed."""

    task: str
    recipe: str
    runs: dict[float, list[RunResult]]

    @property
    def scores(self) -> dict[float, list[float]]:
        """{rate: primary metric on the first dev split, as fractions, a number a seed}."""
        return {rate: [run.score() for run in runs] for rate, runs in self.runs.items()}

    @property
    def rate(self) -> float:
        """What `best_rate` says."""
        return best_rate(self.scores)


def choice(profile, task: str, recipe: str, out, look=find) -> Choice | None:
    """The choice for a task and recipe; None while a candidate is missing, or nothing is to choose.

    It looks into the store, by `look(spec, out)`, and trains nothing.
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


def settled(profile, task: str, recipe: str, out, look=find):
    """The profile with the learning rate of this task and recipe chosen, where it can be.

    "augmented" is a stage before `lrc`, and has the rate of that.
    """
    if not profile.is_open(task, recipe):
        return profile
    made = choice(profile, task, student_of(recipe), out, look)
    if made is None:
        return profile
    return replace(profile, chosen=profile.chosen | {(task, made.recipe): made.rate})


def inflation(draws: Sequence[np.ndarray]) -> float:
    """How much too high the best of several candidates is on average, if all are equally good.

    Args:
        draws: for each candidate its bootstrap draws (D,) on the *same* dev rows, as
            `lrc_lib.results.compare.Estimate.draws[0]`: they differ as far as the candidates' answers do.

    Returns:
        The mean over the draws of the largest deviation from a candidate's own mean; at least 0, in
        the unit of the draws. For k independent normal ones it is their expected maximum: 0.85
        standard deviations for k = 3.
    """
    noise = np.stack([d - np.mean(d) for d in draws])
    return max(0.0, float(noise.max(0).mean()))  # not -1e-17
