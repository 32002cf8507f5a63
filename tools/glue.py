"""GLUE's columns: takes finished runs into results/, trains what is missing, renders the table.

`python tools/glue.py take OUT` writes results/glue.json and results/predictions/glue.npz from the
runs in OUT/runs; `python tools/glue.py train TASK RECIPE --glue-dir DIR` trains one cell of the
table into out/, with the settings of the other cells.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

from lrc_lib import RunSpec, run
from lrc_lib.course.display import plain
from lrc_lib.data.corpus import places_of
from lrc_lib.data.rows import in_train
from lrc_lib.data.tasks import GLUE
from lrc_lib.results import glue
from lrc_lib.results.kept import FOLDER, load_results
from lrc_lib.results.predictions import entry, pack_predictions
from lrc_lib.runs.spec import data_of
from lrc_lib.runs.store import default_out, finished

SETTINGS = {  # of the first cell; the others take those of results/glue.json
    "teacher": "package:all_mpnet_base_v2", "teacher_epochs": 3, "teacher_lr": 2e-5,
    "teacher_batch_size": 16, "precision": "bf16", "bucket": 16, "learning_rate": 1e-4,
    "cache_gb": 20.0, "general_data": "reviews:wiki:glue=DIR", "general_pairs": 0.5,
    "general_rows": 200_000, "general_batch_size": 64, "general_lr": 5e-4,
    "general_max_length": 96,
}  # fmt: skip


def take(store: Path, folder: Path = FOLDER) -> dict:
    """Writes glue.json and predictions/glue.npz of the GLUE runs in a store; returns the former.

    No folder of this machine is written: an absolute path becomes its last part.
    """
    runs = {run.id: run for run in finished(store) if run.spec.task in GLUE or _is_start(run)}
    scored = (r.spec for r in runs.values() if r.metrics["splits"] and not r.spec.selection_rows)
    specs = {spec.task: spec for spec in scored}
    results = {
        "rows": glue.entries(runs.values()),
        "in_train": {task: in_train(data_of(spec)) for task, spec in specs.items()},
        "runs": {name: entry(run) for name, run in runs.items()},
    }
    text = json.dumps(plain(results), indent=1, ensure_ascii=False)
    for place in _folders(r.spec for r in runs.values()):
        text = text.replace(place, Path(place).name)
    (folder / "glue.json").write_text(text + "\n", encoding="utf-8")
    pack_predictions(store, "glue", folder)
    return load_results("glue", folder)


def _is_start(run) -> bool:
    return run.spec.kind == "general"


def _folders(specs) -> list[str]:
    """All absolute paths in the specs, the longest first."""
    found = set()
    for spec in specs:
        texts = (place.removeprefix("glue=") for place in places_of(spec.general_data))
        found |= {spec.data, spec.teacher, spec.augment_mlm, spec.augment_glove, *texts}
    return sorted((place for place in found if Path(place).is_absolute()), key=len, reverse=True)


def markdown(folder: Path = FOLDER) -> str:
    """The table of results/glue.json for docs/results.md, its notes, and the empty cells."""
    results = load_results("glue", folder)
    head, rows = glue.table(results)
    lines = [head, ["---"] * len(head), *rows]
    cells = [["" if x is None else str(x).replace("|", r"\|") for x in line] for line in lines]
    table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    parts = [table, *glue.notes(results)]
    if missing := glue.empty(results):
        first = next(iter(missing.values()))
        parts += [f"Not measured: {', '.join(missing)}. A cell is measured with\n\n```\n{first}\n"
                  "python tools/glue.py take out\n```"]  # fmt: skip
    return "\n\n".join(parts)


def train(task: str, recipe: str, data: str, out: Path, text=()) -> None:
    """Trains one cell: the settings of results/glue.json, else `SETTINGS`."""
    kept = [entry["spec"] for entry in load_results("glue").get("runs", {}).values()]
    kept = [spec for spec in kept if spec["recipe"] == "lrc"]
    places = {"data": data, "general_data": ":".join(["reviews", "wiki", f"glue={data}", *text])}
    spec = RunSpec().replace(**(kept[0] if kept else SETTINGS) | places)
    spec = spec.replace(task=task, seed=0)
    print(run(spec.teacher_spec() if recipe == "teacher" else spec.replace(recipe=recipe), out).id)


def main(arguments=None) -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("take").add_argument("store", type=Path)
    one = commands.add_parser("train")
    one.add_argument("task", choices=GLUE)
    one.add_argument("recipe", help="teacher, or a recipe of lrc_lib.schedule")
    one.add_argument("--glue-dir", dest="data", required=True, metavar="DIR")
    one.add_argument("--text", nargs="*", default=[], help="more text: .txt files or folders")
    one.add_argument("--out", type=Path, default=default_out())
    given = vars(parser.parse_args(arguments))
    if given.pop("command") == "take":
        take(given["store"].resolve())
    else:
        train(**given)


if __name__ == "__main__":
    sys.exit(main())
