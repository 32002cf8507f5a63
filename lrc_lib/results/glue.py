"""GLUE's columns, measured run by run: `results/glue.json`, and the table that is made of it.

The runs need no profile: `tools/glue.py` takes them from a store. `entries` scores them, or the
kept predictions of the same runs, by the kit's one rule. Shown in notebooks/09_glue_results.
"""

import dataclasses
from collections.abc import Iterable

from lrc_lib import paper
from lrc_lib.data.tasks import GLUE, TASKS
from lrc_lib.results.statistics import Estimate, estimate
from lrc_lib.results.systems import differences
from lrc_lib.runs.card import PACKAGED
from lrc_lib.schedule import RECIPES

WORDS_OF_WIKIPEDIA = 2.5e9  # English, as BERT's authors counted; LRC-BERT names no number
SETTINGS = ("teacher", "learning_rate", "batch_size", "precision", "bucket", "max_length",
            "stage_boundary", "representation", "schedule", "keep")  # fmt: skip
OF_TEACHER = ("teacher", "teacher_lr", "teacher_epochs", "teacher_batch_size", "precision",
              "bucket")  # fmt: skip
NO_VARIANT = ("task", "data", "seed", "teacher_seed", "general_seed", "cache_gb", "compile",
              "general_data", "augment_mlm", "augment_glove")  # fmt: skip
PAPERS = ("BERT-base (teacher)", "LRC-BERT", "LRC-BERT₁", "TinyBERT")
USUAL = ("sst-2", "mrpc", "rte", "cola", "sts-b")  # columns of the table, also while they are empty
COMMAND = "python tools/glue.py train {} {} --glue-dir DIR"


def entries(runs: Iterable) -> list[dict]:
    """An entry per system and dev column, in the order of `RECIPES`, scored from predictions.

    Runs that differ in their seeds only are one system. Where systems share a recipe, "system"
    names the settings in which they differ.

    Args:
        runs: `RunResult` or `KeptRun`; those without a GLUE dev set only tell where others began.

    Returns:
        Dictionaries with "task", "split", "column", "recipe", "system", "runs" {seed: id},
        "metric", "n", "value", "low", "high", "text", "basis", "share" of the teacher in percent
        (None for a teacher), "collapsed", "differs", "settings", and "general": the tokens that
        the student saw before the task (None if it saw none).
    """
    known = {run.id: run for run in runs}
    scored = [
        r for r in known.values()
        if r.spec.task in GLUE and r.metrics["splits"] and not r.spec.selection_rows
    ]  # fmt: skip
    groups: dict[tuple, list] = {}
    for run in scored:
        groups.setdefault((run.spec.recipe, _variant(run.spec)), []).append(run)
    order = ["teacher", *RECIPES]
    found = []
    for recipe, variant in sorted(groups, key=lambda k: (order.index(k[0]), -len(groups[k]))):
        shared = set(variant).intersection(*(other for name, other in groups if name == recipe))
        own = [f"{name} = {value}" for name, value in variant if (name, value) not in shared]
        system = ", ".join([recipe, *own])
        of_task: dict[str, dict] = {}
        for run in groups[recipe, variant]:
            of_task.setdefault(run.spec.task, {})[run.spec.seed] = run
        for task, seeds in of_task.items():
            for split in TASKS[task].dev_splits:
                found.append(_entry(system, seeds, split, known, scored))
    return found


def _variant(spec) -> tuple:
    values = dataclasses.asdict(spec).items()
    return tuple((name, value) for name, value in values if name not in NO_VARIANT)


def _entry(system: str, runs: dict, split: str, known: dict, scored: list) -> dict:
    first = next(iter(runs.values()))
    spec, task = first.spec, TASKS[first.spec.task]
    score = estimate(dict(sorted(runs.items())), task, split)
    is_teacher = spec.recipe == "teacher"
    settings = {k: getattr(spec, k) for k in (OF_TEACHER if is_teacher else SETTINGS)}
    facts = {k: first.metrics[k] for k in ("rows", "epochs", "steps", "max_length")}
    return {
        "task": task.name, "split": split, "column": task.paper_columns[split],
        "recipe": spec.recipe, "system": system, "metric": task.primary,
        "runs": {str(seed): run.id for seed, run in sorted(runs.items())},
        "n": score.n, "value": score.value, "low": score.low, "high": score.high,
        "text": score.text(), "basis": score.basis(), "collapsed": score.fallen(),
        "share": None if is_teacher else _share(score, runs, split, scored),
        "differs": differences(first, task), "settings": settings | facts,
        "general": _general(first, known),
    }  # fmt: skip


def _share(score: Estimate, runs: dict, split: str, scored: list) -> str | None:
    """The score in percent of the teacher's on the same rows; None if the store has no teacher.

    A student that has no teacher is held against the one of the other students.
    """
    theirs = {}
    for seed, run in sorted(runs.items()):
        wanted = _variant(run.spec.teacher_spec()), run.spec.task, run.spec.teacher_seed
        of = (t for t in scored if t.spec.recipe == "teacher")
        same = (t for t in of if (_variant(t.spec), t.spec.task, t.spec.teacher_seed) == wanted)
        theirs[seed] = next(same, None)
    if not all(theirs.values()):
        return None
    task = TASKS[next(iter(runs.values())).spec.task]
    return (score / estimate(theirs, task, split)).scaled(100).text(unit=" %")


