"""Profiles: one TOML file each says which tasks are trained, how, and with how many seeds.

A profile is the kit's one dial. `KEY=VALUE` settings change any `RunSpec` field of it. Taught in
notebooks/00_start_here.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lrc_lib.data import get_task, tasks_in
from lrc_lib.data.tables import read_toml
from lrc_lib.data.tasks import TASKS
from lrc_lib.errors import InputError, unknown
from lrc_lib.schedule import RECIPES

FOLDER = Path(__file__).parent
PROFILES = ("smoke", "laptop", "study", "gpu", "paper")
KEYS = dict.fromkeys(("title", "data", "dev_note"), "a text")
KEYS |= dict.fromkeys(("tasks", "weights"), "a list of texts")
KEYS |= {"own_seeds": "true or false"}
KEYS |= dict.fromkeys(("seeds", "control_seeds"), "a whole number above 0")
KEYS |= dict.fromkeys(("run", "task", "recipe", "recipes", "select"), "a table")
BEFORE_STUDENTS = ("teacher", "general", "augmented")  # runs that students depend on
SELECTED = ("learning_rate", "representation")  # what [select] may choose
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
        seeds: the number of seeds; at least 1.
        data: "" for the built-in texts, a folder, or "hub".
        values: RunSpec fields for every run.
        by_task: {task: RunSpec fields}.
        by_recipe: {recipe: RunSpec fields}. A control, for example, may need a learning rate of its
            own to be a fair one.
        recipes: {task: the recipes of its tables}.
        settings: RunSpec fields that the user set; they override all others.
        select: {RunSpec field: the values among which `lrc_lib.runs.selection` chooses one for each
            task and recipe}; {} if the profile names its values.
        select_rows, select_seeds: the training rows that are held out to choose on, and the seeds
            with which each candidate is trained, which start at 0.
        chosen: {(task, recipe): {field: value}}, the choices that were made so far.
        first_seed: the first of the seeds.
        control_seeds: the number of seeds of notebook 08's recipes.
        own_seeds: whether each seed has a teacher and a general distillation of its own. Without
            it, all students share them, and no interval covers what another teacher would change.
        dev_note: a note for every table of dev scores: how settings were chosen; "" for none.
        weights: the recipes whose students of all seeds keep their weights. The students of other
            recipes keep them for the first seed only, and their scores, predictions and history for
            all. () keeps all weights.
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
    select: dict[str, tuple] = field(default_factory=dict)
    select_rows: int = 0
    select_seeds: int = 0
    chosen: dict = field(default_factory=dict)
    first_seed: int = 0
    control_seeds: int = 0
    own_seeds: bool = False
    dev_note: str = ""
    weights: tuple[str, ...] = ()

    @property
    def main(self) -> str:
        """The task of the paper's Tables 3 to 5 and Fig. 5: MNLI if it is among the tasks, else
        the first classification task, else the first task."""
        classes = (t for t in self.tasks if get_task(t, self.data).num_labels > 1)
        return "mnli" if "mnli" in self.tasks else next(classes, self.tasks[0])

    @property
    def seed_range(self) -> range:
        """The seeds whose runs are trained."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def seeds_in(self, out, task: str, recipe: str) -> list[int]:
        """The seeds to look for in a store: the profile's, and all that a run of this task and
        recipe has there, whatever its other settings are."""
        start = f"{task}-{recipe}-s".replace("/", "_")
        names = (path.name for path in (Path(out) / "runs").glob("*"))
        pattern = re.compile(re.escape(start) + "([0-9]+)-[0-9a-f]+")
        return sorted(
            {*self.seed_range, *(int(m[1]) for n in names if (m := pattern.fullmatch(n)))}
        )

    def is_open(self, task: str, recipe: str) -> bool:
        """Whether a setting of this task and recipe is still to be chosen."""
        settings = {"teacher": (), "general": ("representation",)}.get(recipe, SELECTED)
        key = (task, student_of(recipe))
        return key not in self.chosen and any(name in self.select for name in settings)

    def candidates(self, task: str = "", recipe: str = "lrc") -> list:
        """A `RunSpec` for each candidate and seed of a choice; its dev rows are the held-out ones.

        [] where nothing is to be chosen.
        """
        task = task or self.tasks[0]
        if not self.is_open(task, recipe):
            return []
        found = []
        for values in itertools.product(*self.select.values()):
            one = dict(zip(self.select, values, strict=True)) | {"selection_rows": self.select_rows}
            profile = replace(self, chosen={(task, student_of(recipe)): one})
            found += [profile.spec(task, recipe, seed) for seed in range(self.select_seeds)]
        return list(dict.fromkeys(found))

    def spec(self, task: str = "", recipe: str = "lrc", seed: int = 0):
        """The `RunSpec` of one run, from [run], [task.NAME], [recipe.NAME] and the settings.

        The later ones override the earlier ones. If [select] names several values, the spec has
        the chosen one, or the first one while the choice is open.

        Args:
            task: a task name; "" for the first task.
            recipe: a name in `lrc_lib.schedule.RECIPES`, "teacher", "general" or "augmented".
            seed: >= 0.
        """
        task, student = task or self.tasks[0], student_of(recipe)
        built_in = get_task(task, self.data).source in BUILT_IN
        values = self.values | self.by_task.get(task, {}) | self.by_recipe.get(student, {})
        if self.weights and student not in self.weights and seed != self.first_seed:
            values |= {"save_weights": False}
        values |= self.settings | {"data": "" if built_in else self.data}
        first = {name: candidates[0] for name, candidates in self.select.items()}
        values |= self.chosen.get((task, student), first)
        if self.own_seeds:
            values |= {"teacher_seed": seed, "general_seed": seed}
        spec = _run_spec()(task=task, recipe=student, seed=seed, **values)
        return getattr(spec, f"{recipe}_spec")() if recipe in BEFORE_STUDENTS else spec


