"""Table 1: the gpu profile with tiny settings, columns from the store."""

import shutil

import pytest
from conftest import sentences

from lrc_lib.course import session as session_module
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
    return session_module.start(
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
    assert systems.not_the_papers("lrc").endswith(said)
    assert "no column of the paper" in systems.not_the_papers("bert_m")
    shutil.rmtree(glue / "RTE")  # what is in the store needs its data no more
    second = start(glue, settings, tmp_path / "out", "cola")
    systems = Systems(second.profile, second.out)
    assert [c.paper for c in systems.columns] == ["CoLA", "RTE"]
    assert systems.score("lrc", systems.columns[1]).value == pytest.approx(100 * score)
    assert systems.score("lrc", systems.columns[0]) is None  # not run: empty
    assert systems.pair("lrc", "teacher", systems.columns[1])
    other = start(glue, [*settings, "temperature=2"], tmp_path / "out", "cola")
    assert [c.paper for c in Systems(other.profile, other.out).columns] == [
        "CoLA"
    ]  # of other settings: not mixed
