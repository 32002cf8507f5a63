"""Explorers: what they compute, what they draw and say, and what they refuse."""

import base64
import io
import math
import re
import time
import warnings

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from browser import browser_page
from PIL import Image

from lrc_lib.course import explorers, palette
from lrc_lib.course.explorers import cases, cos_nce, negatives, perturbation, stages
from lrc_lib.course.explorers.perturbation import EPSILONS
from lrc_lib.course.explorers.sliders import picture_html
from lrc_lib.errors import InputError
from lrc_lib.losses import cos_nce as eq_1
from lrc_lib.models import build_student, embeddings_replaced

HOSTILE = '<script>alert("x")</script> & \x00 "quoted"'
SECONDS_A_MOVE = 2  # wall clock of the quickest; about 0.1 where no other programs run
KINDS = (ipywidgets.SelectionSlider, ipywidgets.ToggleButtons)  # for numbers, for words
COLUMNS = {"cases": 2, "negatives": 3, "perturbation": 3, "cos_nce": 4, "stages": 4}
each = pytest.mark.parametrize("name", ("cos_nce", "negatives", "stages", "perturbation", "cases"))


def tiny_walks():
    torch.manual_seed(0)
    model = build_student(2, 24, 32, 2, vocab_size=30, num_labels=2).eval()
    ids, mask = torch.randint(1, 30, (3, 5)), torch.ones(3, 5).tril(2).flip(0)

    def loss_of(embeddings):
        with embeddings_replaced(model, embeddings):
            logits = model(input_ids=ids, attention_mask=mask).logits
        return 40 * logits.square().sum()

    words = [[HOSTILE, "b", "$c", "d$", "e"], ["f", "g", "h", "i"], ["j", "k", "l"]]
    return explorers.perturbation_walks(model.bert.embeddings(ids), loss_of, mask, words)


def dev_rows(n=30):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(n)], "label": "good"})
    rows["lrc"], rows["bert_m"] = "good", "bad"
    rows["MSE"], rows["angle"] = rng.random(n), rng.random(n)
    rows.loc[0, "text"], rows.loc[3, "angle"] = HOSTILE, np.nan
    return rows, {"lrc": rng.random(n) < 0.3, "bert_m": rng.random(n) < 0.5}


@pytest.fixture(scope="module")
def walks():
    return tiny_walks()


@pytest.fixture
def build(walks, monkeypatch):
    """A function of "explore" or "draw" and a name that calls the one of them."""
    monkeypatch.delenv("LRC_HEADLESS", raising=False)
    arguments = {"stages": (345,), "perturbation": (walks,), "cases": dev_rows()}
    return lambda kind, name: getattr(explorers, f"{kind}_{name}")(*arguments.get(name, ()))


@each
def test_headless_there_is_no_widget_and_buttons_show_positions(name, build, monkeypatch):
    monkeypatch.setattr(ipywidgets.Widget, "__init__", None)  # building one raises
    monkeypatch.setenv("LRC_HEADLESS", "1")
    with browser_page(viewport={"width": 900, "height": 900}) as page:
        page.set_content(build("explore", name).data)
        page.locator("input:checked").focus()
        seen, shown = [], page.locator(".positions > div:visible")  # exactly one at a time
        for _ in page.locator("input").all():
            seen.append(shown.inner_html())
            assert len(shown.locator("img").get_attribute("alt")) > 60
            page.keyboard.press("ArrowRight")
        assert len(set(seen)) == len(seen) >= 3
        assert shown.inner_html() == seen[0] and not page.problems


@each
def test_every_slider_has_a_name_and_changes_the_picture_and_its_words(name, build):
    (column, *pictures), seconds = build("explore", name).children, []
    if name == "cos_nce":
        column.children[0].value = "sphere"  # all of its sliders matter there
    for control in column.children[:-1]:
        words = all(isinstance(value, str) for _, value in control.options)
        assert isinstance(control, KINDS[words]) and len(control.description) >= 4
        before, start = [picture.value for picture in pictures], control.value
        for value in {control.options[0][1], control.options[-1][1]} - {start}:
            begun = time.monotonic()
            control.value = value
            seconds.append(time.monotonic() - begun)
            assert [picture.value for picture in pictures] != before
            image, alt = re.search(r'base64,([^"]+)" alt="([^"]+)"', pictures[0].value).groups()
            assert base64.b64decode(image).startswith(b"\x89PNG")
            assert len(alt) > 60 and not re.search(r"\b(nan|inf)\b", alt)
            assert f">{alt}</p>" in pictures[0].value, "the words stand below the picture, too"
        control.value = start
        assert [picture.value for picture in pictures] == before, "the same place, another picture"
    assert plt.get_fignums() == [] and min(seconds) < SECONDS_A_MOVE


