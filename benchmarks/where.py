"""Where the time of this library's training step goes, and how far its matrix products are from
the machine's own rate. For a CPU.

  python -m benchmarks.where --glue-dir DIR [--precision bf16] [--out results/benchmarks]

`torch.profiler` measures the time within each operator, without those that it calls. It slows a
step down by its bookkeeping, which is in "the rest".
"""

from torch.profiler import ProfilerActivity, profile

from lrc_lib.runs.device import has_bf16

from .loops import LRC, batches, ours
from .measure import count_flops, gemm_rate, parser, write
from .step import DTYPES
from .workload import Workload, task_rows

KINDS = {  # operators of torch, by what they do
    "matrix products": "mm addmm bmm baddbmm",
    "softmax": "_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data",
    "random numbers of dropout": "random_ bernoulli_",
    "casts and copies": "copy_ clone cat index_select index embedding",
    "GELU and LayerNorm": "gelu gelu_backward native_layer_norm native_layer_norm_backward",
    "optimiser and clipping": "_fused_adamw_ linalg_vector_norm _foreach_mul_ _foreach_norm",
}
KIND_OF = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names.split()}


def shares(run) -> tuple[dict[str, float], float]:
    """({kind: share of the time}, seconds in matrix products) of calling `run()`."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    spent = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in record.key_averages():
        spent[KIND_OF.get(event.key, "the rest")] += event.self_cpu_time_total / 1e6
    whole = sum(spent.values())
    return {kind: s / whole for kind, s in spent.items()}, spent["matrix products"]


def measure(works: dict[str, Workload], precisions) -> list[dict]:
    """A line for each task and precision."""
    lines = []
    for task, work in works.items():
        for precision in precisions:
            flops = count_flops(ours(work, LRC, precision))  # warms up, too
            parts, seconds = shares(ours(work, LRC, precision))
            rate, own = flops / seconds / 1e9, gemm_rate(dtype=DTYPES[precision]) / 1e9
            lines.append(
                {"task": task, "precision": precision, "steps": len(batches(work))}
                | {"shares": parts, "matrix_gflops": rate, "gemm_gflops": own}
            )
    return lines


def main(arguments=None) -> None:
    command = parser("where", __doc__)
    command.add_argument("--glue-dir", default="", metavar="DIR")
    command.add_argument("--tasks", nargs="+", default=["cola", "mrpc"], help="of --glue-dir")
    command.add_argument("--rows", type=int, default=256, help="of each task")
    command.add_argument("--precision", nargs="+", default=[], choices=[*DTYPES])
    options = command.parse_args(arguments)
    precisions = options.precision or [p for p in DTYPES if p == "fp32" or has_bf16("cpu")]
    rows = task_rows(options.rows, options.glue_dir, options.tasks)
    works = {task: Workload(rows[task], "package", "cpu") for task in rows}
    write(measure(works, precisions), "where-cpu", options.out, "cpu")


if __name__ == "__main__":
    main()
