"""Settings: the rule that picks one, on which rows, and where the choice shows."""

import numpy as np
import pytest

from lrc_lib import load_profile
from lrc_lib.cli import reproduce
from lrc_lib.cli.commands import main
from lrc_lib.course import session as session_module
from lrc_lib.results.systems import Systems
from lrc_lib.runs import pool, selection
from lrc_lib.runs.run import run
from lrc_lib.runs.selection import best, choice, with_choice
from lrc_lib.runs.spec import data_of
from lrc_lib.runs.store import finished

RATES = (1e-4, 2e-3, 1e-2)


def test_the_highest_mean_wins_and_of_equal_ones_the_first():
    assert best({(1e-4,): [0.6, 0.7], (3e-4,): [0.9, 0.1]}) == (1e-4,)  # not the best single run
    assert best({(3, "mean"): [0.5, 0.7], (5, "mean"): [0.6, 0.6], (1, "cls"): [0.2, 0.2]})[0] == 3


@pytest.mark.parametrize("scores", [{}, {(1,): []}, {(1,): [0.5, 0.5], (3,): [0.9]}])
def test_a_choice_needs_a_score_for_each_seed_of_each_candidate(scores):
    with pytest.raises(ValueError, match="a score for each seed"):
        best(scores)


@pytest.fixture(scope="module")
def chosen_profile(tiny_spec, tmp_path_factory):
    """A profile of the tiny task with three rates; the lowest teaches nothing."""
    keys = (
        "teacher teacher_epochs teacher_lr teacher_batch_size student_layers student_hidden "
        "student_intermediate student_heads general_data general_batch_size"
    ).split()
    lines = [
        f'title = "tiny"\ntasks = ["{tiny_spec.task}"]\nseeds = 2\ndata = "{tiny_spec.data}"',
        f"[select]\nlearning_rate = {list(RATES)}\nrows = 40\nseeds = 2",
        '[recipes]\ndefault = ["finetune"]',
        "[run]\nepochs = 6\ndropout = 0.0",
        *(f"{key} = {getattr(tiny_spec, key)!r}" for key in keys),
    ]
    path = tmp_path_factory.mktemp("profile") / "tiny.toml"
    path.write_text("\n".join(lines))
    return str(path)


def start(chosen_profile, out):
    return session_module.start(
        "09_glue_results", profile=chosen_profile, device="cpu", out=str(out)
    )


def test_what_was_chosen_on_held_out_rows_is_trained_on_all_rows(chosen_profile, out):
    session = start(chosen_profile, out)
    task = session.task
    assert Systems(session.profile, out).runs("finetune", task) == {}  # open: nothing is shown
    result = session.run("finetune", seed=1)
    made = choice(session.profile, task, "finetune", out)
    means = {values[0]: np.mean(scores) for values, scores in made.scores.items()}
    chosen = max(means, key=means.get)
    assert tuple(means) == RATES and made.values == {"learning_rate": chosen}
    assert chosen != RATES[0] and {len(runs) for runs in made.runs.values()} == {2}
    spec = result.spec
    assert (spec.learning_rate, spec.seed, spec.selection_rows) == (chosen, 1, 0)
    assert result.metrics["rows"] == 160 and list(result.metrics["splits"]) == ["dev"]
    for run_ in made.runs[chosen,]:  # judged on training rows that it did not see
        data = data_of(run_.spec)
        assert run_.metrics["splits"]["selection"]["n"] == 40 and run_.metrics["rows"] == 120
        assert not {*data.train} & {*data.dev["selection"]}
        assert {*data.train, *data.dev["selection"]} == {*data_of(spec).train}
    assert session.spec("finetune").learning_rate == chosen
    assert not session.profile.is_open(task, "finetune") and session.profile.is_open(task, "lrc")
    systems = Systems(load_profile(chosen_profile), out)
    assert {s: r.spec for s, r in systems.runs("finetune", task).items()} == {1: spec}


