"""GLUE's columns: takes finished runs into results/, trains what is missing, renders the table.

`python tools/glue.py take OUT` writes results/glue.json and results/predictions/glue.npz from the
runs in OUT/runs; `python tools/glue.py train TASK RECIPE --glue-dir DIR` trains one cell of the
table into out/, with the settings of the other cells.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from markup import md_table
from predictions import entry, pack_predictions

from lrc_lib import RunSpec, paper, run
from lrc_lib.course.display import plain
from lrc_lib.data.batches import collate, encode
from lrc_lib.data.corpus import places_of
from lrc_lib.data.rows import in_train
from lrc_lib.data.tasks import GLUE, TASKS
from lrc_lib.models import backbone, model_inputs
from lrc_lib.results import glue
from lrc_lib.results.kept import FOLDER, load_results
from lrc_lib.runs.card import PACKAGED
from lrc_lib.runs.spec import data_of
from lrc_lib.runs.store import default_out, finished
from lrc_lib.schedule import RECIPES

SETTINGS = {  # of the first cell; the others take those of results/glue.json
    "teacher": "package:all_mpnet_base_v2", "teacher_epochs": 3, "teacher_lr": 2e-5,
    "teacher_batch_size": 16, "precision": "bf16", "bucket": 16, "learning_rate": 1e-4,
    "cache_gb": 20.0, "general_data": "reviews:wiki:glue=DIR", "general_pairs": 0.5,
    "general_rows": 85_000, "general_batch_size": 16, "general_lr": 1e-3, "general_epochs": 4,
    "general_max_length": 96,
}  # fmt: skip
WORDS_OF_WIKIPEDIA = 2.5e9  # English, as BERT's authors counted; LRC-BERT names no number
TOKENS_A_WORD = 1.3  # word pieces, about
PAPERS = ("BERT-base (teacher)", "LRC-BERT", "LRC-BERT₁", "TinyBERT")
USUAL = ("sst-2", "mrpc", "rte", "cola", "sts-b")  # columns of the table, also while they are empty
NAMES = {"f1": "F1", "matthews": "Matthews", "pearson": "Pearson"}  # written with a capital
POINTS = 300  # of a kept curve
COMMAND = "python tools/glue.py train {} {} --glue-dir DIR"


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
    head, cells = table(rows)
    shown = {run for row in rows for run in row["runs"].values()}
    learned = {r.id: x for r in runs.values() if (x := excess(r))}
    heads = {r.id: x for r in runs.values() if r.id in shown and (x := head_gradient(r))}
    found = runs.values()
    tried = glue.compared(found)
    said = [note for note in (*notes(rows, counts), empty(rows)) if note]
    results = {
        "rows": rows,
        "in_train": counts,
        "compared": tried,
        "excess": learned,
        "head_gradient": heads,
        "curves": {r.id: x for r in runs.values() if r.id in shown and (x := curve(r))},
        "table": {"columns": head, "rows": cells, "notes": said},
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


def columns(found: list[dict]) -> list[str]:
    """The paper's columns that are measured or may well be, in its order."""
    here = {row["column"] for row in found}
    return [c for c in paper.COLUMNS if c in here or c in map(_title, USUAL)]


def titles(found: list[dict]) -> list[str]:
    """The `columns` with their metric: "CoLA, Matthews"."""
    metrics = {c: paper.METRICS[c].partition("/")[0] for c in columns(found)}
    metrics |= {row["column"]: row["metric"] for row in found}
    return [f"{c}, {NAMES.get(name, name)}" for c, name in metrics.items()]


def table(found: list[dict]) -> tuple[list[str], list[list]]:
    """(column names, rows): the paper's rows on GLUE's test server, then ours on dev."""
    shown = columns(found)
    theirs = {f"{name}, paper": paper.TABLE_1[name] for name in PAPERS}
    theirs["TinyBERT, as its authors corrected it"] = paper.TINYBERT_FINDINGS
    rows = [[name, "test", *(f"{of[c]:.1f}" for c in shown)] for name, of in theirs.items()]
    for system in dict.fromkeys(row["system"] for row in found):
        of = {row["column"]: row for row in found if row["system"] == system}
        recipe = next(iter(of.values()))["recipe"]
        title = f"{RECIPES[recipe].title} ({system})" if recipe in RECIPES else system
        rows.append([title, "dev", *(c in of and _cell(of[c]) or None for c in shown)])
        if recipe == "lrc":
            shares = [c in of and of[c]["share"] or None for c in shown]
            rows.append([f"{title}, share of its teacher", "dev", *shares])
    return ["system", "rows", *titles(found)], rows


def _title(task: str) -> str:
    return next(iter(TASKS[task].paper_columns.values()))


def _cell(row: dict) -> str:
    return row["text"] + ", without augmentation" * ("not augmented" in row["differs"])


