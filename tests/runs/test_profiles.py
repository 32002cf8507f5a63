"""Profiles, settings, the choice of tasks, and the learning rates among which one is chosen."""

from collections import Counter

import pytest

from lrc_lib import RunSpec, load_profile
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.errors import InputError
from lrc_lib.runs.profiles import BEFORE_STUDENTS, PROFILES
from lrc_lib.runs.spec import KINDS
from lrc_lib.schedule import RECIPES

HEAD = 'title = "x"\ntasks = ["nli"]\nseeds = 2\n'
ROWS = "[select]\nrows = 20\n"
SELECT = "[select]\nrows = 20\nseeds = 2\nlearning_rate = [1e-4, 5e-5, 3e-4]\n"


@pytest.fixture
def own(tmp_path):
    """Loads a profile of the user's own: `own(text, **arguments)`."""

    def load(text, **arguments):
        path = tmp_path / "own.toml"
        path.write_text(text)
        return load_profile(str(path), **arguments)

    return load


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_gives_specs_for_every_notebook(name):
    profile = load_profile(name)
    for notebook in NOTEBOOKS.values():
        for spec in notebook.needs(profile):
            assert isinstance(spec, RunSpec)
            assert spec.task in profile.tasks
            assert spec.recipe in RECIPES or spec.recipe == "teacher"
    needs = NOTEBOOKS["04_two_stage_distillation"].needs(profile)
    assert {spec.recipe for spec in needs} == {"lrc", "lrc_1", "finetune"}


def test_weights_are_kept_for_the_first_seed_and_for_the_recipes_that_are_named(own):
    profile = own(HEAD + 'weights = ["lrc"]\n')
    saved = {(r, s) for r in ("lrc", "kd") for s in (0, 1) if profile.spec("", r, s).save_weights}
    assert saved == {("lrc", 0), ("lrc", 1), ("kd", 0)}
    assert profile.spec("", "teacher", 1).save_weights
    assert own(HEAD).spec("", "kd", 1).save_weights
    kept = own(HEAD + 'weights = ["lrc"]\n', settings="save_weights=true").spec("", "kd", 1)
    assert kept.save_weights and kept.run_id() == profile.spec("", "kd", 1).run_id()


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
        (dict(seeds="9-5"), "such as '5-9', not '9-5'"),
        (dict(data="/no/such/folder", tasks=["rte"]), "no folder '/no/such/folder'"),
    ],
)
def test_wrong_input_is_named(arguments, says):
    with pytest.raises(InputError, match=says):
        load_profile(**({"name": "smoke"} | arguments))


