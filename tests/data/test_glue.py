"""GLUE from a folder and from the hub."""

import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from glue_files import FILES, MNLI_HEADER, PAIR_HEADER, write_glue

from lrc_lib.data import load_task_data
from lrc_lib.data.rows import Row
from lrc_lib.data.tasks import TASKS
from lrc_lib.errors import InputError, UnavailableError

# --- GLUE in a folder ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_glue_formats(name, end, tmp_path):
    write_glue(tmp_path, name, end=end)
    data = load_task_data(name, str(tmp_path))
    assert data.train == (FILES[name][3],) * 3
    assert list(data.dev) == list(TASKS[name].dev_splits)
    assert all(rows == data.train for rows in data.dev.values())
    assert "not GLUE's own split" in data.source
    assert f"also a training row: {list(data.dev)[0]} 3" in data.source


STS = "0\tg\tf\ty\to\ts\ts\tA\tB\t"


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("rte", ["0\tA\tB"], "train.tsv, line 2: expected 4 fields.*found 3"),
        ("cola", ["x\t1\t\tGood.", "x\t1"], "train.tsv, line 2: expected 4 fields"),
        ("rte", ["0\tA\tB\tmaybe"], "line 2: expected a label among 'entailment'.*'maybe'"),
        ("sst-2", ["fine\t2"], "line 2: expected a label among '0', '1'; found '2'"),
        ("sts-b", [STS + "high"], "line 2: expected a number.*'high'"),
        ("sts-b", [STS + "7"], "line 2: expected a score from 0 to 5"),
        ("qqp", ["torn"] * 20, "20 of 20 lines do not have 6 fields"),
        ("rte", ["0\tA\tB\0\tentailment"], "line 2: found a NUL byte"),
    ],
)
def test_malformed_glue(name, body, message, tmp_path):
    write_glue(tmp_path, name, body=body)
    with pytest.raises(InputError, match=message):
        load_task_data(name, str(tmp_path))


def test_glue_without_the_expected_column(tmp_path):
    write_glue(tmp_path, "rte", header="index\tpremise\tlabel")
    with pytest.raises(InputError, match="line 1: expected a header.*'sentence1'"):
        load_task_data("rte", str(tmp_path))


def test_glue_file_that_is_not_utf8(tmp_path):
    folder = write_glue(tmp_path, "rte")
    (folder / "dev.tsv").write_bytes(
        f"{PAIR_HEADER}\n0\tcaf\xe9\tB\tentailment\n".encode("latin-1")
    )
    with pytest.raises(InputError, match="dev.tsv, line 2: found the byte 0xe9.*UTF-8"):
        load_task_data("rte", str(tmp_path))


def test_glue_with_a_split_empty_or_missing(tmp_path):
    folder = write_glue(tmp_path, "mnli")
    (folder / "dev_mismatched.tsv").write_text(MNLI_HEADER + "\n")
    with pytest.raises(InputError, match="split 'mismatched' of mnli has no rows"):
        load_task_data("mnli", str(tmp_path))
    (folder / "dev_mismatched.tsv").write_text("")
    with pytest.raises(InputError, match="dev_mismatched.tsv is empty"):
        load_task_data("mnli", str(tmp_path))
    (folder / "dev_mismatched.tsv").unlink()
    with pytest.raises(InputError, match="dev_mismatched.tsv is missing.*dev_matched.tsv"):
        load_task_data("mnli", str(tmp_path))
    with pytest.raises(InputError, match="no folder 'CoLA'"):
        load_task_data("cola", str(tmp_path))


def test_torn_lines_of_qqp_are_counted(tmp_path):
    row = FILES["qqp"][2]
    write_glue(tmp_path, "qqp", body=[row, "torn in", "two\t0", row])
    data = load_task_data("qqp", str(tmp_path))
    assert len(data.train) == 2 and "4 line(s) cut in two were left out" in data.source


def test_glue_without_a_folder_says_how():
    with pytest.raises(InputError, match="--glue-dir DIR.*--data-dir.*hub"):
        load_task_data("rte")


# --- the hub ------------------------------------------------------------------------------------


