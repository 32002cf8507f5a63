"""Clocks, counters and the record that every benchmark writes."""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from lrc_lib.runs.provenance import provenance

GEMM_SIZE = {"cpu": 1024, "cuda": 8192}


def parser(name: str, says: str) -> argparse.ArgumentParser:
    """The command line that every benchmark has: --device and --out."""
    made = argparse.ArgumentParser(
        f"python -m benchmarks.{name}",
        description=says,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--device", default="cpu")
    made.add_argument("--out", default="", metavar="DIR", help="write what was measured there")
    return made


class Clock:
    """Seconds of work: CPU seconds of this process on a CPU, wall seconds on an accelerator.

    CPU seconds do not count what other processes take, so they are the steadier of the two here.
    """

    def __init__(self, device):
        self.device = torch.device(device)

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()


def timed(work, clock: Clock) -> tuple[float, float]:
    """(seconds by the clock, wall seconds) of calling `work()`."""
    begun, wall = clock(), time.perf_counter()
    work()
    return clock() - begun, time.perf_counter() - wall


def gemm_rate(device="cpu", seconds: float = 0.5, dtype=torch.float32) -> float:
    """FLOP a second of this machine's own matrix product, the best of several."""
    clock, size = Clock(device), GEMM_SIZE.get(torch.device(device).type, 1024)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, begun = 0.0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        start = clock()
        for _ in range(5):
            a @ b
        best = max(best, 5 * 2 * size**3 / max(clock() - start, 1e-9))
    return best


def count_flops(work) -> int:
    """FLOPs of calling `work()`, as torch counts them: matrix products, two a multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def spread(values) -> dict:
    """Median, least and greatest of some numbers."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def slope(x, y) -> float:
    """Exponent of y ~ x**slope by least squares on logarithms: 0 costs nothing, 1 is linear."""
    import numpy as np

    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def write(lines: list[dict], name: str, out: str, device) -> None:
    """Print the lines as JSON and, if `out` is a folder, write them to `out/name.jsonl`.

    The first line says where the numbers are from.
    """
    text = "\n".join(json.dumps(line) for line in (head(name, device), *lines)) + "\n"
    print(text)
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        (Path(out) / f"{name}.jsonl").write_text(text, encoding="utf-8")


def head(name: str, device) -> dict:
    """The first line of a record: what was measured, by which command, and where."""
    command = " ".join(["python -m", *_command()])
    return {"benchmark": name, "command": command, "made": provenance(torch.device(device))}


def _command() -> list[str]:
    """What was called, folders of this machine left out."""
    module = sys.modules["__main__"].__spec__
    words = [module.name if module else Path(sys.argv[0]).name, *sys.argv[1:]]
    return ["DIR" if Path(word).is_dir() or Path(word).is_absolute() else word for word in words]
