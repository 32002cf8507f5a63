"""Learning rates: the candidates of a profile, the rule that picks one, and what it is worth."""

import numpy as np
import pytest

from lrc_lib import load_profile
from lrc_lib.course import notebook
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.errors import InputError
from lrc_lib.results import compare
from lrc_lib.runs import selection
from lrc_lib.runs.run import run
from lrc_lib.runs.selection import best_rate, choice, inflation, settled
from lrc_lib.runs.store import finished

HEAD = 'title = "x"\ntasks = ["nli"]\nseeds = 2\n'
RATES = (1e-4, 2e-3, 1e-2)


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def own(tmp_path):
    select = "[select]\nlearning_rate = [3e-4, 5e-5, 1e-4]"
    return load_profile(write(tmp_path / "own.toml", HEAD, select))


def test_the_highest_mean_wins_and_of_equal_ones_the_lowest_rate():
    assert best_rate({1e-4: [0.6, 0.7], 3e-4: [0.9, 0.1]}) == 1e-4  # not the best single run
    assert best_rate({3e-4: [0.5, 0.7], 5e-5: [0.6, 0.6], 1e-4: [0.1, 0.2]}) == 5e-5
    assert best_rate({1e-4: [0.2]}) == 1e-4


@pytest.mark.parametrize("scores", [{}, {1e-4: []}, {1e-4: [0.5, 0.5], 3e-4: [0.9]}])
def test_a_choice_needs_a_score_for_each_seed_of_each_rate(scores):
    with pytest.raises(ValueError, match="a score for each seed"):
        best_rate(scores)


def test_every_recipe_has_the_same_candidates_and_nothing_else_differs(own):
    for recipe in ("lrc", "lrc_1", "finetune", "bert_m"):
        specs = own.candidates("nli", recipe, 1)
        assert sorted(s.learning_rate for s in specs) == [5e-5, 1e-4, 3e-4]
        assert len({s.replace(learning_rate=1e-4) for s in specs}) == 1
        assert own.is_open("nli", recipe)
        assert len({s.name for s in specs}) == 3  # side by side on one screen
    for recipe in ("teacher", "general"):
        assert own.candidates("nli", recipe) == [own.spec("nli", recipe)]
        assert not own.is_open("nli", recipe)


def test_while_the_choice_is_open_the_middle_rate_stands_for_it(own):
    assert own.spec("nli", "lrc").learning_rate == 1e-4


def test_the_candidates_of_all_seeds_are_what_a_notebook_needs(own):
    needs = NOTEBOOKS["04_two_stage_distillation"].needs(own)
    assert len(needs) == len(set(needs)) == 3 * 2 * 3  # recipes, seeds, rates
    needs = NOTEBOOKS["02_teacher_and_student"].needs(own)
    assert [s.recipe for s in needs] == ["teacher"] + ["lrc"] * 6
    one = load_profile("smoke")
    assert len(NOTEBOOKS["02_teacher_and_student"].needs(one)) == 2


def test_a_rate_that_the_user_sets_is_not_chosen_among_others(own, tmp_path):
    path = str(tmp_path / "own.toml")
    fixed = load_profile(path, settings=["learning_rate=7e-4"])
    assert [s.learning_rate for s in fixed.candidates("nli", "lrc")] == [7e-4]
    assert not fixed.is_open("nli", "lrc")


