"""What a training step of LRC-BERT costs: plain code, TextBrewer and this library, in one run.

A batch holds 16 rows of one task, as a user's does. CoLA has single sentences, MRPC has pairs; each
has its own lines, and "mean" is as many steps of each. Every loop runs on the same rows in the same
process, in turn, for several rounds; ratios are taken within a round, and lines give the median,
the least and the greatest. On a CPU, seconds are CPU seconds of the process, with wall seconds next
to them. Rivals get the padding, the cache and the precision that their users can have.

Tables made before this rule drew the rows of two tasks in turn into one batch. This padded single
sentences to the longest pair and flattered this library: length buckets looked like a factor of 2.

  python -m benchmarks.step                        reviews, and pairs of reviews
  python -m benchmarks.step --glue-dir DIR         CoLA and MRPC
  python -m benchmarks.step --savings              what each saving is worth, in two ways
  python -m benchmarks.step --only plain ours --precision bf16
  python -m benchmarks.step --teacher bert-base-shape

With --savings, plain code with dynamic padding gets one saving after the other ("with:"), and this
library's loop loses one at a time ("without:"). Set OMP_NUM_THREADS=1 on a machine that does other
work, too. The defaults take about five minutes on two cores, --savings about twelve.
"""

import sys
from itertools import product

import torch

from lrc_lib.errors import InputError
from lrc_lib.runs.device import has_bf16, resolve_device

from .loops import BATCH, SAVINGS, Loop, loops
from .measure import Clock, count_flops, gemm_rate, parser, spread, timed, write
from .workload import Workload, task_rows

MEAN = "mean"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TABLE = ("plain-128", "plain", "ours", "tb-128", "tb", "tb-cache", "ours-kd")
LADDER = ["plain", *(f"with:{saving}" for saving in SAVINGS)]
LEFT_OUT = ["ours", *(f"without:{saving}" for saving in SAVINGS)]
RATIOS = (  # (key, precision) of the slower one, of the faster one
    (("plain", "fp32"), ("ours", "fp32")),
    (("plain", "bf16"), ("ours", "bf16")),
    (("plain", "fp32"), ("ours", "bf16")),
    (("tb-cache", "fp32"), ("ours-kd", "fp32")),
    (("tb-cache", "bf16"), ("ours-kd", "bf16")),
)


def measure(works: dict[str, Workload], rounds: int, keys, precisions=("fp32",)) -> list[dict]:
    """The lines of a table: the machine's rate, then a line for each loop and task, then ratios.

    Args:
        works: {task: its rows}.
        keys: of `benchmarks.loops.loops`.

    Raises:
        InputError: an unknown key.
    """
    device = next(iter(works.values())).device
    clock = Clock(device)
    chosen: dict[tuple, Loop] = {}
    for (task, work), precision in product(works.items(), precisions):
        there = loops(work, precision)
        if unknown := sorted(set(keys) - set(there) - set(TABLE)):
            raise InputError(f"No loop '{unknown[0]}'; there are {', '.join(there)}.")
        chosen |= {(key, precision, task): there[key] for key in keys if key in there}
    flops = {}
    for place, loop in chosen.items():
        run = loop.make()
        flops[place] = count_flops(run) / loop.steps  # warms up, too
    rates, seconds, walls = {p: [] for p in precisions}, {}, {}
    for _ in range(rounds):
        for precision in precisions:
            rates[precision].append(gemm_rate(device, dtype=DTYPES[precision]))
        for place, loop in chosen.items():
            spent, wall = timed(loop.make(), clock)
            seconds.setdefault(place, []).append(spent / loop.steps)
            walls.setdefault(place, []).append(wall / loop.steps)
    for found in (seconds, walls, flops):
        _add_means(found, list(works))
    lines = [{"gemm_gflops": {p: spread(r / 1e9 for r in rates[p]) for p in precisions}}]
    lines[0]["rounds"] = rounds
    what = {key: loop.what for (key, *_), loop in chosen.items()}
    for place in seconds:
        key, precision, task = place
        line = {"task": task, "key": key, "precision": precision, "what": what[key]}
        line["seconds_a_step"] = spread(seconds[place])
        line["wall_seconds_a_step"] = spread(walls[place])
        line["gflop_a_step"] = flops[place] / 1e9
        shares = zip(seconds[place], rates[precision], strict=True)
        line["share_of_gemm_rate"] = spread(flops[place] / s / rate for s, rate in shares)
        lines.append(line)
    tasks = [*works, MEAN]
    return [*lines, *_ratios(seconds, tasks), *_worth(seconds, tasks, precisions)]


