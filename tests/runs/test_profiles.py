"""Profiles, settings, and the choice of tasks."""

import pytest

from lrc_lib import RunSpec, load_profile
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.errors import InputError
from lrc_lib.runs.profiles import PROFILES
from lrc_lib.schedule import RECIPES


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_gives_specs_for_every_notebook(name):
    profile = load_profile(name)
    for notebook in NOTEBOOKS.values():
        for spec in notebook.needs(profile):
            assert isinstance(spec, RunSpec)
            assert spec.task in profile.tasks
            assert spec.recipe in RECIPES or spec.recipe == "teacher"
    assert {s.recipe for s in NOTEBOOKS["04_two_stage_distillation"].needs(profile)} == {
        "lrc", "lrc_1", "finetune",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(name="latop"), "Did you mean 'laptop'"),
        (dict(settings=["epoch=3"]), "Did you mean 'epochs'"),
        (dict(settings=["epochs=three"]), "epochs must be of type int"),
        (dict(settings=["epochs"]), "KEY=VALUE"),
        (dict(settings="learning_rate=-1"), "learning_rate must be positive"),
        (dict(settings=["task=rte"]), "use --task"),
        (dict(settings=["recipe=lrc_g"]), "recipe"),
        (dict(tasks=["reviws"]), "Did you mean 'reviews'"),
        (dict(seeds=-1), "seeds"),
        (dict(data="/no/such/folder", tasks=["rte"]), "no folder '/no/such/folder'"),
    ],
)
def test_wrong_input_is_named(arguments, says):
    with pytest.raises(InputError, match=says):
        load_profile(**({"name": "smoke"} | arguments))


@pytest.mark.parametrize(
    "text, says",
    [
        ('title = "x"\ntasks = ["nli"]\nseeds = 1\nrecipies = 1', "Did you mean 'recipes'"),
        ('title = "x"\ntasks = ["nli"]\nseeds = 1\nrecipe = 1', "'recipe' must be a table"),
        ('title = "x"\ntasks = []\nseeds = 1', "needs 'tasks'"),
        ('title = "x"\ntasks = ["nli"]\nseeds = 1\n[run]\nepoch = 1', "Did you mean 'epochs'"),
        ('title = "x"\ntasks = ["nli"]\nseeds = 1\n[task.nlu]\nepochs = 1', "Did you mean 'nli'"),
        ('title = "x"\ntasks = ["nli"]\nseeds = 1\n[recipes]\nnli = ["lrk"]', "Did you mean 'lrc'"),
        ("title = ", "not valid TOML"),
    ],
)
def test_a_wrong_profile_file_is_named(tmp_path, text, says):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        load_profile(str(path))


def test_settings_go_before_the_task_s_values_and_those_before_the_run_s(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        'title = "x"\ntasks = ["nli", "reviews"]\nseeds = 2\n[run]\nepochs = 1\nbatch_size = 4\n'
        "clip = 2.0\n[task.nli]\nepochs = 2\nbatch_size = 6\n"
    )
    profile = load_profile(str(path), settings="epochs=3 projection_bias=true")
    nli, reviews = profile.spec("nli"), profile.spec("reviews", "lrc_g", 1)
    assert (nli.epochs, nli.batch_size, nli.clip, nli.projection_bias) == (3, 6, 2.0, True)
    assert (reviews.epochs, reviews.batch_size, reviews.recipe, reviews.seed) == (3, 4, "lrc_g", 1)
    assert profile.seeds == 2 and profile.recipes["nli"] == ("lrc", "lrc_1", "finetune")


def test_teacher_and_general_runs_are_those_that_students_depend_on():
    profile = load_profile("smoke")
    assert profile.spec().dependencies() == [
        profile.spec(recipe="teacher"), profile.spec(recipe="general"),
    ]  # fmt: skip


def test_an_own_folder_brings_its_task(tiny_data):
    profile = load_profile("laptop", data=tiny_data)
    assert profile.tasks == (tiny_data.rsplit("/", 1)[1],)
    assert profile.spec().data == tiny_data
    assert profile.recipes[profile.tasks[0]]


def test_a_glue_folder_brings_its_tasks_and_none_is_used_by_what_is_built_in(tmp_path):
    for name in ("RTE", "CoLA"):
        (tmp_path / name).mkdir()
    assert set(load_profile("laptop", data=str(tmp_path)).tasks) == {"rte", "cola"}
    assert load_profile("gpu", data=str(tmp_path)).tasks == ("rte", "cola")
    mixed = load_profile("laptop", data=str(tmp_path), tasks="rte, reviews")
    assert mixed.spec("rte").data and not mixed.spec("reviews").data
    with pytest.raises(InputError, match="brings itself"):
        load_profile("laptop", data=str(tmp_path), tasks="reviews")


def test_a_hub_profile_reads_a_folder_instead(tmp_path):
    (tmp_path / "RTE").mkdir()
    assert load_profile("paper").spec().data == "hub"
    assert load_profile("paper", data=str(tmp_path)).spec().data == str(tmp_path)


def test_a_recipe_may_have_values_of_its_own_and_settings_win(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        'title = "x"\ntasks = ["nli"]\nseeds = 1\n[run]\nlearning_rate = 5e-4\n'
        "[recipe.finetune]\nlearning_rate = 3e-4\n"
    )
    profile = load_profile(str(path))
    assert profile.spec("nli", "finetune").learning_rate == 3e-4
    assert profile.spec("nli", "lrc").learning_rate == 5e-4
    own = load_profile(str(path), settings=["learning_rate=1e-4"])
    assert own.spec("nli", "finetune").learning_rate == 1e-4
