"""A packed corpus: one long row of tokens, cut into windows of equal length, kept on disk.

The documents are tokenised one after the other, each ended by the tokenizer's own end (BERT's
[SEP]). The row is cut every `length` - 2 tokens, even in the middle of a document, and a window may
hold several documents. Each window then gets the tokenizer's start and end ([CLS] and [SEP]), so
none has padding. The tokens at the end that fill no window are dropped and counted.

The windows are written once and memory-mapped after that, shared by all runs with the same text,
tokenizer and length. An interrupted packing continues after the last part that was written.
"""

import hashlib
import itertools
import json
import time
from pathlib import Path

import numpy as np

from lrc_lib.data.batches import Encoded
from lrc_lib.data.corpus import corpus_fingerprint, open_stream
from lrc_lib.data.resumable import whole_folder, write_parts
from lrc_lib.errors import InputError

PACK_FORMAT = 1  # raise it when the same text would give other windows
PART_CHARACTERS = 1 << 22  # of documents that are tokenised, and written, at a time
REPORT_SECONDS = 60
BEGIN = {"texts": 0, "sequences": 0, "tail": [], "place": None}
IDS, STATE = "ids.bin", "state.json"


def pack(data: str, documents: int, tokenizer, length: int, cache: Path, report=None):
    """The windows of a corpus: read from `cache`, or made now and kept there.

    Args:
        data: see `lrc_lib.data.load_texts`, or "wikipedia[:CONFIG][@REVISION]".
        documents: how many of the first ones; 0 for all. (Text that is not packed is sampled.)
        tokenizer: a transformers tokenizer.
        length: tokens per window, special ones included.
        cache: folder for the windows, two or four bytes per token.
        report: called as report(done, size, line); `line` is mostly "".

    Returns:
        (Encoded, facts): every row has `length` tokens; facts are "texts" (documents), "dropped"
        (tokens) and "source".

    Raises:
        InputError: a length without room, no text, a line that is not text, less than one window.
        UnavailableError: the corpus cannot be reached, or the windows cannot be written, e.g. on
            a full disk; what was packed is kept.
    """
    start, end = separators(tokenizer)
    if documents < 0:
        raise InputError(f"A number of documents must be 0 (all) or more, not {documents}.")
    if length <= len(start) + len(end):
        raise InputError(
            f"general_max_length = {length} leaves no room for text next to the tokenizer's "
            f"{len(start) + len(end)} special tokens."
        )
    content = [PACK_FORMAT, corpus_fingerprint(data), documents, tokenizer_key(tokenizer), length]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def parts(state):
        return _parts(state, data, documents, tokenizer, length, report or (lambda *_: None))

    def make(partial):
        write_parts(partial / IDS, partial / STATE, BEGIN, parts)

    folder = whole_folder(cache / f"corpus-{key}", "the packed text", make)
    return _read(folder, tokenizer, length, documents)


def separators(tokenizer) -> tuple[list[int], list[int]]:
    """The token ids that the tokenizer puts before and after a text: [CLS] and [SEP] for BERT."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = range(len(whole) - len(plain) + 1)
    at = next(i for i in starts if whole[i : i + len(plain)] == plain)
    return whole[:at], whole[at + len(plain) :]


def tokenizer_key(tokenizer) -> str:
    """A hash of all that decides how a text is cut into tokens; its maximal length does not."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend else {"vocabulary": tokenizer.get_vocab()}
    for name in ("truncation", "padding"):  # of the latest call
        state.pop(name, None)
    content = [type(tokenizer).__name__ if not backend else "", state, separators(tokenizer)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def windows(texts, tail, tokenizer, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of `tail` and these texts, and the tokens that are left over.

    Args:
        texts: documents.
        tail: (t,) tokens left over by the documents before them.

    Returns:
        (n, length) and (t',) with t' < length, of the smallest type that holds all ids.
    """
    start, end = separators(tokenizer)
    ids = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # they may be longer than the model's input
    )["input_ids"]
    flat = itertools.chain(tail, *(itertools.chain(document, end) for document in ids))
    row = np.fromiter(flat, dtype=_kind(tokenizer))
    room = length - len(start) - len(end)
    count = len(row) // room
    out = np.empty((count, length), dtype=row.dtype)
    out[:, : len(start)] = start
    out[:, len(start) : len(start) + room] = row[: count * room].reshape(count, room)
    out[:, len(start) + room :] = end
    return out, row[count * room :]


def _parts(state: dict, data, documents, tokenizer, length, report):
    """(bytes of whole windows, state) of part after part, from a state on; see `write_parts`."""
    stream, before = open_stream(data, state["place"]), state["sequences"]
    left = documents - state["texts"] if documents else None
    begun = said = time.perf_counter()
    for texts in _groups(stream, left):
        rows, tail = windows(texts, state["tail"], tokenizer, length)
        state = {
            "texts": state["texts"] + len(texts),
            "sequences": state["sequences"] + len(rows),
            "tail": tail.tolist(),
            "place": stream.place,
            "source": stream.source,
        }
        yield rows.tobytes(), state
        now = time.perf_counter()
        due = now - said > REPORT_SECONDS
        said = now if due else said
        report(stream.done, max(stream.size, stream.done + 1), _line(state, length) if due else "")
    if not state["sequences"]:
        found = f"has {len(state['tail'])} tokens, less than one sequence of {length}"
        raise InputError(f"'{data}' {found if state['texts'] else 'holds no text'}.")
    rate = (state["sequences"] - before) * length / (time.perf_counter() - begun)
    total = max(stream.size, stream.done, 1)
    report(total, total, f"{_line(state, length)}, {rate:,.0f} tokens/s. {stream.source}")


def _line(state: dict, length: int) -> str:
    return (
        f"packed {state['texts']:,} documents into {state['sequences']:,} sequences of {length} "
        "tokens"
    )


def _groups(stream, limit: int | None):
    """Lists of documents of about `PART_CHARACTERS` characters, at most `limit` in all."""
    part, size = [], 0
    for text in itertools.islice(stream, limit):
        part.append(text)
        size += len(text)
        if size >= PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _read(folder: Path, tokenizer, length: int, documents: int):
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    facts = {"texts": state["texts"], "dropped": len(state["tail"]), "source": state["source"]}
    if documents:
        facts["source"] += f" The first {state['texts']:,} documents."
    count, kind = state["sequences"], _kind(tokenizer)
    ids = np.memmap(folder / IDS, kind, mode="c", shape=(count * length,))
    offsets = np.arange(count + 1, dtype=np.int64) * length
    labels = np.zeros(count, dtype=np.int64)
    return Encoded(ids, None, offsets, labels, tokenizer.pad_token_id), facts


def _kind(tokenizer):
    return np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
