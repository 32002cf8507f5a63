"""Text of any size: read document by document, packed into windows on disk, resumed."""

import itertools
import os
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import sentences

from lrc_lib.data import corpus, hub, load_texts, packing
from lrc_lib.data.batches import collate
from lrc_lib.data.packing import pack, separators, tokenizer_key, windows
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.models import load_tokenizer

CLS, SEP = 2, 3  # of the tiny tokenizer
LENGTH = 8


@pytest.fixture
def tokenizer(tiny_teacher):
    return load_tokenizer(tiny_teacher)


@pytest.fixture
def texts():
    return [text for text, _ in sentences(40, 5)]


@pytest.fixture
def folder(texts, tmp_path):
    """Two files with blank lines, a byte-order mark and both kinds of line ends."""
    place = tmp_path / "corpus"
    place.mkdir()
    first = "\ufeff" + "\n".join(texts[:25]) + "\n\n \n"
    (place / "a.txt").write_bytes(first.encode())
    (place / "b.txt").write_bytes("\r\n".join(texts[25:]).encode())
    (place / "notes.md").write_text("not read")
    return str(place)


def naive(texts, tokenizer, length):
    """The windows, token by token, and how many tokens are left."""
    row, out = [], []
    for text in texts:
        for token in [*tokenizer(text, add_special_tokens=False)["input_ids"], SEP]:
            row.append(token)
            if len(row) == length - 2:
                out.append([CLS, *row, SEP])
                row = []
    return np.array(out), len(row)


def test_windows_are_those_of_a_loop_over_tokens(tokenizer, texts):
    assert separators(tokenizer) == ([CLS], [SEP])
    expected, left = naive(texts, tokenizer, LENGTH)
    made, tail = windows(texts, [], tokenizer, LENGTH)
    assert made.dtype == np.uint16 and (made == expected).all() and len(tail) == left
    first, tail = windows(texts[:7], [], tokenizer, LENGTH)
    second, tail = windows(texts[7:], tail, tokenizer, LENGTH)
    assert (np.concatenate([first, second]) == expected).all() and len(tail) == left


def test_separators_are_the_tokenizer_s_own():
    """One that only ends a text, as T5's does."""

    def end_only(text, add_special_tokens=True, **_):
        ids = [[5] * len(t.split()) for t in ([text] if isinstance(text, str) else text)]
        ids = [i + [1] * add_special_tokens for i in ids]
        return {"input_ids": ids[0] if isinstance(text, str) else ids}

    class Tokenizer:
        __call__ = staticmethod(end_only)

        def __len__(self):
            return 1 << 20

    assert separators(Tokenizer()) == ([], [1])
    made, tail = windows(["a b", "c d e"], [], Tokenizer(), 4)
    assert made.dtype == np.int32 and made.tolist() == [[5, 5, 1, 1], [5, 5, 5, 1]]
    assert tail.tolist() == [1]


def whole(cache):
    """The packed corpora in a cache, without the unfinished ones."""
    return [path for path in cache.glob("corpus-*") if path.suffix != ".partial"]


def check(data, limit, texts, tokenizer, cache):
    """Packs, and compares with the naive windows; the facts."""
    encoded, facts = pack(data, limit, tokenizer, LENGTH, cache)
    expected, left = naive(texts, tokenizer, LENGTH)
    assert (encoded.ids.reshape(-1, LENGTH) == expected).all() and len(encoded) == len(expected)
    assert set(encoded.lengths) == {LENGTH}
    assert (facts["texts"], facts["dropped"]) == (len(texts), left)
    return facts


@pytest.mark.parametrize("characters", [1, 300, 1 << 22])
def test_a_corpus_is_packed_document_by_document(
    folder, texts, tokenizer, tmp_path, monkeypatch, characters
):
    monkeypatch.setattr(packing, "PART_CHARACTERS", characters)
    assert "2 files" in check(folder, 0, texts, tokenizer, tmp_path)["source"]
    assert len(whole(tmp_path)) == 1 and not list(tmp_path.glob("*.partial"))
    assert "first 30 documents" in check(folder, 30, texts[:30], tokenizer, tmp_path)["source"]
    a, b = (os.path.join(folder, name) for name in ("a.txt", "b.txt"))
    turned = os.pathsep.join([b, a])
    check(turned, 0, texts[25:] + texts[:25], tokenizer, tmp_path)
    check("nli", 20, load_texts("nli")[0][:20], tokenizer, tmp_path)


