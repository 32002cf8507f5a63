"""What a step of LRC-BERT costs: plain, TextBrewer's, and ours, each saving switched on in turn.

Every row runs on the same texts in the same process, in turn, for several rounds; ratios are
taken within a round. On a CPU, seconds are CPU seconds of the process, wall seconds beside them.

  python -m benchmarks.step                                  packaged MiniLM teacher, reviews
  python -m benchmarks.step --glue-dir DIR                   CoLA and MRPC rows
  python -m benchmarks.step --teacher bert-base-shape
  python -m benchmarks.step --device cuda --teacher bert-base-shape --full

On a GPU (or with --gpu-rows) come rows for an asked teacher, precisions and compilation, timed from
the 20th step on, and from each the hours of the paper's trainings are extrapolated.
"""

import argparse
import subprocess
import sys
import time
from functools import partial

import numpy as np

from lrc_lib.data.batches import epoch_order
from lrc_lib.runs.device import resolve_device
from lrc_lib.schedule import Recipe

from .gpu import BATCH, BUCKET, Ours, extrapolated, gpu_variants
from .measure import Clock, count_flops, gemm_rate, parser, peak_memory, spread, write
from .reference import WEIGHTS, PlainLrc, Savings
from .workload import (
    MAX_LENGTH,
    Workload,
    full_rows,
    mixed_rows,
)

LRC = Recipe("step", "LRC-BERT, all losses", stage1=WEIGHTS, stage2=WEIGHTS)
KD = Recipe(
    "kd", "no perturbation, MSE", stage1=WEIGHTS, stage2=WEIGHTS, layer_loss="mse", perturb=False
)
PEAKS = ("a", "b", "ours", "c+", "ours kd")  # of these, peak memory in a process of their own
LADDER = (
    ("b", "plain, dynamic padding", ""),
    ("d1", "+ cached teacher", "cached_teacher"),
    ("d2", "+ closed-form COS-NCE", "closed_form"),
    ("d3", "+ first backward to the embeddings only", "narrow_backward"),
    ("d4", "+ fused AdamW", "fused_adamw"),
    ("d5", "+ trimmed vocabulary", "trimmed_vocabulary"),
)


class Plain:
    """A rung of the ladder: `PlainLrc` over some batches."""

    def __init__(self, work: Workload, savings: Savings, pad_to=0, batches=None, bucket=0):
        student, projection = work.student()
        self.step = PlainLrc(
            student, projection, work.teacher, work.cached, work.pairs, work.encoded, pad_to,
            savings, work.device,
        )  # fmt: skip
        order = epoch_order(work.encoded.lengths, 0, 0, BATCH, bucket)
        self.batches = order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)[:batches]
        self.steps = len(self.batches)

    def run(self):
        for indices in self.batches:
            self.step(indices)

    def seconds(self, clock) -> float:
        begun = clock()
        self.run()
        return clock() - begun