def _general(run, known: dict) -> dict | None:
    """What the student read before the task: its text, and tokens as often as they were seen."""
    start = known.get(run.metrics.get("augmented"), run)
    general = known.get(start.metrics.get("general"))
    if general is None:
        return None
    facts, epochs = general.metrics, general.spec.general_epochs
    seen = facts["tokens"] * epochs
    return {"run": general.id, "texts": facts["texts"], "epochs": epochs, "tokens_seen": seen,
            "source": facts["source"]}  # fmt: skip


def table(results: dict) -> tuple[list[str], list[list]]:
    """(column names, rows): the paper's rows on GLUE's test server, then ours on dev.

    Args:
        results: `results/glue.json`; {} leaves the paper's rows.
    """
    found = results.get("rows", [])
    here = {row["column"]: row["metric"] for row in found}
    columns = [c for c in paper.COLUMNS if c in here or c in map(_title, USUAL)]
    head = [f"{c}, {here.get(c, paper.METRICS[c].partition('/')[0])}" for c in columns]
    rows = [[f"{name}, paper", "test", *(paper.TABLE_1[name][c] for c in columns)]
            for name in PAPERS]  # fmt: skip
    corrected = [paper.TINYBERT_FINDINGS[c] for c in columns]
    rows += [["TinyBERT, as its authors corrected it", "test", *corrected]]
    for system in dict.fromkeys(row["system"] for row in found):
        of = {row["column"]: row for row in found if row["system"] == system}
        recipe = next(iter(of.values()))["recipe"]
        title = f"{RECIPES[recipe].title} ({system})" if recipe in RECIPES else system
        rows.append([title, "dev", *(c in of and _cell(of[c]) or None for c in columns)])
        if recipe == "lrc":
            shares = [c in of and of[c]["share"] or None for c in columns]
            rows.append([f"{title}, share of its teacher", "dev", *shares])
    return ["system", "rows", *head], rows


def _title(task: str) -> str:
    return next(iter(TASKS[task].paper_columns.values()))


def _cell(row: dict) -> str:
    return row["text"] + ", without augmentation" * ("not augmented" in row["differs"])


def notes(results: dict) -> list[str]:
    """What is to be said below the table, a few sentences for each subject; [] without runs."""
    found = results.get("rows", [])
    if not found:
        return []
    bases = _where((row["basis"], row["column"]) for row in found)
    said = [
        f"Ours: 95 % intervals; {bases}. “Rows only”: one seed, whose interval covers the choice "
        "of dev rows and no other seed."
    ]
    counts = results.get("in_train", {})
    repeated = {_title(task): c[split] for task, c in counts.items() for split in c if c[split]}
    if repeated:
        texts = "; ".join(f"{column} {count}" for column, count in repeated.items())
        said.append(f"Dev rows whose texts are also a training row: {texts}.")
    settings = (row["settings"] | {"column": row["column"]} for row in found if row["share"])
    rates = _where(
        (f"rate {s['learning_rate']:g}, batch {s['batch_size']}, {s['epochs']} epochs, "
         f"{s['precision']}, length buckets {s['bucket']}", s["column"]) for s in settings
    )  # fmt: skip
    said.append(f"Students, all with the same settings unless a row names others: {rates}.")
    if any(row["settings"]["teacher"] in PACKAGED for row in found):
        said.append(
            "The teacher's pre-training saw SNLI, MultiNLI and Quora pairs; BERT's had not."
        )
    starts = {row["general"]["run"]: row["general"] for row in found if row["general"]}
    for general in starts.values():
        tokens = general["tokens_seen"]
        said.append(
            f"General distillation ({general['run']}): {tokens / 1e6:.1f} million tokens seen, in "
            f"{general['epochs']} epoch(s). The paper reads Wikipedia once, about "
            f"{WORDS_OF_WIKIPEDIA / 1e9:g} billion words (the English one, as BERT's authors "
            f"counted): about {WORDS_OF_WIKIPEDIA / tokens:,.0f} times as much. {general['source']}"
        )
    said.append(f"Differs from the paper: {_where(_differences(found))}.")
    return said


def _differences(found: list[dict]) -> Iterable[tuple[str, str]]:
    return ((what, row["column"]) for row in found for what in row["differs"])


def _where(pairs: Iterable[tuple[str, str]]) -> str:
    """("18 epochs", "STS-B"), ... as "18 epochs (STS-B, SST-2); 90 epochs (CoLA)"."""
    columns: dict[str, dict] = {}
    for what, column in pairs:
        columns.setdefault(what, {})[column] = None
    return "; ".join(f"{what} ({', '.join(where)})" for what, where in columns.items())


def empty(results: dict) -> dict[str, str]:
    """{"MRPC: lrc": the command that measures it} of the core systems that have no such run."""
    there = {(row["recipe"], row["task"]) for row in results.get("rows", ())}
    core = ("teacher", "lrc", "lrc_1", "finetune")
    return {
        f"{_title(task)}: {recipe}": COMMAND.format(task, recipe)
        for task in USUAL for recipe in core if (recipe, task) not in there
    }  # fmt: skip
