"""Profiles: one TOML file each says which tasks are trained, how, and with how many seeds.

A profile is the kit's one dial. `KEY=VALUE` settings change any `RunSpec` field of it. Taught in
notebooks/00_start_here.
"""

import itertools
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lrc_lib.data import get_task, tasks_in
from lrc_lib.data.tasks import TASKS
from lrc_lib.errors import InputError, unknown
from lrc_lib.schedule import RECIPES

FOLDER = Path(__file__).parent
PROFILES = ("smoke", "laptop", "gpu", "paper")
KEYS = ("title", "tasks", "seeds", "data", "run", "task", "recipe", "recipes", "select")
RECIPES_BY_DEFAULT = ["lrc", "lrc_1", "finetune"]
BEFORE_STUDENTS = ("teacher", "general", "augmented")  # runs that students depend on
OWN_RATE = ("teacher", "general")  # those whose learning rate is a field of its own
BUILT_IN = ("reviews", "nli")  # sources that take no folder
OWN = {  # RunSpec fields that are not settings
    "task": "use --task (TASKS in a notebook)",
    "data": "use --data-dir or --glue-dir (DATA in a notebook)",
    "seed": "use --seeds (SEEDS in a notebook)",
    "recipe": "a profile's [recipes] lists them",
}


@dataclass(frozen=True)
class Profile:
    """What to run; made by `load_profile`.

    Attributes:
        name, title: of the TOML file.
        tasks: task names. The first one is the task of most notebooks.
        seeds: the number of seeds, which start at 0; at least 1.
        data: "" for the built-in texts, a folder, or "hub".
        values: RunSpec fields for every run.
        by_task: {task: RunSpec fields}.
        by_recipe: {recipe: RunSpec fields}. A control, for example, may need a learning rate of its
            own to be a fair one.
        recipes: {task: the recipes of its tables}.
        settings: RunSpec fields that the user set; they override all others.
        rates: the learning rates among which `lrc_lib.runs.selection` chooses one for each task
            and recipe; () if the profile names one rate.
        chosen: {(task, recipe): rate}, the choices that were made so far.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    seeds: int
    data: str
    values: dict
    by_task: dict
    by_recipe: dict
    recipes: dict[str, tuple[str, ...]]
    settings: dict
    rates: tuple[float, ...] = ()
    chosen: dict = field(default_factory=dict)

    @property
    def main(self) -> str:
        """The task of the paper's Tables 3 to 5 and Fig. 5: MNLI if it is among the tasks, else
        the first classification task, else the first task."""
        classes = (t for t in self.tasks if get_task(t, self.data).num_labels > 1)
        return "mnli" if "mnli" in self.tasks else next(classes, self.tasks[0])

    def rate_is_open(self, task: str, recipe: str) -> bool:
        """Whether the learning rate of this task and recipe is still to be chosen."""
        key = (task, student_of(recipe))
        return bool(self.rates) and recipe not in OWN_RATE and key not in self.chosen

    def candidates(self, task: str = "", recipe: str = "lrc", seed: int = 0) -> list:
        """One `RunSpec` for each learning rate among which one is chosen; else the only spec."""
        if recipe in OWN_RATE or not self.rates:
            return [self.spec(task, recipe, seed)]
        key = (task or self.tasks[0], student_of(recipe))
        return [replace(self, chosen={key: rate}).spec(task, recipe, seed) for rate in self.rates]

    def spec(self, task: str = "", recipe: str = "lrc", seed: int = 0):
        """The `RunSpec` of one run, from [run], [task.NAME], [recipe.NAME] and the settings.

        The later ones override the earlier ones. If [select] names several learning rates, the
        spec has the chosen one, or the middle one while the choice is open.

        Args:
            task: a task name; "" for the first task.
            recipe: a name in `lrc_lib.schedule.RECIPES`, "teacher", "general" or "augmented".
            seed: >= 0.
        """
        task, student = task or self.tasks[0], student_of(recipe)
        built_in = get_task(task, self.data).source in BUILT_IN
        values = self.values | self.by_task.get(task, {}) | self.by_recipe.get(student, {})
        values |= self.settings | {"data": "" if built_in else self.data}
        if self.rates:
            middle = sorted(self.rates)[len(self.rates) // 2]
            values["learning_rate"] = self.chosen.get((task, student), middle)
        spec = _run_spec()(task=task, recipe=student, seed=seed, **values)
        return getattr(spec, f"{recipe}_spec")() if recipe in BEFORE_STUDENTS else spec


def load_profile(
    name="laptop", settings=(), tasks=(), data="", seeds=0, teacher="", device="auto"
) -> Profile:
    """Reads a profile and applies what the user set.

    Args:
        name: a name in `PROFILES`, or the path of a TOML file of your own.
        settings: "KEY=VALUE" texts (a list, or one text separated by spaces).
        tasks: task names (a list, or one text separated by commas or spaces); empty for the
            profile's tasks.
        data: "" for the built-in texts, a folder with GLUE or your own files, or "hub".
        seeds: the number of seeds; 0 for the profile's.
        teacher: see `lrc_lib.models.teacher_folder`; "" for the profile's.
        device: "auto", "cpu", "cuda" or "mps"; precision = "auto" is bf16 where it has it.

    Raises:
        InputError: an unknown profile, key, task or recipe (with the nearest right name), or a
            value of the wrong type.
    """
    table = _read(name)
    where = f"in profile '{name}'"
    by_task, by_recipe, lists = (table.get(key, {}) for key in ("task", "recipe", "recipes"))
    _refuse_unknown({*by_task, *lists} - {"default"}, TASKS, f"task {where}:")
    _refuse_unknown(by_recipe, RECIPES, f"recipe {where}:")
    if not isinstance(seeds, int) or seeds < 0:
        raise InputError(f"seeds must be a whole number of at least 0, not {seeds!r}.")
    own = _settings(settings, device) | ({"teacher": teacher} if teacher else {})
    data = str(data or table.get("data", ""))
    chosen = _chosen_tasks(tasks, table, data)
    return Profile(
        name=Path(name).stem,
        title=table["title"],
        tasks=chosen,
        seeds=seeds or table["seeds"],
        data=data,
        values=_checked(table.get("run", {}), f"[run] {where}", device),
        by_task={t: _checked(v, f"[task.{t}] {where}", device) for t, v in by_task.items()},
        by_recipe={r: _checked(v, f"[recipe.{r}] {where}", device) for r, v in by_recipe.items()},
        recipes={task: _recipes(lists, task, where) for task in chosen},
        settings=own,
        rates=() if "learning_rate" in own else _rates(table, where),
    )


def student_of(recipe: str) -> str:
    """The recipe itself; "lrc" for the runs that students depend on."""
    return "lrc" if recipe in BEFORE_STUDENTS else recipe


def _run_spec():
    from lrc_lib.runs.spec import RunSpec  # imports torch, which a list of profiles does not need

    return RunSpec


def _usual_precision(device: str) -> str:
    from lrc_lib.runs.device import usual_precision  # imports torch, too

    return usual_precision(device)


def _read(name) -> dict:
    path = FOLDER / f"{name}.toml"
    if str(name).endswith(".toml"):
        path = Path(name)
    elif name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the profile '{path}': {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    _refuse_unknown(table, KEYS, f"key in {path.name}")
    for key in ("run", "task", "recipe", "recipes", "select"):
        if not isinstance(table.get(key, {}), dict):
            raise InputError(f"{path}: '{key}' must be a table, like [{key}], not {table[key]!r}.")
    for key, kind in (("title", str), ("tasks", list), ("seeds", int)):
        if not isinstance(table.get(key), kind) or not table[key]:
            raise InputError(f"{path} needs '{key}', a {kind.__name__} that is not empty.")
    return table


def _refuse_unknown(names: Iterable[str], known, kind: str) -> None:
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)


def _checked(values: dict, where: str, device: str) -> dict:
    """The values, with the types of `RunSpec`'s fields and the device's precision."""
    for key in values:
        if key in OWN:
            raise InputError(f"'{key}' cannot be set in {where}: {OWN[key]}.")
    if values.get("precision") == "auto":
        values = values | {"precision": _usual_precision(device)}
    try:
        spec = _run_spec()().replace(**values)
    except InputError as error:
        raise InputError(f"In {where}: {error}") from None
    return {key: getattr(spec, key) for key in values}


def _settings(settings: str | Iterable[str], device: str) -> dict:
    """{"epochs": 3} from ["epochs=3"] or from "epochs=3"."""
    given = {}
    for item in settings.split() if isinstance(settings, str) else settings:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"A setting is KEY=VALUE, e.g. epochs=3, not '{item}'.")
        given[key.strip()] = value.strip()
    return _checked(given, "the settings", device)


def _chosen_tasks(tasks: str | Iterable[str], table: dict, data: str) -> tuple[str, ...]:
    """The tasks that the user named; else the profile's, of a folder `data` those that it holds."""
    words = tasks if isinstance(tasks, str) else " ".join(map(str, tasks))
    named = tuple(dict.fromkeys(words.lower().replace(",", " ").split()))
    here = () if named else tasks_in(data)
    chosen = named or tuple(t for t in table["tasks"] if t in here) or here or tuple(table["tasks"])
    sources = {get_task(task, data).source for task in chosen}
    if data and sources <= set(BUILT_IN):
        raise InputError(
            f"'{data}' holds nothing for {', '.join(chosen)}, which the kit brings itself. Name a "
            "task of that folder, e.g. --task rte."
        )
    return chosen


