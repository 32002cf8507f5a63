"""Words, their vectors and nearest neighbours; GloVe files."""

import math

import numpy as np
import pytest
from word_pieces import WHOLE, word_piece

from lrc_lib.data.vectors import WORD, PieceVectors, WordVectors, read_glove, whole_words
from lrc_lib.errors import InputError


@pytest.fixture(scope="module")
def vectors():
    tokenizer = word_piece()
    embeddings = np.random.default_rng(0).normal(size=(len(tokenizer), 8)).astype(np.float32)
    return PieceVectors(tokenizer, embeddings)


@pytest.mark.parametrize(
    "text, words",
    [
        ("Don't stop-me, 1990s x2!", ["Don't", "stop", "me"]),
        ("l’été d'un naïf", ["l’été", "d'un", "naïf"]),
        ("'quoted' snake_case", ["quoted"]),
        ("", []),
    ],
)
def test_what_a_word_is(text, words):
    assert WORD.findall(text) == words


def test_whole_words_are_neither_parts_nor_marks_nor_special():
    tokenizer = word_piece()
    assert set(whole_words(tokenizer).values()) == set(WHOLE)
    assert all(tokenizer.convert_ids_to_tokens(i) == w for i, w in whole_words(tokenizer).items())


def test_neighbours_are_the_nearest_by_angle_and_never_the_word_itself():
    angles = {"a": 0, "b": 10, "c": 25, "d": 60, "e": 170}
    points = [[math.cos(math.radians(x)), math.sin(math.radians(x))] for x in angles.values()]
    lengths = np.array([[1], [9], [2], [0.1], [5]])  # of no account
    vectors = WordVectors(angles, (lengths * points).astype(np.float32))
    assert vectors.neighbours(["a", "d", "zebra", "C"], 2) == [
        ("b", "c"), ("b", "c"), (), ("a", "b"),
    ]  # fmt: skip
    assert vectors.neighbours(["e"], 99) == [("a", "b", "c", "d")]
    assert vectors.neighbours([], 2) == []


def test_a_word_of_several_pieces_has_their_mean_and_one_with_an_unknown_piece_none(vectors):
    pieces = vectors.tokenizer.convert_tokens_to_ids(["bright", "##ly"])
    mean = vectors.embeddings[pieces].mean(axis=0)
    assert np.allclose(vectors.vector("brightly"), mean / np.linalg.norm(mean), atol=1e-6)
    assert vectors.vector("quux") is None
    assert vectors.neighbours(["quux"], 3) == [()]


def glove(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_glove_files_are_read_with_all_their_quirks(tmp_path):
    text = "the 1 0 0\r\n, 5 5 5\n. . . 1 1 1\nat name@domain.com 1 2 3\nfilm 0 3 4 \n"
    text += "the 9 9 9\n1990 1 1 1"
    vectors = read_glove(glove(tmp_path, text))
    assert vectors.words == ("the", "film")
    assert np.allclose(vectors.matrix, [[1, 0, 0], [0, 0.6, 0.8]])


@pytest.mark.parametrize(
    "text, says",
    [
        ("the 1 2 3\nfilm 1 2\n", "line 2: expected a word and 3 finite numbers.*'film 1 2'"),
        ("the 1 2 3\n\nfilm 1 2 3\n", "line 2: expected a word and 3 finite numbers.*''"),
        ("the 1 2 3\nfilm 1 2 3 4\n", "line 2: expected a word and 3 .*'film 1 2 3 4'"),
        ("the 1 2 3\nfilm 1 x 3\n", "line 2: expected a word and 3 .*'film 1 x 3'"),
        ("the 1 2 3\nfilm 1 nan 3\n", "line 2: expected a word and 3 finite numbers"),
        ("400000 300\nthe 1 2\n", "line 1: expected a word and 2 finite numbers.*'400000 300'"),
        ("the film was dull\n", "line 1: expected a word and 3 finite numbers"),
        (b"the 1 2\nfilm\xff 1 2\n", "line 2: found the byte 0xff, which is not UTF-8"),
        ("", "holds no word"),
        (". 1 2\n", "holds no word"),
    ],
)
def test_a_broken_glove_file_is_named_with_its_line(tmp_path, text, says):
    with pytest.raises(InputError, match=f"vectors.txt.*{says}"):
        read_glove(glove(tmp_path, text))


def test_a_missing_glove_file_is_named(tmp_path):
    with pytest.raises(InputError, match="Cannot read the word vectors"):
        read_glove(tmp_path / "none.txt")
