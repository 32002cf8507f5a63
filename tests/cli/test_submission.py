"""The GLUE server's zip: its format, and what happens when something is missing."""

import json
import random
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import LEARNS, sentences
from glue_files import FILES, write_glue

from lrc_lib import run
from lrc_lib.cli import submission
from lrc_lib.cli.commands import main
from lrc_lib.cli.submission import ANSWERS, predictions, write_submission
from lrc_lib.data.glue_dir import read_test
from lrc_lib.data.manifest import write_manifest
from lrc_lib.data.tasks import GLUE, TASKS
from lrc_lib.errors import InputError
from lrc_lib.runs.store import open_run

# The server's rules, written down apart from the code: rows, and what an answer may be.
NUMBER, TWO, THREE = "0|1", "entailment|not_entailment", "entailment|neutral|contradiction"
RULES = {
    "CoLA.tsv": (1063, NUMBER),
    "SST-2.tsv": (1821, NUMBER),
    "MRPC.tsv": (1725, NUMBER),
    "STS-B.tsv": (1379, r"[0-4]\.\d{3}|5\.000"),
    "QQP.tsv": (390965, NUMBER),
    "MNLI-m.tsv": (9796, THREE),
    "MNLI-mm.tsv": (9847, THREE),
    "QNLI.tsv": (5463, TWO),
    "RTE.tsv": (3000, TWO),
    "WNLI.tsv": (146, NUMBER),
    "AX.tsv": (1104, THREE),
}
PARSES = "sentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
MNLI = f"index\tpromptID\tpairID\tgenre\t{PARSES}\tsentence1\tsentence2"
STS = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
HEADERS = {  # of the test files, which are not those of train.tsv
    "cola": "index\tsentence",
    "sst-2": "index\tsentence",
    "mrpc": "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "sts-b": STS,
    "qqp": "id\tquestion1\tquestion2",
    "mnli": MNLI,
    "qnli": "index\tquestion\tsentence",
    "rte": "index\tsentence1\tsentence2",
    "": "index\tsentence1\tsentence2",
}
ROWS = 12  # of each test file here, unless a test says otherwise


def test_names_and_row_counts_are_the_server_s():
    assert {f"{a.name}.tsv": a.rows for a in ANSWERS} == {n: rows for n, (rows, _) in RULES.items()}


