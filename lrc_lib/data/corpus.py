"""Text of any size for general distillation, read document by document.

A document is a line of a text file that is not empty, a built-in text, a training text of GLUE, or
an article of a Wikipedia on the hub. A stream knows its place (`place`, plain JSON), and another
stream continues from there. Of text files and Wikipedia, only what is being read is in memory.
"""

import functools
import hashlib
import os
from codecs import BOM_UTF8
from pathlib import Path

from lrc_lib.data.hub import REVISIONS, WIKIPEDIA_DATASET, WIKIPEDIA_SIZES, Articles
from lrc_lib.data.tables import decoded
from lrc_lib.data.texts import allowed, held_out, is_named, read_place, split_places, text_files
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
    """The texts that are joined in `data` as in $PATH: names, files and folders."""
    return [data] if is_wikipedia(data) else split_places(data) or [data]


def _parts(data: str) -> list[str | Path]:
    """The places in `data`, with the files of a folder instead of the folder."""
    places = places_of(data)
    return [part for p in places for part in ([p] if is_named(p) else text_files(p))]


@functools.lru_cache(maxsize=8)
def corpus_fingerprint(data: str) -> str:
    """Identifies a corpus: a hash of its texts and of all bytes of its files in their order, or the
    name, configuration and revision of a Wikipedia (the hub is not asked).

    Raises:
        InputError: a file that is missing or cannot be read.
        UnavailableError: a built-in text that could not be fetched.
    """
    if is_wikipedia(data):
        return " ".join([WIKIPEDIA_DATASET, *wikipedia(data)])
    digest = hashlib.sha256("\n".join(sorted(held_out(data))).encode())
    for part in _parts(data):
        if isinstance(part, str):
            digest.update("\n".join(read_place(part)[0]).encode())
            continue
        with opened(part) as file:
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
        An iterable of texts with `place`; `done` and `size`, how far it is in articles or KB
        (size 0: unknown); `source`, sentences.

    Raises:
        InputError: no such file, or while it is read: a line that is not text (file and line).
        UnavailableError: the hub does not answer or has no such revision (any more).
    """
    return Articles(*wikipedia(data), place) if is_wikipedia(data) else Texts(data, place)


class Texts:
    """Built-in texts, and the lines of text files without surrounding space.

    Empty lines are skipped, and what `lrc_lib.data.texts.allowed` leaves out is. A place is [number
    of the part, bytes or characters, lines or texts] read so far; a part is a file or a name.
    """

    def __init__(self, data: str, place=None):
        self.parts, self.place, self.barred = _parts(data), place or [0, 0, 0], held_out(data)
        files = [part for part in self.parts if isinstance(part, Path)]
        self.texts = {part: read_place(part) for part in self.parts if part not in files}
        size = {part: sum(map(len, texts)) for part, (texts, _) in self.texts.items()}
        size |= {file: file.stat().st_size for file in files}
        self.sizes = [size[part] for part in self.parts]
        self.size = sum(self.sizes) // 1000
        names = f"'{files[0].name}'" if len(files) == 1 else f"{len(files)} files"
        lines = f"Lines of {names}, {sum(size[file] for file in files) / 1e6:,.1f} MB."
        named = [source for _, source in self.texts.values()]
        self.source = " ".join(named + [lines] * bool(files))

    @property
    def done(self) -> int:
        """KB so far."""
        return (sum(self.sizes[: self.place[0]]) + self.place[1]) // 1000

    def __iter__(self):
        first, position, line = self.place
        for number in range(first, len(self.parts)):
            for text, size in self._read(self.parts[number], position, line):
                position, line = position + size, line + 1
                self.place = [number, position, line]
                if text := allowed(text, self.barred):
                    yield text
            position = line = 0

    def _read(self, part: str | Path, position: int, line: int):
        """(text, its size) of a part from its byte `position`, or its text number `line`, on."""
        if isinstance(part, str):
            yield from ((text, len(text)) for text in self.texts[part][0][line:])
            return
        with opened(part) as file:
            file.seek(position)
            for number, raw in enumerate(file, line + 1):
                text = decoded(raw.removeprefix(BOM_UTF8), f"{part}, line {number}")
                yield text.strip(), len(raw)


def estimate(data: str, limit: int, length: int) -> tuple[int, str]:
    """(sequences, how they were estimated) of a packed corpus, without packing it.

    A Wikipedia's published size is taken; of a text file the words of the first MB are counted.

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
    else:
        words, lines = map(sum, zip(*map(_count, _parts(data)), strict=True))
        share = min(1, limit / lines) if limit else 1
        tokens, note = share * (words * TOKENS_PER_WORD + lines), "estimated from its words"
    return round(tokens / max(1, length - SPECIAL_TOKENS)), note


def _count(part: str | Path) -> tuple[float, float]:
    """(words, texts) of a part; those of a file are estimated from its beginning."""
    if isinstance(part, str):
        texts = read_place(part)[0]
        return sum(len(text.split()) for text in texts), len(texts)
    with opened(part) as file:
        sample = file.read(SAMPLE_BYTES)
    share = part.stat().st_size / max(1, len(sample))
    return share * len(sample.split()), share * (sample.count(b"\n") + 1)
