"""The text of general distillation: what a spec names, fetched, encoded or packed."""

from pathlib import Path

from lrc_lib.errors import InputError

SAMPLE_BYTES = 1 << 20  # of a text file, from which the number of its tokens is estimated


def unlabelled_rows(spec, tokenizer, cache: Path, report):
    """(`Encoded` rows, facts about them) for the general distillation of a spec.

    Args:
        cache: where packed text is kept.
        report: called as report(done, size, line) while text is packed.

    Raises:
        InputError: no text, a line that is not text, or less than one batch.
        UnavailableError: the text cannot be fetched, or the disk is full.
    """
    from lrc_lib.data.batches import encode, steps_per_epoch
    from lrc_lib.data.packing import pack
    from lrc_lib.data.rows import Row
    from lrc_lib.runs.spec import texts_of

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


def source(spec, cache: Path) -> str:
    """Where a general run's text comes from; fetches it, and packs it where it is to be packed."""
    from lrc_lib.models import load_tokenizer
    from lrc_lib.runs.spec import texts_of

    if not spec.packed:
        return texts_of(spec)[1]
    tokenizer = load_tokenizer(spec.teacher)
    return unlabelled_rows(spec, tokenizer, cache, _say)[1]["source"]


def _say(done: int, size: int, line: str) -> None:
    if line:
        print(line, flush=True)


def estimate(spec) -> tuple[int, int, str]:
    """(sequences, tokens each, how they were estimated) of a packed corpus, which is not read.

    A Wikipedia's size is the published one; of text files a sample's words are counted.
    """
    from lrc_lib.cli.cost import BYTES_PER_TOKEN, SPECIAL_TOKENS, TOKENS_PER_WORD
    from lrc_lib.data.corpus import BUILT_IN, CONFIG, is_wikipedia, text_files, wikipedia
    from lrc_lib.data.hub import WIKIPEDIA_SIZES
    from lrc_lib.runs.spec import texts_of

    rows, length = spec.general_rows, spec.general_max_length
    if is_wikipedia(spec.general_data):
        config = wikipedia(spec.general_data).config
        documents, size = WIKIPEDIA_SIZES[config if config in WIKIPEDIA_SIZES else CONFIG]
        tokens = size / BYTES_PER_TOKEN * (min(rows, documents) / documents if rows else 1)
        note = f"estimated from the published size of {config}"
        if config not in WIKIPEDIA_SIZES:
            note = f"size of {config} not known here; counted as {CONFIG}"
    elif spec.general_data in BUILT_IN:
        words = [len(text.split()) for text in texts_of(spec)[0]]
        tokens, note = sum(words) * TOKENS_PER_WORD + len(words), "estimated from its words"
    else:
        paths = text_files(spec.general_data)
        size = sum(path.stat().st_size for path in paths)
        with paths[0].open("rb") as file:
            sample = file.read(SAMPLE_BYTES)
        words, lines = len(sample.split()), sample.count(b"\n") + 1
        share = size / max(1, len(sample))
        share = min(share, rows / lines) if rows else share
        tokens, note = share * (words * TOKENS_PER_WORD + lines), "estimated from a sample's words"
    return round(tokens / max(1, length - SPECIAL_TOKENS)), length, note
