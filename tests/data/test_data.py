"""Rows from every source but the grammar: what is read, and how bad input is refused."""

import hashlib
import io
import tarfile

import pytest

from lrc_lib.data import load_task_data, load_texts, reviews
from lrc_lib.data.rows import Row, check_rows, fingerprint, in_train, sample, text_key
from lrc_lib.data.tasks import TASKS
from lrc_lib.errors import InputError, UnavailableError

# --- rows ---------------------------------------------------------------------------------------


def test_a_sample_is_fixed_nested_and_in_order():
    items = list(range(1000))
    small, large = sample(items, 50), sample(items, 400)
    assert len(small) == 50 and set(small) <= set(large)
    assert list(large) == sorted(large) and large != tuple(range(400))
    assert sample(items, 50) == small
    assert sample(items, 0) == sample(items, 5000) == tuple(items)
    with pytest.raises(InputError, match="0 .all. or more, not -1"):
        sample(items, -1)


def test_the_fingerprint_sees_labels_order_split_and_missing_texts():
    a, b = Row("one", None, 0), Row("two", None, 1)
    prints = {
        fingerprint((a, b), {"dev": (a,)}),
        fingerprint((b, a), {"dev": (a,)}),
        fingerprint((a, b._replace(label=0)), {"dev": (a,)}),
        fingerprint((a,), {"dev": (b, a)}),
        fingerprint((a, b), {"test": (a,)}),
        fingerprint((a._replace(text_b=""), b), {"dev": (a,)}),
    }
    assert len(prints) == 6 and all(len(p) == 16 for p in prints)


def test_text_key_is_blind_to_case_space_and_marks_only():
    assert text_key("It's  GOOD .") == text_key("its good")
    assert text_key("its bad") != text_key("its good")
    assert text_key("!") != text_key("?")
    assert text_key("ab", "c") != text_key("a", "bc")


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        ([], "rte", "here has no rows"),
        ([Row("a", None, 0)], "rte", r"here, row 1, has 1 text\(s\), not 2"),
        ([Row("a", "b", 0), Row("a", "b", 2)], "rte", "row 2, has the label 2, not one of 0 to 1"),
        ([Row("a", "b", float("nan"))], "sts-b", "has the score nan"),
        ([Row("a", "b", 1)], "sts-b", "has the score 1, not a finite"),
    ],
)
def test_check_rows(rows, task, message):
    with pytest.raises(InputError, match=message):
        check_rows(rows, TASKS[task], "here")


def test_samples_do_not_depend_on_anything_but_their_size():
    small, whole = load_task_data("nli", "", 96, 48), load_task_data("nli")
    assert (len(small.train), len(small.dev["dev"])) == (96, 48)
    assert set(small.train) < set(whole.train)
    assert small.fingerprint == load_task_data("nli", "", 96, 48).fingerprint != whole.fingerprint
    assert "train 96 (a fixed sample of 3,000)" in small.source


def test_selection_rows_are_held_out_of_training_and_are_the_only_dev_split():
    whole, held = load_task_data("nli"), load_task_data("nli", selection_rows=300)
    assert list(held.dev) == ["selection"] == list(held.task.dev_splits)
    selection = held.dev["selection"]
    assert len(selection) == 300 and not set(selection) & set(held.train)
    assert len(held.train) == 2700 and set(held.train + selection) == set(whole.train)
    assert list(held.train) == [row for row in whole.train if row not in set(selection)]
    part = load_task_data("nli", "", 96, 48, 300)  # other sizes leave the selection as it is
    assert part.dev == held.dev and len(part.train) == 96 and set(part.train) < set(held.train)
    assert len({data.fingerprint for data in (whole, held, part)}) == 3
    assert "'selection' is a fixed sample of its training rows" in held.source
    assert "Rows: train 2,700, selection 300." in held.source
    assert load_task_data("nli", selection_rows=0) == whole


