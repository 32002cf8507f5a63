"""Predictions that are kept with the repository, and the systems that are scored from them.

`results/predictions/<name>.npz` holds the dev logits of the runs in `results/<name>.json`. The runs
that answered the same dev rows form a group, whose row keys and labels are kept once. No texts are
kept. `python -m lrc_lib verify` computes the tables again from these files.
"""

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pandas import DataFrame

from lrc_lib.data.manifest import write_whole
from lrc_lib.errors import InputError
from lrc_lib.results.kept import FOLDER, load_results
from lrc_lib.results.systems import Systems, without_place
from lrc_lib.runs.profiles import Profile, load_profile
from lrc_lib.runs.spec import RunSpec
from lrc_lib.runs.store import RunResult, open_run

CURVES = ("lrc", "lrc_g")  # the recipes whose clean loss in stage 2 is kept (Fig. 5)


@dataclass(frozen=True, eq=False)
class KeptRun:
    """A run of `results/<name>.json` with its kept predictions; read like a `RunResult`."""

    id: str
    spec: RunSpec
    metrics: dict
    provenance: dict
    dev: dict[str, dict[str, np.ndarray]]
    loss: np.ndarray

    def predictions(self, split: str = "") -> dict[str, np.ndarray]:
        """As `RunResult.predictions`; the logits may have been rounded to float16."""
        return self.dev[split or next(iter(self.metrics["splits"]))]

    def score(self) -> float:
        """The primary metric on the first split, as it was recorded with the run."""
        return next(iter(self.metrics["splits"].values()))[self.metrics["primary"]]

    @property
    def history(self) -> DataFrame:
        """The clean loss of stage 2, for the recipes in `CURVES`."""
        return DataFrame({"stage": 2, "loss": self.loss})


def pack_predictions(store, name: str, folder: Path = FOLDER) -> Path:
    """Writes `predictions/<name>.npz` for the runs in `<name>.json` of the folder of results.

    Runs that a notebook trained beyond its profile's list, and those that chose the settings, are
    added to `<name>.json`.

    Args:
        store: the folder that holds `runs/`, for example `out`.

    Raises:
        InputError: there is no such results file, or the store lacks one of its runs.
    """
    results = _results(name, folder)
    read = [notebook["result"] or {} for notebook in results.get("notebooks", ())]
    ids = dict.fromkeys([*results["runs"], *(run for r in read for run in r.get("runs", ()))])
    runs = {run: open_run(run, store) for run in ids}
    chosen = Systems(_profile(name, results), store).choices() if "tasks" in results else ()
    runs |= {run.id: run for c in chosen for of in c.runs.values() for run in of}
    runs = list(runs.values())
    if more := [run for run in runs if run.id not in results["runs"]]:
        results["runs"] |= {run.id: entry(run) for run in more}
        text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        write_whole(Path(folder) / f"{name}.json", text)
    path = Path(folder) / "predictions" / f"{name}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **_arrays(runs))
    return path


def _profile(name: str, results: dict) -> Profile:
    """The profile of a file of results, at the precision of its runs."""
    precision = next(iter(results["runs"].values()))["spec"]["precision"]
    settings = {"precision": precision} | results["settings"]
    settings = [f"{key}={value}" for key, value in settings.items()]
    return load_profile(name, settings, results["tasks"], "", results["seeds"])


def entry(run: RunResult) -> dict:
    """What a file of results holds of a run."""
    spec = json.loads(run.spec.to_json())
    facts = {"metrics": run.metrics, "provenance": run.provenance}
    return {"name": run.spec.name, "spec": spec, **facts}


def _results(name: str, folder: Path) -> dict:
    results = load_results(name, folder)
    if not results.get("runs"):
        raise InputError(f"'{Path(folder) / name}.json' holds no runs.")
    return results


