"""One GPU session, in one command that stops by itself.

  python -m benchmarks.gpu --out OUT [--minutes 8] [--glue-dir DIR] [--teacher package|FOLDER]
  python -m benchmarks.gpu --out OUT --device cpu --small            the same, small, on a CPU

In this order:
  tests     the tests of what is fast, which include those that need a GPU
  steps     seconds a step and memory: precision, compilation, cached and asked teacher
  together  several training runs side by side on the device, against one after the other
  train     RTE at the paper's schedule (`lrc`, `lrc_1`, `finetune`), as far as time allows

Each part is a process of its own with an end that it may not pass. It writes each line to
OUT/gpu-PART.jsonl as soon as the line is measured, so that a killed session loses one line. The
runs of `train` lie in OUT/store: the same command continues them. Nothing here needs a network,
except for a teacher, or texts for general distillation (--set general_data=FILE), that are not on
this machine yet; LRC_OFFLINE=1 says at once that they are missing.
"""

import argparse
import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing

from lrc_lib import RunSpec, run
from lrc_lib.data import get_task, load_task_data
from lrc_lib.data.glue_dir import FORMATS
from lrc_lib.errors import LrcError
from lrc_lib.runs.device import has_bf16, resolve_device
from lrc_lib.runs.profiles import load_profile
from lrc_lib.runs.provenance import peak_memory_mb

from .loops import BATCH, BUCKET, LRC, plain
from .measure import Clock, head, parser, spread, timed
from .reference import Savings
from .workload import PACKAGE, Workload, full_rows, task_rows

ROOT = Path(__file__).resolve().parents[1]
ENDS = {"tests": 0.2, "steps": 0.5, "together": 0.65, "train": 1.0}  # share of the time
WARM = 20  # steps until a loop is steady: the trainer reports every 20
TINY = (2, 24, 32, 2)  # the student of the small form


class Record:
    """OUT/gpu-PART.jsonl: where the numbers are from, then a line for each."""

    def __init__(self, part: str, options):
        self.path = Path(options.out) / f"gpu-{part}.jsonl"
        self.until = options.until
        with self.path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head(f"gpu-{part}", options.device)) + "\n")

    def add(self, **line) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    @property
    def left(self) -> float:
        """Seconds until this part has to end."""
        return self.until - time.time()

    def each(self, items: dict):
        """The items' keys, as long as the slowest one so far would still end in time."""
        slowest = 0.0
        for key in items:
            if self.left < 1.2 * slowest:
                self.add(skipped=str(key), why=f"{self.left:.0f} seconds are left")
                continue
            begun = time.time()
            yield key
            slowest = max(slowest, time.time() - begun)


# ---- the parts


def tests(options, record: Record) -> None:
    """`tests/test_fast.py` in a process of its own; of the small form, one test of it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs"]
    command += ["-k", "jobs_by_device"] * options.small
    begun = time.time()
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "test_fast.py")], cwd=ROOT, capture_output=True, text=True
    )
    said = (done.stdout + done.stderr).splitlines()
    record.add(passed=done.returncode == 0, seconds=time.time() - begun, said=said[-12:])


def steps(options, record: Record) -> None:
    """A line for each way of computing a step, the most telling ones first."""
    device = torch.device(options.device)
    works, table = {}, {}
    for texts, teacher, precision, compile in ways(options):
        key = f"{texts}, teacher {teacher}, {precision}" + ", compiled" * (compile == "on")
        table[key] = texts, teacher, precision, compile
    for key in record.each(table):
        texts, teacher, precision, compile = table[key]
        if texts not in works:
            works[texts] = workload(options, texts)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        measured = plainly if teacher == "plain" else steady
        line = measured(works[texts], precision, compile, teacher == "asked", options.steps)
        if device.type == "cuda":
            line["peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
            line["peak_reserved_mb"] = torch.cuda.max_memory_reserved(device) / 1e6
        else:
            line["peak_memory_mb"] = peak_memory_mb()  # of all lines so far
        record.add(way=key, tokens=float(works[texts].encoded.lengths.mean()), **line)


def ways(options):
    """(texts, teacher, precision, compile) of each line; plain code asks its teacher, too."""
    cuda, best = options.device.startswith("cuda"), fastest(options)
    for texts in ("full", "short"):
        yield from (
            (texts, "plain", precision, "off") for precision in dict.fromkeys(("fp32", best))
        )
    for teacher in ("cached", "asked"):
        for texts in ("full", "short"):
            eager = dict.fromkeys(["fp32", *["tf32"] * cuda, best])
            yield from ((texts, teacher, precision, "off") for precision in eager)
            if cuda:
                yield texts, teacher, best, "on"
    if cuda:
        yield from (("full", "cached", precision, "on") for precision in ("tf32", "fp32"))


def fastest(options) -> str:
    """The precision that is the device's fastest."""
    return "bf16" if has_bf16(torch.device(options.device)) else "fp32"


