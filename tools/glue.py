"""GLUE's columns: takes finished runs into results/, trains what is missing, renders the table.

`python tools/glue.py take OUT` writes results/glue.json and results/predictions/glue.npz from the
runs in OUT/runs; `python tools/glue.py train TASK RECIPE --glue-dir DIR` trains one cell of the
table into out/, with the settings of the other cells.
"""

import json
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from markup import md_table
from predictions import entry, pack_predictions

from lrc_lib import RunSpec, run
from lrc_lib.course.display import plain
from lrc_lib.data.batches import collate, encode
from lrc_lib.data.corpus import places_of
from lrc_lib.data.rows import in_train
from lrc_lib.data.tasks import GLUE
from lrc_lib.models import backbone, model_inputs
from lrc_lib.results import glue, glue_table
from lrc_lib.results.kept import FOLDER, load_results
from lrc_lib.runs.spec import data_of
from lrc_lib.runs.store import default_out, finished

SETTINGS = {  # of the first cell; the others take those of results/glue.json
    "teacher": "package:all_mpnet_base_v2", "teacher_epochs": 3, "teacher_lr": 2e-5,
    "teacher_batch_size": 16, "precision": "bf16", "bucket": 16, "learning_rate": 1e-4,
    "cache_gb": 20.0, "general_data": "reviews:wiki:glue=DIR", "general_pairs": 0.5,
    "general_rows": 85_000, "general_batch_size": 16, "general_lr": 1e-3, "general_epochs": 4,
    "general_max_length": 96,
}  # fmt: skip
POINTS = 300  # of a kept curve


def take(store: Path, folder: Path = FOLDER) -> None:
    """Writes glue.json and predictions/glue.npz of the GLUE runs in a store.

    No folder of this machine is written: an absolute path becomes its last part.
    """
    runs = {run.id: run for run in finished(store) if run.spec.task in GLUE or _is_start(run)}
    scored = (r.spec for r in runs.values() if r.metrics["splits"] and not r.spec.selection_rows)
    specs = {spec.task: spec for spec in scored}
    if not specs:
        raise SystemExit(f"'{store}' holds no finished run of a GLUE task; nothing was written.")
    rows, data = glue.entries(runs.values()), {task: data_of(s) for task, s in specs.items()}
    counts = {task: in_train(of.train, of.dev) for task, of in data.items()}
    shown = {run for row in rows for run in row["runs"].values()}
    learned = {r.id: x for r in runs.values() if (x := excess(r))}
    heads = {r.id: x for r in runs.values() if r.id in shown and (x := head_gradient(r))}
    found = runs.values()
    tried = glue.compared(found)
    results = {
        "rows": rows,
        "in_train": counts,
        "compared": tried,
        "excess": learned,
        "head_gradient": heads,
        "curves": {r.id: x for r in runs.values() if r.id in shown and (x := curve(r))},
        "runs": {name: entry(run) for name, run in runs.items()},
    }
    text = json.dumps(plain(results), indent=1, ensure_ascii=False)
    for place in _folders(r.spec for r in runs.values()):
        text = text.replace(place, Path(place).name)
    (folder / "glue.json").write_text(text + "\n", encoding="utf-8")
    pack_predictions(store, "glue", folder)


def excess(run) -> list[float]:
    """The layer loss above its minimum over the first and the last 100 steps of stage 1: two means.

    General distillation has one stage. [] for a run without layer loss in stage 1.
    """
    history = run.history
    if "excess" not in history:
        return []
    student = run.spec.kind == "student"
    steps = (history.query("stage == 1") if student else history)["excess"].dropna()
    return [float(part.mean()) for part in (steps[:100], steps[-100:])] if len(steps) else []


def head_gradient(run) -> list[float]:
    """How much the label still says to the head: two norms of the usual loss's gradient.

    The head's, and that of all weights, for the trained student on the first 64 training rows.
    [] for a run that is no student.
    """
    if run.spec.kind != "student":
        return []
    model, rows = run.student(), data_of(run.spec).train[:64]
    encoded = encode(rows, run.tokenizer(), run.metrics["max_length"])
    batch = collate(encoded, np.arange(len(rows)), "cpu")
    model(**model_inputs(model, batch), labels=batch["labels"]).loss.backward()
    inner = {id(p) for p in backbone(model).parameters()}
    norms = {id(p): float(p.grad.norm()) for p in model.parameters() if p.grad is not None}
    head = [norm for name, norm in norms.items() if name not in inner]
    return [float(np.linalg.norm(part)) for part in (head, list(norms.values()))]


