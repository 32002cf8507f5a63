"""Short texts rated from -4 to 4 by 20 people each, from the paper "VADER".

Hutto & Gilbert, ICWSM 2014, MIT licence: film reviews, product reviews, newspaper editorials and
tweets. They travel in the source archive of a PyPI release, which pip fetches once; the archive is
checked against its hash and read in memory. Nothing of it is installed, unpacked or imported.
"""

import io
import tarfile
from typing import NamedTuple

from lrc_lib.data.download import pip_download
from lrc_lib.data.rows import Row, rank, text_key
from lrc_lib.data.tasks import Task

REQUIREMENT = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILMS = "movieReviewSnippets"
OTHERS = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")
NEUTRAL = 0.5  # a text is positive or negative where |rating| is above this
DEV_FILMS = 1000  # clearly positive or negative ones
DEV_OTHERS = 400  # likewise, of each other genre
ABOUT = (
    "Short texts rated from -4 to 4 by 20 people each, from the VADER paper (Hutto & Gilbert, "
    "ICWSM 2014)."
)


class Rated(NamedTuple):
    """One text and the mean of its ratings, in [-4, 4]."""

    text: str
    rating: float
    key: str  # texts with the same key are the same text

    @property
    def polar(self) -> bool:
        """Clearly positive or clearly negative."""
        return abs(self.rating) > NEUTRAL


def read_genres() -> dict[str, list[Rated]]:
    """All 23,703 texts by genre, in the archive's order, with repetitions.

    Raises:
        UnavailableError: the archive could not be fetched.
        InputError: it is not the archive that was meant.
    """
    path = pip_download(REQUIREMENT, ARCHIVE, SHA256)
    with tarfile.open(path) as outer:
        inner = io.BytesIO(outer.extractfile(INNER).read())
    genres = {}
    with tarfile.open(fileobj=inner) as archive:
        for genre in (FILMS, *OTHERS):
            member = archive.extractfile(f"hutto_ICWSM_2014/{genre}_GroundTruth.txt")
            lines = member.read().decode("utf-8").split("\n")
            genres[genre] = [_rated(line) for line in lines if line.strip()]
    return genres


def _rated(line: str) -> Rated:
    _, rating, text = line.removesuffix("\r").split("\t")[:3]
    return Rated(text, float(rating), text_key(text))


def _unique(rated) -> list[Rated]:
    first = {}
    for item in rated:
        first.setdefault(item.key, item)
    return list(first.values())


def _held_out(rated: list[Rated], polar: int) -> list[Rated]:
    """The first texts in hash order, until `polar` of them are clearly positive or negative."""
    held = []
    for item in sorted(rated, key=lambda item: rank(item.key)):
        if polar == 0:
            break
        held.append(item)
        polar -= item.polar
    return held


def split(genres: dict[str, list[Rated]]) -> dict[str, list[Rated]]:
    """The parts train, matched (films), mismatched and other; no dev text is in another part.

    The two reviews tasks share this split: `reviews` takes the polar texts of each part.
    """
    unique = {genre: _unique(rated) for genre, rated in genres.items()}
    matched = _held_out(unique[FILMS], DEV_FILMS)
    others = [item for genre in OTHERS for item in _held_out(unique[genre], DEV_OTHERS)]
    held_out = _unique([*matched, *others])
    seen = {item.key for item in held_out}
    rest = {
        genre: [item for item in rated if item.key not in seen] for genre, rated in unique.items()
    }
    return {
        "train": rest[FILMS],
        "matched": matched,
        "mismatched": held_out[len(matched) :],
        "other": [item for genre in OTHERS for item in rest[genre]],
    }


def read(task: Task) -> tuple[dict[str, tuple[Row, ...]], str]:
    """Split -> rows, and source, of `reviews` or `reviews-score`."""
    parts = split(read_genres())
    source = (
        f"{ABOUT} Train and matched dev: film-review snippets; mismatched dev: product reviews, "
        "newspaper editorials and tweets. The split is this kit's own, by a hash of the text."
    )
    scores = task.kind == "regression"
    if not scores:
        source += f" Texts with |rating| above {NEUTRAL} only."
    splits = {
        name: tuple(
            Row(item.text, None, item.rating if scores else int(item.rating > 0))
            for item in parts[name]
            if scores or item.polar
        )
        for name in ("train", *task.dev_splits)
    }
    return splits, source


def read_texts() -> tuple[tuple[str, ...], str]:
    """All texts of the four genres that are in no dev split, unlabelled, and their source."""
    parts = split(read_genres())
    items = _unique([*parts["train"], *parts["other"]])
    return tuple(item.text for item in items), (
        f"{ABOUT} All four genres without labels, less every text of a dev split of reviews and "
        "reviews-score. The film snippets come from the same web site as SST-2, whose dev "
        "sentences are largely among them."
    )
