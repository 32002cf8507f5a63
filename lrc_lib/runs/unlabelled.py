"""The rows of a general distillation: its text, as packed windows or as a row per text."""

from pathlib import Path

from lrc_lib.data.batches import Encoded, encode, joined, steps_per_epoch
from lrc_lib.data.packing import pack
from lrc_lib.data.pairs import with_pairs
from lrc_lib.data.rows import Row
from lrc_lib.errors import InputError
from lrc_lib.models import load_tokenizer
from lrc_lib.runs.spec import documents_of

CHUNK = 100_000  # rows that are tokenised at a time


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
        rows, (documents, source) = text_rows(spec), documents_of(spec)
        pairs = [row for row in rows if row.text_b is not None]
        singles = [row for row in rows if row.text_b is None]
        parts = [g[i : i + CHUNK] for g in (singles, pairs) for i in range(0, len(g), CHUNK)]
        encoded = joined([encode(part, tokenizer, length) for part in parts])
        if pairs:
            source += f" {len(pairs):,} of {len(rows):,} rows are pairs of passages."
        facts = {"texts": len(documents), "source": source}
    if not steps_per_epoch(len(encoded), spec.general_batch_size, spec.drop_last):
        raise InputError(
            f"'{spec.general_data}' gives {len(encoded):,} sequences, less than one batch of "
            f"{spec.general_batch_size}. Give more text, or --set general_batch_size=."
        )
    return encoded, {**facts, "sequences": len(encoded), "tokens": int(encoded.lengths.sum())}


def text_rows(spec) -> list[Row]:
    """The rows of a general distillation that is not packed, see `with_pairs`; single texts come
    before pairs when they are encoded."""
    return with_pairs(documents_of(spec)[0], spec.general_pairs, spec.general_seed)


def text_source(spec, cache: Path) -> str:
    """Where a general run's text comes from; fetches the text, and packs it if the run does."""
    if not spec.packed:
        return documents_of(spec)[1]
    return unlabelled_rows(spec, load_tokenizer(spec.teacher), cache, _say)[1]["source"]


def _say(done: int, size: int, line: str) -> None:
    if line:
        print(line, flush=True)
