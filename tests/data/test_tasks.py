"""The task table, and finding a task by name or in a folder."""

import pytest

from lrc_lib.data import get_task, tasks_in
from lrc_lib.data.tasks import GLUE, METRICS, TASKS
from lrc_lib.errors import InputError


def test_every_task_is_consistent():
    for name, task in TASKS.items():
        assert task.name == name
        assert set(task.metrics) <= set(METRICS)
        assert (task.kind == "regression") == (task.labels == ())
        assert task.num_labels == (len(task.labels) or 1)
        assert task.max_length == (128 if task.pair else 64)
        assert set(task.paper_columns) == (set(task.dev_splits) if task.source == "glue" else set())
        hash(task)
    assert tuple(name for name, task in TASKS.items() if task.source == "glue") == GLUE


def test_the_papers_epochs_and_glues_metrics():
    assert {name for name in GLUE if TASKS[name].epochs == 90} == {"mrpc", "rte", "cola"}
    assert {TASKS[name].epochs for name in GLUE} == {18, 90}
    assert TASKS["cola"].primary == "matthews"
    assert TASKS["mrpc"].metrics == TASKS["qqp"].metrics == ("f1", "accuracy")
    assert TASKS["sts-b"].metrics == ("pearson", "spearman")
    assert TASKS["mnli"].labels == ("entailment", "neutral", "contradiction")
    assert TASKS["mnli"].paper_columns == {"matched": "MNLI-m", "mismatched": "MNLI-mm"}


def test_unknown_task_names_the_nearest():
    with pytest.raises(InputError, match="Unknown task 'rtee'. Did you mean 'rte'"):
        get_task("rtee")


def test_a_folder_that_is_not_there():
    with pytest.raises(InputError, match="no folder '/nowhere/at/all'"):
        get_task("rte", "/nowhere/at/all")


def own_folder(folder):
    folder.mkdir()
    for name in ("train", "dev"):
        (folder / f"{name}.csv").write_text("text,label\ngood,yes\nbad,no\n", encoding="utf-8")
    return str(folder)


def test_a_users_own_task(tmp_path):
    folder = own_folder(tmp_path / "My Tickets")
    task = get_task("my-tickets", folder)
    assert (task.source, task.labels, task.metrics) == ("files", ("no", "yes"), ("accuracy", "f1"))
    assert get_task("", folder) == task
    assert tasks_in(folder) == ("my-tickets",)
    with pytest.raises(InputError, match="holds the task 'my-tickets', not 'reviews'"):
        get_task("reviews", folder)


def test_an_own_task_may_not_take_a_built_in_name(tmp_path):
    with pytest.raises(InputError, match="'rte', which is a built-in one"):
        get_task("rte", own_folder(tmp_path / "RTE"))


def test_tasks_in_a_glue_folder(tmp_path):
    for name in ("sts-b", "RTE", "notes"):
        (tmp_path / name).mkdir()
    assert tasks_in(str(tmp_path)) == ("sts-b", "rte")
    assert get_task("mnli", str(tmp_path)) is TASKS["mnli"]
    assert tasks_in("") == tasks_in("hub") == ()


def test_a_folder_that_holds_no_task(tmp_path):
    with pytest.raises(InputError, match="holds no task.*train.tsv.*train.csv"):
        tasks_in(str(tmp_path))