@pytest.mark.parametrize(
    "lines, says",
    [
        (["[select]", "learning_rates = [1e-4, 3e-4]"], "Did you mean 'learning_rate'"),
        (["[select]", "learning_rate = 1e-4"], "list of positive numbers"),
        (["[select]", "learning_rate = [1e-4, -1e-4]"], "list of positive numbers"),
        (["[select]", 'learning_rate = ["1e-4", "3e-4"]'], "list of positive numbers"),
        (["[select]", "learning_rate = [true, 1e-4]"], "list of positive numbers"),
        (["[select]", "learning_rate = [1e-4]"], "two different rates"),
        (["[select]", "learning_rate = [1e-4, 1e-4]"], "two different rates"),
        (["[select]", "learning_rate = [1e-4, 2e-4]", "[run]", "learning_rate = 1e-4"], "beside"),
        (
            ["[select]", "learning_rate = [1e-4, 2e-4]", "[recipe.lrc]", "learning_rate = 1e-4"],
            "beside",
        ),
    ],
)
def test_a_wrong_select_is_named(tmp_path, lines, says):
    with pytest.raises(InputError, match=says):
        load_profile(write(tmp_path / "own.toml", HEAD, *lines))


def test_select_must_be_a_table(tmp_path):
    with pytest.raises(InputError, match="'select' must be a table"):
        load_profile(write(tmp_path / "own.toml", HEAD, "select = [1e-4]"))


@pytest.fixture(scope="module")
def chosen_profile(tiny_spec, tmp_path_factory):
    """A profile of the tiny task with three rates; the lowest teaches nothing."""
    keys = (
        "teacher teacher_epochs teacher_lr teacher_batch_size student_layers student_hidden "
        "student_intermediate student_heads epochs general_data general_batch_size"
    ).split()
    values = [f"{key} = {getattr(tiny_spec, key)!r}".replace("'", '"') for key in keys]
    return write(
        tmp_path_factory.mktemp("profile") / "tiny.toml",
        f'title = "tiny"\ntasks = ["{tiny_spec.task}"]\nseeds = 2\ndata = "{tiny_spec.data}"',
        f"[select]\nlearning_rate = {list(RATES)}",
        "[run]\nepochs = 6\ndropout = 0.0",
        *(value for value in values if not value.startswith("epochs")),
        '[recipes]\ndefault = ["finetune"]',
    )


def start(chosen_profile, out):
    return notebook.start("09_glue_results", profile=chosen_profile, device="cpu", out=str(out))


def test_the_chosen_rate_is_what_sessions_tables_and_profiles_show(chosen_profile, out, capsys):
    session = start(chosen_profile, out)
    task = session.task
    systems = compare.Systems(session)
    assert systems.runs("finetune", task) == {}  # still open: nothing is shown
    result = session.run("finetune", seed=1)
    made = choice(session.profile, task, "finetune", session.out)
    means = {rate: np.mean(scores) for rate, scores in made.scores.items()}
    assert set(means) == set(RATES) and made.rate == max(RATES, key=means.get) != RATES[0]
    assert {len(runs) for runs in made.runs.values()} == {2}
    assert result.spec.learning_rate == made.rate and result.spec.seed == 1
    assert session.spec("finetune").learning_rate == made.rate
    assert not session.profile.is_open(task, "finetune") and session.profile.is_open(task, "lrc")
    again = start(chosen_profile, out)
    systems = compare.Systems(again)
    runs = systems.runs("finetune", task)
    assert {seed: r.spec.learning_rate for seed, r in runs.items()} == dict.fromkeys(
        (0, 1), made.rate
    )
    column = systems.columns[0]
    assert systems.score("finetune", column).value == pytest.approx(100 * means[made.rate])


def test_tables_say_that_the_choice_was_made_on_the_same_rows(chosen_profile, out):
    session = start(chosen_profile, out)
    session.run("finetune")
    systems = compare.Systems(session)
    (made,) = systems.choices()
    points = systems.inflation(made)
    assert points >= 0
    note = systems.dev_note()
    assert "chosen on this dev set: optimistic" in note and f"{points:.1f} points" in note
    assert "best of 3" in note
    plain = notebook.start("09_glue_results", profile="smoke", device="cpu", out=str(out))
    assert compare.Systems(plain).dev_note() == ""


