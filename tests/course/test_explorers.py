"""Explorers: what they compute, what they draw, how fast a move is, and what they refuse."""

import io
import math
import statistics
import time
import warnings
import xml.etree.ElementTree as ElementTree

import ipywidgets
import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from lrc_lib.course import explorers as widgets
from lrc_lib.course import palette
from lrc_lib.course.explorers import cases, negatives, stages
from lrc_lib.course.explorers.cos_nce import cos_nce_view
from lrc_lib.course.explorers.perturbation import EPSILONS, perturbation_view
from lrc_lib.course.explorers.picture import Mark, Panel, View
from lrc_lib.course.explorers.svg import to_svg
from lrc_lib.course.explorers.vectors import at, cap, degrees, fan, losses, scene
from lrc_lib.errors import InputError
from lrc_lib.losses import cos_nce
from lrc_lib.models import build_student, embeddings_replaced

HOSTILE = '<script>alert("x")</script> & \x00 "quoted"'
SECONDS_A_MOVE = 0.05


def tiny_walks():
    torch.manual_seed(0)
    model = build_student(2, 24, 32, 2, vocab_size=30, num_labels=2).eval()
    ids = torch.randint(1, 30, (3, 5))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])

    def loss_of(embeddings):
        with embeddings_replaced(model, embeddings):
            logits = model(input_ids=ids, attention_mask=mask).logits
        return 40 * logits.square().sum()

    words = [[HOSTILE, "b", "c", "d", "e"], ["f", "g", "h"], ["i", "j"]]
    return widgets.perturbation_walks(model.bert.embeddings(ids), loss_of, mask, words)


def dev_rows(n=30):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(n)], "label": "good"})
    rows["lrc"], rows["bert_m"] = "good", "bad"
    rows["MSE"], rows["angle"] = rng.random(n), rng.random(n)
    rows.loc[0, "text"] = HOSTILE
    rows.loc[3, "angle"] = np.nan
    return rows, {"lrc": rng.random(n) < 0.3, "bert_m": rng.random(n) < 0.5}


@pytest.fixture(scope="module")
def walks():
    return tiny_walks()


@pytest.fixture
def explorers(walks, monkeypatch):
    monkeypatch.delenv("LRC_HEADLESS", raising=False)
    return {
        "cos_nce": (widgets.explore_cos_nce, widgets.draw_cos_nce),
        "negatives": (widgets.explore_negatives, widgets.draw_negatives),
        "stages": (lambda: widgets.explore_stages(345), lambda: widgets.draw_stages(345)),
        "perturbation": (
            lambda: widgets.explore_perturbation(walks),
            lambda: widgets.draw_perturbation(walks),
        ),
        "cases": (
            lambda: widgets.explore_cases(*dev_rows()),
            lambda: widgets.draw_cases(*dev_rows()),
        ),
    }


NAMES = ("cos_nce", "negatives", "stages", "perturbation", "cases")
each = pytest.mark.parametrize("name", NAMES)


