"""Learning rates: the rule that picks one, and where the choice shows."""

import numpy as np
import pytest

from lrc_lib import load_profile
from lrc_lib.course import session as session_module
from lrc_lib.results.systems import Systems
from lrc_lib.runs import selection
from lrc_lib.runs.run import run
from lrc_lib.runs.selection import best_rate, choice, with_chosen_rate
from lrc_lib.runs.store import finished

RATES = (1e-4, 2e-3, 1e-2)


def test_the_highest_mean_wins_and_of_equal_ones_the_lowest_rate():
    assert best_rate({1e-4: [0.6, 0.7], 3e-4: [0.9, 0.1]}) == 1e-4  # not the best single run
    assert best_rate({3e-4: [0.5, 0.7], 5e-5: [0.6, 0.6], 1e-4: [0.1, 0.2]}) == 5e-5
    assert best_rate({1e-4: [0.2]}) == 1e-4


@pytest.mark.parametrize("scores", [{}, {1e-4: []}, {1e-4: [0.5, 0.5], 3e-4: [0.9]}])
def test_a_choice_needs_a_score_for_each_seed_of_each_rate(scores):
    with pytest.raises(ValueError, match="a score for each seed"):
        best_rate(scores)


@pytest.fixture(scope="module")
def chosen_profile(tiny_spec, tmp_path_factory):
    """A profile of the tiny task with three rates; the lowest teaches nothing."""
    keys = (
        "teacher teacher_epochs teacher_lr teacher_batch_size student_layers student_hidden "
        "student_intermediate student_heads general_data general_batch_size"
    ).split()
    lines = [
        f'title = "tiny"\ntasks = ["{tiny_spec.task}"]\nseeds = 2\ndata = "{tiny_spec.data}"',
        f"[select]\nlearning_rate = {list(RATES)}",
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


def test_the_chosen_rate_is_what_sessions_tables_and_profiles_show(chosen_profile, out):
    session = start(chosen_profile, out)
    task = session.task
    systems = Systems(session.profile, out)
    assert systems.runs("finetune", task) == {}  # still open: nothing is shown
    result = session.run("finetune", seed=1)
    made = choice(session.profile, task, "finetune", out)
    means = {rate: np.mean(scores) for rate, scores in made.scores.items()}
    assert set(means) == set(RATES) and made.rate == max(RATES, key=means.get) != RATES[0]
    assert {len(runs) for runs in made.runs.values()} == {2}
    assert result.spec.learning_rate == made.rate and result.spec.seed == 1
    assert session.spec("finetune").learning_rate == made.rate
    assert not session.profile.rate_is_open(task, "finetune")
    assert session.profile.rate_is_open(task, "lrc")
    systems = Systems(load_profile(chosen_profile), out)
    runs = systems.runs("finetune", task)
    assert {s: r.spec.learning_rate for s, r in runs.items()} == dict.fromkeys((0, 1), made.rate)
    column = systems.columns[0]
    assert systems.score("finetune", column).value == pytest.approx(100 * means[made.rate])


def test_tables_say_that_the_choice_was_made_on_the_same_rows(chosen_profile, out):
    start(chosen_profile, out).run("finetune")
    systems = Systems(load_profile(chosen_profile), out)
    (made,) = systems.choices()
    points = systems.inflation(made)
    assert points >= 0
    note = systems.dev_note()
    assert "chosen on this dev set: optimistic" in note and f"{points:.1f} points" in note
    assert "best of 3" in note
    assert Systems(load_profile("smoke"), out).dev_note() == ""
    kept = Systems(load_profile("smoke", settings="keep=best"), out)
    assert "kept its best epoch of stage 2 on this dev set" in kept.dev_note()


def test_nothing_is_chosen_before_the_last_candidate_is_there(chosen_profile, tmp_path):
    profile = load_profile(chosen_profile)
    task = profile.tasks[0]
    specs = [s for seed in (0, 1) for s in profile.candidates(task, "finetune", seed)]
    for spec in specs[:-1]:
        run(spec, tmp_path, "cpu")
    assert choice(profile, task, "finetune", tmp_path) is None
    systems = Systems(profile, tmp_path)
    assert systems.runs("finetune", task) == {}  # though the middle rate is there, with both seeds
    assert with_chosen_rate(profile, task, "finetune", tmp_path) is profile
    run(specs[-1], tmp_path, "cpu")
    chosen = with_chosen_rate(profile, task, "finetune", tmp_path).chosen
    assert [*chosen] == [(task, "finetune")]
    assert len(finished(tmp_path)) == 6


def test_augmented_rows_are_taught_at_the_rate_of_the_student_they_are_for(monkeypatch):
    profile = load_profile("paper")
    specs = profile.candidates("rte", "augmented")
    assert sorted(s.learning_rate for s in specs) == [5e-5, 1e-4, 3e-4]
    assert specs == [s.augmented_spec() for s in profile.candidates("rte", "lrc")]
    assert len({s.name for s in specs}) == 3
    made = selection.Choice("rte", "lrc", {})
    monkeypatch.setattr(selection.Choice, "rate", 3e-4)
    monkeypatch.setattr(selection, "choice", lambda profile, task, recipe, *_: made)
    done = with_chosen_rate(profile, "rte", "augmented", "")
    assert done.chosen == {("rte", "lrc"): 3e-4} and not done.rate_is_open("rte", "augmented")
    assert done.spec("rte", "augmented") == done.spec("rte", "lrc").augmented_spec()