@pytest.mark.parametrize(
    "text, says",
    [
        (HEAD + "recipies = 1", "Did you mean 'recipes'"),
        (HEAD + "recipe = 1", "'recipe' must be a table"),
        ('title = "x"\ntasks = []\nseeds = 1', "'tasks' must be a list of texts"),
        ('title = "x"\ntasks = ["nli"]', "needs 'seeds', a whole number above 0"),
        (HEAD + "control_seeds = true", "'control_seeds' must be a whole number above 0"),
        (HEAD + "own_seeds = 1", "'own_seeds' must be true or false"),
        (HEAD + "data = 1", "'data' must be a text"),
        (HEAD + f"data = '{'x' * 9999}'", "no folder 'xxx"),
        ('title = "x"\ntasks = [{}]\nseeds = 1', "'tasks' must be a list of texts"),
        (HEAD + "[task]\nnli = 1", r"\[task.nli\] in profile .* must be a table"),
        (HEAD + "[run]\nepochs = true", "epochs must be of type int"),
        (HEAD + "[run]\nteacher = 1", "teacher must be of type str"),
        (HEAD + "[recipes]\nnli = [[]]", "Unknown recipe"),
        (HEAD + f"x = {'[' * 9999}", "not valid TOML"),
        (HEAD + f"x = 0x{'f' * 5000}", "not valid TOML"),
        (HEAD + f"x = {'9' * 5000}", "not valid TOML"),
        (HEAD + "[run]\nepoch = 1", "Did you mean 'epochs'"),
        (HEAD + "[task.nlu]\nepochs = 1", "Did you mean 'nli'"),
        (HEAD + "[recipe.lrk]\nepochs = 1", "Did you mean 'lrc'"),
        (HEAD + '[recipes]\nnli = ["lrk"]', "Did you mean 'lrc'"),
        (HEAD + "[recipes]\nnli = []", "must be a list of recipe names"),
        ("title = ", "not valid TOML"),
        (HEAD + "select = [1e-4]", "'select' must be a table"),
        (HEAD + "[select]\nlearning_rates = [1e-4, 3e-4]", "Did you mean 'learning_rate'"),
        (HEAD + ROWS + "learning_rate = 1e-4", "two or more different values"),
        (HEAD + ROWS + "learning_rate = [1e-4]", "two or more different values"),
        (HEAD + ROWS + "learning_rate = [1e-4, 1e-4]", "two or more different values"),
        (HEAD + ROWS + "learning_rate = [1e-4, -1e-4]", "must be positive"),
        (HEAD + ROWS + 'learning_rate = ["x", "y"]', "must be of type float"),
        (HEAD + ROWS + 'representation = ["mean", "flaten"]', "Did you mean 'flatten'"),
        (HEAD + SELECT.replace("seeds = 2", "seeds = 0"), "must be whole numbers above 0"),
        (HEAD + SELECT + "[run]\nlearning_rate = 1e-4", "Leave one of the two out"),
        (HEAD + SELECT + "[recipe.lrc]\nlearning_rate = 1e-4", "Leave one of the two out"),
    ],
)
def test_a_wrong_profile_file_is_named(own, text, says):
    with pytest.raises(InputError, match=says):
        own(text)


def test_settings_override_the_recipe_s_values_then_the_task_s_then_the_run_s(own):
    text = (
        'title = "x"\ntasks = ["nli", "reviews"]\nseeds = 2\n[run]\nepochs = 1\nbatch_size = 4\n'
        "clip = 2.0\n[task.nli]\nepochs = 2\nbatch_size = 6\nlearning_rate = 5e-4\n"
        "[recipe.finetune]\nlearning_rate = 3e-4\n"
    )
    profile = own(text, settings="epochs=3 projection_bias=true")
    nli, reviews = profile.spec("nli"), profile.spec("reviews", "lrc_g", 1)
    assert (nli.epochs, nli.batch_size, nli.clip, nli.projection_bias) == (3, 6, 2.0, True)
    assert (reviews.epochs, reviews.batch_size, reviews.recipe, reviews.seed) == (3, 4, "lrc_g", 1)
    assert profile.seeds == 2 and profile.recipes["nli"] == ("lrc", "lrc_1", "finetune")
    assert nli.learning_rate == 5e-4 and profile.spec("nli", "finetune").learning_rate == 3e-4
    changed = own(text, settings=["learning_rate=1e-4"])
    assert changed.spec("nli", "finetune").learning_rate == 1e-4


@pytest.mark.parametrize("here, wanted", [(True, "bf16"), (False, "fp32")])
def test_precision_auto_is_what_the_device_has(monkeypatch, here, wanted):
    monkeypatch.setattr("lrc_lib.runs.device.has_bf16", lambda device: here)
    assert load_profile("laptop", device="cpu").spec().precision == wanted
    assert load_profile("smoke", "precision=auto").spec("nli", "teacher").precision == wanted
    assert load_profile("laptop", "precision=fp32").spec().precision == "fp32"


def test_teacher_and_general_runs_are_those_that_students_depend_on():
    profile = load_profile("smoke")
    teacher, general = (profile.spec(recipe=recipe) for recipe in ("teacher", "general"))
    assert profile.spec().dependencies() == [teacher, general]
    assert BEFORE_STUDENTS == KINDS


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
    assert load_profile("paper").spec().data == "hub"
    assert load_profile("paper", data=str(tmp_path)).spec().data == str(tmp_path)


