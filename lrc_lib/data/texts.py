"""Text without labels, read as a whole: the built-in texts, GLUE's training texts, or .txt files.

Long texts are split into passages of whole sentences. Texts of dev and test splits stay out.
"""

import itertools
import os
import re
from pathlib import Path

from lrc_lib.data import glue_dir, nli, reviews, wiki
from lrc_lib.data.rows import sample, text_key
from lrc_lib.data.tables import read_lines
from lrc_lib.errors import InputError

BUILT_IN = {"reviews": reviews.read_texts, "nli": nli.read_texts, "wiki": wiki.read_texts}
GLUE = "glue="  # before the name of a folder
SHORT = ("reviews", "nli")  # texts that are not split
WORDS = 32  # of the sentences that make a passage: two passages fit the usual 128 tokens
MOST_WORDS = 90  # of one sentence; it fills 128 tokens
SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')\]”’]))\s+(?![a-z])""")


def load_texts(data: str = "reviews", rows: int = 0) -> tuple[tuple[str, ...], str]:
    """Unlabelled texts for general distillation: the passages of `load_documents`, end to end.

    Args, Raises: see there.

    Returns:
        The passages, and sentences that say where they come from.
    """
    documents, source = load_documents(data, rows)
    return tuple(itertools.chain(*documents)), source


def load_documents(data: str = "reviews", rows: int = 0) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Unlabelled documents for general distillation, each a tuple of passages.

    A text of at most `WORDS` words is one passage, and so is each text of "reviews" and "nli".
    A longer one is split at the ends of its sentences; sentences are joined to passages of at most
    `WORDS` words, and one with more than `MOST_WORDS` is cut. A passage that occurs twice is read
    once.

    Args:
        data: one of these, or several joined as in $PATH ("reviews:wiki"; ";" on Windows):
            "reviews" (all four genres, less every text of a dev split of `reviews` and
            `reviews-score`); "nli" (the grammar's training sentences); "wiki" (lead sections of
            English Wikipedia); "glue=DIR" (the training texts of all tasks in a folder in the
            classic glue_data layout); a .txt file, or a folder of them, with one text a line.
            With "glue=DIR", every text, sentence or passage of any source that is a text of a dev
            or test file in DIR is left out; case, space and marks do not count.
        rows: 0 for all, else the size of a fixed sample of the documents.

    Returns:
        The documents, and sentences that say where they come from.

    Raises:
        InputError: no such file or folder, not UTF-8 (file and line), fewer than 2 passages.
        UnavailableError: built-in texts could not be fetched.
    """
    barred = held_out(data)
    documents, sources, seen, left_out = [], [], set(), 0
    for place in split_places(data) or [data]:
        texts, source = read_place(place)
        sources.append(source)
        for text in texts:
            kept = allowed(text, barred)
            parts = [kept] if place in SHORT else passages(kept)
            fit = [part for part in parts if part and not (barred and text_key(part) in barred)]
            left_out += kept != text or fit != parts
            document = tuple(part for part in dict.fromkeys(fit) if part not in seen)
            seen.update(document)
            documents += [document] * bool(document)
    source = " ".join(sources)
    if left_out:
        source += (
            f" {left_out:,} texts of dev or test sets were left out, or cut out of longer ones."
        )
    chosen = sample(documents, rows)
    count = sum(map(len, chosen))
    if count < 2:
        raise InputError(f"'{data}' gives {count} text(s); COS-NCE needs at least 2.")
    if len(chosen) < len(documents):
        source += f" A fixed sample of {len(chosen):,} of {len(documents):,} texts."
    if count > len(chosen):
        source += f" {len(chosen):,} texts were split into {count:,} passages."
    return chosen, source


def sentences(text: str) -> list[str]:
    """A text split after ".", "!" and "?" (and a closing mark), unless a small letter follows."""
    return [sentence for sentence in SENTENCE_END.split(text) if sentence.strip()]


def passages(text: str) -> list[str]:
    """A text as it is, or if it has more than `WORDS` words, its passages.

    See `load_documents` for what a passage is.
    """
    if len(text.split()) <= WORDS:
        return [text]
    found = [[]]
    for words in map(str.split, sentences(text)):
        for start in range(0, len(words), MOST_WORDS):
            part = words[start : start + MOST_WORDS]
            if len(found[-1]) + len(part) > WORDS:
                found.append([])
            found[-1] += part
    return [" ".join(passage) for passage in found if passage]


def allowed(text: str, barred: set[str]) -> str:
    """The text without the sentences whose `text_key` is barred; "" if that of the text is."""
    if not barred or text_key(text) in barred:
        return "" if barred else text
    parts = sentences(text)
    kept = [part for part in parts if text_key(part) not in barred]
    return text if len(kept) == len(parts) else " ".join(kept)


def held_out(data: str) -> set[str]:
    """The `text_key`s of all dev and test texts in the GLUE folders that `data` names."""
    folders = [p.removeprefix(GLUE) for p in split_places(data) if p.startswith(GLUE)]
    return {text_key(text) for folder in folders for text in glue_dir.read_held_out(folder)}


def read_place(place: str) -> tuple[tuple[str, ...], str]:
    """The texts of one place in `data` as they are, each once, and their source."""
    if place in BUILT_IN:
        return BUILT_IN[place]()
    if place.startswith(GLUE):
        return glue_dir.read_texts(place.removeprefix(GLUE))
    paths = text_files(place)
    lines = [line.strip() for path in paths for line in read_lines(path)]
    texts = tuple(dict.fromkeys(line for line in lines if line))
    return texts, f"{len(texts):,} texts from {len(paths)} file(s) in '{place}'."


def split_places(data: str) -> list[str]:
    """The built-in texts, files and folders in `data`, which are joined as in $PATH."""
    return [place for place in data.split(os.pathsep) if place]


def is_named(place: str) -> bool:
    """Whether a place is a built-in text or GLUE's, and no text file or folder of them."""
    return place in BUILT_IN or place.startswith(GLUE)


def text_files(place: str) -> list[Path]:
    """The .txt file that a place names, or those of a folder, sorted.

    Raises:
        InputError: it is neither.
    """
    path = Path(place)
    found = sorted(path.glob("*.txt")) if os.path.isdir(path) else [path] * os.path.exists(path)
    if not found or any(file.suffix != ".txt" for file in found):
        raise InputError(
            f"No texts in '{path}': expected 'reviews', 'nli', 'wiki', 'glue=DIR', a .txt file, or "
            "a folder of .txt files with one text a line."
        )
    return found
