"""GLUE's columns, measured run by run: the rows of `results/glue.json`.

The runs need no profile: `tools/glue.py` takes them from a store and makes a table of them, which
notebooks/09_glue_results shows. `entries` scores them, or the kept predictions of the same runs, by
the kit's one rule.
"""

import dataclasses
from collections.abc import Iterable

from lrc_lib.data.tasks import GLUE, TASKS
from lrc_lib.results.statistics import Estimate, estimate
from lrc_lib.results.systems import differences
from lrc_lib.runs.spec import FIELDS
from lrc_lib.schedule import RECIPES

SETTINGS = ("teacher", "learning_rate", "batch_size", "precision", "bucket", "max_length",
            "stage_boundary", "representation", "schedule", "keep")  # fmt: skip
OF_TEACHER = ("teacher", "teacher_lr", "teacher_epochs", "teacher_batch_size", "precision",
              "bucket")  # fmt: skip
CONTROLS = ("finetune", "lrc_1", "lrc_g")  # a recipe is held against those before it
NO_VARIANT = ("task", "data", "seed", "teacher_seed", "general_seed", "cache_gb", "compile",
              "general_data", "augment_mlm", "augment_glove")  # fmt: skip


def entries(runs: Iterable) -> list[dict]:
    """An entry per system and dev column, in the order of `RECIPES`, scored from predictions.

    Runs that differ in their seeds only are one system. Where systems share a recipe, "system"
    names the settings in which they differ; for the settings of a general distillation stands how
    much text it read.

    Args:
        runs: `RunResult` or `KeptRun`; those without a GLUE dev set only tell where others began.

    Returns:
        Dictionaries with "task", "split", "column", "recipe", "system", "runs" {seed: id},
        "metric", "n", "value", "low", "high", "text", "basis", "share" of the teacher in percent
        (None for a teacher), "minus" {recipe: the score minus that recipe's}, "constant": the
        score of the best constant answer, "others" {metric: score of the first seed},
        "collapsed": why, "differs", "settings", and "general": the tokens that the student saw
        before the task (None if it saw none).
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
        own = {name: value for name, value in variant if (name, value) not in shared}
        start = _general(groups[recipe, variant][0], known)
        if start and any(name.startswith("general_") for name in own):
            own = {name: v for name, v in own.items() if not name.startswith("general_")}
            own["general distillation"] = f"{start['tokens_seen'] / 1e6:.1f} million tokens"
        system = ", ".join([recipe, *(f"{name} = {value}" for name, value in own.items())])
        of_task: dict[str, dict] = {}
        for run in groups[recipe, variant]:
            is_teacher = run.spec.recipe == "teacher"
            seed = run.spec.teacher_seed if is_teacher else run.spec.seed
            of_task.setdefault(run.spec.task, {})[seed] = run
        for task, seeds in of_task.items():
            for split in TASKS[task].dev_splits:
                found.append(_entry(system, seeds, split, known, scored))
    return found


def compared(runs: Iterable) -> list[dict]:
    """An entry per student that was scored on held-out training rows, to choose its settings.

    Runs that differ in their seeds only are one entry.

    Args:
        runs: `RunResult` or `KeptRun`, with the general distillations from which students began.

    Returns:
        Dictionaries with "column", "recipe", "rows" held out, "epochs", "settings" {name: value} of
        those in which the entries of a recipe and task differ, "runs" {seed: id}, "metric",
        "value", "low", "high", "text", "over": the score minus that of the best `lrc_1`, which has
        read nothing, on the same rows (None without), and "general" as in `entries`; each recipe's
        best last.
    """
    known = {run.id: run for run in runs}
    groups: dict[tuple, dict] = {}
    for run in known.values():
        if run.spec.kind == "student" and run.spec.task in GLUE and run.spec.selection_rows:
            key = run.spec.task, run.spec.recipe, _variant(run.spec, ("general_data",))
            groups.setdefault(key, {})[run.spec.seed] = run
    scores = {key: estimate(seeds, TASKS[key[0]], "selection") for key, seeds in groups.items()}
    found = []
    for (task, recipe, variant), seeds in groups.items():
        of = (other for *names, other in groups if names == [task, recipe])
        shared = set(variant).intersection(*of)
        first, score = next(iter(seeds.values())), scores[task, recipe, variant]
        bases = [key for key in groups if key[:2] == (task, "lrc_1") and recipe != "lrc_1"
                 and scores[key].n == score.n]  # fmt: skip
        base = groups[max(bases, key=lambda key: scores[key].value)] if bases else {}
        both = sorted(seeds.keys() & base.keys())
        found.append({
            "column": next(iter(TASKS[task].paper_columns.values())), "recipe": recipe,
            "rows": first.spec.selection_rows, "epochs": first.metrics["epochs"],
            "settings": {name: value for name, value in variant if (name, value) not in shared},
            "runs": {str(seed): run.id for seed, run in sorted(seeds.items())},
            "metric": TASKS[task].primary, "value": score.value, "low": score.low,
            "high": score.high, "text": score.text(), "general": _general(first, known),
            "over": _difference(seeds, base, both, "selection") if both else None,
        })  # fmt: skip
    return sorted(found, key=lambda e: (e["column"], e["recipe"], e["value"]))


def _variant(spec, also=()) -> tuple:
    """The settings that a run's result depends on, also through the runs that it needs."""
    parts = [spec]
    for part in parts:  # grows while it is read
        parts += part.dependencies()
    kinds = {part.kind for part in parts}
    return tuple(
        (name, value) for name, value in dataclasses.asdict(spec).items()
        if (name in also or name not in NO_VARIANT) and kinds & {*FIELDS[name].metadata["kinds"]}
    )  # fmt: skip


