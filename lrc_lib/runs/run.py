"""Every training is a run: a spec, an id, a folder; asked for again, it is read, not repeated.

A run folder holds `spec.json`, `history.jsonl`, `metrics.json`, `predictions.npz`, `student/` (a
plain transformers model with its tokenizer and its card, README.md), `projection.pt` (W) and
`provenance.json`. It gets its final name by one rename, so a folder that exists is whole.
"""

import functools
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from lrc_lib.errors import InputError, LrcError, UnavailableError, unknown
from lrc_lib.runs.processes import current
from lrc_lib.runs.provenance import peak_memory_mb, provenance
from lrc_lib.runs.spec import RunSpec


@dataclass(frozen=True)
class RunResult:
    """A finished run, read from its folder. Nothing is loaded before it is asked for."""

    spec: RunSpec
    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    def _part(self, name: str) -> Path:
        """A file of the run; `UnavailableError` with the way to get it back if it is not there."""
        path, out = self.path / name, self.path.parent.parent
        if not path.exists():
            raise UnavailableError(
                f"{path} is missing: the run is not whole. Delete {self.path}/metrics.json, then "
                f"`python -m lrc_lib run {self.path}/spec.json --out {out}` makes it again."
            )
        return path

    def _json(self, name: str) -> dict:
        return json.loads(self._part(name).read_text(encoding="utf-8"))

    @property
    def metrics(self) -> dict:
        """ "splits" {split: {"n", metric: fraction, ...}}, "majority", "primary", "steps", ..."""
        return self._json("metrics.json")

    @property
    def provenance(self) -> dict:
        """Versions, device, threads, commit, seconds, peak memory."""
        return self._json("provenance.json")

    @property
    def history(self):
        """DataFrame, a row a step: step, epoch, stage, rate, loss (clean total), perturbed,
        layers (sum over layers), floor, excess, soft, hard, and with keep = "best" dev, the
        primary metric at the ends of stage 2's epochs; NaN where a part was off."""
        import pandas

        columns = "step epoch stage rate loss perturbed layers floor excess soft hard dev".split()
        lines = self._part("history.jsonl").read_text(encoding="utf-8").splitlines()
        return pandas.DataFrame(map(json.loads, lines)).reindex(columns=columns)

    def predictions(self, split: str = "") -> dict[str, np.ndarray]:
        """Dev predictions: "logits" (n, C) and "labels" (n,); the first split if none is named."""
        with np.load(self._part("predictions.npz")) as arrays:
            splits = sorted({name.split("/")[0] for name in arrays})
            split = split or next(iter(self.metrics["splits"]))
            if split not in splits:
                raise unknown("split", split, splits)
            return {name: arrays[f"{split}/{name}"] for name in ("logits", "labels")}

    def score(self, split: str = "", metric: str = "") -> float:
        """One dev metric as a fraction: the primary one of the first split by default."""
        metrics = self.metrics
        split = split or next(iter(metrics["splits"]))
        return metrics["splits"][split][metric or metrics["primary"]]

    def student(self):
        """The trained model (a transformers classifier) in eval mode, on the CPU."""
        from lrc_lib.models import load_saved

        return load_saved(self._part("student/model.safetensors").parent)

    def tokenizer(self):
        """The tokenizer saved beside the model."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._part("student"))

    def projection(self):
        """The trained W, on the CPU; None for a run without layer loss."""
        path = self.path / "projection.pt"
        if not path.exists():
            return None
        from lrc_lib.runs.build import projection_like

        return projection_like(self.spec, torch.load(path, weights_only=True))


def default_out() -> Path:
    """$LRC_OUT, else `out/` in the repository (or in the current folder, if installed)."""
    if os.environ.get("LRC_OUT"):
        return Path(os.environ["LRC_OUT"])
    root = Path(__file__).resolve().parents[2]
    return (root if (root / "pyproject.toml").exists() else Path.cwd()) / "out"


def run_folder(spec: RunSpec, out) -> Path:
    """Where a run lies once it is whole; its `.partial` and `.lock` are beside it."""
    return Path(out or default_out()) / "runs" / spec.run_id()


def find(spec: RunSpec, out=None) -> RunResult | None:
    """The finished run of this spec, or None. Trains nothing."""
    folder = run_folder(spec, out)
    return RunResult(spec, folder) if (folder / "metrics.json").exists() else None


def open_run(name: str, out=None) -> RunResult:
    """A finished run by its id in `out`, by its folder, or the best run of a task by its name.

    Best is the student with the highest primary metric on the first dev split; runs scored on
    more dev rows come before runs scored on fewer.

    Raises:
        InputError: there is no such run (with the nearest id).
    """
    root = Path(out or default_out()) / "runs"
    for folder in (root / name, Path(name)):
        if (folder / "metrics.json").exists() and folder.suffix != ".partial":
            return _read(folder)
    known = finished(out)
    students = [run for run in known if run.spec.kind == "student"]
    of_task = [run for run in students if run.spec.task == name]
    if of_task:
        return max(of_task, key=_merit)
    if not known:
        raise InputError(f"There is no run '{name}': '{root}' holds no finished run.")
    tasks = sorted({run.spec.task for run in students})
    raise unknown(f"run in '{root}':", name, [*tasks, *(run.id for run in known)])


def finished(out=None) -> list[RunResult]:
    """All finished runs of the store, by id. Looks at no data."""
    root = Path(out or default_out()) / "runs"
    folders = [path.parent for path in sorted(root.glob("*/metrics.json"))]
    return [_read(folder) for folder in folders if folder.suffix != ".partial"]


def _merit(result: RunResult) -> tuple[int, float]:
    return next(iter(result.metrics["splits"].values()))["n"], result.score()


def _read(folder: Path) -> RunResult:
    spec = RunSpec.from_json((folder / "spec.json").read_text(encoding="utf-8"))
    return RunResult(spec, folder.resolve())


def run(
    spec: RunSpec, out=None, device: str = "auto", progress: Callable | None = None
) -> RunResult:
    """Read the run if it exists, resume it if it was interrupted, else train it.

    Runs it depends on (teacher, general distillation) come first. A second process that asks for
    the same run waits for the first one and then reads. Within
    `lrc_lib.runs.processes.together` all its processes call this and train together.

    Args:
        spec: what to train.
        out: folder that holds `runs/` and `cache/`; see `default_out`.
        device: "auto", "cpu", "cuda" or "mps".
        progress: called as progress(spec, step, total, line); `line` is "" within an epoch. The
            default draws a bar when a person watches and prints a line an epoch when not.

    Raises:
        InputError, UnavailableError, TrainingError: see `lrc_lib.errors`.

    Taught in: notebooks/04_two_stage_distillation.
    """
    group = current()
    done = group.share(find(spec, out))
    if done:
        return done
    for dependency in spec.dependencies():
        run(dependency, out, device, progress)
    folder = run_folder(spec, out)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        with nullcontext() if group.rank else lock:
            done = group.share(find(spec, out))
            if done:
                return done
            with group.workplace(folder.with_name(folder.name + ".partial")) as partial:
                _train(spec, out, partial, device, progress)
                return group.share(None if group.rank else publish_run(spec, partial, folder))
    except OSError as error:
        if isinstance(error, LrcError):
            raise
        raise InputError(
            f"Cannot write the run to '{folder.parent}': {error}. What was saved there is kept, "
            "and the same command goes on from it."
        ) from error


def _train(spec: RunSpec, out, partial: Path, device: str, progress) -> None:
    from lrc_lib.runs.build import TRAINERS
    from lrc_lib.runs.progress import default_progress

    group = current()
    progress = functools.partial(progress or default_progress(), spec)
    started = time.perf_counter()
    with computing(spec, device) as device:
        begin_run(spec, partial)
        metrics = TRAINERS[spec.kind](
            spec, Path(out or default_out()), partial, device,
            (lambda *_: None) if group.rank else progress,
        )  # fmt: skip
    if not group.rank:  # process 0 writes for all
        facts = {"processes": group.processes, "seconds": time.perf_counter() - started}
        conclude_run(spec, partial, metrics, provenance(device) | facts)


@contextmanager
def computing(spec: RunSpec, device: str):
    """The device on which to compute a spec; within it, random numbers are the run's own."""
    from lrc_lib.runs.device import resolve_device
    from lrc_lib.runs.execution import check_precision, memory_advice

    device = resolve_device(device)
    check_precision(spec.precision, device)
    devices = [device] if device.type == "cuda" else []
    with memory_advice(spec), torch.random.fork_rng(devices=devices):
        yield device


def begin_run(spec: RunSpec, partial: Path) -> None:
    """Write the spec and seed the random numbers."""
    if not (partial / "spec.json").exists():
        (partial / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    torch.manual_seed(spec.seed)


def conclude_run(spec: RunSpec, partial: Path, metrics: dict, facts: dict) -> None:
    """Write what a training came to, and where from."""
    facts |= {"peak_memory_mb": peak_memory_mb()}
    (partial / "provenance.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (partial / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    if metrics["splits"]:  # it answers a task
        from lrc_lib.runs.card import model_card

        card = model_card(RunResult(spec, partial))
        (partial / "student" / "README.md").write_text(card, encoding="utf-8")


def publish_run(spec: RunSpec, partial: Path, folder: Path) -> RunResult:
    """Give a whole run its final name."""
    (partial / "checkpoint.pt").unlink(missing_ok=True)
    if folder.exists():  # left without metrics by something that is not this kit
        shutil.rmtree(folder)
    os.replace(partial, folder)
    return RunResult(spec, folder)