def test_tables_say_on_which_rows_the_choice_was_made(chosen_profile, out):
    start(chosen_profile, out).run("finetune")
    note = Systems(load_profile(chosen_profile), out).dev_note()
    assert "learning rate, on 40 training rows that were held out, not on these dev rows" in note
    assert Systems(load_profile("smoke"), out).dev_note() == ""
    assert "on held-out training rows" in Systems(load_profile("laptop"), out).dev_note()
    kept = Systems(load_profile("smoke", settings="keep=best"), out)
    assert "kept its best epoch of stage 2 on this dev set" in kept.dev_note()


def test_nothing_is_chosen_before_the_last_candidate_is_there(chosen_profile, out, tmp_path):
    profile = load_profile(chosen_profile)
    task = profile.tasks[0]
    specs = profile.candidates(task, "finetune")
    folders = [run(spec, out, "cpu").path for spec in specs]
    (tmp_path / "runs").mkdir()
    for folder in folders[:-1]:
        (tmp_path / "runs" / folder.name).symlink_to(folder)
    assert choice(profile, task, "finetune", tmp_path) is None
    assert with_choice(profile, task, "finetune", tmp_path) is profile
    (tmp_path / "runs" / folders[-1].name).symlink_to(folders[-1])
    chosen = with_choice(profile, task, "finetune", tmp_path).chosen
    assert [*chosen] == [(task, "finetune")] and len(finished(tmp_path)) == 6


def test_reproduce_trains_the_candidates_then_what_was_chosen(
    chosen_profile, tmp_path, capsys, monkeypatch
):
    def train_all(specs, out, device, *_):
        calls.append(list(specs.values()))
        done = {key: run(spec, out, device).metrics for key, spec in specs.items()}
        return {key: pool.Outcome(specs[key], "trained", metrics=done[key]) for key in specs}

    calls, out = [], str(tmp_path / "out")
    monkeypatch.setattr(pool, "train_all", train_all)
    monkeypatch.setattr(
        reproduce, "execute_all", lambda orders, *_: orders_seen.extend(orders) or {}
    )
    options = ["--profile", chosen_profile, "--out", out, "--seeds", "1", "--first-seed", "3"]
    assert main(["plan", *options, "--specs", str(tmp_path / "specs")]) == 0
    assert "Train them, then plan again" in capsys.readouterr().out
    for fresh in ([], ["--fresh"], []):
        orders_seen: list = []
        assert main(["reproduce", *options, "--only", "09", "--device", "cpu", *fresh]) == 0
        assert orders_seen[0].parameters["SEEDS"] == "3-3"
    sizes = [len(call) for call in calls]
    assert sizes == [6, 1, 6, 1, 1]  # the third time everything is known
    (reported,) = calls[1]
    assert reported.seed == 3 and not reported.selection_rows and reported == calls[-1][0]
    assert {spec.selection_rows for spec in calls[0]} == {40} and len(finished(out)) == 7


def test_augmented_rows_are_taught_at_the_rate_of_the_student_they_are_for(monkeypatch):
    profile = load_profile("paper")
    specs = profile.candidates("rte", "augmented")
    assert [s.learning_rate for s in specs] == [1e-4, 5e-5, 3e-4]
    assert specs == [s.augmented_spec() for s in profile.candidates("rte", "lrc")]
    assert len({s.name for s in specs}) == 3
    made = selection.Choice("rte", "lrc", (), {})
    monkeypatch.setattr(selection.Choice, "values", {"learning_rate": 3e-4})
    monkeypatch.setattr(selection, "choice", lambda profile, task, recipe, *_: made)
    done = with_choice(profile, "rte", "augmented", "")
    assert done.chosen == {("rte", "lrc"): {"learning_rate": 3e-4}}
    assert not done.is_open("rte", "augmented")
    assert done.spec("rte", "augmented") == done.spec("rte", "lrc").augmented_spec()
