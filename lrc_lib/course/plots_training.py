"""Two more figures, for notebooks 04 and 06; the rules are those of `plots`."""

import numpy as np
from matplotlib.figure import Figure

from lrc_lib.course.palette import COLOURS, GREY, LINES


def smoothed_curves(panels, xlabel: str, ylabel: str, log_y: bool = False) -> Figure:
    """Side by side, each series thin as it is and thick as its running mean.

    Args:
        panels: {panel title: {label: (x, values, mean)}}, arrays of one length; NaN in a mean
            where its window does not fit.

    Taught in: notebooks/06_loss_curves.
    """
    fig = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, series) in zip(axes, panels.items(), strict=True):
        for index, (label, (x, values, mean)) in enumerate(series.items()):
            colour = COLOURS[index % 7]
            ax.plot(x, values, color=colour, ls="-", lw=0.6, alpha=0.3)
            ax.plot(x, mean, color=colour, ls=LINES[index % 7], lw=2.2, label=label)
        ax.set(xlabel=xlabel, title=title, yscale="log" if log_y else "linear")
    axes[0].set_ylabel(ylabel)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def outlined_histograms(groups, xlabel: str, marks=None, title: str = "", bins=25) -> Figure:
    """The outlines of several histograms over one axis, as shares of their rows.

    Args:
        groups: {label: (n,) numbers}.
        marks: {label: x}, vertical lines.

    Taught in: notebooks/04_two_stage_distillation.
    """
    fig = Figure(figsize=(8, 3.6), layout="constrained")
    ax = fig.subplots()
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins)
    for index, (label, values) in enumerate(groups.items()):
        heights = np.histogram(values, edges)[0] / len(values)
        text = f"{label}: mean {np.mean(values):.3f}"
        ax.stairs(heights, edges, color=COLOURS[index % 7], ls=LINES[index % 7], lw=2, label=text)
    for label, x in (marks or {}).items():
        ax.axvline(x, color=GREY, ls=":", lw=1.5)
        where = ax.get_xaxis_transform()
        ax.annotate(f" {label}", (x, 0.98), xycoords=where, color=GREY, va="top", rotation=90)
    ax.set(xlabel=xlabel, ylabel="share of the rows", title=title)
    ax.legend(loc="upper center")
    return fig