@each
def test_the_static_twin_has_no_warnings_and_no_entry_that_differs_in_colour_alone(name, build):
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        palette.use_style()
        fig = build("draw", name)
        fig.savefig(io.BytesIO(), format="png", dpi=50)
        titles = [title for ax in fig.axes if (title := ax.get_title("left"))]
    assert len(titles) == COLUMNS[name] and plt.get_fignums() == []
    lines = [handle for handle in fig.legends[0].legend_handles if hasattr(handle, "get_marker")]
    looks = {(x.get_linestyle(), x.get_marker(), x.get_mfc() == "white") for x in lines}
    assert len(looks) == len(lines)


def test_the_static_twin_and_the_sliders_call_the_same_function(build, monkeypatch):
    seen = []
    monkeypatch.setattr(negatives, "negatives_at", lambda axes, **values: seen.append(values) or "")
    build("draw", "negatives"), build("explore", "negatives")
    assert [values.get("temperature") for values in seen] == [0.05, 100, 0.05, 0.1]


def test_only_the_sliders_that_matter_are_shown(build):
    column, picture, _ = build("explore", "cos_nce").children
    space, *rest, _ = column.children
    hidden = [c.description for c in rest if c.layout.display == "none"]
    assert hidden == ["student's height (°)", "turn the sphere (°)"]
    space.value = "sphere"
    assert "On the sphere" in picture.value
    assert all(c.layout.display != "none" for c in rest)


def test_a_preset_sets_its_place_reset_goes_back_and_the_student_rolls_down(build):
    column, picture, more = build("explore", "cos_nce").children
    *controls, row = column.children
    buttons, start = {b.description: b.click for b in row.children}, picture.value
    buttons["on the sphere"]()
    assert [c.value for c in controls[:3]] == ["sphere", 75, 35] and "sphere" in picture.value
    buttons["roll downhill"]()
    assert [c.value for c in controls[:3]] == ["sphere", -20, 0], "u* is at -18° on the equator"
    buttons["reset"]()
    assert picture.value == start and "score 95 of 100" in more.value


def test_the_paths_move_in_a_fold_that_stops_them(monkeypatch):
    monkeypatch.setattr(cos_nce, "FRAMES", 3)
    here = cos_nce.scene("sphere")
    steps = F.normalize(torch.randn(9, 2, 3, dtype=torch.double), dim=-1).numpy()
    made = explorers.animate_paths({"COS": (here.loss, steps)}, here.teacher, here.negatives, "<a>")
    assert made.data.startswith("<details open>") and 'alt="&lt;a&gt;"' in made.data
    gif = Image.open(io.BytesIO(base64.b64decode(re.search(r'gif;base64,([^"]+)', made.data)[1])))
    assert gif.n_frames == 3 and gif.info["loop"] == 0


def test_the_challenge_can_be_met():
    assert "score 100" in cos_nce.challenge(spread=0) and "Done" in cos_nce.challenge(spread=0)


def test_a_fan_is_centred_and_of_length_1():
    x, y = cos_nce.fan(70, 60, 15).T
    assert np.hypot(x, y) == pytest.approx(np.ones(15))
    angles = np.degrees(np.arctan2(y, x))
    assert (angles.min(), angles.mean(), angles.max()) == pytest.approx((40, 70, 100))
    assert cos_nce.fan(90, 180, 1)[0] == pytest.approx((0, 1), abs=1e-12)