def test_packed_text_is_made_once_for_the_same_text_tokenizer_and_length(
    folder, tokenizer, tiny_teacher, tmp_path, monkeypatch
):
    pack(folder, 0, tokenizer, LENGTH, tmp_path)
    key = tokenizer_key(tokenizer)
    tokenizer("a film", truncation=True, max_length=4, padding="max_length")
    assert tokenizer_key(tokenizer) == key
    copy = tmp_path / "elsewhere"
    os.rename(folder, copy)
    monkeypatch.setattr(packing, "windows", lambda *_: pytest.fail("packed again"))
    pack(str(copy), 0, load_tokenizer(tiny_teacher), LENGTH, tmp_path)
    monkeypatch.undo()
    corpus.corpus_fingerprint.cache_clear()
    pack(str(copy), 0, tokenizer, LENGTH + 1, tmp_path)
    (copy / "a.txt").write_text("another film\n" * 9)
    corpus.corpus_fingerprint.cache_clear()
    pack(str(copy), 0, tokenizer, LENGTH, tmp_path)
    assert len(whole(tmp_path)) == 3


class Counting:
    """A tokenizer that counts the documents it is given, and stops at one of its calls."""

    def __init__(self, tokenizer, stop=0):
        self.tokenizer, self.stop, self.calls, self.documents = tokenizer, stop, 0, 0

    def __call__(self, text, **options):
        if isinstance(text, list):
            self.calls += 1
            if self.calls == self.stop:
                raise KeyboardInterrupt
            self.documents += len(text)
        return self.tokenizer(text, **options)

    def __len__(self):
        return len(self.tokenizer)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def interrupt_and_resume(data, tokenizer, cache, monkeypatch):
    """Packs in many parts, interrupted at the fifth; (windows, facts, reports, documents read)."""
    monkeypatch.setattr(packing, "PART_CHARACTERS", 100)
    first, second, said = Counting(tokenizer, 5), Counting(tokenizer), []
    with pytest.raises(KeyboardInterrupt):
        pack(data, 0, first, LENGTH, cache)
    assert not whole(cache)
    packed, facts = pack(data, 0, second, LENGTH, cache, lambda *report: said.append(report))
    return packed.ids.reshape(-1, LENGTH), facts, said, (first.documents, second.documents)


def test_an_interrupted_packing_continues_to_the_same_windows(
    folder, texts, tokenizer, tmp_path, monkeypatch
):
    ids, facts, said, read = interrupt_and_resume(folder, tokenizer, tmp_path, monkeypatch)
    assert (ids == naive(texts, tokenizer, LENGTH)[0]).all() and facts["texts"] == len(texts)
    assert min(read) > 0 and sum(read) == len(texts)  # nothing twice
    assert said[-1][2].startswith("packed 40 documents into")


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "holds no text"),
        (b"\n  \n\r\n", "holds no text"),
        (b"a fine film\nPK\x03\x04\x00\x00", "x.txt, line 2: found a NUL byte"),
        (b"a film\n\na caf\xe9\n", "x.txt, line 3: found the byte 0xe9, which is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "x.txt, line 1: found the byte 0x89"),
        (b"the film\n", "has 3 tokens, less than one sequence of 8"),
    ],
)
def test_text_that_is_none(tokenizer, tmp_path, content, says):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        pack(str(path), 0, tokenizer, LENGTH, tmp_path)
    assert not whole(tmp_path)


@pytest.mark.parametrize("place", ["none.txt", "notes.md", "empty"])
def test_values_and_places_without_text(folder, tokenizer, tmp_path, place):
    (tmp_path / "notes.md").write_text("a film")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"No texts in '.*{place}'"):
        pack(str(tmp_path / place), 0, tokenizer, LENGTH, tmp_path)
    with pytest.raises(InputError, match="general_max_length = 2 leaves no room"):
        pack(folder, 0, tokenizer, 2, tmp_path)
    with pytest.raises(InputError, match="0 .all. or more"):
        pack(folder, -1, tokenizer, LENGTH, tmp_path)


def test_packed_text_stays_on_the_disk_and_its_batches_are_those_of_rows_in_memory(
    folder, tokenizer, tmp_path
):
    packed, _ = pack(folder, 0, tokenizer, LENGTH, tmp_path)
    assert isinstance(packed.ids, np.memmap)
    in_memory = replace(packed, ids=np.array(packed.ids, dtype=np.int32))
    ours, theirs = (collate(rows, [5, 0, 7]) for rows in (packed, in_memory))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert ours["input_ids"].dtype == torch.int64 and ours["attention_mask"].all()
    batch = collate(packed, [1, 2], torch.device("meta"))
    assert {value.device.type for value in batch.values()} == {"meta"}
    assert packed.home("meta") == torch.device("cpu")
    assert in_memory.home("meta") == torch.device("meta")


# Wikipedia: the real `datasets` over local parquet files in place of the hub