def load_profile(
    name="laptop", settings=(), tasks=(), data="", seeds=0, teacher="", device="auto"
) -> Profile:
    """Reads a profile and applies what the user set.

    Args:
        name: a name in `PROFILES`, or the path of a TOML file of your own.
        settings: "KEY=VALUE" texts (a list, or one text separated by spaces; values that hold a
            space need a list).
        tasks: task names (a list, or one text separated by commas or spaces); empty for the
            profile's tasks.
        data: "" for the built-in texts, a folder with GLUE or your own files, or "hub".
        seeds: the number of seeds, 0 for the profile's; or "5-9" for those from 5 to 9.
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
    first, count = _seeds(seeds)
    own = _settings(settings, device) | ({"teacher": teacher} if teacher else {})
    data = str(data or table.get("data", ""))
    chosen = _chosen_tasks(tasks, table, data)
    return Profile(
        name=Path(name).stem,
        title=table["title"],
        tasks=chosen,
        seeds=count or table["seeds"],
        data=data,
        values=_checked(table.get("run", {}), f"[run] {where}", device),
        by_task={t: _checked(v, f"[task.{t}] {where}", device) for t, v in by_task.items()},
        by_recipe={r: _checked(v, f"[recipe.{r}] {where}", device) for r, v in by_recipe.items()},
        recipes={task: _recipes(lists, task, where) for task in chosen},
        settings=own,
        first_seed=first,
        control_seeds=count or table.get("control_seeds", table["seeds"]),
        own_seeds=table.get("own_seeds", False),
        dev_note=table.get("dev_note", ""),
        weights=_names(table.get("weights", []), f"weights {where}"),
        **_selection(table, own, where, device),
    )


def student_of(recipe: str) -> str:
    """The recipe itself; "lrc" for the runs that students depend on."""
    return "lrc" if recipe in BEFORE_STUDENTS else recipe


def _seeds(seeds) -> tuple[int, int]:
    """(first seed, number of seeds) from a number or from "5-9"."""
    ends = re.fullmatch("([0-9]{1,9})-([0-9]{1,9})", seeds) if isinstance(seeds, str) else None
    if ends and int(ends[1]) <= int(ends[2]):
        return int(ends[1]), int(ends[2]) - int(ends[1]) + 1
    if type(seeds) is not int or seeds < 0:
        raise InputError(f"seeds must be a number, or first and last such as '5-9', not {seeds!r}.")
    return 0, seeds


def _run_spec():
    from lrc_lib.runs.spec import RunSpec  # imports torch, which a list of profiles does not need

    return RunSpec


def _read(name) -> dict:
    path = FOLDER / f"{name}.toml"
    if str(name).endswith(".toml"):
        path = Path(name)
    elif name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    table = read_toml(path, KEYS)
    for key in ("title", "tasks", "seeds"):
        if key not in table:
            raise InputError(f"{path} needs '{key}', {KEYS[key]}.")
    return table


def _refuse_unknown(names: Iterable[str], known, kind: str) -> None:
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise unknown(kind, name, known)


def _checked(values: dict, where: str, device: str) -> dict:
    """The values, with the types of `RunSpec`'s fields and the device's precision."""
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a table of settings, not {values!r}.")
    for key in values:
        if key in OWN:
            raise InputError(f"'{key}' cannot be set in {where}: {OWN[key]}.")
    if values.get("precision") == "auto":
        from lrc_lib.runs.device import usual_precision  # imports torch, too

        values = values | {"precision": usual_precision(device)}
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
    recipes = lists.get(task, lists.get("default", ["lrc", "lrc_1", "finetune"]))
    if not isinstance(recipes, list) or not recipes:
        raise InputError(f"[recipes] {task} {where} must be a list of recipe names.")
    return _names(recipes, where)


def _names(recipes: list, where: str) -> tuple[str, ...]:
    _refuse_unknown(recipes, RECIPES, f"recipe {where}:")
    return tuple(recipes)


def _selection(table: dict, own: dict, where: str, device: str) -> dict:
    """`Profile.select`, `select_rows` and `select_seeds` from [select], checked.

    500 training rows are held out unless it says otherwise. What the user set is not chosen.
    """
    select = dict(table.get("select", {}))
    _refuse_unknown(select, [*SELECTED, "rows", "seeds"], f"key in [select] {where}:")
    rows, seeds = select.pop("rows", 500), select.pop("seeds", 1)
    if not all(type(number) is int and number > 0 for number in (rows, seeds)):
        raise InputError(f"rows and seeds of [select] {where} must be whole numbers above 0.")
    values = [v for key in ("task", "recipe") for v in table.get(key, {}).values()]
    for key, listed in select.items():
        distinct = len(set(map(str, listed))) if isinstance(listed, list) else 0
        if distinct < 2 or distinct < len(listed):
            raise InputError(
                f"[select] {key} {where} must be a list of two or more different values, such as "
                f"[5e-5, 1e-4, 3e-4], not {listed!r}."
            )
        select[key] = tuple(_checked({key: v}, f"[select] {where}", device)[key] for v in listed)
        if any(key in named for named in (table.get("run", {}), *values)):
            raise InputError(
                f"There is a {key} {where} in addition to [select] {key}, which chooses one for "
                "every task and recipe. Leave one of the two out."
            )
    select = {key: values for key, values in select.items() if key not in own}
    return {"select": select, "select_rows": rows, "select_seeds": seeds}
