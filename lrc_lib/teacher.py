"""The frozen teacher: its check before it teaches, and the cache of its answers.

Taught in notebooks/02_teacher_and_student.
"""

import itertools
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix
from torch import Tensor

from lrc_lib.data.batches import Encoded, by_length, collate, ragged
from lrc_lib.data.resumable import whole_folder
from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError, TrainingError
from lrc_lib.evaluate import bootstrap, chance_level, constant_metrics
from lrc_lib.losses import directions, reduce_states
from lrc_lib.models import attention_scores, model_inputs

MEAN_ROWS = 2**15  # the training mean is taken over at most this many rows, evenly spaced
UNKNOWN = 0.2  # the share of unknown tokens that a teacher's tokenizer may leave


class TeacherOutput(NamedTuple):
    """A teacher's answers for one batch.

    states: per mapped layer (B, l, D), reduced as the run's representation says (l = L or 1), or
    [] where no layer was asked for; logits: (B, C); attentions: per mapped layer the scores
    (B, heads, L, L), where they are compared; means: where other rows' mean direction is needed,
    one list with (l, D) per mapped layer.
    """

    states: list[Tensor]
    logits: Tensor
    attentions: Sequence[Tensor] = ()
    means: Sequence[list[Tensor]] = ()


def no_teacher(rows, batch, weights) -> None:
    """In place of a teacher, for recipes that learn from the labels alone."""


def not_finite(answers: TeacherOutput | None, layers) -> str:
    """Which of a teacher's answers are not finite numbers, in words; "" if all of them are.

    Args:
        layers: the teacher layers of `answers.states`.
    """
    for layer, states in zip(layers, answers.states if answers else (), strict=False):
        if not states.isfinite().all():
            why = "not numbers" if states.isnan().any() else "beyond 65,504, the most of float16"
            return f"states of layer {layer} that are {why},"
    return "" if not answers or answers.logits.isfinite().all() else "logits that are not finite"


class LiveTeacher:
    """Runs the model at every step. Used where a cache would not fit, or would not be reused.

    States are rounded to float16, as the cache stores them, so both teach the same.

    Args:
        layers: teacher layers, 1-based; 0 for the embeddings.
        representation: see `lrc_lib.losses.reduce_states`.
        attentions: give the attention scores of these layers too.
    """

    def __init__(self, model, layers, representation, device, attentions=False):
        self.model = self.running = model.to(device).eval().requires_grad_(False)
        self.layers, self.representation = tuple(layers), representation
        self.scored = [n for n in self.layers if n and attentions]
        self.source = "the teacher"

    @torch.no_grad()
    def __call__(self, rows, batch, weights=(1, 1, 0)) -> TeacherOutput | None:
        """The answers for a batch, as far as the weights (alpha, beta, gamma) need them."""
        if not (weights[0] or weights[1]):
            return None
        layers = bool(weights[0])
        output = self.model(**model_inputs(self.model, batch), output_hidden_states=layers)
        mask = batch["attention_mask"]
        states = [
            reduce_states(output.hidden_states[n], mask, self.representation)[0].half().float()
            for n in self.layers
            if layers
        ]
        scored = self.scored if layers else ()
        scores = [attention_scores(self.model, output.hidden_states[n - 1], n) for n in scored]
        return TeacherOutput(states, output.logits.float(), scores)