def test_nothing_is_chosen_before_the_last_candidate_is_there(chosen_profile, tmp_path):
    profile = load_profile(chosen_profile)
    task = profile.tasks[0]
    specs = [s for seed in (0, 1) for s in profile.candidates(task, "finetune", seed)]
    for spec in specs[:-1]:
        run(spec, tmp_path, "cpu")
    assert choice(profile, task, "finetune", tmp_path) is None
    systems = compare.Systems(start(chosen_profile, tmp_path))
    assert systems.runs("finetune", task) == {}  # though the middle rate is there, with both seeds
    assert settled(profile, task, "finetune", tmp_path) is profile
    run(specs[-1], tmp_path, "cpu")
    assert ("finetune" in {recipe for _, recipe in
                           settled(profile, task, "finetune", tmp_path).chosen})  # fmt: skip
    assert len(finished(tmp_path)) == 6


def test_augmented_rows_are_taught_at_the_rate_of_the_student_they_are_for(own, monkeypatch):
    profile = load_profile("paper")
    specs = profile.candidates("rte", "augmented")
    assert sorted(s.learning_rate for s in specs) == [5e-5, 1e-4, 3e-4]
    assert specs == [s.augmented_spec() for s in profile.candidates("rte", "lrc")]
    assert len({s.name for s in specs}) == 3
    made = selection.Choice("rte", "lrc", {})
    monkeypatch.setattr(selection.Choice, "rate", 3e-4)
    monkeypatch.setattr(selection, "choice", lambda profile, task, recipe, *_: made)
    done = settled(profile, "rte", "augmented", "")
    assert done.chosen == {("rte", "lrc"): 3e-4} and not done.is_open("rte", "augmented")
    assert done.spec("rte", "augmented") == done.spec("rte", "lrc").augmented_spec()


def test_inflation_of_independent_candidates_is_the_expected_maximum():
    rng = np.random.default_rng(0)
    three = [5 + 2 * rng.normal(size=40_000) for _ in range(3)]
    assert inflation(three) == pytest.approx(2 * 0.846, abs=0.03)  # of 3 standard normal numbers
    assert inflation([three[0]] * 3) == pytest.approx(0)  # the same answers: nothing to gain
    assert inflation([three[0], three[0] + 7]) == pytest.approx(0)  # a true lead is not luck


def test_glue_runs_are_found_in_a_store_without_their_data(tmp_path, tiny_spec, monkeypatch):
    """One call of reproduce.py with --task after the other fills Table 1, column by column."""
    from types import SimpleNamespace

    def stored(name, spec, source):
        folder = tmp_path / name
        folder.mkdir()
        return SimpleNamespace(spec=spec, path=folder, metrics={"source": source})

    rte = tiny_spec.replace(task="rte", data="/a/folder/that/is/gone")
    first = stored("old", rte.replace(seed=1), "another split")
    import os

    os.utime(first.path, (0, 0))
    found = compare.Stored([first, stored("new", rte, "GLUE's")])
    assert found.find(rte.replace(data="hub", cache_gb=3.0)).spec == rte
    assert found.find(rte.replace(epochs=7)) is None
    assert found.find(rte.replace(general_data="other.txt")) is None
    assert found.find(rte.replace(seed=1)) is None  # of other rows: not to be mixed
    assert compare.Stored([stored("x", tiny_spec, "")]).find(tiny_spec) is None  # not GLUE's


def test_the_main_task_is_mnli_where_it_is_there():
    assert load_profile("paper").main == "mnli" and load_profile("paper").tasks[0] == "rte"
    assert load_profile("gpu").main == "rte" and load_profile("laptop").main == "reviews"
    assert load_profile("gpu", tasks="sts-b rte").main == "rte"  # right and wrong need classes
    assert load_profile("gpu", tasks="sts-b").main == "sts-b"
    needs = NOTEBOOKS["07_mse_and_angle"].needs(load_profile("paper"))
    assert {(s.task, s.recipe) for s in needs} == {("mnli", "lrc"), ("mnli", "bert_m")}
