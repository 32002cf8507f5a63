"""The fields of a `RunSpec`: which kind of run each belongs to, and what values it takes."""

from lrc_lib.errors import InputError, unknown
from lrc_lib.losses import HARD_TARGETS, REPRESENTATIONS
from lrc_lib.perturbation import NORMS
from lrc_lib.schedule import SCHEDULES, boundary_step, get_recipe

KINDS = ("teacher", "general", "augmented")  # the recipes that are not students of a task
SHAPE_FIELDS = (
    "teacher student_layers student_hidden student_intermediate student_heads dropout "
    "weight_decay clip warmup drop_last bucket representation layer_map layer_reduction projection "
    "projection_bias negatives processes precision compile"
).split()
DATA_FIELDS = "task data train_rows dev_rows max_length".split()
LATER = ("keep", "negatives", "processes", "precision")  # in no id at their defaults
LOCATIONS = ("data", "general_data", "augment_mlm", "augment_glove", "cache_gb", "compile")
TEACHER_FIELDS = tuple(
    DATA_FIELDS
    + "bucket teacher teacher_epochs teacher_lr teacher_batch_size teacher_seed precision "
    "compile".split()
)
GENERAL_FIELDS = tuple(
    SHAPE_FIELDS
    + "general_data general_rows general_packed general_epochs general_batch_size general_lr "
    "general_max_length general_seed general_loss cache_gb".split()
)
STUDENT_FIELDS = tuple(
    DATA_FIELDS
    + SHAPE_FIELDS
    + "seed epochs batch_size learning_rate schedule stage_boundary temperature hard_target "
    "perturb_norm epsilon keep cache_gb".split()
)
AUGMENT_FIELDS = "augment augment_mlm augment_glove augment_epochs".split()
AUGMENTED_FIELDS = tuple(  # what the run itself follows from; its teacher and its start come on top
    DATA_FIELDS
    + SHAPE_FIELDS
    + AUGMENT_FIELDS
    + "batch_size learning_rate general_loss general_seed cache_gb".split()
)
CHOICES = {
    "representation": REPRESENTATIONS,
    "hard_target": HARD_TARGETS,
    "perturb_norm": NORMS,
    "projection": ("shared", "per_layer"),
    "schedule": SCHEDULES,
    "layer_reduction": ("sum", "mean"),
    "general_loss": ("cos_nce", "mse"),
    "keep": ("last", "best"),  # the student of the last step, or of stage 2's best epoch on dev
    "negatives": ("batch", "process"),
    "precision": ("fp32", "tf32", "bf16"),
    "compile": ("off", "on"),
}
POSITIVE = (
    "batch_size learning_rate temperature clip teacher_batch_size teacher_lr general_batch_size "
    "general_lr general_epochs general_max_length augment_epochs student_layers student_hidden "
    "student_intermediate student_heads processes"
).split()


def check_spec(spec) -> None:
    """Refuse a spec that cannot run, before anything is loaded."""
    if spec.recipe not in KINDS:
        get_recipe(spec.recipe)
    for name, options in CHOICES.items():
        if getattr(spec, name) not in options:
            raise unknown(name, getattr(spec, name), options)
    for name in POSITIVE:
        if not getattr(spec, name) > 0:
            raise InputError(f"{name} must be positive, not {getattr(spec, name)}.")
    for name in ("batch_size", "general_batch_size"):
        if getattr(spec, name) < 2:
            raise InputError(f"{name} must be at least 2: the batch holds the negatives.")
    if not spec.cache_gb >= 0:
        raise InputError(f"cache_gb must be 0 (no cache) or more, not {spec.cache_gb}.")
    if spec.augment < (spec.recipe == "augmented"):
        raise InputError(f"augment must be 1 or more copies of a row (0: off), not {spec.augment}.")
    if (spec.negatives == "process") != (spec.processes > 1):
        raise InputError(
            "negatives = process and processes = N, two or more, go together: each of N processes "
            "takes its negatives from its own rows. With negatives = batch, --processes N alone "
            "says how many share a batch."
        )
    boundary_step(1, spec.stage_boundary)


def as_type(name: str, value, kind):
    """`value` (perhaps text from --set) as the field's type; InputError names the field."""
    try:
        if kind is bool:
            word = str(value).lower()
            if word not in ("true", "false", "1", "0", "yes", "no"):
                raise ValueError
            return word in ("true", "1", "yes")
        if kind is int and float(value) != int(float(value)):
            raise ValueError
        return kind(float(value)) if kind is int else kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be of type {kind.__name__}, not {value!r}.") from None