def _entry(system: str, runs: dict, split: str, known: dict, scored: list) -> dict:
    first = runs[min(runs)]
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
        "text": score.text(), "basis": score.basis(),
        "constant": 100 * first.metrics["constant"][split][task.primary],
        "others": {name: 100 * first.metrics["splits"][split][name] for name in task.metrics
                   if name != task.primary},
        "collapsed": "; ".join(f"seed {seed} {reason}" for _, seed, reason in score.collapsed),
        "share": None if is_teacher else _share(score, runs, split, scored),
        "minus": {} if is_teacher else _minus(runs, split, scored),
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


def _minus(runs: dict, split: str, scored: list) -> dict[str, str]:
    """The score minus that of each other recipe in `CONTROLS`: same dev rows, same seeds, and for
    `lrc_g` the same general distillation. Of several variants, the one with most of the seeds."""
    first, found = next(iter(runs.values())), {}
    for recipe in CONTROLS[: (*CONTROLS, first.spec.recipe).index(first.spec.recipe)]:
        variants: dict[tuple, dict] = {}
        for run in scored:
            same = (run.spec.recipe, run.spec.task) == (recipe, first.spec.task)
            if same and _start(run) in (None, _start(first)):
                variants.setdefault(_variant(run.spec), {})[run.spec.seed] = run
        theirs = max(variants.values(), key=lambda of: len(of.keys() & runs.keys()), default={})
        if seeds := sorted(theirs.keys() & runs.keys()):
            found[recipe] = _difference(runs, theirs, seeds, split)
    return found


def _start(run) -> str | None:
    """The id of the run from whose weights a student began."""
    return run.metrics.get("augmented") or run.metrics.get("general")


def _difference(runs: dict, theirs: dict, seeds: list, split: str) -> str:
    task = TASKS[next(iter(runs.values())).spec.task]
    ours, control = (
        estimate({seed: of[seed] for seed in seeds}, task, split) for of in (runs, theirs)
    )
    fewer = f", {len(seeds)} of {len(runs)} seeds" * (len(seeds) < len(runs))
    return (ours - control).text(sign="+") + fewer


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
