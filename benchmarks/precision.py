"""What bfloat16 does to accuracy: the same runs in fp32 and in bf16, paired by seed and dev row.

  python -m benchmarks.precision [--seeds 5] [--store DIR] [--out DIR]             on reviews
  python -m benchmarks.precision --task cola --glue-dir DIR --set train_rows=4000  on another task

Trains `lrc`, `bert_m` and their teachers by the profile's settings. Each seed has a teacher of its
own; the seeds share a general distillation for each precision and layer loss. Every difference has
the interval of all tables, over rows and seeds.
"""

import sys

from lrc_lib import find
from lrc_lib.course.notebook import output_root
from lrc_lib.data import get_task
from lrc_lib.results.statistics import estimate
from lrc_lib.runs.device import default_jobs, has_bf16, resolve_device
from lrc_lib.runs.pool import close_over, train_all
from lrc_lib.runs.profiles import load_profile

from .measure import parser, write
from .table import Silent

PRECISIONS = ("fp32", "bf16")


def specs_of(profile, task: str, seeds: int) -> dict:
    """{(system, precision): {seed: spec}} of the teacher, `lrc` and `bert_m`."""
    found = {}
    for precision in PRECISIONS:
        for recipe in ("lrc", "bert_m"):
            found[recipe, precision] = {
                seed: profile.spec(task, recipe, seed).replace(
                    precision=precision, teacher_seed=seed
                )
                for seed in range(seeds)
            }
        students = found["lrc", precision]
        found["teacher", precision] = {n: spec.teacher_spec() for n, spec in students.items()}
    return found


def compared(specs: dict, store, task) -> list[dict]:
    """A line for each dev split and system: both scores and their difference, in points."""
    lines = []
    for split in task.dev_splits:
        for system in ("teacher", "lrc", "bert_m"):
            fp32, bf16 = (
                estimate({n: find(s, store) for n, s in specs[system, p].items()}, task, split)
                for p in PRECISIONS
            )
            gap, seconds = bf16 - fp32, {}
            for precision in PRECISIONS:
                runs = [find(spec, store) for spec in specs[system, precision].values()]
                seconds[precision] = sum(run.provenance["seconds"] for run in runs) / len(runs)
            lines.append(
                {"task": task.name, "split": split, "system": system, "metric": task.primary}
                | {"fp32": fp32.value, "bf16": bf16.value, "bf16 - fp32": gap.value}
                | {"low": gap.low, "high": gap.high, "basis": gap.basis(), "seconds": seconds}
                | {"collapsed": gap.fallen()}
            )
    return lines


def main(arguments=None) -> None:
    command = parser("precision", __doc__)
    command.add_argument("--profile", default="laptop")
    command.add_argument("--set", nargs="+", default=[], metavar="K=V")
    command.add_argument("--seeds", type=int, default=5)
    command.add_argument("--task", default="reviews")
    command.add_argument("--glue-dir", default="", metavar="DIR")
    command.add_argument("--store", default="", metavar="DIR", help="of runs; default out/")
    options = command.parse_args(arguments)
    device, store = resolve_device(options.device), output_root(options.store)
    if not has_bf16(device):
        sys.exit(f"This device ({device}) has no bfloat16: there is nothing to compare.")
    profile = load_profile(
        options.profile, options.set, options.task, options.glue_dir, device=options.device
    )
    specs = specs_of(profile, options.task, options.seeds)
    wanted = close_over(spec for of in specs.values() for spec in of.values())
    train_all(wanted, store, str(device), default_jobs(device), Silent())
    lines = compared(specs, store, get_task(options.task, options.glue_dir))
    facts = {"train_rows": specs["lrc", "bf16"][0].train_rows}
    write([facts, *lines], f"precision-{device.type}-{options.task}", options.out, device)


if __name__ == "__main__":
    main()
