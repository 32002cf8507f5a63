"""Predictions that are kept with the repository, and the systems that are scored from them.

`results/predictions/<name>.npz` holds the dev logits of the runs in `results/<name>.json`. The runs
that answered the same dev rows form a group, whose row keys and labels are kept once. No texts are
kept. `python -m lrc_lib verify` computes the tables again from these files.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pandas import DataFrame

from lrc_lib.errors import InputError
from lrc_lib.results.kept import FOLDER, load_results
from lrc_lib.results.systems import Systems, without_place
from lrc_lib.runs.profiles import Profile, load_profile
from lrc_lib.runs.spec import RunSpec


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
        """As `RunResult.predictions`; the logits may be rounded to float16, with the first at 0."""
        return self.dev[split or next(iter(self.metrics["splits"]))]

    def score(self) -> float:
        """The primary metric on the first split, as it was recorded with the run."""
        return next(iter(self.metrics["splits"].values()))[self.metrics["primary"]]

    @property
    def history(self) -> DataFrame:
        """The clean loss of stage 2, for the recipes of Fig. 5."""
        return DataFrame({"stage": 2, "loss": self.loss})


def known_results(name: str, folder: Path) -> dict:
    """`<name>.json` of a folder of results, which must hold runs."""
    results = load_results(name, folder)
    if not results.get("runs"):
        raise InputError(f"'{Path(folder) / name}.json' holds no runs.")
    return results


def profile_of(name: str, results: dict) -> Profile:
    """The profile of a file of results, at the precision of its runs."""
    precision = next(iter(results["runs"].values()))["spec"]["precision"]
    settings = {"precision": precision} | results["settings"]
    settings = [f"{key}={value}" for key, value in settings.items()]
    return load_profile(name, settings, results["tasks"], "", results["seeds"])


def kept_runs(name: str, folder: Path = FOLDER) -> dict[str, KeptRun]:
    """{id: run} of `<name>.json`; {} if its predictions are not kept.

    Raises:
        InputError: the predictions cannot be read, or are those of other runs.
    """
    path, results = Path(folder) / "predictions" / f"{name}.npz", known_results(name, folder)
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
        results, runs = known_results(name, folder), kept_runs(name, folder)
        found = {without_place(run.spec): run for run in runs.values()}
        self.specs = [spec for spec in found if not spec.selection_rows]
        super().__init__(
            profile_of(name, results), folder, lambda spec, out: found.get(without_place(spec))
        )

    def _seeds(self, task: str, recipe: str) -> list[int]:
        of = (spec for spec in self.specs if (spec.task, spec.recipe) == (task, recipe))
        return sorted({*self.profile.seed_range, *(spec.seed for spec in of)})
