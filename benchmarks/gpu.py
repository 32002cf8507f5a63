"""The library's own loop as `benchmarks.step` times it, and what a GPU's table has on top."""

import time
from functools import partial

from lrc_lib.data import get_task
from lrc_lib.data.glue_dir import FORMATS
from lrc_lib.runs.profiles import load_profile
from lrc_lib.schedule import Recipe

from .workload import Workload, seconds_of_training, steady_seconds

BATCH = 16
BUCKET = 16
STEADY_STEPS = 300


class Ours:
    """The library's own loop, `lrc_lib.training.train`, with everything it does beside the step.

    steady: time many epochs from the 20th step on, else one epoch with its set-up.
    """

    def __init__(
        self, work: Workload, recipe: Recipe, bucket=BUCKET, steady=False, live=False, **how
    ):
        self.work, self.recipe, self.steady, self.how = work, recipe, steady, how
        self.values = {"batch_size": BATCH, "bucket": bucket}
        self.steps = len(work.encoded) // BATCH
        self.teach = work.live() if live else None

    def run(self):  # eager, since that is what FLOPs can be counted of
        job = self.work.job(self.recipe, self.teach, **self.values)
        seconds_of_training(job, time.perf_counter)

    def seconds(self, clock) -> float:
        epochs = -(-STEADY_STEPS // self.steps) if self.steady else 1
        job = self.work.job(self.recipe, self.teach, epochs, **self.values, **self.how)
        if self.steady:
            return steady_seconds(job, clock) * self.steps
        return seconds_of_training(job, clock)


def gpu_variants(work: Workload, recipe: Recipe) -> dict:
    """More rows for a GPU, as `variants`: cached and asked teacher, precision, compilation."""
    rows = {}
    for live in (False, True):
        for precision in ("fp32", "tf32", "bf16"):
            for compile in ("off", "on"):
                how = precision + (", compiled" if compile == "on" else "")
                key = f"{'live' if live else 'cached'} {how.replace(',', '')}"
                what = f"lrc_lib's own loop, teacher {'asked' if live else 'cached'}, {how}"
                make = partial(Ours, work, recipe, steady=True, live=live)
                rows[key] = (what, partial(make, precision=precision, compile=compile))
    return rows


def extrapolated(lines) -> list[dict]:
    """Hours of the paper's trainings at the rates measured: an extrapolation, and marked as one."""
    every = table1_steps()
    return [
        {
            "extrapolated_from": line["key"],
            "steps_a_second": 1 / line["wall_seconds_a_step"]["median"],
            "hours_mnli": every["mnli"] * line["wall_seconds_a_step"]["median"] / 3600,
            "hours_table_1_three_rates": 3 * sum(every.values())
            * line["wall_seconds_a_step"]["median"] / 3600,
            "steps": every,
        }
        for line in lines if line.get("steady")
    ]  # fmt: skip


def table1_steps() -> dict[str, int]:
    """Steps of the paper's trainings, task by task: its epochs over GLUE's rows, 16 a batch."""
    tasks = load_profile("paper").tasks
    return {t: get_task(t, "").epochs * (FORMATS[t].official[0] // BATCH) for t in tasks}