class CachedTeacher:
    """Reads the answers that `build_cache` wrote; runs `live` for states that are not among them.

    On a CPU the states stay on disk, memory-mapped and shared by all processes. On a GPU they are
    moved into its memory once, if they take less than half of what is free there.
    """

    def __init__(self, folder: Path, live: LiveTeacher, device="cpu"):
        self.live, self.states, device = live, None, torch.device(device)
        self.source = f"the cache '{folder}' (delete this folder, and it is made again)"
        self.whole = live.representation not in ("mean", "cls")  # a vector for each token
        self.logits = torch.from_numpy(np.load(folder / "logits.npy")).to(device)  # (n, C) float32
        self.offsets = np.load(folder / "offsets.npy")  # (n + 1,)
        if (folder / "states.npy").exists():
            states = np.load(folder / "states.npy", mmap_mode="c")  # (tokens, M, D) float16
            self.states = torch.from_numpy(states)
            if device.type == "cuda" and states.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
                self.states = self.states.to(device)
        self.running = live.model if self.states is None else None

    def __call__(self, rows, batch, weights=(1, 1, 0)) -> TeacherOutput | None:
        """The answers for a batch, as far as the weights (alpha, beta, gamma) need them."""
        if not (weights[0] or weights[1]):
            return None
        if weights[0] and self.states is None:
            return self.live(rows, batch, weights)
        rows, device = np.asarray(rows), batch["input_ids"].device
        states = self._states(rows, batch["input_ids"].shape[1], device) if weights[0] else []
        logits = self.logits[torch.from_numpy(rows).to(device, non_blocking=True)]
        return TeacherOutput(states, logits)

    def _states(self, rows: np.ndarray, length: int, device: torch.device) -> list[Tensor]:
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        width = length if self.whole else 0
        where, real = ragged(starts, ends - starts, self.states.device, width)
        vectors = self.states[where] * real[..., None, None]
        if device.type == "cuda" and self.states.device.type == "cpu":
            vectors = vectors.pin_memory()
        return list(vectors.to(device, non_blocking=True).float().unbind(2))