def test_the_main_task_is_mnli_where_it_is_there():
    assert load_profile("paper").main == "mnli" and load_profile("paper").tasks[0] == "rte"
    assert load_profile("gpu").main == "rte" and load_profile("laptop").main == "reviews"
    assert load_profile("gpu", tasks="sts-b rte").main == "rte"  # right and wrong need classes
    assert load_profile("gpu", tasks="sts-b").main == "sts-b"
    needs = NOTEBOOKS["07_mse_and_angle"].needs(load_profile("paper"))
    assert {(s.task, s.recipe) for s in needs} == {("mnli", "lrc"), ("mnli", "bert_m")}


def test_every_recipe_has_the_same_candidates_and_nothing_else_differs(own):
    profile = own(HEAD + SELECT, seeds="5-6")
    for recipe in ("lrc", "lrc_1", "finetune", "bert_m"):
        specs = profile.candidates("nli", recipe)
        rates = {1e-4, 5e-5, 3e-4}
        assert {(s.learning_rate, s.seed) for s in specs} == {(r, s) for r in rates for s in (0, 1)}
        assert {s.selection_rows for s in specs} == {20} and len({s.name for s in specs}) == 6
        assert len({s.replace(learning_rate=1e-4, seed=0) for s in specs}) == 1
        assert profile.is_open("nli", recipe)
        reported = profile.spec("nli", recipe)  # the first candidate, while the choice is open
        assert (reported.learning_rate, reported.selection_rows) == (1e-4, 0)
    for recipe in ("teacher", "general"):
        assert not profile.is_open("nli", recipe) and not profile.candidates("nli", recipe)


def test_a_representation_is_chosen_for_the_general_distillation_too(own):
    profile = own(HEAD + ROWS + 'representation = ["flatten", "mean"]')
    assert profile.is_open("nli", "general") and not profile.is_open("nli", "teacher")
    assert [s.representation for s in profile.candidates("nli", "lrc")] == ["flatten", "mean"]
    both = {s.representation for s in profile.candidates("nli", "general")}
    assert both == {"flatten", "mean"}


def test_the_candidates_and_all_seeds_are_what_a_notebook_needs(own):
    profile = own(HEAD + SELECT, seeds="5-6")
    needs = NOTEBOOKS["05_ablations"].needs(profile)
    assert len(needs) == len(set(needs)) == 3 * (3 * 2 + 2)  # recipes, rates, seeds; the reported
    assert {s.seed for s in needs if not s.selection_rows} == {5, 6}
    needs = NOTEBOOKS["02_teacher_and_student"].needs(profile)
    assert [s.recipe for s in needs] == ["teacher"] + ["lrc"] * 7
    assert len(NOTEBOOKS["02_teacher_and_student"].needs(load_profile("smoke"))) == 2


def test_the_controls_are_those_that_the_profile_lists():
    """Notebook 08: as many seeds as the controls have, and the numbers of negatives."""

    def asked(profile):
        needs = NOTEBOOKS["08_is_it_contrastive"].needs(profile)
        assert len(needs) == len(set(needs))
        return Counter((s.recipe, s.negative_count) for s in needs if not s.selection_rows), needs

    study = load_profile("study")
    count, needs = asked(study)
    assert {(r, k): n for (r, k), n in count.items() if k} == {("lrc", k): 20 for k in (1, 3, 7)}
    assert [count[r, 0] for r in ("lrc", "cosine", "centred", "shuffled")] == [20] * 4
    assert count["info_nce", 0] == count["kd", 0] == 10 and len(count) == 9
    assert {s.recipe for s in needs if s.selection_rows} == {recipe for recipe, _ in count}
    assert asked(load_profile("study", seeds="7-8"))[0]["lrc", 1] == 2
    assert asked(load_profile("study", "batch_size=4"))[0].keys() & {("lrc", 3)}
    assert not asked(load_profile("study", "batch_size=4"))[0].keys() & {("lrc", 7)}
    assert asked(load_profile("smoke"))[0] == {(r, 0): 1 for r in ("lrc", "cosine", "centred")}


def test_a_rate_that_the_user_sets_is_not_chosen_among_others(own):
    fixed = own(HEAD + SELECT, settings=["learning_rate=7e-4"])
    assert fixed.spec("nli").learning_rate == 7e-4 and not fixed.candidates("nli", "lrc")
    assert not fixed.is_open("nli", "lrc")
