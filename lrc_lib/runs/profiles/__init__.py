"""Profiles: one TOML file each says what is trained, on which tasks, how long.

A profile is the kit's one dial. Everything in it can be changed by `KEY=VALUE` settings, where KEY
is a field of `RunSpec`. Taught in notebooks/00_start_here.
"""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from lrc_lib.errors import InputError, unknown

FOLDER = Path(__file__).parent
PROFILES = ("smoke", "laptop", "gpu", "paper")
KEYS = ("title", "tasks", "seeds", "data", "run", "task", "recipe", "recipes", "select")
ALIKE = ("teacher", "general")  # runs whose learning rate is a field of its own
BUILT_IN = ("reviews", "nli")  # sources that take no folder
OWN = {  # RunSpec fields that are chosen otherwise
    "task": "use --task (TASKS in a notebook)",
    "data": "use --data-dir or --glue-dir (DATA in a notebook)",
    "seed": "use --seeds (SEEDS in a notebook)",
    "recipe": "a profile's [recipes] lists them",
}


@dataclass(frozen=True)
class Profile:
    """What to run: made by `load_profile`.

    Attributes:
        name, title: of the TOML file.
        tasks: task names; the first is the main task, which most notebooks look at.
        seeds: how many seeds, from 0 on; at least 1.
        data: "" for built-in texts, a folder, or "hub".
        values: RunSpec fields for every run.
        by_task: RunSpec fields for one task, by task name.
        by_recipe: RunSpec fields for one recipe, by its name: a control may need its own
            learning rate to be a fair one.
        recipes: for each task, the recipes of the tables.
        settings: RunSpec fields that the user set; they go before all others.
        rates: learning rates among which `lrc_lib.runs.selection` chooses one for each task and
            recipe, the same ones for every recipe; () where the profile names one rate.
        chosen: {(task, recipe): rate}, as far as the choice is made.
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
        """The task of the paper's Tables 3 to 5 and Fig. 5: MNLI where it is among the tasks, else
        the first with classes, else the first."""
        from lrc_lib.data import get_task

        classes = (t for t in self.tasks if get_task(t, _folder(self.data)).num_labels > 1)
        return "mnli" if "mnli" in self.tasks else next(classes, self.tasks[0])

    def is_open(self, task: str, recipe: str) -> bool:
        """Whether the learning rate of this task and recipe is still to be chosen."""
        key = (task, student_of(recipe))
        return bool(self.rates) and recipe not in ALIKE and key not in self.chosen

    def candidates(self, task: str = "", recipe: str = "lrc", seed: int = 0) -> list:
        """The specs of all learning rates among which one is chosen; else the one spec there is."""
        task = task or self.tasks[0]
        if recipe in ALIKE or not self.rates:
            return [self.spec(task, recipe, seed)]
        rated = [replace(self, chosen={(task, student_of(recipe)): rate}) for rate in self.rates]
        return [profile.spec(task, recipe, seed) for profile in rated]

    def spec(self, task: str = "", recipe: str = "lrc", seed: int = 0):
        """The `RunSpec` of one run: [run], [task.NAME], [recipe.NAME], the settings; the last wins.

        Its learning rate is the chosen one where [select] names several; while the choice is open,
        the middle one stands for it.

        Args:
            task: a task name; "" is the main task.
            recipe: a name in `lrc_lib.schedule.RECIPES`, "teacher", "general" or "augmented".
            seed: >= 0.
        """
        from lrc_lib.data import get_task
        from lrc_lib.runs.spec import KINDS, RunSpec

        task = task or self.tasks[0]
        built_in = get_task(task, _folder(self.data)).source in BUILT_IN
        data = "" if built_in else self.data
        student = student_of(recipe)
        values = self.values | self.by_task.get(task, {})
        values |= self.by_recipe.get(student, {}) | self.settings
        if self.rates:
            middle = sorted(self.rates)[len(self.rates) // 2]
            values["learning_rate"] = self.chosen.get((task, student), middle)
        spec = RunSpec(task=task, recipe=student, seed=seed, data=data, **values)
        if recipe in KINDS:
            return getattr(spec, f"{recipe}_spec")()
        return spec


def load_profile(name="laptop", settings=(), tasks=(), data="", seeds=0, teacher="") -> Profile:
    """Reads a profile and applies what the user set.

    Args:
        name: smoke, laptop, gpu, paper, or the path of a TOML file of your own.
        settings: "KEY=VALUE" texts (a list, or one text separated by spaces).
        tasks: task names (a list, or one text separated by commas or spaces); empty: the
            profile's.
        data: "" for built-in texts, a folder with GLUE or your own files, or "hub".
        seeds: number of seeds; 0: the profile's.
        teacher: see `lrc_lib.models.teacher_folder`; "": the profile's.

    Raises:
        InputError: an unknown profile, key, task or recipe (with the nearest right name), or a
            value of the wrong type.
    """
    from lrc_lib.data.tasks import TASKS
    from lrc_lib.schedule import get_recipe

    table = _read(name)
    values = _checked(table.get("run", {}), f"[run] in profile '{name}'")
    by_task = {
        task: _checked(value, f"[task.{task}] in profile '{name}'")
        for task, value in table.get("task", {}).items()
    }
    by_recipe = {
        recipe: _checked(value, f"[recipe.{recipe}] in profile '{name}'")
        for recipe, value in table.get("recipe", {}).items()
    }
    own = _settings(settings) | ({"teacher": teacher} if teacher else {})
    data = str(data or table.get("data", ""))
    for task in {*by_task, *table.get("recipes", {})} - {"default"}:
        if task not in TASKS:
            raise unknown(f"task in profile '{name}':", task, TASKS)
    for recipe in by_recipe:
        get_recipe(recipe)
    if not isinstance(seeds, int) or seeds < 0:
        raise InputError(f"seeds must be a whole number of at least 0, not {seeds!r}.")
    chosen = _chosen_tasks(tasks, table, data)
    return Profile(
        name=Path(name).stem,
        title=table["title"],
        tasks=chosen,
        seeds=seeds or table["seeds"],
        data=data,
        values=values,
        by_task=by_task,
        by_recipe=by_recipe,
        recipes={task: _recipes(table.get("recipes", {}), task, name) for task in chosen},
        settings=own,
        rates=() if "learning_rate" in own else _rates(table, name),
    )


def _rates(table: dict, name) -> tuple[float, ...]:
    """[select] learning_rate, checked; () where a profile has none."""
    select = table.get("select", {})
    for key in select:
        if key != "learning_rate":
            raise unknown(f"key in [select] of profile '{name}':", key, ["learning_rate"])
    rates = select.get("learning_rate", [])
    if not isinstance(rates, list) or any(type(r) not in (int, float) or r <= 0 for r in rates):
        raise InputError(
            f"[select] learning_rate in profile '{name}' must be a list of positive numbers, such "
            f"as [5e-5, 1e-4, 3e-4], not {rates!r}."
        )
    if select and len(set(rates)) < max(2, len(rates)):
        raise InputError(f"[select] learning_rate in profile '{name}' needs two different rates.")
    parts = [table.get("run", {}), *table.get("task", {}).values()]
    if rates and any(
        "learning_rate" in part for part in (*parts, *table.get("recipe", {}).values())
    ):
        raise InputError(
            f"Profile '{name}' has a learning_rate beside [select] learning_rate, which chooses "
            "one for every task and recipe. Leave one of the two out."
        )
    return tuple(float(rate) for rate in rates)


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
    for key in table:
        if key not in KEYS:
            raise unknown(f"key in {path.name}", key, KEYS)
    for key in ("run", "task", "recipe", "recipes", "select"):
        if not isinstance(table.get(key, {}), dict):
            raise InputError(f"{path}: '{key}' must be a table, like [{key}], not {table[key]!r}.")
    for key, kind in (("title", str), ("tasks", list), ("seeds", int)):
        if not isinstance(table.get(key), kind) or not table[key]:
            raise InputError(f"{path} needs '{key}', a {kind.__name__} that is not empty.")
    return table


def _words(text) -> list[str]:
    if isinstance(text, str):
        text = text.replace(",", " ").split()
    return list(dict.fromkeys(word.lower() for item in text for word in str(item).split()))


def _settings(settings) -> dict:
    """{"epochs": 3} from ["epochs=3"] or "epochs=3 train_rows=200"."""
    given = {}
    for item in settings.split() if isinstance(settings, str) else settings:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"A setting is KEY=VALUE, e.g. epochs=3, not '{item}'.")
        given[key.strip()] = value.strip()
    return _checked(given, "the settings")


def _checked(values: dict, where: str) -> dict:
    """The values, with the types of RunSpec's fields."""
    from lrc_lib.runs.spec import RunSpec

    for key in values:
        if key in OWN:
            raise InputError(f"'{key}' cannot be set in {where}: {OWN[key]}.")
    try:
        spec = RunSpec().replace(**values)
    except InputError as error:
        raise InputError(f"In {where}: {error}") from None
    return {key: getattr(spec, key) for key in values}


