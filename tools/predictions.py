"""Keeps the dev predictions of the runs in `results/<name>.json` with the repository.

`lrc_lib.results.predictions` reads them. `python tools/predictions.py NAME OUT` takes them from the
runs in OUT/runs.
"""

import json
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lrc_lib.data.manifest import write_whole
from lrc_lib.results.kept import FOLDER
from lrc_lib.results.predictions import known_results, profile_of
from lrc_lib.results.systems import Systems
from lrc_lib.runs.store import RunResult, open_run

CURVES = ("lrc", "lrc_g")  # the recipes whose clean loss in stage 2 is kept (Fig. 5)


def pack_predictions(store, name: str, folder: Path = FOLDER) -> Path:
    """Writes `predictions/<name>.npz` for the runs in `<name>.json` of the folder of results.

    Runs that a notebook trained beyond its profile's list, and those that chose the settings, are
    added to `<name>.json`.

    Args:
        store: the folder that holds `runs/`, for example `out`.

    Raises:
        InputError: there is no such results file, or the store lacks one of its runs.
    """
    results = known_results(name, folder)
    read = [notebook["result"] or {} for notebook in results.get("notebooks", ())]
    ids = dict.fromkeys([*results["runs"], *(run for r in read for run in r.get("runs", ()))])
    runs = {run: open_run(run, store) for run in ids}
    chosen = Systems(profile_of(name, results), store).choices() if "tasks" in results else ()
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


def entry(run: RunResult) -> dict:
    """What a file of results holds of a run."""
    spec = json.loads(run.spec.to_json())
    facts = {"metrics": run.metrics, "provenance": run.provenance}
    return {"name": run.spec.name, "spec": spec, **facts}


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

    Each row is moved so that its first logit is 0, which changes no answer and no probability; the
    zeros take no room in the file. Where rounding would tie a row's two best logits, the best one
    is rounded up.
    """
    best = logits.argmax(-1)[..., None]
    with np.errstate(over="ignore", invalid="ignore"):
        half = (logits - logits[..., :1]).astype(np.float16)
    tied = half.argmax(-1)[..., None] != best
    top = np.take_along_axis(half, best, -1)
    np.put_along_axis(half, best, np.where(tied, np.nextafter(top, np.float16(np.inf)), top), -1)
    fits = np.isfinite(half).all() and (half.argmax(-1)[..., None] == best).all()
    return half if logits.shape[-1] > 1 and fits else logits


if __name__ == "__main__":
    pack_predictions(sys.argv[2], sys.argv[1])
