"""`merge`: the finished runs of many stores in one store, to be analysed together.

Nothing is trained, and nothing in a store is executed or unpickled: specs, metrics and histories
are JSON, predictions are read without pickles, and weights are not opened. Only files with names
that the kit writes are taken. The stores themselves stay as they are.
"""

import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

from lrc_lib.data.manifest import ASIDE, MANIFEST, fault, files_in, rename, write_manifest
from lrc_lib.data.resumable import sole_writer
from lrc_lib.errors import InputError, LrcError
from lrc_lib.runs.spec import RunSpec
from lrc_lib.runs.store import RunResult, finished, same_run

NUMBERS = re.compile(r"(spec|metrics|provenance)\.json|history\.jsonl|predictions\.npz")
WEIGHTS = re.compile(r"projection\.safetensors|student/[\w.-]+\.(json|safetensors|txt|model|md)")
HUB_ID = re.compile(r"package:.+|[\w.-]+/[\w.-]+")
SHOWN = 5  # names in a sentence
BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, BadZipFile)


@dataclass
class Merged:
    """What became of the runs.

    Attributes:
        into: the store that holds them all now.
        runs: {id: `RunResult`} of all runs in it.
        same: how many runs were there already, with the same digits.
        other: ids of the runs that were there already, with other digits.
        skipped: {reason: places of the runs that were left out}.
    """

    into: Path
    runs: dict[str, RunResult]
    same: int = 0
    other: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def lines(self) -> list[str]:
        """Sentences for the terminal; the last one is a command."""
        students = [run.spec for run in self.runs.values() if run.spec.kind == "student"]
        lines = [f"'{self.into}' holds {len(self.runs)} runs."]
        count = Counter(spec.precision for spec in students)
        if len(count) > 1:
            parts = ", ".join(f"{n} in {precision}" for precision, n in count.most_common())
            lines.append(
                f"Students of several precisions are never pooled (--set precision=): {parts}."
            )
        if self.same:
            lines.append(f"Runs that were in several stores with equal digits, once: {self.same}.")
        if self.other:
            lines.append(
                "Runs of several stores with different digits, of which the first is kept: "
                f"{_some(self.other)}. Another machine is not another seed; see --first-seed."
            )
        lines += (f"Skipped, {why}: {_some(places)}." for why, places in self.skipped.items())
        first = min((spec.seed for spec in students), default=0)
        seeds = f" --seeds 1 --first-seed {first}" if first else ""
        command = f"python reproduce.py --only 05,09{seeds} --out {self.into}"
        return [*lines, f"Pooled intervals, with the profile of these runs: {command}"]


def merge(stores, into: Path, weights: bool = False) -> Merged:
    """Brings the finished runs of stores into another one, each by a hard link or a copy.

    A run is taken if its files are what its manifest says, its spec is one of this kit's, and its
    id follows from the spec and from the data, where these are on this machine. Of runs with the
    same id the first is kept. What students depend on comes with its weights.

    Args:
        stores: folders that hold `runs/`, in order of precedence.
        into: the folder to fill. What it holds already comes first.
        weights: whether students bring their weights too.

    Raises:
        InputError: a folder that is no store or is `into`, no finished run, or `into` cannot be
            written.
    """
    stores = [Path(store).expanduser().resolve() for store in stores]
    for store in stores:
        if not (store / "runs").is_dir() or store == into:
            reason = "is the one to merge into" if store == into else "has no folder runs/"
            raise InputError(f"'{store}' cannot be merged: it {reason}.")
    with sole_writer(into / "runs", into / "merging", "the merged runs"):
        return _merge(stores, into, weights)


def _merge(stores, into: Path, weights: bool) -> Merged:
    done = Merged(into, {run.id: run for run in finished(into)})
    folders = [path for store in stores for path in sorted((store / "runs").iterdir())]
    for folder in filter(Path.is_dir, folders):
        name, found = folder.name, _examine(folder, weights)
        kept = done.runs.get(name)
        if kept and isinstance(found, RunSpec) and not same_run(kept.spec, found):
            found = "of another spec than a run of the same id"
        if isinstance(found, str):
            done.skipped[found].append(f"{folder.parents[1].name}/runs/{name}")
        elif not kept:
            target = _bring(folder, into, weights or found.kind != "student")
            done.runs[name] = RunResult(found, target)
        elif _digits(folder) == _digits(kept.path):
            done.same += 1
        elif name not in done.other:
            done.other.append(name)
    if not done.runs:
        raise InputError(
            f"There is no finished run in these stores. {' '.join(done.lines()[1:-1])}"
        )
    return done


def _examine(folder: Path, weights: bool) -> RunSpec | str:
    """The spec of a run that can be taken, or why it cannot be."""
    if not (folder / MANIFEST).exists() or folder.suffix in ASIDE:
        return "not finished"
    if any(path.is_symlink() for path in (folder, *folder.rglob("*"))):
        return "made of links"
    try:
        spec = RunSpec.from_json((folder / "spec.json").read_text(encoding="utf-8"))
        if fault(folder, wanted(weights or spec.kind != "student")):
            return "damaged"
        result = RunResult(spec, folder)
        for split, scores in result.metrics["splits"].items():
            arrays = result.predictions(split)
            if {len(arrays["logits"]), len(arrays["labels"])} != {scores["n"]}:
                return "damaged"
    except BROKEN:
        return "not readable, or of another format"
    its_own = folder.name.rpartition("-")[0] == spec.label
    try:
        if HUB_ID.fullmatch(spec.teacher) or os.path.isdir(spec.teacher):
            its_own = spec.run_id() == folder.name
    except LrcError:  # its data are not here
        pass
    return spec if its_own else "of other data or of another format"


def wanted(weights: bool) -> Callable[[str], bool]:
    """f(name of a file): whether it is one that the kit writes, and that is brought along."""
    return lambda name: bool(NUMBERS.fullmatch(name) or (weights and WEIGHTS.fullmatch(name)))


def _bring(folder: Path, into: Path, weights: bool) -> Path:
    aside, target = into / "merging" / folder.name, into / "runs" / folder.name
    try:
        names = files_in(folder)
        for left in (aside.parent, target):  # by an interrupted merge, or not whole
            shutil.rmtree(left, ignore_errors=True)
        for name in filter(wanted(weights), names):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(folder / name, aside / name)
            except OSError:  # another file system
                shutil.copyfile(folder / name, aside / name)
        write_manifest(aside)
        target.parent.mkdir(parents=True, exist_ok=True)
        rename(aside, target)
        aside.parent.rmdir()
    except OSError as error:
        raise InputError(f"Cannot merge into '{into}': {error}. What was merged is kept.") from None
    return target


def _digits(folder: Path) -> bytes:
    """The bytes that decide whether two runs are the same: predictions, else weights."""
    path = folder / "predictions.npz"
    return (path if path.exists() else folder / "projection.safetensors").read_bytes()


def _some(names) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more})"