def _chosen_tasks(tasks, table: dict, data: str) -> tuple[str, ...]:
    """The tasks asked for; else the profile's, as far as the folder `data` holds them."""
    from lrc_lib.data import get_task, tasks_in

    named = tuple(_words(tasks))
    here = tasks_in(data) if not named else ()
    chosen = named or tuple(t for t in table["tasks"] if t in here) or here
    chosen = chosen or tuple(table["tasks"])
    sources = {get_task(task, _folder(data)).source for task in chosen}
    if data and sources <= set(BUILT_IN):
        raise InputError(
            f"'{data}' holds nothing for {', '.join(chosen)}, which the kit brings itself. Name a "
            "task that it is for, e.g. --task rte."
        )
    return chosen


def student_of(recipe: str) -> str:
    """The recipe itself; for runs that come before a student, that of the student."""
    from lrc_lib.runs.spec import KINDS

    return "lrc" if recipe in KINDS else recipe


def _folder(data) -> str:
    return "" if data == "hub" else str(data)


def _recipes(table: dict, task: str, name) -> tuple[str, ...]:
    from lrc_lib.schedule import get_recipe

    recipes = table.get(task, table.get("default", ["lrc", "lrc_1", "finetune"]))
    if not isinstance(recipes, list) or not recipes:
        raise InputError(f"[recipes] {task} in profile '{name}' must be a list of recipe names.")
    for recipe in recipes:
        get_recipe(recipe)
    return tuple(recipes)
