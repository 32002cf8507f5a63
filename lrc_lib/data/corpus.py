"""Text of any size for general distillation, read document by document.

A document is a line of a text file that is not empty, one of the built-in texts, or an article of a
Wikipedia on the hub. A stream knows its place (`place`, plain JSON), and another stream continues
from there. Only what is being read is held in memory.
"""

import functools
import hashlib
import os
from codecs import BOM_UTF8
from pathlib import Path

from lrc_lib.data.hub import REVISIONS, WIKIPEDIA_DATASET, WIKIPEDIA_SIZES, Articles
from lrc_lib.data.tables import decoded
from lrc_lib.data.texts import BUILT_IN, load_texts, split_places, text_files
from lrc_lib.errors import InputError

WIKIPEDIA = "wikipedia"
CONFIG = "20231101.en"  # the dump of 1 November 2023, in English

# For estimates, of English text in BERT's word pieces.
TOKENS_PER_WORD = 1.35
SPECIAL_TOKENS = 2  # in each sequence
BYTES_PER_TOKEN = 5
SAMPLE_BYTES = 1 << 20  # of a text file


def is_wikipedia(data: str) -> bool:
    """Whether `data` names a Wikipedia on the hub and no file."""
    return data == WIKIPEDIA or data.startswith((f"{WIKIPEDIA}:", f"{WIKIPEDIA}@"))


def wikipedia(data: str) -> tuple[str, str]:
    """The hub's configuration ("DATE.LANGUAGE") and revision in "wikipedia[:CONFIG][@REVISION]".

    A part left out is the pinned one.
    """
    name, _, revision = data.partition("@")
    config = name.partition(":")[2]
    return config or CONFIG, revision or REVISIONS[WIKIPEDIA_DATASET]


def places_of(data: str) -> list[str]:
    """The files and folders in `data`, which are joined as in $PATH; or its one other name."""
    return [data] if is_wikipedia(data) else split_places(data)


@functools.lru_cache(maxsize=8)
def corpus_fingerprint(data: str) -> str:
    """Identifies a corpus: a hash of all bytes of its files in their order, or the name,
    configuration and revision of a Wikipedia (the hub is not asked).

    Raises:
        InputError: a file that is missing or cannot be read.
    """
    if is_wikipedia(data):
        return " ".join([WIKIPEDIA_DATASET, *wikipedia(data)])
    digest = hashlib.sha256()
    if data in BUILT_IN:
        digest.update("\n".join(load_texts(data)[0]).encode())
        return digest.hexdigest()[:16]
    for path in text_files(data):
        with opened(path) as file:
            digest.update(f"{os.fstat(file.fileno()).st_size} ".encode())
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()[:16]


def opened(path: Path):
    """The file, open for reading bytes.

    Raises:
        InputError: it is missing or cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"Cannot read the text '{path}': {error.strerror}.") from None


def open_stream(data: str, place=None):
    """The documents of a corpus from `place` on (None: from the first one).

    Returns:
        An iterable of texts with `place`; `done` and `size`, how far it is in documents or KB
        (size 0: unknown); `source`, a sentence.

    Raises:
        InputError: no such file, or while it is read: a line that is not text (file and line).
        UnavailableError: the hub does not answer or has no such revision (any more).
    """
    if is_wikipedia(data):
        return Articles(*wikipedia(data), place)
    return Texts(data, place) if data in BUILT_IN else Lines(data, place)


class Texts:
    """The built-in texts; a place is the number of a text."""

    def __init__(self, data: str, place=None):
        self.texts, self.source = load_texts(data)
        self.place, self.size = place or 0, len(self.texts)

    @property
    def done(self) -> int:
        """Texts so far."""
        return self.place

    def __iter__(self):
        for text in self.texts[self.place :]:
            self.place += 1
            yield text


class Lines:
    """The lines of text files, without surrounding space; empty ones are skipped.

    A place is [number of the file, bytes, lines] read so far.
    """

    def __init__(self, data: str, place=None):
        self.paths, self.place = text_files(data), place or [0, 0, 0]
        self.sizes = [path.stat().st_size for path in self.paths]
        self.size = sum(self.sizes) // 1000
        names = f"'{self.paths[0].name}'" if len(self.paths) == 1 else f"{len(self.paths)} files"
        self.source = f"Lines of {names}, {sum(self.sizes) / 1e6:,.1f} MB."

    @property
    def done(self) -> int:
        """KB so far."""
        return (sum(self.sizes[: self.place[0]]) + self.place[1]) // 1000

    def __iter__(self):
        first, position, line = self.place
        for number in range(first, len(self.paths)):
            with opened(self.paths[number]) as file:
                file.seek(position)
                for raw in file:
                    position, line = position + len(raw), line + 1
                    text = decoded(
                        raw.removeprefix(BOM_UTF8), f"{self.paths[number]}, line {line}"
                    ).strip()
                    self.place = [number, position, line]
                    if text:
                        yield text
            position = line = 0


def estimate(data: str, limit: int, length: int) -> tuple[int, str]:
    """(sequences, how they were estimated) of a packed corpus, without packing it.

    A Wikipedia's published size is taken; for text files the words of the first MB are counted.

    Args:
        data: see `open_stream`.
        limit: documents; 0 for all.
        length: tokens of a sequence.
    """
    if is_wikipedia(data):
        config, _ = wikipedia(data)
        documents, size = WIKIPEDIA_SIZES.get(config, WIKIPEDIA_SIZES[CONFIG])
        tokens = size / BYTES_PER_TOKEN * (min(limit, documents) / documents if limit else 1)
        note = f"estimated from the published size of {config}"
        if config not in WIKIPEDIA_SIZES:
            note = f"size of {config} not known here; counted as {CONFIG}"
    elif data in BUILT_IN:
        texts = load_texts(data)[0][: limit or None]
        words = sum(len(text.split()) for text in texts)
        tokens, note = words * TOKENS_PER_WORD + len(texts), "estimated from its words"
    else:
        paths = text_files(data)
        with opened(paths[0]) as file:
            sample = file.read(SAMPLE_BYTES)
        words, lines = len(sample.split()), sample.count(b"\n") + 1
        share = sum(path.stat().st_size for path in paths) / max(1, len(sample))
        share = min(share, limit / lines) if limit else share
        tokens, note = share * (words * TOKENS_PER_WORD + lines), "estimated from a sample's words"
    return round(tokens / max(1, length - SPECIAL_TOKENS)), note
