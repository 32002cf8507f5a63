"""The paper's two searches: where stage 2 begins, and which weights its losses have.

  python -m benchmarks.grid [--seeds 3] [--store DIR] [--out results]

The paper searched the stage boundary in {0, 5, ..., 95 %} and each weight in {1, 2, 3, 4}, both on
MNLI. This grid has six boundaries, each with all three learning-rate schedules, and at the paper's
boundary the weights changed one at a time, on the first task of the profile. Nothing is chosen: a
cell's score stands next to its paired difference to the paper's setting (80 %, linear, 1:1:3), with
the interval of `lrc_lib.evaluate.combined`, uncorrected.

With one linear schedule, stage 2 gets lower learning rates the later it begins, so that a search
over the boundary also searches over rates. "effect" is the difference to the boundary 80 % within
one schedule. "schedules_part" is the effect with "linear" minus the effect with "restart", which
gives each stage a warm-up and a fall of its own. At boundary 0 these two schedules are the same.

The runs have recipes that the library does not know. Their store must be one of their own.
"""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

from lrc_lib import find
from lrc_lib.course.notebook import output_root
from lrc_lib.data import get_task
from lrc_lib.results.statistics import Estimate, estimate
from lrc_lib.runs.device import default_jobs, resolve_device
from lrc_lib.runs.pool import close_over, train_all
from lrc_lib.runs.profiles import load_profile
from lrc_lib.schedule import RECIPES, SCHEDULES

from .measure import parser, write
from .table import Silent

BOUNDARIES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)
WEIGHTS = ("1:1:1", "1:1:2", "1:1:4", "1:2:1", "1:4:1", "2:1:1", "4:1:1")
SEARCHED = [":".join(map(str, w)) for w in itertools.product((1, 2, 3, 4), repeat=3)]
BOUNDARY, SCHEDULE, STAGE2 = 0.8, "linear", "1:1:3"  # the paper's


def with_weights(weights: str):
    """LRC-BERT with these weights in stage 2, such as "1:1:4"; all share the first stage."""
    stage2 = tuple(map(int, weights.split(":")))
    return replace(RECIPES["lrc"], name=f"lrc_{weights.replace(':', '_')}", stage2=stage2)


# At import, because every worker process imports the module that was started.
RECIPES.update({r.name: r for r in map(with_weights, SEARCHED) if r.stage2 != (1, 1, 3)})


def cells_of(boundaries, schedules, weights) -> list[tuple[float, str, str]]:
    """(boundary, schedule, weights) of every cell, with those that the differences need."""
    both = itertools.product(dict.fromkeys([*boundaries, BOUNDARY]), schedules, [STAGE2])
    cells = [*both, (BOUNDARY, SCHEDULE, STAGE2)]
    return list(dict.fromkeys([*cells, *((BOUNDARY, SCHEDULE, w) for w in weights)]))


def spec_of(profile, cell, seed: int):
    boundary, schedule, weights = cell
    recipe = "lrc" if weights == STAGE2 else with_weights(weights).name
    spec = profile.spec(profile.tasks[0], "lrc", seed)
    return spec.replace(recipe=recipe, stage_boundary=boundary, schedule=schedule)


def numbers(e: Estimate, sign: str = "+") -> dict:
    """An estimate for the record: points, uncorrected interval and p value, what it rests on."""
    found = {name: round(getattr(e, name), 4) for name in ("value", "low", "high")}
    found |= {"p": e.p(), "scores": e.scores.round(4).tolist(), "text": e.text(sign=sign)}
    return found | {"basis": e.basis(), "collapsed": e.fallen()}


def lines_of(scores: dict[tuple, Estimate]) -> list[dict]:
    """A line for each cell, then a line for each boundary with the part that is the schedule's."""
    lines, effects = [], {}
    for (boundary, schedule, weights), e in scores.items():
        line = {"boundary": boundary, "schedule": schedule, "weights": weights}
        line |= {"score": numbers(e, sign=""), "runs": e.runs}
        line["difference"] = numbers(e - scores[BOUNDARY, SCHEDULE, STAGE2])
        if weights == STAGE2 and boundary != BOUNDARY:
            effects[boundary, schedule] = e - scores[BOUNDARY, schedule, STAGE2]
            line["effect"] = numbers(effects[boundary, schedule])
        lines.append(line)
    for boundary in dict.fromkeys(boundary for boundary, _ in effects):
        pair = [effects.get((boundary, schedule)) for schedule in ("linear", "restart")]
        if all(pair):
            lines.append({"boundary": boundary, "schedules_part": numbers(pair[0] - pair[1])})
    return lines


def main(arguments=None) -> None:
    command = parser("grid", __doc__)
    command.add_argument("--profile", default="laptop")
    command.add_argument("--data", default="", metavar="DIR", help="GLUE or your own files")
    command.add_argument("--set", nargs="+", default=[], metavar="K=V")
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--store", default="", metavar="DIR", help="of the runs; OUT/grid")
    command.add_argument("--jobs", type=int, default=0)
    command.add_argument("--boundaries", type=float, nargs="*", default=BOUNDARIES, metavar="B")
    command.add_argument("--schedules", nargs="*", default=SCHEDULES, choices=SCHEDULES)
    choices = {"choices": SEARCHED, "metavar": "A:B:C"}
    command.add_argument("--weights", nargs="*", default=WEIGHTS, **choices)
    options = command.parse_args(arguments)
    jobs = options.jobs or default_jobs(resolve_device(options.device))
    store = Path(options.store or output_root() / "grid").resolve()
    given = {name: getattr(options, name) for name in ("data", "seeds", "device")}
    profile = load_profile(options.profile, options.set, **given)
    cells = cells_of(options.boundaries, options.schedules, options.weights)
    specs = {cell: {s: spec_of(profile, cell, s) for s in profile.seed_range} for cell in cells}
    needed = close_over(spec for runs in specs.values() for spec in runs.values())
    outcomes = train_all(needed, store, options.device, jobs, Silent())
    if lost := sum(o.status in ("failed", "skipped") for o in outcomes.values()):
        sys.exit(f"{lost} of {len(needed)} runs are missing; the same command trains them again.")
    task = get_task(profile.tasks[0], profile.data)
    split = task.dev_splits[0]
    scores = {}
    for cell, runs in specs.items():
        scores[cell] = estimate({s: find(spec, store) for s, spec in runs.items()}, task, split)
    about = {"task": task.title, "metric": task.primary, "split": split, "profile": profile.title}
    write([about, *lines_of(scores)], "grid", options.out, options.device)


if __name__ == "__main__":
    main()
