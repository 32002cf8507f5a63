"""Text of any size for general distillation, read document by document.

A document is a line of a text file that is not empty, one of the built-in texts, or an article of a
Wikipedia on the hub. A stream tells where it stands (`place`, plain JSON), and another one goes on
from there. Nothing is held in memory but what is being read.
"""

import functools
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from lrc_lib.errors import InputError

WIKIPEDIA = "wikipedia"
CONFIG = "20231101.en"  # the dump of 1 November 2023, in English
BUILT_IN = ("reviews", "nli")
BLOCK = 1 << 20


class Wikipedia(NamedTuple):
    """Which one: the hub's configuration ("DATE.LANGUAGE") and revision."""

    config: str
    revision: str


def is_wikipedia(data: str) -> bool:
    """Whether `data` names a Wikipedia on the hub and no file."""
    return data == WIKIPEDIA or data.startswith((f"{WIKIPEDIA}:", f"{WIKIPEDIA}@"))


def wikipedia(data: str) -> Wikipedia:
    """The parts of "wikipedia[:CONFIG][@REVISION]"; what is left out is the pinned one."""
    from lrc_lib.data.hub import REVISIONS, WIKIPEDIA_DATASET

    name, _, revision = data.partition("@")
    config = name.partition(":")[2]
    return Wikipedia(config or CONFIG, revision or REVISIONS[WIKIPEDIA_DATASET])


def places_of(data: str) -> list[str]:
    """The files and folders in `data`, which are joined as in $PATH; or its one other name."""
    return [data] if is_wikipedia(data) else [p for p in data.split(os.pathsep) if p]


def text_files(data: str) -> list[Path]:
    """The .txt files that `data` names: files, and folders with such files, in that order.

    Raises:
        InputError: a place that is neither.
    """
    found = []
    for place in map(Path, places_of(data) or [data]):
        here = [place] if place.suffix == ".txt" and place.exists() else []
        paths = sorted(place.glob("*.txt")) if place.is_dir() else here
        if not paths:
            raise InputError(
                f"No texts in '{place}': expected 'reviews', 'nli', a .txt file, or a "
                "folder of .txt files with one text a line."
            )
        found += paths
    return found


@functools.lru_cache(maxsize=8)
def corpus_fingerprint(data: str) -> str:
    """What a corpus is, in a few characters: a hash of all bytes of its files in their order, or
    the name, configuration and revision of a Wikipedia, which is not asked for.

    Raises:
        InputError: a file that is missing or cannot be read.
    """
    if is_wikipedia(data):
        from lrc_lib.data.hub import WIKIPEDIA_DATASET

        return " ".join([WIKIPEDIA_DATASET, *wikipedia(data)])
    digest = hashlib.sha256()
    if data in BUILT_IN:
        digest.update("\n".join(Texts(data).texts).encode())
        return digest.hexdigest()[:16]
    for path in text_files(data):
        with opened(path) as file:
            digest.update(f"{os.fstat(file.fileno()).st_size} ".encode())
            while block := file.read(BLOCK):
                digest.update(block)
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
        (size 0: not known); `source`, a sentence.

    Raises:
        InputError: no such file, or while it is read: a line that is not text (file and line).
        UnavailableError: the hub does not answer or has no such revision (any more).
    """
    if is_wikipedia(data):
        from lrc_lib.data.hub import Articles

        return Articles(*wikipedia(data), place)
    return Texts(data, place) if data in BUILT_IN else Lines(data, place)


class Texts:
    """The built-in texts; a place is a text's number."""

    def __init__(self, data: str, place=None):
        from lrc_lib.data import load_texts

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
    """The lines of text files, without space around them; empty ones are passed over.

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
                    text = decoded(raw, f"{self.paths[number]}, line {line}").strip()
                    self.place = [number, position, line]
                    if text:
                        yield text
            position = line = 0


def decoded(raw: bytes, where: str) -> str:
    """A line as text, a byte-order mark dropped.

    Raises:
        InputError: it is not UTF-8, or holds a NUL byte.
    """
    if b"\0" in raw:
        raise InputError(f"{where}: found a NUL byte; expected plain UTF-8 text.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: found the byte 0x{raw[error.start]:02x}, which is not UTF-8. Save the file "
            "as UTF-8."
        ) from None
