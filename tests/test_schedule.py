"""Stages, learning rates and recipes, as numbers at named steps."""

from fractions import Fraction

import pytest

from lrc_lib.errors import InputError
from lrc_lib.losses import LAYER_LOSSES
from lrc_lib.schedule import RECIPES, boundary_step, get_recipe, learning_rate_factor, loss_weights

LAYERS, ALL = (1, 0, 0), (1, 1, 3)
STAGES = {  # the paper's text, by hand: alpha, beta, gamma before and after the boundary
    "lrc": (LAYERS, ALL),
    "lrc_1": (LAYERS, ALL),
    "lrc_c": ((0, 1, 3), (0, 1, 3)),
    "lrc_c_last20": ((0, 0, 0), (0, 1, 3)),
    "lrc_s": (LAYERS, (1, 0, 3)),
    "lrc_h": (LAYERS, (1, 1, 0)),
    "lrc_2": (ALL, ALL),
    "lrc_g": (LAYERS, ALL),
    "bert_m": (LAYERS, ALL),
    "finetune": ((0, 0, 1), (0, 0, 1)),
    "distilbert": ((1, 5, 2), (1, 5, 2)),
    "bert_pkd": ((1, 0.5, 0.5), (1, 0.5, 0.5)),
    "bert_pkd_last": ((1, 0.5, 0.5), (1, 0.5, 0.5)),
    "tinybert": (LAYERS, (0, 1, 0)),
    "kd": ((0, 1, 3), (0, 1, 3)),
    **dict.fromkeys(("cosine", "centred", "shuffled", "info_nce"), (LAYERS, ALL)),
}
RIVALS = {"distilbert", "bert_pkd", "bert_pkd_last", "tinybert"}


@pytest.mark.parametrize("name", RECIPES)
def test_weights_of_both_stages(name):
    weights = [loss_weights(step, 100, get_recipe(name)) for step in range(100)]
    first, second = STAGES[name]
    assert weights == [first] * 80 + [second] * 20


def test_what_each_recipe_switches_off():
    assert set(STAGES) == set(RECIPES)
    off = {"finetune", "kd"}
    assert {r for r in RECIPES if not RECIPES[r].perturb} == {"lrc_g"} | RIVALS | off
    assert {r for r in RECIPES if not RECIPES[r].general} == {"lrc_1"} | RIVALS - {"tinybert"} | off
    assert {r for r in RECIPES if RECIPES[r].layer_loss == "mse"} == {"bert_m"}
    assert {r for r in RECIPES if not RECIPES[r].uses_teacher} == {"finetune"}
    for name, recipe in RECIPES.items():
        assert name == recipe.name and recipe.title and recipe.summary
        assert recipe.layer_loss in LAYER_LOSSES


def test_recipes_that_share_stage_1_differ_in_stage_2_only():
    first = {name: get_recipe(name).first_stage for name in RECIPES}
    assert first["lrc"] == first["lrc_s"] == first["lrc_h"]
    assert len({first[name] for name in ("lrc", "lrc_1", "lrc_g", "cosine", "bert_m")}) == 5


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match="Unknown recipe 'lrk'.*Did you mean 'lrc.*Known: lrc,"):
        get_recipe("lrk")


def test_the_boundary_is_at_80_percent():
    assert boundary_step(13950, 0.8) == 11160  # RTE, 90 epochs of 155 steps
    assert [boundary_step(n, 0.8) for n in (1, 2, 5, 7, 10)] == [0, 1, 4, 5, 8]
    assert boundary_step(50, 0.0) == 0


def test_the_paper_s_search_grid_has_exact_boundaries():
    """0 %, 5 %, ..., 95 %: binary fractions must not cost a step."""
    for percent in range(0, 100, 5):
        for total in range(1, 500):
            exact = Fraction(percent, 100) * total
            assert boundary_step(total, percent / 100) == exact.__floor__()
    assert boundary_step(100, 0.29) == 29 and boundary_step(100, 0.57) == 57


@pytest.mark.parametrize("boundary", [1.0, 1.5, -0.1, float("nan")])
def test_a_boundary_outside_0_to_1_is_refused(boundary):
    with pytest.raises(InputError, match="stage_boundary"):
        boundary_step(100, boundary)


def test_linear_rises_falls_and_starts_stage_2_at_22_percent():
    factor = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factor[0] == pytest.approx(0.01) and factor[99] == factor[100] == 1.0
    assert factor[550] == pytest.approx(0.5)
    assert factor[boundary_step(1000, 0.8)] == pytest.approx(200 / 900)
    assert factor[999] == pytest.approx(1 / 900)
    assert all(0 < x <= 1 for x in factor)
    assert all(a < b for a, b in zip(factor[:99], factor[1:100], strict=True))
    assert all(a > b for a, b in zip(factor[100:-1], factor[101:], strict=True))


def test_restart_gives_each_stage_its_own_rise_and_fall():
    factor = [learning_rate_factor(step, 1000, kind="restart") for step in range(1000)]
    assert factor[79] == factor[80] == 1.0 and factor[799] == pytest.approx(1 / 720)
    assert factor[800] == pytest.approx(1 / 20) and factor[819] == factor[820] == 1.0
    assert factor[999] == pytest.approx(1 / 180)
    one_stage = [learning_rate_factor(s, 50, kind="restart", boundary=0) for s in range(50)]
    assert one_stage == [learning_rate_factor(s, 50) for s in range(50)]


def test_constant_stays_at_the_peak_after_the_warm_up():
    factor = [learning_rate_factor(step, 100, kind="constant") for step in range(100)]
    assert factor[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert factor[10:] == [1.0] * 90


@pytest.mark.parametrize("kind", ["linear", "restart", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
def test_short_runs_stay_inside_0_to_1(kind, warmup):
    for total in range(1, 30):
        for step in range(total):
            assert 0 < learning_rate_factor(step, total, warmup, kind) <= 1


def test_no_warm_up_starts_at_the_peak():
    assert learning_rate_factor(0, 100, warmup=0) == 1.0


def test_errors_of_the_learning_rate():
    with pytest.raises(InputError, match="Did you mean 'linear'"):
        learning_rate_factor(0, 10, kind="liner")
    for warmup in (1.0, -0.5):
        with pytest.raises(InputError, match="warmup must be in"):
            learning_rate_factor(0, 10, warmup)
