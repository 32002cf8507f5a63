"""The rows of a general distillation: its text, as packed windows or as a row per text."""

from pathlib import Path

from lrc_lib.data.batches import Encoded, encode, steps_per_epoch
from lrc_lib.data.packing import pack
from lrc_lib.data.rows import Row
from lrc_lib.errors import InputError
from lrc_lib.models import load_tokenizer
from lrc_lib.runs.spec import texts_of


def unlabelled_rows(spec, tokenizer, cache: Path, report=None) -> tuple[Encoded, dict]:
    """(rows, facts about them) for the general distillation of a spec.

    Args:
        tokenizer: the teacher's.
        cache: folder in which packed text is kept.
        report: called as report(done, size, line) while text is packed.

    Raises:
        InputError: no text, a line that is not text, or less than one batch.
        UnavailableError: the text cannot be fetched, or the disk is full.
    """
    length = spec.general_max_length
    if spec.packed:
        encoded, facts = pack(
            spec.general_data, spec.general_rows, tokenizer, length, cache, report
        )
    else:
        texts, source = texts_of(spec)
        encoded = encode([Row(text, None, 0) for text in texts], tokenizer, length)
        facts = {"texts": len(texts), "source": source}
    if not steps_per_epoch(len(encoded), spec.general_batch_size, spec.drop_last):
        raise InputError(
            f"'{spec.general_data}' gives {len(encoded):,} sequences, less than one batch of "
            f"{spec.general_batch_size}. Give more text, or --set general_batch_size=."
        )
    return encoded, {**facts, "sequences": len(encoded), "tokens": int(encoded.lengths.sum())}


def text_source(spec, cache: Path) -> str:
    """Where a general run's text comes from; fetches the text, and packs it if the run does."""
    if not spec.packed:
        return texts_of(spec)[1]
    return unlabelled_rows(spec, load_tokenizer(spec.teacher), cache, _say)[1]["source"]


def _say(done: int, size: int, line: str) -> None:
    if line:
        print(line, flush=True)