def other_values(control):
    """Some values of a control, its present one last."""
    if hasattr(control, "options"):
        values = [o[1] if isinstance(o, tuple) else o for o in control.options]
    else:
        values = [control.min, control.max, (control.min + control.max) // 2]
    return [v for v in values if v != control.value] + [control.value]


@each
def test_headless_there_is_no_widget_at_all_and_one_line(name, explorers, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise AssertionError("a widget was built")

    monkeypatch.setattr(ipywidgets.Widget, "__init__", refuse)
    monkeypatch.setenv("LRC_HEADLESS", "1")
    assert explorers[name][0]() is None
    said = capsys.readouterr().out
    assert said.startswith("No sliders when headless: the static figure above shows ")
    assert said.count("\n") == 1


@each
def test_every_control_has_a_name_and_changes_the_picture(name, explorers):
    *controls, picture = explorers[name][0]().children
    if name == "cos_nce":
        controls[0].value = "sphere"  # all of its sliders count there
    for control in controls:
        assert len(control.description) >= 4
        before, start = picture.value, control.value
        for value in other_values(control):
            control.value = value
            if value != start:
                assert picture.value != before
        assert picture.value == before, "the same place must show the same picture"


@each
def test_the_static_twin_draws_without_warnings(name, explorers):
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        palette.use_style()
        explorers[name][1]().savefig(io.BytesIO(), format="png", dpi=50)


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_move_takes_less_than_a_twentieth_of_a_second_of_one_core(name, explorers):
    *controls, _ = explorers[name][0]().children
    moves = []
    for control in controls:
        for value in other_values(control)[:6]:
            begun = time.process_time()
            control.value = value
            moves.append(time.process_time() - begun)
    assert statistics.median(moves) < SECONDS_A_MOVE / 2
    assert statistics.quantiles(moves, n=10)[-1] < SECONDS_A_MOVE


@pytest.mark.parametrize("name", NAMES[:4])
def test_the_picture_is_whole_svg_with_words_for_those_who_do_not_see_it(name, explorers):
    *controls, picture = explorers[name][0]().children
    for control in controls:
        for value in other_values(control):
            control.value = value
            svg, words = picture.value.split("<p ", 1)
            root = ElementTree.fromstring(svg)
            assert root.get("role") == "img" and len(root.get("aria-label")) > 60
            assert root[0].tag.endswith("title") and len(words) > 60
            assert "nan" not in svg and "inf" not in svg.lower().replace("infonce", "")


def test_only_the_sliders_that_count_are_shown():
    space, *rest, _ = widgets.explore_cos_nce().children
    hidden = [c.description for c in rest if c.layout.display == "none"]
    assert len(hidden) == 4 and all("height" in name or "sphere" in name for name in hidden)
    space.value = "sphere"
    assert all(c.layout.display != "none" for c in rest)


# (a) COS-NCE


def test_a_fan_is_centred_and_of_length_1():
    directions = fan(70, 60, 15)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(np.ones(15))
    angles = np.degrees(np.arctan2(directions[:, 1], directions[:, 0]))
    assert (angles.min(), angles.mean(), angles.max()) == pytest.approx((40, 70, 100))
    assert fan(90, 180, 1)[0] == pytest.approx((0, 1), abs=1e-12)


def test_a_cap_is_centred_of_length_1_and_as_wide_as_it_says():
    vectors, middle = cap(50, 20, 60, 31), at(50, 20)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(31))
    away = [degrees(v, middle) for v in vectors]
    assert max(away) <= 30 and max(away) > 28
    assert degrees(vectors.mean(0), middle) < 3
    assert cap(50, 20, 60, 1)[0] == pytest.approx(middle)
    assert np.linalg.norm(cap(0, 0, 360, 31).mean(0)) < 0.05


@pytest.mark.parametrize("width", [2, 3])
def test_a_scene_is_the_library_s_loss_its_gradient_and_its_optimum(width):
    rng = np.random.default_rng(width)
    draw = rng.standard_normal((200 + 1 + 1 + 7, width))
    units = draw / np.linalg.norm(draw, axis=1, keepdims=True)
    student, teacher, others = 0.7 * units[0], units[1], units[2:9]
    now = scene(student, teacher, others)
    z, t, n = (torch.from_numpy(x) for x in (student, teacher, others))
    assert now.loss == pytest.approx(float(cos_nce(z[None], t[None], n[None])))
    assert now.mse == pytest.approx(((student - teacher) ** 2).mean())
    assert losses(units[9:], teacher, others).min() >= now.at_best
    for down, value in ((now.down, lambda x: losses(x[None], teacher, others)[0]),
                        (now.mse_down, lambda x: ((x - teacher) ** 2).mean())):  # fmt: skip
        slope = [(value(student + e) - value(student - e)) / 2e-6 for e in 1e-6 * np.eye(width)]
        assert down == pytest.approx(-np.array(slope), abs=1e-6)
    assert now.down @ student == pytest.approx(0, abs=1e-9), "no length is better"


def test_the_wave_of_the_circle_passes_through_student_and_optimum():
    wave, *marks = cos_nce_view(student=40).panels[1].marks
    best, student = marks[1], marks[3]
    assert np.interp(40, wave.x, wave.y) == pytest.approx(student.y[0], abs=1e-3)
    assert student.x == pytest.approx([40])
    assert best.y[0] == pytest.approx(min(wave.y), abs=1e-3)
    assert best.x[0] < -5, "negatives above the teacher push the optimum below it"


def test_on_the_sphere_the_angle_from_the_optimum_is_all_that_counts():
    wave, *marks = cos_nce_view("sphere", student=75, negatives_height=40).panels[1].marks
    for mark in marks:
        assert np.interp(mark.x[0], wave.x, wave.y) == pytest.approx(mark.y[0], abs=2e-3)


def test_the_length_changes_the_mse_and_not_the_loss():
    short, long = (cos_nce_view(length=x).says for x in (0.5, 1.0))
    assert short.split("MSE")[0] == long.split("MSE")[0] and short != long


# (b) negatives


def test_the_losses_from_cosines_are_those_of_the_library():
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.standard_normal((9, 6)))
    u, t, *n = F.normalize(vectors, dim=-1)
    n = torch.stack(n)
    positive, found = float(t @ u), (n @ u).numpy()
    expected = float(cos_nce(u[None], t[None], n[None]))
    assert negatives.cos_nce_of(positive, found) == pytest.approx(expected)
    for tau in (0.02, 0.5, 10.0):
        logits = torch.cat([(t @ u)[None], n @ u]) / tau
        info = float(F.cross_entropy(logits[None], torch.tensor([0])))
        contrast = tau * (info - math.log(8)) * 8 / 7
        assert negatives.info_nce_of(positive, found, tau) == pytest.approx(
            2 - positive + 0.5 * contrast
        )
    assert negatives.info_nce_of(positive, found, 1e6) == pytest.approx(expected, abs=1e-5)


