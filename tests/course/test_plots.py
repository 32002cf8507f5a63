"""Figures draw what they are given, warn about nothing and leave no state."""

import io
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lrc_lib.course import palette, plots

STEPS = np.arange(50)
HISTORY = pd.DataFrame(
    {"step": STEPS, "loss": np.exp(-STEPS / 9), "soft": np.where(STEPS < 40, np.nan, 0.3)}
)
TITLES = {"loss": "loss", "soft": "soft label"}
ROWS = pd.DataFrame(
    {
        "label": ["LRC-BERT", "no <b>teacher</b>", "not run"],
        "value": [80.0, 75.0, np.nan],
        "low": [78.0, 73.0, np.nan],
        "high": [82.0, 77.0, np.nan],
        "paper": [83.4, np.nan, 70.0],
        "split": ["dev", "dev", "dev"],
    }
)
DRAWN = {
    "euclid_vs_angle": lambda: plots.euclid_vs_angle((2.4, 1.1), (-1, 1.5), (1, 0.4), (2, 2)),
    "distance_to_negative": lambda: plots.distance_to_negative(0.35, 1.35),
    "curves": lambda: plots.curves({"a": (STEPS, STEPS), "b": (STEPS, 2 * STEPS)}, "x", "y"),
    "training_curves": lambda: plots.training_curves(HISTORY, TITLES, 40, window=5),
    "interval_dots": lambda: plots.interval_dots(ROWS, "accuracy"),
    "interval_dots, no paper": lambda: plots.interval_dots(ROWS.drop(columns="paper"), "score"),
    "interval_dots, seeds": lambda: plots.interval_dots(
        ROWS.assign(scores=[[79.0, 81.0], [75.0], None]), "accuracy"
    ),
    "interval_histogram": lambda: plots.interval_histogram(STEPS / 10, [1, 4], -1.0, 6.0, "points"),
    "outlined_histograms": lambda: plots.outlined_histograms(
        {"a": STEPS, "b": STEPS + 9, "none": STEPS[:0]}, "sure", {"cap": 3}
    ),
    "gram_maps": lambda: plots.gram_maps({"teacher": np.eye(6), "student": np.eye(6)}, [3]),
    "flow": lambda: plots.flow({"a": (0, 0, "a"), "b": (1, 1, "b")}, [("a", "b", "up", "--")]),
    "smoothed_curves": lambda: plots.smoothed_curves(
        {"stage 1": {"with": [STEPS] * 3, "without": [STEPS] * 3}}, "step", "loss"
    ),
    "grouped_bars": lambda: plots.grouped_bars(pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "score"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_renders_without_warnings_or_open_windows(name):
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        palette.use_style()
        figure = DRAWN[name]()
        assert isinstance(figure, Figure)
        figure.savefig(io.BytesIO(), format="png", dpi=50)
    assert plt.get_fignums() == []


def test_svg_is_the_same_twice():
    def svg():
        buffer = io.BytesIO()
        plots.distance_to_negative(0.4, 1.2).savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    with matplotlib.rc_context():
        palette.use_style()
        assert svg() == svg()


def test_a_running_mean_leaves_gaps_where_nothing_was_measured():
    _, soft = plots.training_curves(HISTORY, TITLES, window=9).axes
    smooth = soft.lines[-1].get_ydata()
    assert np.isnan(smooth[:40]).all() and smooth[40:] == pytest.approx(0.3)


def test_every_seed_has_a_circle_below_the_line_of_its_system():
    (ax,) = plots.interval_dots(ROWS.assign(scores=[[79, 81], [75], None]), "accuracy").axes
    circles = next(line for line in ax.lines if line.get_label() == "each seed")
    assert circles.get_xydata().tolist() == [[79, 0.25], [81, 0.25], [75, 1.25]]


def test_an_interval_is_drawn_where_it_lies_and_a_missing_one_not_at_all():
    (ax,) = plots.interval_dots(ROWS, "accuracy").axes
    spans = [span[:, 0].tolist() for span in ax.collections[0].get_segments() if len(span)]
    assert spans == [[78.0, 82.0], [73.0, 77.0]]
    ours, paper = (line.get_xdata() for line in ax.lines[:2])
    assert list(ours[:2]) == [80.0, 75.0] and list(paper[[0, 2]]) == [83.4, 70.0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(ROWS["label"])
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is at the top"
