"""Word vectors and their nearest neighbours: a GloVe file, or a model's own input embeddings."""

import math
import re
from array import array

import numpy as np

from lrc_lib.data.tables import decoded
from lrc_lib.errors import InputError

# Letters with apostrophes between them: "don't" is one word, "well-known" two, "1990s" none.
WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’][^\W\d_]+)*(?!\w)")
BLOCK = 1 << 24  # similarities held at once: 64 MB


class WordVectors:
    """Words and their vectors, scaled to length 1, so that similarity is the cosine.

    Args:
        words: V different words.
        matrix: (V, D) float32.
    """

    def __init__(self, words, matrix):
        self.words = tuple(words)
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        self.matrix = matrix / np.maximum(lengths, 1e-12)
        self.index = {word: i for i, word in enumerate(self.words)}
        self.groups = {}  # words that differ in case only are the same word
        folded = (word.casefold() for word in self.words)
        self.group = np.array([self.groups.setdefault(w, len(self.groups)) for w in folded])

    def vector(self, word: str):
        """(D,) the vector of a word as written, else in lower case; None if it has none."""
        index = self.index.get(word, self.index.get(word.lower()))
        return None if index is None else self.matrix[index]

    def neighbours(self, words, count: int) -> list[tuple[str, ...]]:
        """The `count` nearest other words of each word; () for a word without a vector.

        They come in the order of the vocabulary. An order by similarity could differ between
        machines, where two words are almost equally near.
        """
        found = [(i, vector) for i, w in enumerate(words) if (vector := self.vector(w)) is not None]
        out: list[tuple[str, ...]] = [()] * len(words)
        count, size = min(count, len(self.words)), max(1, BLOCK // max(1, len(self.words)))
        for start in range(0, len(found), size):
            rows, queries = zip(*found[start : start + size], strict=True)
            scores = np.stack(queries) @ self.matrix.T  # (b, V)
            own = np.array([self.groups.get(words[row].casefold(), -1) for row in rows])
            scores[self.group == own[:, None]] = -np.inf
            best = np.sort(np.argpartition(scores, -count, axis=1)[:, -count:], axis=1)
            for row, columns, values in zip(rows, best, scores, strict=True):
                out[row] = tuple(self.words[c] for c in columns if values[c] > -np.inf)
        return out


class PieceVectors(WordVectors):
    """A model's input embeddings as word vectors.

    The vocabulary is the pieces that are words by themselves. The vector of a word of several
    pieces is the mean of their embeddings; a word with an unknown piece has none.

    Args:
        tokenizer: the model's.
        embeddings: (V, D) float32, one row per piece.
    """

    def __init__(self, tokenizer, embeddings):
        whole = whole_words(tokenizer)
        first = {}
        for piece, word in whole.items():
            first.setdefault(word, piece)
        super().__init__(first, embeddings[list(first.values())])
        self.tokenizer, self.embeddings = tokenizer, embeddings

    def vector(self, word: str):
        """(D,) the mean of the embeddings of a word's pieces, as a unit vector."""
        pieces = self.tokenizer(" " + word, add_special_tokens=False)["input_ids"]
        if not pieces or self.tokenizer.unk_token_id in pieces:
            return None
        mean = self.embeddings[pieces].mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)


def whole_words(tokenizer) -> dict[int, str]:
    """{piece id: word} of the pieces that are a word by themselves.

    Such a piece, written after a space, is tokenised as that one piece. Special pieces, inner parts
    of words, marks and numbers are left out.
    """
    ids = range(len(tokenizer))
    texts = [text.strip() for text in tokenizer.batch_decode([[i] for i in ids])]
    special = set(tokenizer.all_special_ids)
    likely = [i for i in ids if i not in special and WORD.fullmatch(texts[i])]
    if not likely:
        return {}
    again = tokenizer([" " + texts[i] for i in likely], add_special_tokens=False)["input_ids"]
    return {i: texts[i] for i, pieces in zip(likely, again, strict=True) if list(pieces) == [i]}


def read_glove(path) -> WordVectors:
    """Reads word vectors in GloVe's text format: each line is a word and D numbers.

    Lines that do not start with a word (but a mark, number or address) are checked and left out.

    Raises:
        InputError: no such file, not UTF-8, no words, or a line that is not a word and as many
            finite numbers as in line 1 (file, line, what was expected).
    """
    words, numbers, width = {}, array("f"), 0  # words in order; all vectors, end to end
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                where = f"{path}, line {number}"
                line = decoded(raw, where).rstrip("\r\n ")
                width = width or line.count(" ")
                word, vector = _parsed(line, width, where)
                if WORD.fullmatch(word) and word not in words:
                    words[word] = None
                    numbers.extend(vector)
    except OSError as error:
        raise InputError(f"Cannot read the word vectors '{path}': {error.strerror}.") from None
    if not words:
        raise InputError(f"'{path}' holds no word; expected a word and its vector on each line.")
    return WordVectors(words, np.frombuffer(numbers, dtype=np.float32).reshape(-1, width))


def _parsed(line: str, width: int, where: str) -> tuple[str, list[float]]:
    """(word, numbers) of a line. A word may hold spaces, as some in GloVe's largest file do."""
    word, *fields = line.rsplit(" ", width)
    vector = _numbers(fields)
    more = any(_numbers([part]) for part in word.split(" ")[1:])
    if len(vector) < max(width, 2) or not math.isfinite(sum(vector)) or more:
        raise InputError(
            f"{where}: expected a word and {max(width, 2)} finite numbers, separated by spaces, as "
            f"many as in line 1; found {line!r:.60}."
        )
    return word, vector


def _numbers(fields) -> list[float]:
    """The fields as numbers; [] if one is none."""
    try:
        return [float(field) for field in fields]
    except ValueError:
        return []
