"""Runs trained as one model: specs in, the same run folders out as `lrc_lib.runs.run.run` makes."""

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from filelock import FileLock

from lrc_lib.runs.provenance import provenance
from lrc_lib.runs.run import (
    RunResult,
    begin_run,
    computing,
    conclude_run,
    default_out,
    find,
    publish_run,
    run,
    run_folder,
)
from lrc_lib.runs.spec import RunSpec


def run_stack(
    specs: Sequence[RunSpec], out=None, device: str = "auto", progress: Callable | None = None
) -> list[RunResult]:
    """`run` for several specs with one `RunSpec.stack_key`: those not in the store train as one.

    Arguments as of `run`. Each run's seconds are its share of the time that all took. An error
    in one student ends all; every one keeps its checkpoint, from which `run` goes on alone.
    """
    out = Path(out or default_out())
    for spec in specs:
        for dependency in spec.dependencies():
            run(dependency, out, device, progress)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    with ExitStack() as locks:
        waiting = {}
        for spec in sorted(specs, key=RunSpec.run_id):  # in one order: no two wait for each other
            folder = run_folder(spec, out)
            locks.enter_context(FileLock(folder.with_name(folder.name + ".lock")))
            if find(spec, out) is None:
                waiting[spec] = folder.with_name(folder.name + ".partial")
        if waiting:
            _train(waiting, out, device, progress)
        for spec, partial in waiting.items():
            publish_run(spec, partial, run_folder(spec, out))
    return [find(spec, out) for spec in specs]


def _train(partials: dict[RunSpec, Path], out: Path, device: str, progress) -> None:
    from lrc_lib.runs.build import prepare_student
    from lrc_lib.runs.progress import default_progress
    from lrc_lib.stack import train_together

    started, prepared = time.perf_counter(), []
    progress = progress or default_progress()
    with computing(next(iter(partials)), device) as device:
        for spec, partial in partials.items():
            partial.mkdir(exist_ok=True)
            begin_run(spec, partial)
            report = functools.partial(progress, spec)
            job, finish = prepare_student(spec, out, partial, device, report)
            job.generator = torch.Generator()
            job.generator.set_state(torch.get_rng_state())
            if prepared:  # one copy of the rows and of the teacher's answers serves all
                job.encoded, job.teach = prepared[0][0].encoded, prepared[0][0].teach
            prepared.append((job, finish))
        train_together([job for job, _ in prepared])
        metrics = [finish() for _, finish in prepared]
    share = (time.perf_counter() - started) / len(partials)
    facts = provenance(device) | {"processes": 1, "seconds": share, "stacked": len(partials)}
    for (spec, partial), values in zip(partials.items(), metrics, strict=True):
        conclude_run(spec, partial, values, dict(facts))