def curve(run) -> dict[str, list]:
    """The clean and the perturbed loss at about `POINTS` evenly spaced steps, as they are.

    {} for a run without a layer loss.
    """
    history = run.history.dropna(axis="columns", how="all")
    if "layers" not in history:
        return {}
    some = history.iloc[:: max(1, len(history) // POINTS)]
    names = [name for name in ("step", "stage", "loss", "perturbed") if name in some]
    return {name: some[name].round(4).tolist() for name in names}


def _is_start(run) -> bool:
    return run.spec.kind == "general"


def _folders(specs) -> list[str]:
    """All absolute paths in the specs, the longest first."""
    found = set()
    for spec in specs:
        texts = (place.removeprefix("glue=") for place in places_of(spec.general_data))
        found |= {spec.data, spec.teacher, spec.augment_mlm, spec.augment_glove, *texts}
    return sorted((place for place in found if Path(place).is_absolute()), key=len, reverse=True)


def comparison(results: dict) -> str:
    """The table of `lrc_lib.results.glue.compared`, in Markdown, with what it is; "" for none.

    A general distillation after which no student was trained is a row of its own.

    Args:
        results: the contents of results/glue.json.
    """
    tried, learned = results["compared"], results["excess"]
    if not tried:
        return ""
    rows = []
    for one in tried:
        start = one["general"] or {}
        rows.append([one["column"], one["recipe"], _words(one["settings"]), *_left(start, learned),
                     one["text"], one["over"]])  # fmt: skip
    used = {e["general"]["run"] for e in (*tried, *results["rows"]) if e["general"]}
    names = {name for one in tried for name in one["settings"] if name.startswith("general_")}
    for name, made in results["runs"].items():
        if name in learned and name not in used and "tokens" in made["metrics"]:
            seen = made["metrics"]["tokens"] * made["spec"]["general_epochs"]
            words = _words({k: v for k, v in made["spec"].items() if k in names})
            left = _left({"run": name, "tokens_seen": seen}, learned)
            rows.append(["", "no student", words, *left, None, None])
    rates = {e["settings"]["learning_rate"]: e["value"] for e in tried
             if e["recipe"] == "finetune" and "learning_rate" in e["settings"]}  # fmt: skip
    lowest = rates and max(rates, key=rates.get) == min(rates)
    metric = glue_table.NAMES.get(tried[0]["metric"], tried[0]["metric"])
    head = ("column", "recipe", "settings that differ", "tokens read before the task",
            "layer loss left over then", f"held-out score, {metric}",
            "points above the best `lrc_1`")  # fmt: skip
    how = {f"{one['rows']:,} rows and {one['epochs']} epochs ({one['column']})" for one in tried}
    return (
        "Settings were compared on training rows that were held out from the students, not on dev "
        f"rows: {'; '.join(sorted(how))}. Texts of these rows, without labels, may have been read "
        "in general distillation; dev texts never are. Differences are paired, on the same rows. "
        "The layer loss is summed over layers, above its minimum, the mean of the general "
        "distillation's last 100 steps; on different texts it is not comparable."
        + " The best rate of `finetune` is the lowest that was tried; a lower one may do better."
        * bool(lowest)
        + f"\n\n{md_table(head, rows)}"
    )


def _words(settings: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(settings.items()))


def _left(start: dict, learned: dict) -> tuple[str, str]:
    """Tokens read before the task, and the layer loss left then; "" for a student without."""
    if not start:
        return "", ""
    left = f"{learned[start['run']][1]:.2f}" if start["run"] in learned else ""
    return f"{start['tokens_seen'] / 1e6:.1f} million", left


def markdown(folder: Path = FOLDER) -> str:
    """The tables of results/glue.json for docs/results.md, with their notes and empty cells."""
    results = load_results("glue", folder)
    if not results:
        return glue_table.empty([])
    parts = [md_table(*glue_table.table(results["rows"])), *glue_table.notes(results)]
    parts += [glue_table.empty(results["rows"]), md_table(*glue_table.minus(results["rows"]))]
    parts += [glue_table.CHECKS, md_table(*glue_table.checks(results)), comparison(results)]
    return "\n\n".join(filter(None, parts))


def train(task: str, recipe: str, data: str, out: Path, text=()) -> None:
    """Trains one cell as the `lrc` of results/glue.json that read most, else by `SETTINGS`.

    A recipe that has a row keeps its own learning rate.
    """
    results = load_results("glue")
    cells = sorted(
        (r for r in results.get("rows", ()) if r["recipe"] == "lrc"), key=glue_table.most_read
    )
    ids = [next(iter(cell["runs"].values())) for cell in cells[-1:]]
    kept = [results["runs"][run]["spec"] for run in ids]
    places = {
        "data": data,
        "general_data": os.pathsep.join(["reviews", "wiki", f"glue={data}", *text]),
    }
    spec = RunSpec().replace(**(kept[0] if kept else SETTINGS) | places)
    own = [row["settings"] for row in results.get("rows", ()) if row["recipe"] == recipe]
    rate = own[0].get("learning_rate") if own else None
    spec = spec.replace(task=task, seed=0, learning_rate=rate or spec.learning_rate)
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