@pytest.mark.parametrize("width", [2, 3])
def test_the_optimum_is_the_smallest_loss_and_the_ways_down_are_its_slopes(width):
    units = torch.randn(209, width, generator=torch.Generator().manual_seed(width)).double()
    units = F.normalize(units, dim=-1).numpy()
    student, teacher, others = 0.7 * units[0], units[1], units[2:9]

    def loss(x):
        return cos_nce.losses(np.atleast_2d(x), teacher, others).numpy()

    z, t, n = (torch.from_numpy(x)[None] for x in (student, teacher, others))
    assert loss(student) == pytest.approx(float(eq_1(z, t, n)))
    assert loss(units[9:]).min() >= loss(cos_nce.optimum(teacher, others))[0]
    ways = cos_nce.ways_down(student, teacher, others)
    for name, value in (("COS-NCE", loss), ("MSE", lambda x: ((x - teacher) ** 2).mean())):
        slope = [(value(student + e) - value(student - e)) / 2e-6 for e in 1e-6 * np.eye(width)]
        assert ways[name] == pytest.approx(-np.array(slope).ravel(), abs=1e-6)
    assert ways["COS-NCE"] @ student == pytest.approx(0, abs=1e-9), "no length is better"


@pytest.mark.parametrize("space", ["circle", "sphere"])
def test_every_vector_lies_on_the_wave_and_the_optimum_at_its_bottom(space):
    axes = matplotlib.figure.Figure().subplots(1, 2)
    says = [cos_nce.cos_nce_at(axes, space=space, length=x, student=75) for x in (0.5, 1.0)]
    short, long = (words.split("MSE") for words in says)
    assert short[0] == long[0] and short[1] != long[1], "the length changes the MSE alone"
    wave, *marks = (line.get_data() for line in axes[1].lines[:5])
    places, heights = np.array(marks)[..., 0].T
    assert np.interp(places, *wave) == pytest.approx(heights, abs=2e-3)
    assert heights[0] == pytest.approx(min(wave[1]), abs=1e-3)
    assert space == "sphere" or (places[-1] == pytest.approx(75) and places[0] < -5)


def test_the_losses_from_cosines_are_those_of_whole_vectors():
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 6)))
    u, t, *n = F.normalize(vectors, dim=-1)
    n, positive = torch.stack(n), float(t @ u)
    expected = float(eq_1(u[None], t[None], n[None]))
    for tau in (0.02, 0.5, 1e6):
        ours, theirs = negatives.both_losses(positive, (n @ u).numpy()[None], tau)
        info = float(-torch.log_softmax(torch.stack([t, *n]) @ u / tau, dim=0)[0])
        assert ours == pytest.approx(expected)
        contrast = tau * (info - math.log(8)) * 8 / 7
        assert theirs == pytest.approx(2 - positive + 0.5 * contrast)
    assert theirs == pytest.approx(expected, abs=1e-5), "the limit of a large temperature"
    for tau, shares in ((0.01, [1, 0, 0]), (1e6, [1 / 3] * 3)):
        found = negatives.shares(np.array([[0.1, 0.9, 0.3]]), tau)
        assert found[0] == pytest.approx(shares, abs=1e-5)


def test_anisotropy_and_spread_do_what_their_names_say():
    for a in (0.0, 0.5, 0.95):
        positive, found = negatives.cosines(0.3, a)
        assert positive == pytest.approx(a + (1 - a) * negatives.STUDENT)
        assert found.mean() == pytest.approx(a, abs=0.01) and abs(found).max() <= 1
    assert negatives.cosines(0.5, 0.0)[1].std() > 1.5 * negatives.cosines(0.0, 0.0)[1].std()


def test_the_budget_of_the_paper_s_plan():
    start, _, rates, shares = stages.budget(1000, (1, 1, 3), 0.8, 0.0, "linear")
    left, summed, *parts = shares.values()
    assert start == 800 and left == pytest.approx(0.2) and rates[800] == pytest.approx(0.2)
    assert summed == pytest.approx(0.04, abs=0.001)  # a triangle with a fifth of the side
    assert parts == pytest.approx(np.array([1, 0.04, 0.12]) / 1.16, abs=0.001)
    constant = stages.budget(1000, (1, 1, 3), 0.8, 0.0, "constant")[3]
    assert constant["stage 2: summed rate"] == pytest.approx(0.2)
    nothing = picture_html(stages.stages_at, {"boundary": 0, "alpha": 0, "beta": 0, "gamma": 0})
    assert "0 % goes to the layers and 0 % to the labels" in nothing