def workload(options, texts: str = "short", **values) -> Workload:
    """Rows of 128 tokens ("full"), or one task's ("short"): RTE's, else those of `nli`."""
    count = 2 * BATCH if options.small else 32 * BATCH
    if options.glue_dir:
        ((_, rows),) = task_rows(count, options.glue_dir, ("rte",)).items()
    else:
        rows = [r._replace(label=r.label % 2) for r in load_task_data("nli", "", count).train]
    rows = full_rows(rows, count) if texts == "full" else rows
    shape = {"shape": TINY} if options.small else {}
    return Workload(rows, options.teacher, options.device, **shape, **values)


def plainly(work: Workload, precision, *how) -> dict:
    """Of `benchmarks.reference`: an epoch, after one to warm up."""
    plain(work, Savings(), precision)()
    seconds, _ = timed(plain(work, Savings(), precision), Clock(work.device))
    count = len(work.encoded) // BATCH
    return {"seconds_a_step": spread([seconds / count]), "steps": count}


def steady(work: Workload, precision, compile, live, count) -> dict:
    """Of the library's own loop, from the 20th step on; before this comes what compiling takes."""
    clock, begun = Clock(work.device), time.perf_counter()
    job = a_job(work, count, precision, compile, live)
    marks = []
    job.trainer.report = lambda step, *_: marks.append((step, clock(), time.perf_counter()))
    with contextlib.redirect_stderr(io.StringIO()) as said:
        job.train()
    marks = [mark for mark in marks if mark[0] >= WARM]
    each = [
        (seconds - before) / (step - earlier)
        for (earlier, before, _), (step, seconds, _) in zip(marks, marks[1:], strict=False)
    ]
    line = {"seconds_a_step": spread(each), "steps": marks[-1][0]}
    line["wall_seconds_before"] = marks[0][2] - begun
    if "failed" in said.getvalue():
        line["compile_failed"] = said.getvalue().strip()
    every = table1_steps()
    middle = line["seconds_a_step"]["median"]
    line["extrapolated_hours"] = {
        "mnli": every["mnli"] * middle / 3600,
        "table_1_three_rates": 3 * sum(every.values()) * middle / 3600,
    }
    return line


