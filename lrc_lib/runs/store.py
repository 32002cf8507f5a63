"""The run store: where finished runs lie, and how they are read.

A run folder holds `spec.json`, `history.jsonl`, `metrics.json`, `predictions.npz`, `student/` (a
plain transformers model with its tokenizer and its card, README.md), `projection.safetensors` (W),
`provenance.json` and `manifest.json` (size and sha256 of each file). The manifest is written last,
and the folder gets its final name by one rename: a folder that has both is whole. A run is checked
against its manifest and its spec before it is read; one that is not what it says is set aside.
"""

import functools
import json
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lrc_lib.data.manifest import (
    ASIDE,
    MANIFEST,
    fault,
    files_in,
    is_whole,
    rename,
    set_aside,
    write_manifest,
)
from lrc_lib.errors import InputError, LrcError, UnavailableError, unknown
from lrc_lib.models import Projection, load_saved
from lrc_lib.runs.spec import FIELDS, RunSpec
from lrc_lib.schedule import boundary_step, get_recipe

CHECKPOINTS = ("checkpoint.pt", "best.pt")  # of an unfinished run; deleted when it is published
COLUMNS = "step epoch stage rate loss perturbed layers minimum excess soft hard dev".split()


@dataclass(frozen=True)
class RunResult:
    """A finished run, read from its folder. Each part is loaded when it is asked for."""

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
                f"{path} is missing: the run was trained (`weights` in the profile) or merged "
                f"without its weights, or they were deleted. Delete {self.path / MANIFEST}, then "
                f"`python -m lrc_lib run {self.path}/spec.json --out {out}` makes the run again."
            )
        return path

    @contextmanager
    def _reading(self, name: str):
        """A file of the run to read; `InputError` if it does not hold what is looked for."""
        try:
            yield self._part(name)
        except LrcError:
            raise
        except Exception as error:  # numpy and zipfile raise many kinds
            raise InputError(f"{self.path / name} lacks what was asked for: {error!r}.") from error

    def _json(self, name: str) -> dict:
        with self._reading(name) as path:
            return dict(json.loads(path.read_text(encoding="utf-8")))

    @property
    def metrics(self) -> dict:
        """ "splits" {split: {"n", metric: fraction, ...}}, "constant", "primary", "steps", ..."""
        return self._json("metrics.json")

    @property
    def provenance(self) -> dict:
        """Versions, device, threads, commit, seconds, peak memory."""
        return self._json("provenance.json")

    @property
    def history(self) -> pandas.DataFrame:
        """A row per step: step, epoch, stage, rate, loss (clean total), perturbed, layers (sum over
        layers), minimum, excess, soft, hard, and with keep = "best" dev, the primary metric at the
        ends of stage 2's epochs; NaN where a part was off."""
        with self._reading("history.jsonl") as path:
            lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            return pandas.DataFrame(map(dict, lines)).reindex(columns=COLUMNS)

    def predictions(self, split: str = "") -> dict[str, np.ndarray]:
        """Dev predictions: "logits" (n, C), "labels" (n,) and "keys" (n,), see
        `lrc_lib.evaluate.row_keys`; the first split if none is named."""
        with self._reading("predictions.npz") as path, np.load(path) as arrays:
            splits = sorted({name.split("/")[0] for name in arrays})
            split = split or next(iter(self.metrics["splits"]))
            if split not in splits:
                raise unknown("split", split, splits)
            return {name: arrays[f"{split}/{name}"] for name in ("logits", "labels", "keys")}

    def score(self, split: str = "", metric: str = "") -> float:
        """One dev metric as a fraction: the primary one of the first split by default."""
        metrics = self.metrics
        with self._reading("metrics.json"):
            split = split or next(iter(metrics["splits"]))
            return metrics["splits"][split][metric or metrics["primary"]]

    def student(self):
        """The trained model (a transformers classifier) in eval mode, on the CPU."""
        with self._reading("student/model.safetensors") as path:
            return load_saved(path.parent)

    def tokenizer(self):
        """The tokenizer that was saved with the model."""
        with self._reading("student") as path:
            return AutoTokenizer.from_pretrained(path, trust_remote_code=False)

    def projection(self) -> Projection | None:
        """The trained W, on the CPU; None for a run without layer loss."""
        spec, name = self.spec, "projection.safetensors"
        if not (self.path / name).exists():
            return None
        with self._reading(name) as path:
            state = load_file(path)
            width, count = state["maps.0.weight"].shape[0], sum(k.endswith("weight") for k in state)
            shape = (spec.student_hidden, width, count, spec.projection, spec.projection_bias)
            projection = Projection(*shape)
            projection.load_state_dict(state)
            return projection


def save_projection(projection: Projection, folder: Path) -> None:
    """Writes W as `RunResult.projection` reads it."""
    state = {name: value.contiguous() for name, value in projection.cpu().state_dict().items()}
    save_file(state, folder / "projection.safetensors")


def default_out() -> Path:
    """$LRC_OUT, else `out/` in the repository (or in the current folder, if installed).

    It is the rule of `lrc_lib.course.notebook.output_root`, which must load without torch.
    """
    root = Path(__file__).resolve().parents[2]
    usual = root / "out" if (root / "notebooks").exists() else "out"
    return Path(os.environ.get("LRC_OUT") or usual).expanduser().resolve()