@pytest.mark.parametrize("values, says", [((1.0, 0.1), "boundary"), ((0.8, 1.0), "warmup")])
def test_a_plan_that_cannot_be_is_refused(values, says, build):
    with pytest.raises(InputError, match=says):
        explorers.explore_stages(10, *values)


def test_a_linear_loss_is_what_the_first_order_predicts():
    emb, slope = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    kept, words = slope * mask.unsqueeze(-1), [["a", "b", "c"], ["d", "e"]]
    found = explorers.perturbation_walks(emb, lambda x: (x * kept).sum(), mask, words)
    for norm in ("sample", "tensor", "token"):
        line = found.before + np.array(EPSILONS) * found.slopes[norm]
        assert found.losses[norm] == pytest.approx(line)
        assert found.percent[norm][1, 2] == 0, "padding does not move"
    assert found.slopes["tensor"] == pytest.approx(float(kept.norm()))
    assert found.percent["token"][0] == pytest.approx(100 / emb.norm(dim=-1).numpy()[0])
    with pytest.raises(InputError, match="tokens by the mask"):
        explorers.perturbation_walks(emb, torch.sum, mask, words[:1])


def test_a_real_loss_leaves_the_line_and_touches_it_at_zero(walks):
    here = EPSILONS.index(0.0)
    for norm, measured in walks.losses.items():
        assert measured[here] == pytest.approx(walks.before, rel=1e-5)
        step = (measured[here + 1] - measured[here - 1]) / (EPSILONS[here + 1] * 2)
        assert 0 < walks.slopes[norm] == pytest.approx(step, rel=0.2), "the step goes up"
    predicted = walks.before + EPSILONS[-1] * walks.slopes["token"]
    assert abs(walks.losses["token"][-1] - predicted) > 0.1 * abs(predicted - walks.before)


def page(by="MSE", kind="all rows", number=1, given=None):
    return cases.page_of(*(given or dev_rows()), by, "largest first", kind, number)


def test_pages_are_sorted_whole_and_end():
    values, pages = dev_rows()[0]["angle"], [page("angle", number=p) for p in (1, 2, 3, 4)]
    assert [html.count("<tr>") - 1 for html in pages] == [8, 8, 8, 6]
    shown = [int(row) for html in pages for row in re.findall(r'scope="row">(\d+)<', html)]
    assert shown == [*values.sort_values(ascending=False).index], "a missing value comes last"
    assert page("angle", number=99) == pages[-1]


def test_kinds_part_the_rows_and_marks_say_right_or_wrong():
    rows, wrong = dev_rows()
    whole, *rest = cases.kinds(wrong).values()
    assert whole.all() and (sum(part.astype(int) for part in rest) == 1).all()
    only = page(kind="only lrc is right")
    assert "good ✓" in only and "bad <mark>✗ wrong</mark>" in only
    assert "good <mark" not in only
    nobody = dict.fromkeys(wrong, np.zeros(30))
    assert "0 rows, page 1 of 1" in page(kind="both are wrong", given=(rows, nobody))


@pytest.mark.parametrize(
    "missing, n, missed, says",
    [([], 0, [], "reproduce.py --only 07"), (["text"], 30, [False] * 30, "no column 'text'"),
     (["lrc"], 30, [False] * 30, "no column 'lrc'"), ([], 30, [True], "1 mistakes of 'lrc' for 30"),
     (["MSE", "angle"], 30, [False] * 30, "measure to sort by")],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused(missing, n, missed, says):
    rows, wrong = dev_rows()[0][:n].drop(columns=missing), {"lrc": missed, "bert_m": missed}
    for use in (explorers.explore_cases, explorers.draw_cases):
        with pytest.raises(InputError, match=says):
            use(rows, wrong)


def test_data_stays_text(walks):
    rows, wrong = dev_rows()
    shown = picture_html(perturbation.perturbation_at, {"walks": walks})
    for html in (shown, *(page(number=number) for number in (1, 2, 3, 4))):
        assert "<script" not in html and "\x00" not in html
    assert "&lt;script&gt;" in shown
    rows.columns = ["text", "label", "lrc", "bert_m", "<b>MSE</b>", "angle"]
    assert "<b>" not in page("<b>MSE</b>", given=(rows, wrong))