class WithMeans:
    """A teacher whose answers also hold the mean direction of other training rows.

    Args:
        teacher: gives the states.
        encoded: the training rows.
        means: "all": the mean over all rows, taken once, at the start. "random": at each step the
            mean over `count` random rows of any length. They follow from the row numbers of the
            batch, so that a resumed run draws the same ones. A teacher that is not cached runs
            once more, over all rows or at each step.
        representation: see `lrc_lib.losses.directions`.
        count: 0: one row less than the batch has, as many as COS-NCE's negatives.
    """

    def __init__(self, teacher, encoded: Encoded, means: str, representation, device, count=0):
        self.teacher, self.encoded, self.count = teacher, encoded, count
        self.running, self.source = teacher.running, teacher.source
        self.representation, self.device, self.means = representation, device, None
        if means == "all":
            every = -(-len(encoded) // MEAN_ROWS)
            self.means = self._mean(np.arange(0, len(encoded), every))

    def __call__(self, rows, batch, weights=(1, 1, 0)) -> TeacherOutput | None:
        """The answers for a batch, as far as the weights (alpha, beta, gamma) need them."""
        answers = self.teacher(rows, batch, weights)
        if not weights[0]:
            return answers
        means, length = self.means, answers.states[0].shape[1]
        if means is None:
            count = self.count or len(rows) - 1
            rng = np.random.default_rng(np.asarray(rows))
            means = self._mean(rng.choice(len(self.encoded), count, replace=False))
        cut = [F.pad(mean, (0, 0, 0, length - len(mean))) for mean in means]  # or padded
        return answers._replace(means=[cut])

    def _mean(self, rows: np.ndarray) -> list[Tensor]:
        """Per layer (l, D): with "token" each position's mean over the rows that reach it."""
        rows = rows[np.argsort(self.encoded.lengths[rows], kind="stable")]
        whole = self.representation in ("flatten", "token")
        longest = int(self.encoded.lengths[rows].max()) if whole else 1
        totals, reach = itertools.repeat(0), 0
        for part in np.split(rows, range(32, len(rows), 32)):
            batch = collate(self.encoded, part, self.device)
            mask = batch["attention_mask"] if whole else batch["attention_mask"][:, :1]
            ends = (0, 0, 0, longest - mask.shape[1])
            reach += F.pad(mask.sum(0).unsqueeze(1), ends)
            layers = self.teacher(part, batch, (1, 0, 0)).states
            sums = [directions(layer, mask, self.representation).sum(0) for layer in layers]
            totals = [t + F.pad(s, ends) for t, s in zip(totals, sums, strict=False)]
        return [t / (reach if self.representation == "token" else len(rows)) for t in totals]


def cache_bytes(encoded: Encoded, layers: int, width: int, representation: str) -> int:
    """Size on disk of the cached states: 2 bytes per number, one vector per token (or row)."""
    reduced = representation in ("mean", "cls")
    return 2 * layers * width * (len(encoded) if reduced else int(encoded.lengths.sum()))


def open_teacher(
    model, encoded: Encoded, layers, representation, device, folder: Path, budget_gb, scores=False
):
    """A teacher whose answers are cached as far as the budget allows.

    The rule: states and logits are cached if the states fit into the budget. Otherwise the logits
    alone are cached, and the teacher runs at every step that has a layer loss. With a budget of 0
    nothing is cached. "flatten" and "token" share one cache. Attention scores are never cached.

    Args:
        layers: teacher layers, 1-based; 0 for the embeddings.
        folder: names the cache, by teacher and data.
        budget_gb: gigabytes (1e9 bytes) that the states may take.
        scores: the attention scores of the layers are needed too.

    Returns:
        (teacher, one line that says what is cached and why).
    """
    live = LiveTeacher(model, layers, representation, device, scores)
    if not budget_gb:
        return live, "teacher runs at every step: nothing is to be cached"
    size = cache_bytes(encoded, len(live.layers), model.config.hidden_size, representation) / 1e9
    fits = size <= budget_gb and not scores
    kind = representation if representation in ("mean", "cls") else "tokens"
    name = f"{folder.name}-logits"
    if fits:
        name = "-".join([folder.name, kind, *map(str, live.layers)])
    make = partial(build_cache, live, encoded, device=device, states=fits)
    folder = whole_folder(folder.with_name(name), "the teacher's answers", make)
    line = f"teacher outputs cached: {size:.2f} GB"
    if not fits:
        line = (
            "teacher runs at every step that uses its layers, only its logits are cached: the "
            f"layers would take {size:.2f} GB, the budget is {budget_gb:g} (--set cache_gb=)"
        )
    if scores:
        line = "teacher runs at every step that uses its attention scores, which are not cached"
    return CachedTeacher(folder, live, device), line


def build_cache(teacher: LiveTeacher, encoded: Encoded, folder: Path, device, states=True) -> None:
    """Write the teacher's logits and, in float16, its states for all rows, into a new folder.

    Raises:
        TrainingError: an answer is not finite.
    """
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted call
    folder.mkdir()
    reduced = teacher.representation in ("mean", "cls")
    kept = np.ones(len(encoded), dtype=np.int64) if reduced else encoded.lengths
    offsets = np.concatenate([[0], np.cumsum(kept)])
    shape = (int(offsets[-1]), len(teacher.layers), teacher.model.config.hidden_size)
    if states:
        vectors = np.lib.format.open_memmap(folder / "states.npy", "w+", np.float16, shape)
    logits = np.zeros((len(encoded), teacher.model.config.num_labels), dtype=np.float32)
    for rows in by_length(encoded, 32):
        answers = teacher(rows, collate(encoded, rows, device), (int(states), 1, 0))
        if bad := not_finite(answers, teacher.layers):
            raise TrainingError(
                f"The teacher gives {bad} to rows {rows.tolist()}: it cannot teach."
            )
        logits[rows] = answers.logits.cpu().numpy()
        if states:
            stacked = torch.stack(answers.states, dim=2).half().cpu().numpy()  # (B, l, M, D)
            for row, index in zip(stacked, rows, strict=True):
                vectors[offsets[index] : offsets[index + 1]] = row[: kept[index]]
    if states:
        vectors.flush()
    np.save(folder / "logits.npy", logits)
    np.save(folder / "offsets.npy", offsets)


def check_fits(teacher, tokenizer, encoded, spec) -> None:
    """Refuse a teacher whose tokenizer does not fit its embeddings or the texts.

    Raises:
        InputError: the tokenizer is not the model's, or does not know the words.
    """
    tokens, embeddings = len(tokenizer), teacher.config.vocab_size
    if not 0.9 * embeddings - 128 <= tokens <= embeddings:  # some models have a few unused ones
        raise InputError(
            f"The tokenizer of '{spec.teacher}' has {tokens} tokens, its model {embeddings} "
            "embeddings: they do not belong together."
        )
    share = float(np.mean(encoded.ids[: 1 << 22] == tokenizer.unk_token_id))
    if share > UNKNOWN:
        raise InputError(
            f"To the tokenizer of '{spec.teacher}' {share:.0%} of the training tokens are unknown "
            f"({tokenizer.unk_token}; at most {UNKNOWN:.0%} may be). Give a teacher of the texts' "
            "language, or its own tokenizer."
        )


def check_teacher(task: Task, logits, labels) -> dict:
    """Is this teacher fit to teach? The rule, on the first dev split:

    - All its logits are finite.
    - The lower end of the 95 % interval of its primary metric lies above the value of the best
      constant answer and, unless the metric is accuracy, above what its own answers reach when
      they are given to the rows at random (`lrc_lib.evaluate.chance_level`).
    - For classes, no other order of the labels scores clearly better (by three standard errors of
      an accuracy): a teacher from elsewhere may number its classes differently.
    - For a regression, its mean squared error is below the best constant's: its scale may differ.

    Args:
        logits: (n, C), the teacher's.
        labels: (n,), of the dev split.

    Returns:
        "passed" and a sentence "reason", with the numbers that decided.
    """
    report = {"metric": task.primary, "passed": False}
    if bad := int((~np.isfinite(logits)).any(-1).sum()):
        return report | {"reason": f"It gives no finite answer to {bad} of {len(labels)} rows."}
    value, low, high = bootstrap(task, logits, labels)
    levels = {"the best constant answer's": constant_metrics(task, labels)[task.primary]}
    if task.primary != "accuracy":
        levels["its own answers' in random order"] = chance_level(task, logits, labels)
    name, level = max(levels.items(), key=lambda item: item[1])
    report |= {"value": value, "low": low, "baseline": level}
    if task.labels and (found := _misnumbered(task, logits, labels)):
        return report | {"reason": found}
    error, constant = float(np.mean((logits[:, 0] - labels) ** 2)), float(np.var(labels))
    if not task.labels and error >= constant:
        given, asked = (f"{x.mean():.3g} ± {x.std():.3g}" for x in (logits, labels))
        return report | {
            "reason": f"Its mean squared error {error:.3g} is not below a constant's "
            f"{constant:.3g}: its answers are {given}, the labels {asked}."
        }
    report["passed"] = low > level
    verb = "beats" if report["passed"] else "does not clearly beat"
    report["reason"] = (
        f"{task.primary} {value:.3f} (95 % interval {low:.3f} to {high:.3f}) {verb} "
        f"{name} {level:.3f}."
    )
    return report


def _misnumbered(task: Task, logits, labels) -> str:
    """Says which classes the outputs seem to stand for; "" if they are the task's, in its order.

    The order that fits one half of the rows best is tried on the other half.
    """
    guesses, half = logits.argmax(-1), np.random.default_rng(0).random(len(labels)) < 0.5
    counts = confusion_matrix(guesses[half], labels[half], labels=range(task.num_labels))
    order = linear_sum_assignment(counts, maximize=True)[1]  # the class that each output stands for
    rest = max(1, int((~half).sum()))
    own, better = (float((g == labels)[~half].sum() / rest) for g in (guesses, order[guesses]))
    if better - own <= 3 * (0.25 / rest) ** 0.5:
        return ""
    return (
        f"Its classes seem to be in another order than the task's: accuracy {own:.3f} as they "
        f"stand, {better:.3f} if its outputs were {', '.join(task.labels[i] for i in order)}."
    )
