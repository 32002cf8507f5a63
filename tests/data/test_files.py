"""A user's own files: CSV, TSV, JSONL, task.toml and plain texts."""

import csv
import json

import pytest

from lrc_lib.data import load_task_data, load_texts, own_task
from lrc_lib.data.rows import Row
from lrc_lib.errors import InputError

HOSTILE = '<script>alert(1)</script> \x1b[31m "quoted", {x} \x07'


def put(folder, toml="", **files):
    """Writes train.csv for train_csv="..." and so on."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(content, encoding="utf-8", newline="")
    if toml:
        (folder / "task.toml").write_text(toml, encoding="utf-8")
    return str(folder)


def load(folder):
    return load_task_data(own_task(folder).name, folder)


GOOD = "text,label\nfine,pos\npoor,neg\n"


def test_csv_with_quotes_commas_newlines_and_markup(tmp_path):
    path = tmp_path / "shop"
    path.mkdir()
    rows = [(HOSTILE, "pos"), ("two\nlines", "neg")]
    for name in ("train", "dev"):
        with open(path / f"{name}.csv", "w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows([("Text", "Label"), *rows])
    data = load(str(path))
    assert data.train == (Row(HOSTILE, None, 1), Row("two\nlines", None, 0))
    assert data.task.labels == ("neg", "pos") and data.task.title == "shop"
    assert data.source.endswith("Dev rows whose texts are also a training row: dev 2.")


def test_tsv_is_not_unquoted_and_jsonl_takes_any_text(tmp_path):
    lines = "".join(
        json.dumps({"premise": HOSTILE, "hypothesis": "b\u2028", "label": i}) + "\n\n"
        for i in (1, 0)
    )
    tsv = 'premise\thypothesis\tlabel\r\n"a\tb "\t1\r\n'
    data = load(put(tmp_path / "x", train_jsonl=lines, dev_tsv=tsv))
    assert data.train[0] == Row(HOSTILE, "b\u2028", 1)
    assert data.dev["dev"] == (Row('"a', 'b "', 1),)
    assert data.task.labels == ("0", "1") and data.task.pair and data.task.max_length == 128


def test_scores_and_more_dev_splits(tmp_path):
    table = "review,score\na,1\nb,-2.5\n"
    folder = put(tmp_path / "s", train_csv=table, dev_csv=table, dev_new_csv=table, dev_a_csv=table)
    task = own_task(folder)
    assert (task.kind, task.metrics, task.num_labels) == ("regression", ("pearson", "spearman"), 1)
    assert task.dev_splits == ("dev", "a", "new")
    assert load(folder).train == (Row("a", None, 1.0), Row("b", None, -2.5))


def test_task_toml(tmp_path):
    toml = """
    name = "Tickets"
    title = "Support tickets"
    text = ["subject", "body"]
    label = "team"
    labels = ["tech", "billing"]
    metrics = ["f1"]
    max_length = 32
    epochs = 3
    """
    table = "body,subject,team\nb,a,billing\nd,c,tech\n"
    data = load(put(tmp_path / "x", toml, train_csv=table, dev_csv=table))
    assert data.train == (Row("a", "b", 1), Row("c", "d", 0))
    task = data.task
    assert (task.name, task.title) == ("tickets", "Support tickets")
    assert task.labels == ("tech", "billing")
    assert (task.metrics, task.max_length, task.epochs) == (("f1",), 32, 3)


def test_numeric_labels_are_sorted_as_numbers(tmp_path):
    table = "text,label\n" + "".join(f"t{i},{i}\n" for i in (10, 2, 1))
    assert own_task(put(tmp_path / "x", train_csv=table, dev_csv=table)).labels == ("1", "2", "10")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev_csv", GOOD + "x,maybe\n", "dev.csv, line 4: expected a label.*'maybe'"),
        ("dev_csv", "text,label\nfine\n", "dev.csv, line 2: expected 2 fields, found 1"),
        ("dev_csv", 'text,label\n"a\nb",pos\nc,d,e\n', "dev.csv, line 4: expected 2 .*found 3"),
        ("dev_csv", 'text,label\n"open,pos\n', "dev.csv, line 2: not valid CSV"),
        ("dev_csv", "text,label\n", "dev.csv has no rows"),
        ("dev_csv", "", "dev.csv is empty"),
        ("dev_csv", "text,label\n,pos\n", "dev.csv, line 2: the column 'text' is missing or empty"),
        ("dev_csv", "words,label\na,pos\n", "dev.csv, line 1: expected the column 'text'.*words"),
        ("dev_csv", "text,text\na,b\n", "dev.csv, line 1: a column name occurs twice"),
        ("dev_csv", "text,label\na\0,pos\n", "dev.csv, line 2: found a NUL byte"),
        ("dev_tsv", "text\tlabel\na\tpos\tx\n", "dev.tsv, line 2: expected 2 fields, found 3"),
        ("dev_jsonl", '{"text": "a", "label": "pos"}\n{"text": \n', "line 2: not valid JSON"),
        ("dev_jsonl", "[1]\n", "dev.jsonl, line 1: expected an object"),
        (
            "dev_jsonl",
            '{"text": "a", "label": "pos"}\n{"text": "b"}\n',
            "line 2: the column 'label'",
        ),
        ("dev_jsonl", f'{{"text": "a", "label": {"9" * 5000}}}\n', "line 1: not valid JSON"),
        (
            "dev_jsonl",
            '{"text": "\\ud83d", "label": "pos"}\n',
            "line 1: not valid JSON.*surrogates",
        ),
        ("dev_csv", "text;label\na;pos\n", "line 1: .*found one, 'text;label'.*commas in a .csv"),
        ("dev_csv", "text\tlabel\na\tpos\n", "line 1: .*found one, .*tabs in a .tsv file"),
        ("train_tsv", "text\tlabel\n", "both train.csv and train.tsv"),
        ("notes_csv", "", "has no dev.csv, dev.tsv or dev.jsonl"),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    folder = put(tmp_path / "x", **{"train_csv": GOOD, name: content})
    with pytest.raises(InputError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("words,label\na,x\n", "expected a column for the text; found words, label.*text = "),
        ("text,kind\na,x\n", "expected a column for the label; found text, kind.*label = "),
        ("text,label\na,x\nb,x\n", "expected two or more different labels"),
        ("text,label\n" + "".join(f"t,{i}.5\n" for i in range(101)), '101 different.*"regression"'),
        ("text,score\na,high\n", "train.csv, line 2: expected a number as the score, found 'high'"),
        ("text,score\na,1\nb,nan\n", "train.csv, line 3: expected a number"),
        ("text,label\n", "train.csv has no rows"),
    ],
)
def test_bad_training_files(train, message, tmp_path):
    folder = put(tmp_path / "x", train_csv=train, dev_csv=train)
    with pytest.raises(InputError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("titel = 'x'", "Unknown key in .*task.toml: 'titel'. Did you mean 'title'"),
        ("title = ", "task.toml is not valid TOML"),
        ("kind = 'regresion'", "Unknown kind in .*Did you mean 'regression'"),
        ("metrics = ['acc']", "Unknown metric in .*task.toml.*Did you mean 'accuracy'"),
        ("epochs = 0", "'epochs' must be a whole number above 0"),
        ("epochs = '3'", "'epochs' must be a whole number above 0"),
        ("text = ['a', 'b', 'c']", "'text' must name one or two columns"),
        ("text = 'words'", "expected a column 'words'; found text, label"),
        ("labels = ['pos']", "expected two or more different labels"),
        ("labels = ['pos', 'no']", "line 3: expected a label among 'pos', 'no'; found 'neg'"),
        ("name = 'MNLI'", "'mnli', which is a built-in one"),
        ("metrics = ['pearson']", "for a classification with 2 labels: 'pearson'"),
        ("labels = ['a', 'b', 'c']\nmetrics = ['f1']", "with 3 labels: 'f1'.*Known: accuracy"),
    ],
)
def test_bad_task_toml(toml, message, tmp_path):
    folder = put(tmp_path / "x", toml, train_csv=GOOD, dev_csv=GOOD)
    with pytest.raises(InputError, match=message):
        load(folder)


def test_case_does_not_count_in_names_of_files(tmp_path):
    data = load(put(tmp_path / "x", Train_CSV=GOOD, DEV_csv=GOOD, dev_New_csv=GOOD))
    assert list(data.dev) == ["dev", "New"] and len(data.train) == 2


def test_equal_numbers_keep_one_order(tmp_path):
    table = "text,label\na,01\nb,1\nc,001\nd,0\n"
    folder = put(tmp_path / "x", train_csv=table, dev_csv=table)
    assert own_task(folder).labels == ("0", "001", "01", "1")
    put(tmp_path / "x", train_csv=table + f"e,{'9' * 5000}\n")
    assert own_task(folder).labels[-1] == "9" * 5000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\nfine,pos\ncaf\xe9,pos\n", "dev.csv, line 3: found the byte 0xe9"),
        (GOOD.encode("utf-16"), "dev.csv, line 1: found UTF-16. Save the file as UTF-8"),
    ],
)
def test_not_utf8(content, message, tmp_path):
    folder = put(tmp_path / "x", train_csv=GOOD, dev_csv=GOOD)
    (tmp_path / "x" / "dev.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"only one\n\n", "gives 1 text"),
        (b"one\ntwo \xff\n", "a.txt, line 2: found the byte 0xff"),
        (b"one\ntwo\0\n", "a.txt, line 2: found a NUL byte"),
        (None, "No texts in|is missing"),
    ],
)
def test_bad_texts(content, message, tmp_path):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    for place in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(InputError, match=message):
            load_texts(str(place))