@pytest.mark.parametrize(
    "rows, says", [(3000, "3,000 leaves nothing to train on"), (-1, "0 .all. or more, not -1")]
)
def test_impossible_numbers_of_selection_rows(rows, says):
    with pytest.raises(InputError, match=says):
        load_task_data("nli", selection_rows=rows)


# --- reviews ------------------------------------------------------------------------------------

GENRES = {reviews.FILMS: 2500, **dict.fromkeys(reviews.OTHERS, 1000)}


def line(genre, i):
    rating = (-3.2, -0.4, 0.5, 0.6, 2.75)[i % 5]
    return f'{i}_1\t{rating}\t{genre} "text {i} <b>& caf\xe9\r\n'


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive of the published shape in the cache, with texts made here."""

    def pack(files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return out.getvalue()

    def put(extra=""):
        inner = {
            f"hutto_ICWSM_2014/{genre}_GroundTruth.txt": (
                "".join(line(genre, i) for i in range(count)) + extra
            ).encode()
            for genre, count in GENRES.items()
        }
        data = pack({reviews.INNER: pack(inner)})
        (tmp_path / reviews.ARCHIVE).write_bytes(data)
        monkeypatch.setattr(reviews, "SHA256", hashlib.sha256(data).hexdigest())
        monkeypatch.setenv("LRC_CACHE", str(tmp_path))
        monkeypatch.setenv("LRC_OFFLINE", "1")

    put()
    return put


def test_reviews_split(archive):
    polar, scores = load_task_data("reviews"), load_task_data("reviews-score")
    assert [len(rows) for rows in polar.dev.values()] == [reviews.DEV_FILMS, 3 * 400]
    assert len(polar.train) == sum(abs(r.label) > 0.5 for r in scores.train)
    assert {r.label for r in scores.train} == {-3.2, -0.4, 0.5, 0.6, 2.75}
    rating = {r.text_a: r.label for r in scores.train}
    assert all(r.label == (rating[r.text_a] > 0) for r in polar.train)
    assert all("movieReview" in r.text_a for r in (*polar.train, *polar.dev["matched"]))
    for split, rows in polar.dev.items():
        assert {r.text_a for r in rows} <= {r.text_a for r in scores.dev[split]}
    assert f'{reviews.FILMS} "text 3 <b>& caf\xe9' in {
        r.text_a for d in (scores.train, scores.dev["matched"]) for r in d
    }


def test_no_dev_text_of_the_reviews_is_trained_on(archive):
    # The same text again, in another case and genre, must not slip into training.
    archive(
        extra="".join(f"9_{i}\t3\t{reviews.FILMS} TEXT {i} b caf\xe9 !\r\n" for i in range(600))
    )
    texts = {text_key(text) for text in load_texts("reviews")[0]}
    for name in ("reviews", "reviews-score"):
        data = load_task_data(name)
        held_out = [text_key(r.text_a) for rows in data.dev.values() for r in rows]
        assert len(set(held_out)) == len(held_out)
        train = [text_key(r.text_a) for r in data.train]
        assert len(set(train)) == len(train)
        assert not set(held_out) & (set(train) | texts)
        assert set(train) <= texts


def test_the_real_reviews():
    try:
        data = load_task_data("reviews")
    except UnavailableError as error:
        pytest.skip(f"the archive could not be fetched: {error}")
    assert sum(map(len, reviews.read_genres().values())) == 23703
    assert [len(rows) for rows in data.dev.values()] == [1000, 1200]
    assert len(data.train) > 8000
    assert 0.45 < sum(r.label for r in data.train) / len(data.train) < 0.55
    assert len(load_texts()[0]) > 20000


def test_dev_rows_that_are_training_rows_are_counted_by_their_texts():
    rows = (Row("A b.", "c", 0), Row("a  B", "C!", 1), Row("a b", "d", 0))
    assert in_train(rows[:1], {"dev": rows, "other": rows[2:]}) == {"dev": 2, "other": 0}