class FakeTable(dict):
    """As much of `datasets.Dataset` as the reader uses."""

    def __init__(self, names, columns):
        super().__init__(columns)
        self.column_names = list(columns)
        self.features = dict.fromkeys(columns) | {"label": types.SimpleNamespace(names=names)}

    def __len__(self):
        return len(self["label"])


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """The hub as a folder; `answers` maps a split to a table; `asked` records the questions."""
    answers, asked = {}, []

    def snapshot_download(repo, **options):
        asked.append((repo, options, tmp_path))
        for split in answers:
            for config in ("mrpc", "mnli", "stsb"):
                (tmp_path / config).mkdir(exist_ok=True)
                (tmp_path / config / f"{split}-00000-of-00001.parquet").touch()
        return str(tmp_path)

    def load_dataset(kind, data_files, split):
        assert kind == "parquet" and all(Path(f).exists() for f in data_files[split])
        return answers[split]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda self, repo, **more: None)
    monkeypatch.delenv("LRC_OFFLINE", raising=False)
    return answers, asked


def test_hub_rows_at_a_pinned_revision(fake_hub):
    answers, asked = fake_hub
    names = ["not_equivalent", "equivalent"]
    columns = {"sentence1": ["a", "c"], "sentence2": ["b", "d"], "label": [1, 0], "idx": [0, 1]}
    answers |= {"train": FakeTable(names, columns), "validation": FakeTable(names, columns)}
    data = load_task_data("mrpc", "hub")
    assert data.train == data.dev["dev"] == (Row("a", "b", 1), Row("c", "d", 0))
    repo, options, _ = asked[0]
    assert repo == "nyu-mll/glue" and len(options["revision"]) == 40
    assert options["allow_patterns"] == ["mrpc/*"] and options["repo_type"] == "dataset"
    assert options["revision"][:8] in data.source
    assert data.source.endswith("Dev rows whose texts are also a training row: dev 2.")


def test_hub_names_of_splits_and_scores(fake_hub):
    answers, _ = fake_hub
    names = ["entailment", "neutral", "contradiction"]
    pair = FakeTable(names, {"premise": ["p"], "hypothesis": ["h"], "label": [2]})
    answers |= {"train": pair, "validation_matched": pair, "validation_mismatched": pair}
    assert load_task_data("mnli", "hub").dev["mismatched"] == (Row("p", "h", 2),)
    score = FakeTable(None, {"sentence1": ["a"], "sentence2": ["b"], "label": [3]})
    answers |= {"train": score, "validation": score}
    assert load_task_data("sts-b", "hub").train == (Row("a", "b", 3.0),)


def test_hub_with_labels_in_another_order(fake_hub):
    answers, _ = fake_hub
    table = FakeTable(
        ["equivalent", "not_equivalent"], {"sentence1": [], "sentence2": [], "label": []}
    )
    answers |= {"train": table, "validation": table}
    with pytest.raises(InputError, match="expected the labels .'not_equivalent'"):
        load_task_data("mrpc", "hub")


def refuse(self, *args, **options):
    raise OSError("no route to the hub")


def test_hub_out_of_reach_fails_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=None))
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", refuse)
    monkeypatch.setattr("lrc_lib.data.hub.DATASET", "nobody/never-cached")
    for offline, reason in (("", "no route to the hub"), ("1", "--offline is set")):
        monkeypatch.setenv("LRC_OFFLINE", offline)
        start = time.monotonic()
        with pytest.raises(UnavailableError, match=f"never-cached'.*{reason}.*--glue-dir DIR"):
            load_task_data("rte", "hub")
        assert time.monotonic() - start < 5


def test_hub_out_of_reach_uses_what_was_fetched_before(fake_hub, monkeypatch):
    answers, asked = fake_hub
    pair = FakeTable(None, {"sentence1": ["a"], "sentence2": ["b"], "label": [3.5]})
    answers |= {"train": pair, "validation": pair}
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", refuse)
    assert load_task_data("sts-b", "hub").train == (Row("a", "b", 3.5),)
    assert asked[0][1]["local_files_only"]
    del answers["validation"]
    for path in asked[0][2].glob("stsb/validation-*"):
        path.unlink()
    with pytest.raises(UnavailableError, match="has no 'validation-"):
        load_task_data("sts-b", "hub")


def test_hub_with_a_dead_address(tmp_path):
    """The real client, in a process of its own: its address is read at import."""
    code = "from lrc_lib.data.hub import fetch; fetch('nobody/never-cached')"
    settings = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "LRC_OFFLINE": ""}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True
    )
    assert "UnavailableError: Could not get the model 'nobody/never-cached'" in done.stderr
    assert time.monotonic() - start < 20