def run_folder(spec: RunSpec, out=None) -> Path:
    """Where a run lies when it is whole; its `.partial` and `.lock` lie next to it."""
    return Path(out or default_out()) / "runs" / spec.run_id()


def find(spec: RunSpec, out=None) -> RunResult | None:
    """The finished run of this spec, or None. Trains nothing.

    A run that differs from its manifest, or whose stored spec is not this one, is set aside.
    """
    folder = run_folder(spec, out)
    stored = _open(folder)
    if stored and not same_run(stored.spec, spec):
        set_aside(folder, "its spec.json describes another run")
        return None
    return stored and RunResult(spec, folder)


def finished(out=None) -> list[RunResult]:
    """All finished runs of the store, by id. Looks at no data."""
    root = Path(out or default_out()) / "runs"
    return [result for folder in sorted(root.glob("*")) if (result := _open(folder))]


def open_run(name: str, out=None) -> RunResult:
    """A finished run by its id in `out`, by its folder, or the best run of a task by its name.

    Best is the student with the highest primary metric on the first dev split; runs scored on
    more dev rows come before runs scored on fewer, and runs that have their weights before all
    others. Runs by which settings were chosen do not count.

    Raises:
        InputError: there is no such run (with the nearest id), or its folder is damaged.
    """
    root = Path(out or default_out()) / "runs"
    if Path(name).name == name and (result := _open(root / name)):
        return result
    if (Path(name) / MANIFEST).exists():  # a folder that lies elsewhere, and stays as it is
        spec, why = _stored_spec(Path(name)), fault(Path(name))
        if why or not spec:
            raise InputError(f"The run in '{name}' cannot be used: {why or 'no whole spec.json'}.")
        return RunResult(spec, Path(name).resolve())
    known = finished(out)
    students = [run for run in known if run.spec.kind == "student" and not run.spec.selection_rows]
    of_task = [run for run in students if run.spec.task == name]
    if of_task:
        return max(of_task, key=_merit)
    if not known:
        raise InputError(f"There is no run '{name}': '{root}' holds no finished run.")
    tasks = sorted({run.spec.task for run in students})
    raise unknown(f"run in '{root}':", name, [*tasks, *(run.id for run in known)])


def publish(spec: RunSpec, partial: Path, folder: Path) -> RunResult:
    """Give a whole run its manifest and its final name.

    What a resumed run needs is deleted last: whenever this is interrupted, nothing is lost.

    Raises:
        UnavailableError: the history does not hold every step; the run is set aside.
    """
    if not _has_every_step(spec, partial):
        set_aside(partial, "its history.jsonl does not hold every step")
        raise UnavailableError(
            f"The history of {spec.name} was damaged while the run was interrupted, so it was not "
            "published. The same command trains it again."
        )
    for path in files_in(partial).values():
        if path.name not in CHECKPOINTS:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    write_manifest(partial, without=CHECKPOINTS)
    if folder.exists():  # not whole, or left by something that is not this kit
        shutil.rmtree(folder)
    rename(partial, folder)
    listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    for name, path in files_in(folder).items():
        if name not in (MANIFEST, *listed):
            path.unlink(missing_ok=True)
    return RunResult(spec, folder)


def _has_every_step(spec: RunSpec, folder: Path) -> bool:
    """Whether the history has a line for each step, as many as the metrics count."""
    total = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["steps"]
    learns = spec.kind != "student" or any(get_recipe(spec.recipe).stage1)
    first = 0 if learns else boundary_step(total, spec.stage_boundary)
    return (folder / "history.jsonl").read_bytes().count(b"\n") == total - first


def _merit(result: RunResult) -> tuple[bool, int, float]:
    rows = next(iter(result.metrics["splits"].values()))["n"]
    return (result.path / "student").exists(), rows, result.score()


def _open(folder: Path) -> RunResult | None:
    """The run in a folder of a store; None if it is not whole, or not what its name says."""
    if folder.suffix in ASIDE or not is_whole(folder):
        return None
    spec = _stored_spec(folder)
    if spec is None:  # it agrees with its manifest: another version's fields or recipes
        return None
    if folder.name.rpartition("-")[0] != spec.label:
        set_aside(folder, "its spec.json describes another run")
        return None
    for name in CHECKPOINTS:  # left where its publishing was interrupted at the end
        with suppress(OSError):
            (folder / name).unlink()
    return RunResult(spec, folder.resolve())


def same_run(stored: RunSpec, spec: RunSpec) -> bool:
    """Whether two specs describe the same run, wherever its teacher and its data lie."""
    places = [name for name, field in FIELDS.items() if field.metadata["location"]]
    stored = stored.replace(**{name: getattr(spec, name) for name in (*places, "teacher")})
    try:
        return stored == spec or stored.run_id() == spec.run_id()
    except LrcError:  # data that are not here, or that it does not fit
        return False


def _stored_spec(folder: Path) -> RunSpec | None:
    """The spec in a run's folder; None if it is not one."""
    try:
        return _read_spec((folder / "spec.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


_read_spec = functools.lru_cache(maxsize=4096)(RunSpec.from_json)
