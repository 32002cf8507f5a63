"""Text without labels, read as a whole: the built-in texts, or .txt files with one text a line."""

import os
from collections.abc import Iterable
from pathlib import Path

from lrc_lib.data import nli, reviews
from lrc_lib.data.rows import sample, text_key
from lrc_lib.data.tables import read_lines
from lrc_lib.errors import InputError

BUILT_IN = {"reviews": reviews.read_texts, "nli": nli.read_texts}


def load_texts(
    data: str = "reviews", rows: int = 0, exclude: Iterable[str] = ()
) -> tuple[tuple[str, ...], str]:
    """Unlabelled texts for general distillation.

    Args:
        data: "reviews" (all four genres, less every text of a dev split of `reviews` and
            `reviews-score`), "nli" (the grammar's training sentences), a .txt file, or a folder
            of .txt files with one text a line, or several of them joined as in $PATH.
        rows: 0 for all, else the size of a fixed sample.
        exclude: further texts to leave out, e.g. of a dev set; case and marks do not count.

    Returns:
        The texts, and sentences that say where they come from.

    Raises:
        InputError: no such file or folder, not UTF-8 (file and line), fewer than 2 texts.
        UnavailableError: the reviews could not be fetched.
    """
    texts, source = BUILT_IN[data]() if data in BUILT_IN else _read_files(data)
    barred = {text_key(text) for text in exclude}
    kept = [text for text in texts if text_key(text) not in barred]
    if len(kept) < len(texts):
        source += f" {len(texts) - len(kept):,} texts that occur in a dev set were left out."
    chosen = sample(kept, rows)
    if len(chosen) < 2:
        raise InputError(f"'{data}' gives {len(chosen)} text(s); COS-NCE needs at least 2.")
    if len(chosen) < len(kept):
        source += f" A fixed sample of {len(chosen):,} of {len(kept):,} texts."
    return chosen, source


def _read_files(data: str) -> tuple[tuple[str, ...], str]:
    paths = text_files(data)
    lines = [line.strip() for path in paths for line in read_lines(path)]
    texts = tuple(dict.fromkeys(line for line in lines if line))
    return texts, f"{len(texts):,} texts from {len(paths)} file(s) in '{data}'."


def split_places(data: str) -> list[str]:
    """The files and folders in `data`, which are joined as in $PATH."""
    return [place for place in data.split(os.pathsep) if place]


def text_files(data: str) -> list[Path]:
    """The .txt files that `data` names: files, and folders with such files, in that order.

    Raises:
        InputError: a place that is neither.
    """
    found = []
    for place in map(Path, split_places(data) or [data]):
        here = [place] if place.suffix == ".txt" and place.exists() else []
        paths = sorted(place.glob("*.txt")) if place.is_dir() else here
        if not paths:
            raise InputError(
                f"No texts in '{place}': expected 'reviews', 'nli', a .txt file, or a "
                "folder of .txt files with one text a line."
            )
        found += paths
    return found