def test_shares_go_from_the_nearest_alone_to_all_alike():
    found = np.array([[0.1, 0.9, 0.3, 0.2]])
    assert negatives.shares(found, 0.01)[0] == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert negatives.shares(found, 1e6)[0] == pytest.approx([0.25] * 4, abs=1e-5)


def test_anisotropy_and_spread_do_what_their_names_say():
    for a in (0.0, 0.5, 0.95):
        positive, found = negatives.cosines(0.3, a)
        assert positive == pytest.approx(a + (1 - a) * negatives.STUDENT)
        assert found.mean() == pytest.approx(a, abs=0.01) and abs(found).max() <= 1
    assert negatives.cosines(0.5, 0.0)[1].std() > 1.5 * negatives.cosines(0.0, 0.0)[1].std()


def test_more_negatives_leave_the_mean_of_cos_nce_where_it_is():
    line = negatives.negatives_view().panels[0].marks[3]
    assert line.label == "COS-NCE" and np.ptp(line.y) < 0.02


# (c) stages


def test_the_budget_of_the_paper_s_plan():
    plan = stages.budget(1000, (1, 1, 3), 0.8, 0.0, "linear")
    assert plan.start == 800 and plan.steps_left == pytest.approx(0.2)
    assert plan.rate_left == pytest.approx(0.04, abs=0.001)  # a triangle of a fifth of the side
    assert plan.rate_at_start == pytest.approx(0.2)
    spent = np.array([1, 0.04, 0.12]) / 1.16
    assert plan.parts == pytest.approx(spent, abs=0.001)
    assert stages.budget(1000, (1, 1, 3), 0.8, 0.0, "constant").rate_left == pytest.approx(0.2)
    nothing = stages.budget(10, (0, 0, 0), 0.0)
    assert np.isnan(nothing.parts).all()
    assert "none" in to_svg(stages.stages_view(0.0, 0, 0, 0, steps=10))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"schedule": "cosine"}, "schedule"),
        ({"boundary": 1}, "boundary"),
        ({"warmup": 1}, "warmup"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        stages.stages_view(**change)


# (d) perturbation


def test_a_linear_loss_is_what_the_first_order_predicts():
    emb, slope = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    kept = slope * mask.unsqueeze(-1)
    found = widgets.perturbation_walks(
        emb, lambda x: (x * kept).sum(), mask, [["a", "b", "c"], ["d", "e"]]
    )
    for norm in ("sample", "tensor", "token"):
        line = found.before + np.array(EPSILONS) * found.slopes[norm]
        assert found.losses[norm] == pytest.approx(line)
        assert found.percent[norm][1, 2] == 0, "padding does not move"
    assert found.slopes["tensor"] == pytest.approx(float(kept.norm()))
    lengths = emb.norm(dim=-1).numpy()
    assert found.percent["token"][0] == pytest.approx(100 / lengths[0])


def test_a_real_loss_leaves_the_line_and_touches_it_at_zero(walks):
    here = EPSILONS.index(0.0)
    for norm, measured in walks.losses.items():
        assert measured[here] == pytest.approx(walks.before, rel=1e-5)
        step = (measured[here + 1] - measured[here - 1]) / (EPSILONS[here + 1] * 2)
        assert step == pytest.approx(walks.slopes[norm], rel=0.2)
        assert walks.slopes[norm] > 0, "the step goes up"
    predicted = walks.before + EPSILONS[-1] * walks.slopes["token"]
    assert abs(walks.losses["token"][-1] - predicted) > 0.1 * abs(predicted - walks.before)


@pytest.mark.parametrize("epsilon", [-2.0, 0.0, 4.0])
def test_the_marked_places_lie_on_their_lines(walks, epsilon):
    measured, line, _, before, predicted, after = perturbation_view(
        walks, "token", epsilon
    ).panels[0].marks  # fmt: skip
    assert (before.x, before.y) == ([0], [walks.before])
    for mark, curve in ((predicted, line), (after, measured)):
        assert mark.x == [epsilon]
        assert mark.y[0] == pytest.approx(np.interp(epsilon, curve.x, curve.y))
    assert line.y[EPSILONS.index(1.0)] == pytest.approx(walks.before + walks.slopes["token"])


@pytest.mark.parametrize(
    "change, says",
    [({"norm": "batch"}, "norm"), ({"epsilon": 0.3}, "epsilon"), ({"text": 9}, "text")],
)
def test_a_place_that_was_not_measured_is_refused(walks, change, says):
    with pytest.raises(InputError, match=f"Unknown {says}"):
        perturbation_view(walks, **change)


def test_tokens_that_do_not_fit_the_mask_are_refused():
    with pytest.raises(InputError, match="tokens by the mask"):
        widgets.perturbation_walks(torch.ones(1, 3, 2), torch.sum, torch.ones(1, 3), [["a"]])


# (e) cases


def test_pages_are_sorted_whole_and_end():
    rows, wrong = dev_rows()
    order = cases.ordered(rows["angle"], np.ones(30, dtype=bool), largest=True)
    values = rows["angle"].to_numpy()[order]
    assert order[-1] == 3 and (np.diff(values[:-1]) <= 0).all(), "a missing value comes last"
    pages = [cases.cases_page(rows, wrong, "angle", page=p) for p in (1, 2, 3, 4)]
    assert [page.count("<tr>") - 1 for page in pages] == [8, 8, 8, 6]
    assert cases.cases_page(rows, wrong, "angle", page=99) == pages[-1]
    shown = [int(x.split("<")[0]) for page in pages for x in page.split('scope="row">')[1:]]
    assert shown == order.tolist()


def test_kinds_part_the_rows_and_marks_say_right_or_wrong():
    rows, wrong = dev_rows()
    whole, *parts = cases.kinds(wrong).values()
    assert whole.all() and (sum(part.astype(int) for part in parts) == 1).all()
    only = cases.cases_page(rows, wrong, "MSE", kind="only lrc is right")
    assert "good ✓" in only and "bad ✗ wrong" in only and "good ✗" not in only


def test_no_row_of_a_kind_is_an_empty_page():
    rows, _ = dev_rows()
    page = cases.cases_page(rows, dict.fromkeys(("lrc", "bert_m"), np.zeros(30)), "MSE",
                            kind="both are wrong")  # fmt: skip
    assert "0 rows, page 1 of 1" in page


def without(column):
    rows, wrong = dev_rows()
    return rows.drop(columns=column), wrong


@pytest.mark.parametrize(
    "rows, wrong, says",
    [
        (dev_rows()[0][:0], {"lrc": [], "bert_m": []}, "reproduce.py --only 07"),
        (*without("text"), "no column 'text'"),
        (*without("lrc"), "no column 'lrc'"),
        (*without(["MSE", "angle"]), "measure to sort by"),
        (dev_rows()[0], {"lrc": [True], "bert_m": [True]}, "1 mistakes of 'lrc' for 30"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, wrong, says):
    for use in (widgets.explore_cases, widgets.draw_cases):
        with pytest.raises(InputError, match=says):
            use(rows, wrong)


# texts are data


def test_data_stays_text(walks):
    rows, wrong = dev_rows()
    svg = to_svg(perturbation_view(walks))
    for html in (svg, cases.cases_page(rows, wrong, "MSE", page=1), *(
        cases.cases_page(rows, wrong, "MSE", page=p) for p in (2, 3, 4)
    )):  # fmt: skip
        assert "<script" not in html and "\x00" not in html
    assert "&lt;script&gt;" in svg
    ElementTree.fromstring(svg)
    rows.columns = ["text", "label", "lrc", "bert_m", "<b>MSE</b>", "angle"]
    assert "<b>" not in cases.cases_page(rows, wrong, "<b>MSE</b>")


def test_a_gap_interrupts_a_line_and_colours_come_with_a_second_cue():
    line = Mark([0, 1, 2, 3, 4], [0, 1, np.nan, 1, 0], "#000000", "--", label="gap")
    svg = to_svg(View((Panel("", (0, 4), (0, 1), [line]),), "", ""))
    assert svg.count("<polyline") == 2 + 1  # and the legend's
    for view in (cos_nce_view(), negatives.negatives_view(), stages.stages_view()):
        looks = {(m.line, m.marker, m.arrow) for m in view.legend.values()}
        assert len(looks) == len(view.legend), "each entry differs in more than its colour"
