"""Exercises that train: an entry is registered with its prediction, then trained and reported."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import astuple, replace
from pathlib import Path
from unittest.mock import patch

from lrc_lib.course.check import core
from lrc_lib.data import get_task
from lrc_lib.errors import InputError
from lrc_lib.results.statistics import estimate
from lrc_lib.runs.run import run
from lrc_lib.runs.spec import RunSpec
from lrc_lib.runs.store import run_folder
from lrc_lib.schedule import RECIPES, Recipe

SHAPE = 'Return {"%s": ..., "points": a number, "because": "a sentence"}.'


def registered(answer, key: str, fields=()) -> str:
    """Praise for a valid entry {key: what is new, "points": ..., "because": ...}, with its digest.

    Args:
        key: "recipe", for a new `Recipe`, or "settings", for values of `fields` of `RunSpec`.

    Raises:
        Mistake: no such entry.
    """
    entry, shape = core.call(answer), SHAPE % key
    core.refuse({shape: not isinstance(entry, dict) or set(entry) != {key, "points", "because"}})
    points = core.single(entry["points"], core.name_of(answer), "the predicted difference")
    core.refuse({
        f"A difference of {points:g} points is not possible: scores lie from -100 to 100.":
            abs(points) > 200,
        "Say why you expect that, in a sentence of five words or more.":
            len(str(entry["because"]).split()) < 5,
    })  # fmt: skip
    new = entry[key]
    _check_recipe(new) if key == "recipe" else _check_settings(new, fields)
    text = json.dumps([repr(new), points, entry["because"]])
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"Registered as {digest}: {points:+z.1f} points. Any change gives another number."


def _check_settings(settings, fields) -> None:
    listed = isinstance(settings, dict) and len(settings) == 1
    core.refuse({
        f'"settings" is a dict with one of {", ".join(fields)}.':
            not listed or not set(settings) <= set(fields),
    })  # fmt: skip
    try:
        changed = RunSpec().replace(**settings)
    except InputError as error:
        raise core.Mistake(str(error)) from None
    core.refuse({"That is the default: change something.": changed == RunSpec()})


def _check_recipe(recipe) -> None:
    core.refuse({"That is no `lrc_lib.schedule.Recipe`.": not isinstance(recipe, Recipe)})
    same = [name for name, known in RECIPES.items() if _content(known) == _content(recipe)]
    core.refuse({
        f"The name '{recipe.name}' is taken: choose another.": recipe.name in RECIPES,
        f"That is the recipe '{''.join(same[:1])}' under another name.": same,
        "No stage looks at the teacher: that is fine-tuning.": not recipe.uses_teacher,
    })  # fmt: skip


def _content(recipe: Recipe) -> tuple:
    return astuple(replace(recipe, name="", title="", summary=""))


def trained(session, entry: dict, against: str = "lrc", task: str = "", **settings):
    """Trains a registered entry, and prints its difference to `against` next to the prediction.

    A new recipe is trained into a folder that is deleted at the end, because no other process
    knows it. Its teacher and its general distillation are copied there from the session's store.

    Args:
        session: the notebook's `Session`.
        against: the recipe that it is compared with, and whose settings it has otherwise.
        settings: fields of `RunSpec`, for both.

    Returns:
        The entry's `RunResult`; of a new recipe, its folder is gone.
    """
    base = session.run(against, task or session.task, **settings)
    split, kind = next(iter(base.metrics["splits"])), get_task(base.spec.task, base.spec.data)
    with tempfile.TemporaryDirectory() as folder:
        if "settings" in entry:
            result = session.run(against, base.spec.task, **settings, **entry["settings"])
        else:
            result = _run_apart(entry["recipe"], base.spec, session, Path(folder))
        mine, other = (estimate([one], kind, split) for one in (result, base))
    gap, points = mine - other, entry["points"]
    inside = "inside" if gap.low <= points <= gap.high else "outside"
    print(f"Yours {mine.text()}, {against} {other.text()}; {mine.metric}, {gap.basis()}.")
    print(f"Difference {gap.text(sign='+')}. You predicted {points:+z.1f}: {inside} the interval.")
    return result


def _run_apart(recipe: Recipe, spec: RunSpec, session, folder: Path):
    with patch.dict(RECIPES, {recipe.name: recipe}):
        spec = spec.replace(recipe=recipe.name)
        for part in spec.dependencies():
            if run_folder(part, session.out).exists():
                shutil.copytree(run_folder(part, session.out), run_folder(part, folder))
        return run(spec, folder, str(session.device))
