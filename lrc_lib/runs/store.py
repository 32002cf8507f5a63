"""The run store: where finished runs lie, and how they are read.

A run folder holds `spec.json`, `history.jsonl`, `metrics.json`, `predictions.npz`, `student/` (a
plain transformers model with its tokenizer and its card, README.md), `projection.safetensors` (W),
`provenance.json` and `manifest.json` (size and sha256 of each file). The manifest is written last,
and the folder gets its final name by one rename: a folder that has both is whole.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lrc_lib.data.manifest import MANIFEST, write_manifest
from lrc_lib.errors import InputError, UnavailableError, unknown
from lrc_lib.models import Projection, load_saved
from lrc_lib.runs.spec import RunSpec

PARTIAL = ".partial"  # suffix of the folder of a run that is not finished
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
                f"{path} is missing: the run is not whole. Delete {self.path / MANIFEST}, then "
                f"`python -m lrc_lib run {self.path}/spec.json --out {out}` makes it again."
            )
        return path

    def _json(self, name: str) -> dict:
        return json.loads(self._part(name).read_text(encoding="utf-8"))

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
        lines = self._part("history.jsonl").read_text(encoding="utf-8").splitlines()
        return pandas.DataFrame(map(json.loads, lines)).reindex(columns=COLUMNS)

    def predictions(self, split: str = "") -> dict[str, np.ndarray]:
        """Dev predictions: "logits" (n, C), "labels" (n,) and "keys" (n,), see
        `lrc_lib.evaluate.row_keys`; the first split if none is named."""
        with np.load(self._part("predictions.npz")) as arrays:
            splits = sorted({name.split("/")[0] for name in arrays})
            split = split or next(iter(self.metrics["splits"]))
            if split not in splits:
                raise unknown("split", split, splits)
            return {name: arrays[f"{split}/{name}"] for name in ("logits", "labels", "keys")}

    def score(self, split: str = "", metric: str = "") -> float:
        """One dev metric as a fraction: the primary one of the first split by default."""
        metrics = self.metrics
        split = split or next(iter(metrics["splits"]))
        return metrics["splits"][split][metric or metrics["primary"]]

    def student(self):
        """The trained model (a transformers classifier) in eval mode, on the CPU."""
        return load_saved(self._part("student/model.safetensors").parent)

    def tokenizer(self):
        """The tokenizer that was saved with the model."""
        return AutoTokenizer.from_pretrained(self._part("student"), trust_remote_code=False)

    def projection(self) -> Projection | None:
        """The trained W, on the CPU; None for a run without layer loss."""
        path, spec = self.path / "projection.safetensors", self.spec
        if not path.exists():
            return None
        state = load_file(path)
        width, layers = state["maps.0.weight"].shape[0], sum(k.endswith("weight") for k in state)
        projection = Projection(
            spec.student_hidden, width, layers, spec.projection, spec.projection_bias
        )
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
    """The finished run of this spec, or None. Trains nothing."""
    folder = run_folder(spec, out)
    return RunResult(spec, folder) if _is_whole(folder) else None


def finished(out=None) -> list[RunResult]:
    """All finished runs of the store, by id. Looks at no data."""
    root = Path(out or default_out()) / "runs"
    return [_read(folder) for folder in sorted(root.glob("*")) if _is_whole(folder)]


def open_run(name: str, out=None) -> RunResult:
    """A finished run by its id in `out`, by its folder, or the best run of a task by its name.

    Best is the student with the highest primary metric on the first dev split; runs scored on
    more dev rows come before runs scored on fewer.

    Raises:
        InputError: there is no such run (with the nearest id).
    """
    root = Path(out or default_out()) / "runs"
    for folder in (root / name, Path(name)):
        if _is_whole(folder):
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


def publish(spec: RunSpec, partial: Path, folder: Path) -> RunResult:
    """Give a whole run its manifest and its final name."""
    (partial / "checkpoint.pt").unlink(missing_ok=True)
    write_manifest(partial)
    if folder.exists():  # not whole, or left by something that is not this kit
        shutil.rmtree(folder)
    os.replace(partial, folder)
    return RunResult(spec, folder)


def _is_whole(folder: Path) -> bool:
    return (folder / MANIFEST).exists() and folder.suffix != PARTIAL


def _merit(result: RunResult) -> tuple[int, float]:
    return next(iter(result.metrics["splits"].values()))["n"], result.score()


def _read(folder: Path) -> RunResult:
    spec = RunSpec.from_json((folder / "spec.json").read_text(encoding="utf-8"))
    return RunResult(spec, folder.resolve())