def write_test_file(path: Path, header: str, rows: int = ROWS) -> None:
    names = header.split("\t")
    texts = [text for text, _ in sentences(2 * rows, 5)]
    lines = [
        "\t".join([str(i), *["x"] * (len(names) - 3), texts[2 * i], texts[2 * i + 1]][: len(names)])
        for i in range(rows)
    ]
    if len(names) == 2:
        lines = [f"{i}\t{texts[i]}" for i in range(rows)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def fill_with_test_files(folder: Path, rows: int = ROWS) -> None:
    for answer in ANSWERS:
        if answer.task and answer.test:
            place = folder / FILES[answer.task][0]
            write_test_file(place / answer.test, HEADERS[answer.task], rows)
    write_test_file(folder / "diagnostic" / "diagnostic.tsv", HEADERS[""], rows)


@pytest.mark.parametrize("task", GLUE)
def test_texts_come_from_the_right_columns(task, tmp_path):
    path = tmp_path / "test.tsv"
    write_test_file(path, HEADERS[task])
    texts = [text for text, _ in sentences(2 * ROWS, 5)]
    pairs = zip(texts[::2], texts[1::2], strict=True)
    expected = pairs if TASKS[task].pair else [(text, None) for text in texts[:ROWS]]
    assert [row[:2] for row in read_test(path, TASKS[task], ROWS)] == list(expected)


@pytest.fixture(scope="module")
def store(tiny_spec, tmp_path_factory):
    """(output folder, GLUE folder): one small run of each GLUE task."""
    out, data = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("glue")
    for name in GLUE:
        write_glue(data, name, body=[FILES[name][2]] * 16)
        changes = dict(recipe="finetune", task=name, data=str(data), epochs=1, max_length=32)
        run(tiny_spec.replace(**changes), out, device="cpu")
    return out, data


@pytest.fixture
def glue(store, tmp_path, monkeypatch):
    """(output folder, GLUE folder with test files of 12 rows each)."""
    monkeypatch.setattr(submission, "ANSWERS", tuple(a._replace(rows=ROWS) for a in ANSWERS))
    folder = tmp_path / "glue"
    folder.mkdir()
    fill_with_test_files(folder)
    return store[0], folder


@pytest.fixture
def submit(store, tmp_path):
    """Writes the zip of the runs named: `submit(*names, data=..., out=...)`."""

    def write(*names, data=tmp_path / "glue", out=store[0]):
        return write_submission(names, str(data), tmp_path / "s.zip", out, "cpu")

    return write


def check_zip(path, rows: int = ROWS) -> dict[str, list[str]]:
    """File name -> answers, after checking them against the server's rules."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            header, *lines, end = archive.read(name).decode("utf-8").split("\n")
            assert header == "index\tprediction" and end == ""
            indices, found[name] = zip(*(line.split("\t") for line in lines), strict=True)
            assert list(indices) == [str(i) for i in range(rows)]
            assert all(re.fullmatch(RULES[name][1], answer) for answer in found[name]), name
    return found


def test_a_zip_of_every_task(glue, tmp_path, capsys):
    out, data = glue
    path = tmp_path / "deep" / "submission.zip"
    arguments = ["predict", *GLUE, "--glue-dir", str(data), "--out", str(path), "--runs", str(out)]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert set(check_zip(path)) == set(RULES) - {"WNLI.tsv"}
    told = capsys.readouterr().out
    assert re.search(
        r"CoLA.tsv +from cola-finetune-s0-\w{10} \(matthews \d\.\d{3} on 16 rows", told
    )
    assert "10 of 11 files" in told and re.search("WNLI.tsv +not a task of this kit", told)
    assert "the GLUE server scores only a zip that holds all of them" in told
    before = path.read_bytes()
    assert main([*arguments, "--device", "cpu"]) == 0
    assert path.read_bytes() == before


def test_answers_are_the_model_s_in_the_order_of_the_index(glue, submit, tiny_spec, tmp_path):
    """A student that has learned its task: its answers must be the right words."""
    _, data = glue
    learn = tmp_path / "learn" / "RTE"
    learn.mkdir(parents=True)
    words = {"good": "entailment", "bad": "not_entailment"}
    for split, seed in (("train", 1), ("dev", 2)):
        lines = [
            f"{i}\t{text}\tplot\t{words[y]}" for i, (text, y) in enumerate(sentences(160, seed))
        ]
        (learn / f"{split}.tsv").write_text(
            "\n".join(["index\tsentence1\tsentence2\tlabel", *lines])
        )
    spec = tiny_spec.replace(**LEARNS, task="rte", data=str(learn.parent))
    result = run(spec, tmp_path, device="cpu")
    assert result.score() > 0.95
    asked = sentences(ROWS, 3)
    lines = [f"{i}\t{text}\tplot" for i, (text, _) in enumerate(asked)]
    random.Random(0).shuffle(lines)
    (data / "rte" / "test.tsv").write_text("\n".join([HEADERS["rte"], *lines]))
    made = submit(result.id, out=tmp_path)
    assert check_zip(made.path) == {"RTE.tsv": tuple(words[label] for _, label in asked)}


@pytest.mark.parametrize(
    "task, says",
    [
        ("mnli", ["entailment", "neutral", "contradiction"]),
        ("qnli", ["entailment", "not_entailment"]),
        ("rte", ["entailment", "not_entailment"]),
        ("mrpc", ["0", "1"]),
        ("cola", ["0", "1"]),
    ],
)
def test_label_words(task, says):
    assert predictions(TASKS[task], np.eye(len(says))) == says


def test_scores_of_sts_b_are_cut_and_rounded():
    logits = np.array([[-0.3], [5.7], [2.34567], [4.9996], [0.0]], dtype=np.float32)
    assert predictions(TASKS["sts-b"], logits) == ["0.000", "5.000", "2.346", "5.000", "0.000"]


def test_official_row_count(submit, tmp_path):
    data = tmp_path / "glue"
    data.mkdir()
    write_test_file(data / "CoLA" / "test.tsv", HEADERS["cola"], 3)
    with pytest.raises(InputError, match="test.tsv has 3 rows, the GLUE server wants 1,063"):
        submit("cola")
    write_test_file(data / "CoLA" / "test.tsv", HEADERS["cola"], 1063)
    made = submit("cola")
    assert set(check_zip(made.path, 1063)) == {"CoLA.tsv"}


def test_mrpc_s_original_file_has_labels_and_no_index(glue, submit):
    _, data = glue
    lines = ["1\t7\t8\tthe film\tthe plot"] * ROWS
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    (data / "mrpc" / "test.tsv").write_text("\r\n".join([f"\ufeff{header}", *lines]))
    made = submit("mrpc")
    assert set(check_zip(made.path)) == {"MRPC.tsv"}


def test_what_was_not_run_is_named_and_not_invented(glue, tmp_path, capsys):
    out, data = glue
    few = tmp_path / "few"
    shutil.copytree(open_run("cola", out).path, few / "runs" / open_run("cola", out).id)
    zip_path = tmp_path / "s.zip"
    arguments = ["--glue-dir", str(data), "--out", str(zip_path), "--runs", str(few)]
    assert main(["predict", "cola", "rte", *arguments]) == 0
    assert set(check_zip(zip_path)) == {"CoLA.tsv"}
    told = capsys.readouterr().out
    assert re.search("RTE.tsv +rte has no run", told)
    assert re.search("QQP.tsv +no run of qqp given", told)
    assert sum(name in told.split("missing")[1] for name in RULES) == len(RULES) - 1
    zip_path.unlink()
    assert main(["predict", "rte", "qqp", *arguments]) == 2
    assert "No finished run of rte, qqp" in capsys.readouterr().err and not zip_path.exists()


def test_diagnostic_set_only_when_it_is_there_and_mnli_is_asked(glue, submit):
    assert set(check_zip(submit("mnli").path)) == {"MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"}
    assert set(check_zip(submit("rte").path)) == {"RTE.tsv"}
    shutil.rmtree(glue[1] / "diagnostic")
    made = submit("mnli")
    assert set(check_zip(made.path)) == {"MNLI-m.tsv", "MNLI-mm.tsv"}
    assert "no diagnostic.tsv in" in made.missing["AX"]


def test_a_run_that_does_not_exist(glue, tmp_path, capsys):
    out, data = glue
    right = open_run("cola", out).id
    wrong = right.replace("finetune", "finetuen")
    arguments = ["--glue-dir", str(data), "--out", str(tmp_path / "s.zip"), "--runs", str(out)]
    assert main(["predict", wrong, *arguments]) == 2
    assert f"'{wrong}'. Did you mean '{right}'?" in capsys.readouterr().err
    with pytest.raises(InputError, match="holds no finished run"):
        open_run(right, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[:5] + lines[6:], "has 11 rows, .* wants 12: .* index 4 is missing"),
        (lambda lines: lines[:-1], "index 11 is missing"),
        (lambda lines: lines[:6] + lines[5:], "line 7: expected an index .* found '4'"),
        (lambda lines: [*lines, "12\ta\tb"], "line 14: expected an index from 0 to 11"),
        (lambda lines: [*lines[:3], "two\ta\tb", *lines[4:]], "line 4: expected an index.*'two'"),
        (lambda lines: [*lines[:3], "2\ta", *lines[4:]], "line 4: expected 3 fields.*found 2"),
        (lambda lines: ["index\tpremise\thypothesis", *lines[1:]], "line 1.*'sentence1'"),
        (lambda lines: [], "is empty"),
    ],
    ids="gap end twice more word torn header empty".split(),
)
def test_test_files_with_wrong_rows(spoil, message, glue, submit, tmp_path):
    path = glue[1] / "rte" / "test.tsv"
    lines = spoil(path.read_text().splitlines())
    path.write_text("\n".join(lines) + ("\n" if lines else ""))
    with pytest.raises(InputError, match=f"test.tsv.*{message}"):
        submit("cola", "rte")
    assert not (tmp_path / "s.zip").exists()


def test_folders_without_the_test_file(glue, submit, tmp_path):
    folder = glue[1] / "MNLI"
    (folder / "test_mismatched.tsv").unlink()
    with pytest.raises(InputError, match="test_mismatched.tsv is missing.*The GLUE server asks"):
        submit("mnli")
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="There is no folder 'MNLI'"):
        submit("mnli")
    with pytest.raises(InputError, match="There is no folder '.*nowhere'"):
        submit("mnli", data=tmp_path / "nowhere")
    assert not (tmp_path / "s.zip").exists()


def test_runs_that_do_not_go_into_a_zip(glue, submit, tiny_spec, out):
    own = run(tiny_spec.replace(recipe="finetune"), out, device="cpu")
    general = run(tiny_spec.general_spec(), out, device="cpu")
    cola = open_run("cola", glue[0])
    for names, message in (
        ([str(own.path)], "a run on 'opinions.*', which the GLUE server does not ask for"),
        ([str(general.path)], "a run on unlabelled text"),
        (["cola", str(cola.path)], "Two runs of cola"),
    ):
        with pytest.raises(InputError, match=message):
            submit(*names)


def test_the_best_run_of_a_task_is_the_best_on_the_most_dev_rows(store, tmp_path):
    source = open_run("cola", store[0])

    label = source.spec.label

    def copy(name, n, score, **changed):
        folder = shutil.copytree(source.path, tmp_path / "runs" / name)
        metrics = source.metrics
        metrics["splits"]["dev"] |= {"n": n, "matthews": score}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "spec.json").write_text(source.spec.replace(**changed).to_json())
        write_manifest(folder)

    copy(f"{label}-a", 100, 0.3)
    copy(f"{label}-b", 100, 0.5)
    copy(f"{label}-c", 20, 0.9)
    copy(f"{label}-e", 100, 0.9, selection_rows=10)  # its score chose a setting
    copy("cola-d.partial", 100, 0.9)
    assert open_run("cola", tmp_path).id == f"{label}-b"
    assert open_run(f"{label}-a", tmp_path).id == f"{label}-a"
    assert open_run(str(tmp_path / "runs" / f"{label}-c")).id == f"{label}-c"
    with pytest.raises(InputError, match="Unknown run"):
        open_run("cola-d.partial", tmp_path)
