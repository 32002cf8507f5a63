"""Kept results, computed again from kept predictions: `python -m lrc_lib verify`.

Nothing is trained and no data are read. What the predictions do not determine, such as times, is
counted and not checked.
"""

import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lrc_lib.course.display import plain
from lrc_lib.course.notebook import ROOT
from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError, LrcError
from lrc_lib.evaluate import compute_metrics, constant_metrics
from lrc_lib.results import glue
from lrc_lib.results.kept import FOLDER, load_results
from lrc_lib.results.predictions import KeptSystems, kept_runs
from lrc_lib.results.tables import TABLES


class Cell(NamedTuple):
    """A kept value and the one that follows from the predictions; `...` where none follows."""

    where: str
    kept: object
    made: object

    @property
    def agrees(self) -> bool:
        """Texts are equal; numbers are equal to six digits, more than is printed anywhere."""
        both = (self.kept, self.made)
        numbers = all(isinstance(x, float | int) and abs(x) < 1e300 for x in both)
        if numbers:
            return math.isclose(self.kept, self.made, rel_tol=1e-6, abs_tol=1e-9)
        return self.made is ... or self.kept == self.made


def verify(folder=FOLDER) -> tuple[list[Cell], list[str]]:
    """(cells, names of the results whose predictions are not kept) of a folder of results.

    Raises:
        InputError: results or predictions that cannot be read.
    """
    cells, without = [], []
    for path in sorted(Path(folder).glob("*.json")):
        if not load_results(path.stem, path.parent).get("runs"):
            continue
        try:
            found = list(_cells(path.stem, path.parent))
        except LrcError:
            raise
        except Exception as error:  # whatever a file of results may hold
            raise InputError(f"'{path}' is not a file of results: {error!r}.") from error
        cells += found
        without += [] if found else [path.stem]
    if Path(folder).resolve() == FOLDER.resolve():
        cells += _pages()
    return cells, without


def _cells(name: str, folder: Path) -> Iterator[Cell]:
    runs, results = kept_runs(name, folder), load_results(name, folder)
    for run in runs.values():
        yield from _of_run(run, f"{name}.json, {run.id}")
    if runs and "rows" in results:
        rows = plain(glue.entries(runs.values()))
        yield from _of_entries(f"{name}.json", results["rows"], rows)
        tried = plain(glue.compared(runs.values()))
        yield from _of_entries(f"{name}.json, compared", results["compared"], tried)
    if runs and results.get("notebooks"):
        systems = KeptSystems(name, folder)
        for notebook in results["notebooks"]:
            for table in (notebook["result"] or {}).get("tables", ()):
                number = notebook["name"][:2]
                if (number, table["name"]) in TABLES:
                    where = f"{name}.json, notebook {number}, {table['name']}"
                    yield from _of_table(where, table, systems, *TABLES[number, table["name"]])


def _of_entries(where: str, kept: list[dict], made: list[dict]) -> Iterator[Cell]:
    yield Cell(f"{where}, number of entries", len(kept), len(made))
    for old, new in zip(kept, made, strict=False):
        place = f"{where}, {new.get('system', new['recipe'])} on {new['column']}"
        yield from (Cell(f"{place}, {key}", old.get(key), new[key]) for key in new)


def _of_run(run, where: str) -> Iterator[Cell]:
    """The metrics of a run on each split, and those of the best constant answer."""
    for split, dev in run.dev.items():
        kind = "regression" if dev["logits"].shape[1] == 1 else "classification"
        names = tuple(name for name in run.metrics["splits"][split] if name != "n")
        labels = tuple(map(str, range(dev["logits"].shape[1]))) if kind[0] == "c" else ()
        task = Task(run.spec.task, "", kind, labels, pair=False, metrics=names)
        scores = compute_metrics(task, dev["logits"], dev["labels"]) | {"n": len(dev["labels"])}
        best = constant_metrics(task, dev["labels"])
        for part, made in ((run.metrics["splits"], scores), (run.metrics["constant"], best)):
            for name, kept in part[split].items():
                yield Cell(f"{where}, {split} {name}", kept, made[name])


def _of_table(where: str, table: dict, systems, rows, keys: int) -> Iterator[Cell]:
    """The cells of a notebook's table; a row is found by its first `keys` cells."""
    kept, made = ({tuple(r[:keys]): r for r in part} for part in (table["rows"], rows(systems)))
    for key in made.keys() - kept.keys():
        yield Cell(f"{where}, {key[0]}", "no such row", "a row")
    for key, row in kept.items():
        again = made.get(key, [...] * len(row))
        for name, old, new in zip(table["columns"][keys:], row[keys:], again[keys:], strict=True):
            yield Cell(f"{where}, {key[0]}, {name}", old, new if new is ... else plain(new))


def _pages() -> Iterator[Cell]:
    """README.md and docs/: the measured blocks must be those that tools/readme.py writes."""
    tool = ROOT / "tools" / "readme.py"
    if tool.exists():
        sys.path.insert(0, str(tool.parent))  # the tool reads its neighbours
        made = runpy.run_path(str(tool))
        for page in made["PAGES"]:
            text = page.read_text(encoding="utf-8")
            yield Cell(f"{page.name}, its measured tables", text, made["refreshed"](text))