def a_job(work: Workload, count: int, precision, compile="off", live=False):
    """A `Job` of at least WARM + `count` steps that leaves nothing behind."""
    epochs = -(-(WARM + count) // (len(work.encoded) // BATCH))
    job = work.job(
        LRC, work.live() if live else None, epochs, batch_size=BATCH, bucket=BUCKET,
        precision=precision, compile=compile,
    )  # fmt: skip
    job.trainer.finish = job.trainer._save = lambda *args: None
    return job


def table1_steps() -> dict[str, int]:
    """Steps of the paper's training runs, task by task: its epochs over GLUE's rows, 16 a batch."""
    tasks = load_profile("paper").tasks
    return {t: get_task(t, "").epochs * (FORMATS[t].official[0] // BATCH) for t in tasks}


def together(options, record: Record) -> None:
    """Steps a second of N processes on one device, all together, once all of them are steady."""
    cuda = options.device.startswith("cuda")
    ns = (1, 2) if options.small or not cuda else (1, 2, 4, 9)
    kinds = {f"{n} processes{how}": (n, how) for how in ("", ", compiled") for n in ns}
    one = {}
    for key in record.each({k: v for k, v in kinds.items() if cuda or not v[1]}):
        n, how = kinds[key]
        lines = side_by_side(options, n, "on" if how else "off", record.left)
        if errors := [line["error"] for line in lines if "error" in line]:
            record.add(processes=n, compiled=bool(how), error=errors[0])
            continue
        wall = max(line["ended"] for line in lines) - min(line["begun"] for line in lines)
        rate = sum(line["steps"] for line in lines) / wall
        one.setdefault(how, rate)
        record.add(
            processes=n, compiled=bool(how), steps_a_second=rate,
            share_of_time_one_after_the_other=one[how] / rate,
            peak_memory_mb=[line["peak_memory_mb"] for line in lines],
        )  # fmt: skip


def side_by_side(options, n: int, compile: str, seconds: float) -> list[dict]:
    """What each of `n` processes says, or an "error" for one that said nothing in time."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(n), context.Queue()
    workers = [
        context.Process(target=worker, args=(options, compile, barrier, seconds, answers))
        for _ in range(n)
    ]
    for process in workers:
        process.start()
    try:
        return [answers.get(timeout=seconds) for _ in workers]
    except queue.Empty:
        return [{"error": f"no answer within {seconds:.0f} seconds"}]
    finally:
        for process in workers:
            process.join(timeout=5)
            process.terminate()


def worker(options, compile: str, barrier, seconds: float, answers) -> None:
    """Trains; from the moment on in which all workers are warm, the steps count."""
    try:
        work = workload(options)
        job, line = a_job(work, options.steps, fastest(options), compile), {}

        def report(step, *_):
            if step >= WARM and not line:
                barrier.wait(timeout=seconds)
                line.update(begun=time.time(), first=step)
            elif line:
                line.update(ended=time.time(), steps=step - line["first"])

        job.trainer.report = report
        job.train()
        line["peak_memory_mb"] = peak_memory_mb()
        if work.device.type == "cuda":
            line["peak_memory_mb"] = torch.cuda.max_memory_reserved(work.device) / 1e6
        answers.put(line)
    except Exception as error:  # whatever went wrong, the others must not wait for it
        barrier.abort()
        answers.put({"error": f"{type(error).__name__}: {error}"})


def train(options, record: Record) -> None:
    """A line for each run, and for each epoch on the way to it."""
    if not options.glue_dir:
        record.add(skipped="train", why="--glue-dir was not given")
        return
    teacher = PACKAGE if options.teacher == "package" else options.teacher
    settings = [f"precision={fastest(options)}", *options.set]
    profile = load_profile("gpu", settings, ["rte"], options.glue_dir, teacher=teacher)

    def progress(spec, step, total, text):
        if text:
            record.add(run=spec.name, step=step, steps=total, text=text)

    for recipe in ("lrc", "lrc_1", "finetune"):
        spec = profile.spec("rte", recipe, 0)
        try:
            record.add(**facts_of(spec, run(spec, options.store, options.device, progress)))
        except LrcError as error:
            record.add(run=spec.name, error=str(error))


def facts_of(spec: RunSpec, done) -> dict:
    seconds, count = done.provenance["seconds"], done.metrics["steps"]
    return {
        "run": spec.name, "id": done.id, "splits": done.metrics["splits"],
        "constant": done.metrics["constant"], "steps": count, "seconds": seconds,
        "steps_a_second": count / seconds, "peak_memory_mb": done.provenance["peak_memory_mb"],
        "precision": spec.precision, "device_name": done.provenance["device_name"],
    }  # fmt: skip


PARTS = {"tests": tests, "steps": steps, "together": together, "train": train}


# ---- the command


def main(arguments=None) -> None:
    command = parser("gpu", __doc__)
    command.set_defaults(device="auto")
    command.add_argument("--minutes", type=float, default=8.0, help="after which it has stopped")
    command.add_argument("--small", action="store_true", help="a CPU's size; no GPU: always")
    command.add_argument("--glue-dir", default="", metavar="DIR")
    command.add_argument("--teacher", default="package", help="package or a folder")
    command.add_argument("--set", nargs="+", default=[], metavar="K=V", help="for `train`")
    command.add_argument("--only", nargs="+", default=[*PARTS], choices=[*PARTS])
    command.add_argument("--_part", help=argparse.SUPPRESS)
    command.add_argument("--_until", type=float, default=0.0, help=argparse.SUPPRESS)
    options = command.parse_args(arguments)
    if not options.out:
        command.error("--out is needed: where the numbers and the runs are written")
    begun = time.time()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    options.device = str(resolve_device(options.device))
    options.small = options.small or options.device == "cpu"
    options.steps = 20 if options.small else 200
    options.until, options.store = options._until, Path(options.out) / "store"
    if options._part:
        PARTS[options._part](options, Record(options._part, options))
        return
    given = sys.argv[1:] if arguments is None else list(arguments)
    for part in options.only:
        options.until = begun + 60 * options.minutes * ENDS[part]
        in_time(part, given, options)


def in_time(part: str, given: list, options) -> None:
    """Runs a part as a process, and ends it and its own processes when its time is over."""
    left = options.until - time.time()
    print(f"---- {part}: {left:.0f} seconds", flush=True)
    if left < 1:
        return
    own = [sys.executable, "-m", "benchmarks.gpu", *given]
    process = subprocess.Popen(
        [*own, "--_part", part, "--_until", str(options.until)],
        start_new_session=os.name == "posix",
    )
    try:
        code = process.wait(timeout=left)
        ending = f"it ended with exit status {code}" if code else ""
    except subprocess.TimeoutExpired:
        ending = "its time was over; what it had measured is kept"
    finally:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
    if ending:
        with (Path(options.out) / f"gpu-{part}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stopped": part, "why": ending}) + "\n")
        print(f"---- {part}: {ending}", flush=True)


if __name__ == "__main__":
    main()