def variants(work: Workload, gpu=False) -> dict:
    """{key: (what it is, a function that makes it)} in the order of the table.

    What is made has `run()`, `seconds(clock)` and `steps`.
    """
    found, switched = {}, {}
    few = max(2, len(work.encoded) // BATCH // 6)  # padded to 128 all batches cost the same
    found["a"] = ("plain, padded to 128", lambda: Plain(work, Savings(), MAX_LENGTH, few))
    for key, what, saving in LADDER:
        switched = switched | ({saving: True} if saving else {})
        found[key] = (what, partial(Plain, work, Savings(**switched)))
    found["d6"] = ("+ length buckets", lambda: Plain(work, Savings(**switched), bucket=BUCKET))
    found["ours"] = ("lrc_lib's own loop", lambda: Ours(work, LRC))
    try:
        from .textbrewer_kd import TextBrewer

        found["c"] = ("TextBrewer, KD part, dynamic padding", lambda: TextBrewer(work, False))
        found["c+"] = ("TextBrewer, KD part, cached teacher", lambda: TextBrewer(work, True))
    except ImportError as error:
        print(f"TextBrewer skipped: {error} (pip install textbrewer tensorboard)", file=sys.stderr)
    found["ours kd"] = ("lrc_lib's own loop, KD part", lambda: Ours(work, KD))
    return found | (gpu_variants(work, LRC) if gpu else {})


def measure(work: Workload, rounds: int, keys=(), gpu=False) -> list[dict]:
    """One line a variant: seconds a step, ratios to (b) and (a), FLOPs, share of the GEMM rate."""
    chosen = {
        k: (what, make())
        for k, (what, make) in variants(work, gpu).items()
        if not keys or k in keys
    }
    clock, walls, seconds, gemm = Clock(work.device), {}, {}, []
    flops = {key: count_flops(v.run) / v.steps for key, (_, v) in chosen.items()}  # warms up, too
    for _ in range(rounds):
        gemm.append(gemm_rate(work.device))
        for key, (_, variant) in chosen.items():
            begun = time.perf_counter()
            seconds.setdefault(key, []).append(variant.seconds(clock) / variant.steps)
            wall = (time.perf_counter() - begun) / variant.steps
            walls.setdefault(key, []).append(seconds[key][-1] if steady(variant) else wall)
    lines = [{"gemm_gflops": spread(rate / 1e9 for rate in gemm), "rounds": rounds}]
    for key, (what, variant) in chosen.items():
        line = {"key": key, "what": what, "steps_a_round": variant.steps}
        line["seconds_a_step"] = spread(seconds[key])
        line["wall_seconds_a_step"] = spread(walls[key])
        line |= {"steady": True} if steady(variant) else {}
        line["samples_a_second"] = BATCH / line["seconds_a_step"]["median"]
        line["gflop_a_step"] = flops[key] / 1e9
        rates = zip(seconds[key], gemm, strict=True)
        line["share_of_gemm_rate"] = spread(flops[key] / s / rate for s, rate in rates)
        against = ("c", "c+") if "kd" in key else ("a", "b")
        for other in against:
            if other in seconds and key not in against:
                both = zip(seconds[other], seconds[key], strict=True)
                line[f"times_faster_than_{other}"] = spread(a / b for a, b in both)
        lines.append(line)
    return lines


def steady(variant) -> bool:
    return getattr(variant, "steady", False)


def peak_of(options, key) -> float:
    """Of a process of its own that runs the variant once."""
    command = [sys.executable, "-m", "benchmarks.step", "--_peak", key]
    for name in ("device", "teacher", "glue_dir", "rows"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--full"] * options.full
    done = subprocess.run(command, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else float("nan")


def figure(lines, path) -> None:
    """Bars of seconds a step, in the order of the table."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from lrc_lib.course.palette import use_style

    use_style()
    rows = [line for line in lines if "key" in line]
    fig, ax = plt.subplots(figsize=(8, 0.4 * len(rows) + 1.2))
    places = np.arange(len(rows))
    middle = [line["seconds_a_step"]["median"] for line in rows]
    errors = [
        [m - line["seconds_a_step"]["low"] for m, line in zip(middle, rows, strict=True)],
        [line["seconds_a_step"]["high"] - m for m, line in zip(middle, rows, strict=True)],
    ]
    ax.barh(
        places, middle, xerr=errors, color=["C0" if "lrc_lib" in r["what"] else "0.6" for r in rows]
    )
    ax.set_yticks(places, [f"{line['what']}  ({line['key']})" for line in rows])
    ax.invert_yaxis()
    ax.set_xlabel(
        "CPU seconds (GPU: wall) a step of 16 rows: median, least, greatest of the rounds"
    )
    fig.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(fig)


def main(arguments=None) -> None:
    command = parser("step", __doc__)
    command.add_argument(
        "--teacher", default="package", help="package, bert-base-shape or a folder"
    )
    command.add_argument("--glue-dir", default="", metavar="DIR")
    command.add_argument("--rows", type=int, default=192)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--only", nargs="+", default=[], metavar="KEY", help="keys of the table")
    command.add_argument("--full", action="store_true", help="all rows of 128 tokens")
    command.add_argument("--gpu-rows", action="store_true", help="what a GPU gets, here too")
    command.add_argument("--_peak", default="", help=argparse.SUPPRESS)
    options = command.parse_args(arguments)
    device = resolve_device(options.device)
    rows, what = (
        full_rows(options.rows) if options.full else mixed_rows(options.rows, options.glue_dir)
    )
    work = Workload(rows, options.teacher, device)
    if options._peak:
        variants(work)[options._peak][1]().run()
        print(peak_memory(device))
        return
    gpu = options.gpu_rows or device.type == "cuda"
    lines = measure(work, options.rounds, options.only, gpu)
    for line in (line for line in lines[1:] if line["key"] in PEAKS):
        line["peak_memory_mb"] = peak_of(options, line["key"])
    lengths = work.encoded.lengths
    facts = {"teacher": options.teacher, "rows": len(lengths), "texts": what}
    facts |= {"mean_tokens": float(lengths.mean()), "batch_size": BATCH}
    name = f"step-{device.type}-{options.teacher if '/' not in options.teacher else 'folder'}"
    name += "-full" * options.full
    write([facts, *lines, *extrapolated(lines)], name, options.out, device)
    if options.out:
        figure(lines, f"{options.out}/{name}.png")


if __name__ == "__main__":
    main()
