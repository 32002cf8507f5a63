"""A corpus packed: one long row of tokens, cut into windows of equal length, kept on disk.

The documents are tokenised one after the other, each ended by the tokenizer's own end (BERT's
[SEP]), and the row is cut every `length` - 2 tokens, wherever that falls: in a document, or with
several in one window. Each window then gets the tokenizer's start and end ([CLS] and [SEP]), so
none has padding. What is left at the end and fills no window is dropped, and counted.

The windows are written once and memory-mapped after that, shared by all runs with the same text,
tokenizer and length. What was interrupted goes on after the last part that was written.
"""

import hashlib
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
from filelock import FileLock

from lrc_lib.data.batches import Encoded
from lrc_lib.data.corpus import corpus_fingerprint, open_stream
from lrc_lib.errors import InputError, LrcError, UnavailableError

PACK_FORMAT = 1  # raise it when the same text would give other windows
PART_CHARACTERS = 1 << 22  # of documents that are tokenised, and written, at a time
REPORT_SECONDS = 60
BEGIN = {"texts": 0, "sequences": 0, "tail": [], "place": None, "bytes": 0}


def pack(data: str, documents: int, tokenizer, length: int, cache: Path, report=None):
    """The windows of a corpus, read from `cache` where they are there, else made now.

    Args:
        data: see `lrc_lib.data.load_texts`, or "wikipedia[:CONFIG][@REVISION]".
        documents: only the first ones; 0 for all. (Text that is not packed takes a sample.)
        tokenizer: a transformers tokenizer.
        length: tokens a window, special ones included.
        cache: folder for the windows, two or four bytes a token.
        report: called as report(done, size, line); `line` is mostly "".

    Returns:
        (Encoded, facts): every row has `length` tokens; facts are "texts" (documents), "dropped"
        (tokens) and "source".

    Raises:
        InputError: a length with no room, no text, a line that is not text, less than one window.
        UnavailableError: the corpus cannot be reached, or the windows cannot be written, e.g. on
            a full disk; what was packed is kept.
    """
    start, end = separators(tokenizer)
    if documents < 0:
        raise InputError(f"A number of documents must be 0 (all) or more, not {documents}.")
    if length <= len(start) + len(end):
        raise InputError(
            f"general_max_length = {length} leaves no room for text beside the tokenizer's "
            f"{len(start) + len(end)} special tokens."
        )
    content = [PACK_FORMAT, corpus_fingerprint(data), documents, tokenizer_key(tokenizer), length]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    folder = cache / f"corpus-{key}"
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                partial.mkdir(exist_ok=True)
                _write(partial, data, documents, tokenizer, length, report or (lambda *_: None))
                os.replace(partial, folder)
    except OSError as error:
        if isinstance(error, LrcError):
            raise
        raise UnavailableError(
            f"Cannot write the packed text to '{cache}': {error.strerror or error}. What was "
            f"packed is kept in '{partial.name}'; make room, and the same command goes on there."
        ) from error
    return _read(folder, tokenizer, length, documents)


def separators(tokenizer) -> tuple[list[int], list[int]]:
    """The token ids that the tokenizer puts before and behind a text: [CLS] and [SEP] for BERT."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = range(len(whole) - len(plain) + 1)
    at = next(i for i in starts if whole[i : i + len(plain)] == plain)
    return whole[:at], whole[at + len(plain) :]


def tokenizer_key(tokenizer) -> str:
    """A hash of all that decides how a text is cut into tokens; how long it may be is not in it."""
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


def _write(partial: Path, data, documents, tokenizer, length, report) -> None:
    state, begun, said = _begun(partial), time.perf_counter(), 0.0
    stream, before = open_stream(data, state["place"]), state["sequences"]
    left = documents - state["texts"] if documents else None
    with (partial / "ids.bin").open("ab") as file:
        for texts in _parts(stream, left):
            rows, tail = windows(texts, state["tail"], tokenizer, length)
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())
            state = {
                "texts": state["texts"] + len(texts),
                "sequences": state["sequences"] + len(rows),
                "tail": tail.tolist(),
                "place": stream.place,
                "bytes": file.tell(),
                "source": stream.source,
            }
            _publish(partial / "state.json", state)
            seconds = time.perf_counter() - begun
            due = seconds - said > REPORT_SECONDS
            said = seconds if due else said
            total = max(stream.size, stream.done + 1)
            report(stream.done, total, _line(state, length) if due else "")
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


def _begun(partial: Path) -> dict:
    """How far an unfinished folder is; its file is cut behind the last part that is whole."""
    path, ids = partial / "state.json", partial / "ids.bin"
    state = json.loads(path.read_text(encoding="utf-8")) if path.exists() else BEGIN
    ids.touch()
    if ids.stat().st_size < state["bytes"]:  # a part is gone: begin again
        state = BEGIN
    os.truncate(ids, state["bytes"])
    return state


def _parts(stream, limit: int | None):
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


def _publish(path: Path, content: dict) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, path)


def _read(folder: Path, tokenizer, length: int, documents: int):
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    facts = {"texts": state["texts"], "dropped": len(state["tail"]), "source": state["source"]}
    if documents:
        facts["source"] += f" The first {state['texts']:,} documents."
    count, kind = state["sequences"], _kind(tokenizer)
    ids = np.memmap(folder / "ids.bin", kind, mode="c", shape=(count * length,))
    offsets = np.arange(count + 1, dtype=np.int64) * length
    labels = np.zeros(count, dtype=np.int64)
    return Encoded(ids, None, offsets, labels, tokenizer.pad_token_id), facts


def _kind(tokenizer):
    return np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