def _add_means(found: dict, tasks: list) -> None:
    """Adds, for every loop, what as many steps of each task take on average."""
    for key, precision in dict.fromkeys(place[:2] for place in found):
        parts = [found[key, precision, task] for task in tasks]
        if isinstance(parts[0], list):
            found[key, precision, MEAN] = [sum(p) / len(p) for p in zip(*parts, strict=True)]
        else:
            found[key, precision, MEAN] = sum(parts) / len(parts)


def _ratios(seconds: dict, tasks) -> list[dict]:
    return [
        {
            "task": task,
            "ratio": f"{' '.join(slow)} / {' '.join(fast)}",
            "times_faster": _quotients(seconds[(*slow, task)], seconds[(*fast, task)]),
        }
        for (slow, fast), task in product(RATIOS, tasks)
        if (*slow, task) in seconds and (*fast, task) in seconds
    ]


def _quotients(above, below) -> dict:
    return spread(a / b for a, b in zip(above, below, strict=True))


def _worth(seconds: dict, tasks, precisions) -> list[dict]:
    """What each saving saves, as a share of a step that has it."""
    lines = []
    for precision, task, (place, saving) in product(precisions, tasks, enumerate(SAVINGS)):
        line = {"task": task, "saving": saving, "precision": precision, "what": SAVINGS[saving]}
        pairs = {
            "on_the_ladder": (LADDER[place], LADDER[place + 1]),
            "left_out_of_ours": (LEFT_OUT[place + 1], "ours"),
        }
        for name, (without, having) in pairs.items():
            both = [seconds.get((key, precision, task)) for key in (without, having)]
            if all(both):
                line[name] = spread(a / b - 1 for a, b in zip(*both, strict=True))
        if len(line) > 4:
            lines.append(line)
    return lines


def main(arguments=None) -> None:
    command = parser("step", __doc__)
    command.add_argument(
        "--teacher", default="package", help="package, bert-base-shape or a folder"
    )
    command.add_argument("--glue-dir", default="", metavar="DIR")
    command.add_argument("--tasks", nargs="+", default=["cola", "mrpc"], help="of --glue-dir")
    command.add_argument("--rows", type=int, default=96, help="of each task")
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--only", nargs="+", default=[], metavar="KEY", help="of a line's `key`")
    command.add_argument("--precision", nargs="+", default=[], choices=[*DTYPES])
    command.add_argument("--savings", action="store_true", help="what each saving is worth")
    options = command.parse_args(arguments)
    device = resolve_device(options.device)
    precisions = options.precision or [p for p in DTYPES if p == "fp32" or has_bf16(device)]
    rows = task_rows(options.rows, options.glue_dir, options.tasks)
    works = {task: Workload(rows[task], options.teacher, device) for task in rows}
    keys = options.only or ([*LADDER, *LEFT_OUT] if options.savings else TABLE)
    facts = {"teacher": options.teacher, "rows_of_a_task": options.rows, "batch_size": BATCH}
    facts["tokens"] = {task: float(w.encoded.lengths.mean()) for task, w in works.items()}
    lines = measure(works, options.rounds, keys, precisions)
    teacher = options.teacher if options.teacher in ("package", "bert-base-shape") else "folder"
    name = f"{'savings' if options.savings else 'step'}-{device.type}-{teacher}"
    write([facts, *lines], name, options.out, device)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
