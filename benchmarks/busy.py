"""What a training step costs next to other busy processes, by threads and OpenMP's wait policy.

  python -m benchmarks.busy [--busy 0 1 3] [--rounds 5] [--out DIR]

A step of two layers of MiniLM's size: 16 rows of 48 tokens. All variants are measured in turn in
each round. The fair share of one thread next to n busy processes on c cores is min(1, c / (n + 1))
of a core. `times_fair` is the wall time of a step over the CPU time of one thread divided by that
share: at 1 or less, a run lost at most its share. What else runs on the machine makes it larger;
"load" is the system's own count of all that wanted a core in the minute before each round.
"""

import json
import os
import subprocess
import sys
import time
from itertools import chain

import torch
from joblib import cpu_count

from .measure import parser, spread, write

VARIANTS = [(1, "ACTIVE"), (2, "ACTIVE"), (2, "PASSIVE")]  # (threads, $OMP_WAIT_POLICY)
SERVER = [sys.executable, "-m", "benchmarks.busy", "--_serve"]
BUSY = [sys.executable, "-c", "while 1: 0"]


def serve() -> None:
    """For each line on standard input, the seconds to measure for, answers (wall, CPU) a step."""
    from lrc_lib.models import build_student
    from lrc_lib.training import build_optimizer

    model = build_student(2, 384, 1536, 12, 2000).train()
    optimizer = build_optimizer(model, 1e-4, 0.01, "cpu")
    ids = torch.randint(1000, 2000, (16, 48))
    for line in chain(["0.1"], sys.stdin):  # the first is a warm-up
        steps, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < float(line):
            model(ids).logits.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
        spent = (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps
        print(json.dumps(spent), flush=True)


def measure(busy, rounds: int, seconds: float) -> list[dict]:
    """A line for each number of busy processes and variant."""
    servers, load = {}, []
    for threads, policy in VARIANTS:  # OpenMP reads its settings when torch is imported
        settings = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": policy}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        servers[threads, policy] = subprocess.Popen(SERVER, env=os.environ | settings, **pipes)
    for server in servers.values():
        server.stdout.readline()
    found = {(n, variant): [] for n in busy for variant in VARIANTS}
    for n in busy * rounds:
        load += [os.getloadavg()[0]] * (n == busy[0])
        others = [subprocess.Popen(BUSY) for _ in range(n)]
        try:
            for variant, server in servers.items():
                print(seconds, file=server.stdin, flush=True)
                found[n, variant].append(json.loads(server.stdout.readline()))
        finally:
            for other in others:
                other.kill()
                other.wait()
    for server in servers.values():
        server.communicate()
    lines = [{"step": "2 x 384 x 1536, 16 rows of 48 tokens", "cores": cpu_count(), "load": load}]
    alone = [cpu for _, cpu in found[busy[0], VARIANTS[0]]]
    for (n, (threads, policy)), pairs in found.items():
        walls, cpus = zip(*pairs, strict=True)
        fair = [max(1, (n + 1) / cpu_count()) * cpu for cpu in alone]
        line = {"busy": n, "threads": threads, "wait": policy if threads > 1 else "none"}
        line |= {"wall_seconds": spread(walls), "cpu_seconds": spread(cpus)}
        line["times_fair"] = spread(w / f for w, f in zip(walls, fair, strict=True))
        lines.append(line | {"walls": walls, "cpus": cpus})
    return lines


def main(arguments=None) -> None:
    command = parser("busy", __doc__)
    command.add_argument("--busy", type=int, nargs="+", default=[0, 1, 3], metavar="N")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--seconds", type=float, default=2.0, help="per variant and round")
    command.add_argument("--_serve", action="store_true")
    options = command.parse_args(arguments)
    if options._serve:
        serve()
    else:
        write(
            measure(options.busy, options.rounds, options.seconds), "busy-cpu", options.out, "cpu"
        )


if __name__ == "__main__":
    main()