def notes(found: list[dict], counts: dict) -> list[str]:
    """What is to be said below the table, a few sentences for each subject.

    Args:
        found: `lrc_lib.results.glue.entries`.
        counts: task -> dev split -> dev rows that are also training rows.
    """
    bases = _where((row["basis"], row["column"]) for row in found)
    said = [
        f"Ours: 95 % intervals; {bases}. “Rows only”: one seed, whose interval covers the choice "
        "of dev rows and no other seed."
    ]
    repeated = {_title(task): c[split] for task, c in counts.items() for split in c if c[split]}
    if repeated:
        texts = "; ".join(f"{column} {count}" for column, count in repeated.items())
        said.append(f"Dev rows whose texts are also a training row: {texts}.")
    settings = ((row["settings"], row["column"]) for row in found if row["recipe"] != "teacher")
    rates = _where(
        (f"batch {s['batch_size']}, {s['precision']}, length buckets {s['bucket']}", column)
        for s, column in settings
    )
    said.append(f"Students: {rates}.")
    if any(row["settings"]["teacher"] in PACKAGED for row in found):
        said.append(
            "The teacher's pre-training saw SNLI, MultiNLI and Quora pairs; BERT's had not."
        )
    starts = {row["general"]["run"]: row["general"] for row in found if row["general"]}
    for general in starts.values():
        tokens = general["tokens_seen"]
        after = _where((row["recipe"], row["column"]) for row in found
                       if row["general"] == general)  # fmt: skip
        said.append(
            f"The general distillation before {after.replace(';', ' and')} read "
            f"{tokens / 1e6:.1f} million tokens, in {general['epochs']} epoch(s). The paper reads "
            f"Wikipedia once, about "
            f"{WORDS_OF_WIKIPEDIA / 1e9:g} billion words (the English one, as BERT's authors "
            f"counted; {TOKENS_A_WORD} tokens each): about "
            f"{times_the_papers(tokens)} times as much. {general['source']}"
        )
    said.append(f"Differs from the paper: {_where(_differences(found))}.")
    return said


def most_read(entry: dict) -> int:
    """How many tokens the student of an entry read before the task."""
    return entry["general"]["tokens_seen"] if entry["general"] else 0


def times_the_papers(tokens: float) -> str:
    """How many times as much text the paper's student read: "665"."""
    return f"{WORDS_OF_WIKIPEDIA * TOKENS_A_WORD / tokens:,.0f}"


def comparison(tried: list[dict], learned: dict) -> str:
    """The table of `lrc_lib.results.glue.compared`, in Markdown, with what it is; "" for none.

    Args:
        learned: run id -> `excess`, of the general distillations.
    """
    if not tried:
        return ""
    head = ("column", "recipe", "settings that differ", "tokens read before the task",
            "layer loss left over then", "held-out score")  # fmt: skip
    rows = []
    for one in tried:
        words = ", ".join(f"{name} {value}" for name, value in one["settings"].items())
        start = one["general"] or {}
        tokens = f"{start['tokens_seen'] / 1e6:.1f} million" if start else ""
        left = f"{learned[start['run']][1]:.2f}" if start.get("run") in learned else ""
        rows.append((one["column"], one["recipe"], words, tokens, left, one["text"]))
    how = {f"{one['rows']:,} rows and {one['epochs']} epochs ({one['column']})" for one in tried}
    return (
        "Settings were compared on training rows that were held out, not on dev rows: "
        f"{'; '.join(sorted(how))}. The layer loss is summed over layers, above its minimum, the "
        f"mean of the general distillation's last 100 steps.\n\n{md_table(head, rows)}"
    )


def _differences(found: list[dict]) -> Iterable[tuple[str, str]]:
    return ((what, row["column"]) for row in found for what in row["differs"])


def _where(pairs: Iterable[tuple[str, str]]) -> str:
    """("18 epochs", "STS-B"), ... as "18 epochs (STS-B, SST-2); 90 epochs (CoLA)"."""
    columns: dict[str, dict] = {}
    for what, column in pairs:
        columns.setdefault(what, {})[column] = None
    return "; ".join(f"{what} ({', '.join(where)})" for what, where in columns.items())


def empty(found: list[dict]) -> str:
    """Which cells of the core systems are empty, and the command that measures one; "" for none."""
    there = {(row["recipe"], row["task"]) for row in found}
    core = ("teacher", "lrc", "lrc_1", "finetune")
    missing = [(task, recipe) for task in USUAL for recipe in core if (recipe, task) not in there]
    if not missing:
        return ""
    named = ", ".join(f"{_title(task)}: {recipe}" for task, recipe in missing)
    return f"Not measured: {named}. One cell: {COMMAND.format(*missing[0])}"


def markdown(folder: Path = FOLDER) -> str:
    """The table of results/glue.json for docs/results.md, with its notes and empty cells."""
    results = load_results("glue", folder)
    if not (made := results.get("table")):
        return empty([])
    return "\n\n".join(filter(None, [
        md_table(made["columns"], made["rows"]), *made["notes"],
        glue.CHECKS, md_table(*glue.checks(results)),
        comparison(results["compared"], results["excess"]),
    ]))  # fmt: skip


def train(task: str, recipe: str, data: str, out: Path, text=()) -> None:
    """Trains one cell as the `lrc` of results/glue.json that read most, else by `SETTINGS`.

    A recipe that has a row keeps its own learning rate.
    """
    results = load_results("glue")
    cells = sorted((r for r in results.get("rows", ()) if r["recipe"] == "lrc"), key=most_read)
    ids = [next(iter(cell["runs"].values())) for cell in cells[-1:]]
    kept = [results["runs"][run]["spec"] for run in ids]
    places = {"data": data, "general_data": ":".join(["reviews", "wiki", f"glue={data}", *text])}
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