def _arrays(runs: Iterable[RunResult]) -> dict[str, np.ndarray]:
    """The arrays of the file: five per group of runs on the same rows, and the losses."""
    groups: dict[tuple, tuple] = {}
    arrays = {}
    for run in runs:
        for split in run.metrics["splits"]:
            dev = run.predictions(split)
            rows = zlib.crc32(dev["keys"].tobytes() + dev["labels"].tobytes())
            ids, logits, _ = groups.setdefault((split, rows), ([], [], dev))
            ids.append(run.id)
            logits.append(dev["logits"])
        if run.spec.recipe in CURVES:
            arrays[f"loss/{run.id}"] = run.history.query("stage == 2")["loss"].to_numpy(float)
    for number, ((split, _), (ids, logits, dev)) in enumerate(groups.items()):
        arrays[f"{number}/split"], arrays[f"{number}/ids"] = np.array(split), np.array(ids)
        arrays[f"{number}/logits"] = _small(np.stack(logits))
        arrays[f"{number}/labels"], arrays[f"{number}/keys"] = dev["labels"], dev["keys"]
    return arrays


def _small(logits: np.ndarray) -> np.ndarray:
    """Logits (R, n, C) as float16 with every row's class; as they are for scores and infinities.

    Where rounding would tie a row's two best logits, the best one is rounded up.
    """
    best = logits.argmax(-1)[..., None]
    with np.errstate(over="ignore"):
        half = logits.astype(np.float16)
    tied = half.argmax(-1)[..., None] != best
    top = np.take_along_axis(half, best, -1)
    np.put_along_axis(half, best, np.where(tied, np.nextafter(top, np.float16(np.inf)), top), -1)
    fits = np.isfinite(half).all() and (half.argmax(-1)[..., None] == best).all()
    return half if logits.shape[-1] > 1 and fits else logits


def kept_runs(name: str, folder: Path = FOLDER) -> dict[str, KeptRun]:
    """{id: run} of `<name>.json`; {} if its predictions are not kept.

    Raises:
        InputError: the predictions cannot be read, or are those of other runs.
    """
    path, results = Path(folder) / "predictions" / f"{name}.npz", _results(name, folder)
    if not path.exists():
        return {}
    dev: dict[str, dict] = {}
    try:
        with np.load(path) as file:
            arrays = dict(file)
        for group in sorted({key.partition("/")[0] for key in arrays} - {"loss"}):
            part = {key: arrays[f"{group}/{key}"] for key in ("labels", "keys")}
            split = str(arrays[f"{group}/split"])
            for run, logits in zip(arrays[f"{group}/ids"], arrays[f"{group}/logits"], strict=True):
                dev.setdefault(str(run), {})[split] = {"logits": logits, **part}
    except Exception as error:  # numpy and zipfile raise many kinds
        raise InputError(f"'{path}' holds no predictions: {error!r}.") from error
    wanted = {run: set(entry["metrics"]["splits"]) for run, entry in results["runs"].items()}
    if wrong := [run for run, splits in wanted.items() if splits != set(dev.get(run, ()))]:
        raise InputError(f"'{path}' lacks predictions of {wrong[0]}. Pack them again.")
    return {
        run: KeptRun(
            run, RunSpec().replace(**entry["spec"]), entry["metrics"], entry["provenance"],
            dev.get(run, {}), arrays.get(f"loss/{run}", np.zeros(0)),
        )
        for run, entry in results["runs"].items()
    }  # fmt: skip


class KeptSystems(Systems):
    """The systems of a kept profile, scored from its predictions; no store and no data are read."""

    def __init__(self, name: str, folder: Path = FOLDER):
        results, runs = _results(name, folder), kept_runs(name, folder)
        found = {without_place(run.spec): run for run in runs.values()}
        self.specs = [spec for spec in found if not spec.selection_rows]
        super().__init__(
            _profile(name, results), folder, lambda spec, out: found.get(without_place(spec))
        )

    def _seeds(self, task: str, recipe: str) -> list[int]:
        of = (spec for spec in self.specs if (spec.task, spec.recipe) == (task, recipe))
        return sorted({*self.profile.seed_range, *(spec.seed for spec in of)})