def _recipes(lists: dict, task: str, where: str) -> tuple[str, ...]:
    recipes = lists.get(task, lists.get("default", RECIPES_BY_DEFAULT))
    if not isinstance(recipes, list) or not recipes:
        raise InputError(f"[recipes] {task} {where} must be a list of recipe names.")
    _refuse_unknown(recipes, RECIPES, f"recipe {where}:")
    return tuple(recipes)


def _rates(table: dict, where: str) -> tuple[float, ...]:
    """The rates of [select] learning_rate, checked; () without [select]."""
    select = table.get("select", {})
    _refuse_unknown(select, ["learning_rate"], f"key in [select] {where}:")
    if not select:
        return ()
    rates = select["learning_rate"]
    good = isinstance(rates, list) and all(type(r) in (int, float) and r > 0 for r in rates)
    if not good or len(rates) < 2 or len(set(rates)) < len(rates):
        raise InputError(
            f"[select] learning_rate {where} must be a list of two or more different positive "
            f"numbers, such as [5e-5, 1e-4, 3e-4], not {rates!r}."
        )
    values = (table.get(key, {}).values() for key in ("task", "recipe"))
    others = [table.get("run", {}), *itertools.chain(*values)]
    if any("learning_rate" in own for own in others):
        raise InputError(
            f"There is a learning_rate {where} in addition to [select] learning_rate, which "
            "chooses one for every task and recipe. Leave one of the two out."
        )
    return tuple(float(rate) for rate in rates)
