"""What cheaper dropout does to accuracy: torch's masks against `lrc_lib.runs.dropout`, on a CPU.

  python -m benchmarks.dropout [--seeds 5] [--recipe lrc_1] [--out DIR]

The masks have the same distribution, so the same accuracy is expected; here it is measured, on the
profile's main task and with one teacher, the difference with its interval over rows and seeds.
"""

import contextlib
from pathlib import Path

from lrc_lib import run
from lrc_lib.course.notebook import output_root
from lrc_lib.data import get_task
from lrc_lib.results.statistics import estimate
from lrc_lib.runs import run as runner
from lrc_lib.runs.profiles import load_profile

from .measure import parser, write


def trained(specs, store: Path, context) -> list:
    """The runs of these specs in `store`, computed with `context` for dropout."""
    usual, runner.cheap_dropout = runner.cheap_dropout, context
    try:
        return [run(spec, store, "cpu", lambda *progress: None) for spec in specs]
    finally:
        runner.cheap_dropout = usual


def main(arguments=None) -> None:
    command = parser("dropout", __doc__)
    command.add_argument("--profile", default="laptop")
    command.add_argument("--set", nargs="+", default=[], metavar="K=V")
    command.add_argument("--recipe", default="lrc_1")
    command.add_argument("--seeds", type=int, default=5)
    command.add_argument("--store", default="", metavar="DIR", help="of runs; default out/")
    options = command.parse_args(arguments)
    profile, store = load_profile(options.profile, options.set), output_root(options.store)
    spec = profile.spec(profile.tasks[0], options.recipe, 0)
    teacher = run(spec.teacher_spec(), store, "cpu")
    spec = spec.replace(teacher=str(teacher.path / "student"), teacher_epochs=0)
    specs = [spec.replace(seed=seed) for seed in range(options.seeds)]
    plain = trained(specs, store / "torch-dropout", contextlib.nullcontext)
    ours = trained(specs, store / "cheap-dropout", runner.cheap_dropout)
    task, lines = get_task(spec.task, spec.data), []
    for split in task.dev_splits:
        first, second = (estimate(runs, task, split) for runs in (plain, ours))
        for what, measured in (
            ("torch's dropout", first), ("ours", second), ("ours - torch's", second - first)
        ):  # fmt: skip
            line = {"split": split, "what": what, "metric": task.primary, "points": measured.value}
            line |= {"low": measured.low, "high": measured.high, "basis": measured.basis()}
            lines.append(line)
    write(lines, f"dropout-{options.recipe}", options.out, "cpu")


if __name__ == "__main__":
    main()