@pytest.fixture
def wikipedia(texts, tmp_path, monkeypatch):
    """A hub with one Wikipedia of 40 articles, two of them empty, in two files."""
    datasets = pytest.importorskip("datasets")
    asked = []
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    datasets.disable_progress_bars()
    articles = [*texts[:10], " ", *texts[10:30], "", *texts[30:]]
    files = []
    for number, part in enumerate((articles[:15], articles[15:])):
        files.append(str(tmp_path / f"train-{number}.parquet"))
        rows = {"id": [str(i) for i in range(len(part))], "text": part}
        datasets.Dataset.from_dict(rows).to_parquet(files[-1])
    real = datasets.load_dataset

    def load_dataset(name, config, split, streaming, revision):
        assert name == "wikimedia/wikipedia" and streaming
        asked.append((config, revision))
        if config != "20231101.en":
            raise ValueError(f"BuilderConfig '{config}' not found. Available: ['20231101.en']")
        return real("parquet", data_files={split: files}, split=split, streaming=True)

    def repo_info(self, repo, repo_type, revision, timeout):
        from huggingface_hub.errors import RevisionNotFoundError

        if revision == "gone":
            response = types.SimpleNamespace(headers={}, request=None, status_code=404)
            raise RevisionNotFoundError("404 Client Error.\nRevision Not Found", response=response)

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setenv("LRC_OFFLINE", "")
    return asked


def test_wikipedia_is_streamed_and_packed(wikipedia, texts, tokenizer, tmp_path):
    facts = check("wikipedia", 0, texts, tokenizer, tmp_path)
    pinned = hub.REVISIONS["wikimedia/wikipedia"]
    assert wikipedia == [("20231101.en", pinned)] and pinned in facts["source"]
    check("wikipedia:20231101.en@" + pinned, 0, texts, tokenizer, tmp_path)
    assert len(wikipedia) == 1  # the same text: the hub is not asked
    check("wikipedia", 12, texts[:12], tokenizer, tmp_path)


def test_a_stream_that_loses_its_place_is_refused(wikipedia, texts):
    first = hub.Articles("20231101.en", "x")
    assert next(iter(first)) == texts[0]
    second = hub.Articles("20231101.en", "x", first.place)
    assert second.place[0] == 1  # nothing was read yet
    third = hub.Articles("20231101.en", "x")
    for stream, begun in ((second, first.place[1]), (third, third.table.state_dict())):
        stream.table.state_dict = lambda begun=begun: begun
        assert next(iter(stream)) == texts[stream.first]
        with pytest.raises(UnavailableError, match="loses its place"):
            _ = stream.place


@pytest.mark.parametrize("offline, reason", [("", "no route"), ("1", "--offline is set")])
def test_a_wikipedia_that_cannot_be_read(
    wikipedia, tokenizer, tmp_path, monkeypatch, offline, reason
):
    def refused(error, says, data="wikipedia"):
        with pytest.raises(error, match=says):
            pack(data, 0, tokenizer, LENGTH, tmp_path)

    gone = "no revision 'gone' of it .any more.*--text FILE.*--revision"
    refused(UnavailableError, gone, "wikipedia:20231101.en@gone")
    assert not wikipedia  # it was not even opened
    refused(InputError, "'20231101.xx' not found. Available", "wikipedia:20231101.xx")

    def no_route(self, *args, **options):
        raise OSError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", no_route)
    monkeypatch.setenv("LRC_OFFLINE", offline)
    refused(UnavailableError, f"{reason}.*--text FILE")


def test_an_interrupted_stream_continues_where_it_was(
    wikipedia, texts, tokenizer, tmp_path, monkeypatch
):
    ids, facts, _, read = interrupt_and_resume("wikipedia", tokenizer, tmp_path, monkeypatch)
    assert (ids == naive(texts, tokenizer, LENGTH)[0]).all() and facts["texts"] == len(texts)
    assert sum(read) == len(texts)


def test_a_stream_that_breaks_off_is_unavailable(wikipedia, tokenizer, tmp_path, monkeypatch):
    import datasets

    real = datasets.load_dataset

    class Breaking:
        def __init__(self, table):
            self.table, self.state_dict = table, table.state_dict

        def __iter__(self):
            yield from itertools.islice(self.table, 25)
            raise RuntimeError("the connection was closed\nand more")

    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: Breaking(real(*a, **k)))
    with pytest.raises(UnavailableError, match="connection was closed. Without.*continues there"):
        pack("wikipedia", 0, tokenizer, LENGTH, tmp_path)


@pytest.mark.parametrize(
    "data, parts",
    [
        ("wikipedia", ("20231101.en", "PINNED")),
        ("wikipedia:20231101.simple", ("20231101.simple", "PINNED")),
        ("wikipedia:20231101.de@abc", ("20231101.de", "abc")),
        ("wikipedia@abc", ("20231101.en", "abc")),
    ],
)
def test_names_of_wikipedias(data, parts):
    pinned = hub.REVISIONS["wikimedia/wikipedia"]
    assert corpus.is_wikipedia(data) and corpus.places_of(data) == [data]
    assert corpus.wikipedia(data) == tuple(pinned if p == "PINNED" else p for p in parts)
    assert not corpus.is_wikipedia("wikipedia.txt") and not corpus.is_wikipedia("./wikipedia")
