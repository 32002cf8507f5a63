"""Figures: plain arrays in, a matplotlib Figure out; nothing is shown, saved or remembered here.

Colours are those of `palette`, each with a second cue (line style, marker, hatch or a label at the
thing itself). Seaborn draws the statistical figures: intervals, distributions and grouped bars.
`session.figure` adds the alt text.
"""

import numpy as np
import seaborn
import torch
from matplotlib.figure import Figure

from lrc_lib.course.palette import BLACK, BLUE, COLOURS, GREEN, GREY, HATCHES, LINES, VERMILION, ink
from lrc_lib.losses import angular_distance


def _axes(columns=1, width=None, height=3.6, **options):
    fig = Figure(figsize=(width or min(9.6, 1.4 + 4.1 * columns), height), layout="constrained")
    return fig, fig.subplots(1, columns, **options)


def _arrow(ax, tip, colour, label, style="-", offset=(6, 4)):
    line = {"color": colour, "lw": 2, "linestyle": style, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", **line})
    ax.annotate(label, tip, offset, textcoords="offset points", color=ink(colour), fontsize=11)


def _plane(ax, points, title):
    (x0, y0), (x1, y1) = np.min([*points, (0, 0)], axis=0), np.max([*points, (0, 0)], axis=0)
    ax.set(xlim=(x0 - 0.2, x1 + 1.2), ylim=(y0 - 0.3, y1 + 0.4), title=title, aspect="equal")
    ax.axis("off")
    ax.plot(0, 0, "o", color=GREY, markersize=4)


def euclid_vs_angle(teacher, negative, near_angle, near_point) -> Figure:
    """The paper's Fig. 2, redrawn from four points in the plane, (2,) each.

    Left: the angular distance g of a student to its teacher and to a negative. Right: a student
    that is nearer by angle against one that is nearer by distance.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    t, n, s1, s2 = (torch.tensor(p).double() for p in (teacher, negative, near_angle, near_point))
    fig, (left, right) = _axes(2, height=3.2)
    _plane(left, (t, n, s1), "(a) g to the student $z^S$")
    _plane(right, (t, s1, s2), "(b) S2 is nearer by distance, S1 by angle")
    _arrow(left, t, BLUE, f"$z^T$: g = {angular_distance(t, s1):.3f}")
    _arrow(left, n, VERMILION, f"$n_1^T$: g = {angular_distance(n, s1):.3f}", "--")
    _arrow(left, s1, GREEN, "$z^S$", "-.", (2, -14))
    _arrow(right, t, BLUE, "$z^T$")
    for point, name, colour, style in ((s1, "S1", GREEN, "-."), (s2, "S2", VERMILION, ":")):
        shift = (6, -14) if name == "S1" else (6, 3)
        text = f"$z^{{{name}}}$: g = {angular_distance(t, point):.3f}"
        _arrow(right, point, colour, text, style, shift)
        right.plot(*torch.stack([point, t], dim=1), color=colour, ls=style, lw=1.2)
        text, where = f"distance {(point - t).norm():.2f}", (point + t) / 2
        look = {"textcoords": "offset points", "color": ink(colour), "fontsize": 9}
        right.annotate(text, where, shift, **look)
    return fig


def distance_to_negative(positive: float, negative: float) -> Figure:
    """The paper's Fig. 3, redrawn: where g(zT, zS) and g(n, zS) lie on the range [0, 2] of g.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    fig, ax = _axes(width=8, height=2.1)
    ax.plot([0, 2], [0, 0], color=BLACK, lw=1.2, ls="-")
    for x, text in ((0, "0\nsame direction"), (1, "1\northogonal"), (2, "2\nopposite")):
        ax.plot(x, 0, "|", color=BLACK, markersize=10)
        ax.text(x, -0.2, text, ha="center", va="top")
    for at, end, colour, hatch, marker, name in (
        (positive, 0, GREEN, "///", "o", "$g(z^T,z^S)$"),
        (negative, 2, VERMILION, "...", "s", "$g(n_i,z^S)$"),
    ):
        ax.fill_between([at, end], 0, 0.35, facecolor="none", edgecolor=colour, hatch=hatch, lw=0)
        ax.text((at + end) / 2, 0.43, "make small", ha="center", color=ink(colour))
        ax.plot(at, 0, marker, color=colour, markersize=9)
        ax.text(at, 0.7, name, ha="center", color=ink(colour), fontsize=11)
    ax.annotate("", (negative, 0.12), (positive, 0.12), arrowprops={"arrowstyle": "<->"})
    ax.text((positive + negative) / 2, 0.2, "the difference: make large", ha="center")
    ax.set(xlim=(-0.2, 2.2), ylim=(-0.6, 0.95))
    ax.axis("off")
    return fig


def curves(series, xlabel: str, ylabel: str, boundary=None) -> Figure:
    """One line per series, each with its own colour and line style.

    Args:
        series: {label: (x, y)}, at most 7.
        boundary: x where stage 2 begins, drawn as a vertical line.
    """
    fig, ax = _axes(width=8)
    for (label, (x, y)), colour, line in zip(series.items(), COLOURS, LINES, strict=False):
        ax.plot(x, y, color=colour, ls=line, label=label)
    if boundary is not None:
        _mark(ax, boundary, "stage 2")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return fig


def _mark(ax, x, label):
    """A dotted vertical line with its label at the top."""
    ax.axvline(x, color=GREY, ls=":", lw=1.5)
    look = {"color": GREY, "va": "top", "bbox": {"fc": "white", "ec": "none", "pad": 1}}
    ax.text(x, 0.98, f" {label}", transform=ax.get_xaxis_transform(), **look)


def training_curves(history, titles, boundary=None, window=1) -> Figure:
    """A run's history: one panel per column, the running mean over `window` rows in front.

    Args:
        history: data frame with "step" and the columns; missing values leave gaps.
        titles: {column: title of its panel}, at most 4.
        boundary: first step of stage 2.

    Taught in: notebooks/04_two_stage_distillation.
    """
    fig, axes = _axes(len(titles), squeeze=False)
    for ax, (column, title), colour in zip(axes[0], titles.items(), COLOURS, strict=False):
        values = history[column].astype(float)
        mean = values.rolling(window, center=True, min_periods=1).mean().where(values.notna())
        ax.plot(history["step"], values, color=colour, alpha=0.25, lw=0.8, ls="-")
        ax.plot(history["step"], mean, color=colour, ls="-")
        if boundary is not None:
            _mark(ax, boundary, "stage 2")
        ax.set(xlabel="step", title=title)
    return fig


def smoothed_curves(panels, xlabel: str, ylabel: str) -> Figure:
    """Panels side by side, each series thin as it is and thick as its running mean.

    Below each panel stands the first series minus the second one, where the difference is seen.

    Args:
        panels: {panel title: {label: (x, values, mean)}}, arrays of one length; NaN in a mean
            where its window does not fit.

    Taught in: notebooks/06_loss_curves.
    """
    fig = Figure(figsize=(9.6, 5.2), layout="constrained")
    axes = fig.subplots(2, len(panels), sharex="col", squeeze=False, height_ratios=(3, 2))
    for (ax, below), (title, series) in zip(axes.T, panels.items(), strict=True):
        looks = zip(series.items(), COLOURS, LINES, strict=False)
        for (label, (x, values, mean)), colour, line in looks:
            ax.plot(x, values, color=colour, ls="-", lw=0.6, alpha=0.3)
            ax.plot(x, mean, color=colour, ls=line, lw=2.2, label=label)
        (_, one, mean), (_, other, smooth), *_ = series.values()
        below.plot(x, one - other, color=BLACK, ls="-", lw=0.6, alpha=0.4)
        below.plot(x, mean - smooth, color=BLACK, ls="-", label="first minus second")
        below.axhline(0, color=GREY, ls=":")
        ax.set_title(title)
        below.set_xlabel(xlabel)
    axes[0, 0].set_ylabel(ylabel)
    axes[1, 0].set_ylabel("difference")
    handles = [ax.get_legend_handles_labels() for ax in axes[:, 0]]
    fig.legend(*(a + b for a, b in zip(*handles, strict=True)), loc="outside lower center", ncols=4)
    return fig


def interval_dots(frame, xlabel: str) -> Figure:
    """One row per system: our value with its interval, and the paper's number as a diamond.

    Args:
        frame: columns "label", "value", "low", "high" and, where there are some, "paper" and
            "scores": a list with the number of each seed, drawn as small circles. Missing numbers
            draw nothing.
    """
    fig, ax = _axes(width=7.5, height=1.2 + 0.36 * len(frame))
    columns = [c for c in ("value", "low", "high", "paper") if c in frame]
    numbers = frame[["label", *columns]].astype({c: float for c in columns})
    dots = {"data": numbers, "y": "label", "errorbar": None, "linestyle": "none", "ax": ax}
    seaborn.pointplot(x="value", color=BLUE, ms=7, label="here, with interval", **dots)
    ax.hlines(numbers["label"], numbers["low"], numbers["high"], color=BLUE, lw=2)
    if "paper" in numbers and numbers["paper"].notna().any():
        diamond = {"marker": "D", "color": VERMILION, "markerfacecolor": "none", "ms": 9}
        seaborn.pointplot(x="paper", label="the paper's", **diamond, **dots)
    if "scores" in frame:
        each = frame["scores"].reset_index(drop=True).explode().dropna()
        look = {"color": GREEN, "markerfacecolor": "none", "markersize": 5, "label": "each seed"}
        ax.plot(each.astype(float), each.index + 0.25, "o", **look)
    ax.set(xlabel=xlabel, ylabel="", ylim=(len(frame) - 0.5, -0.5))
    ax.get_legend().remove()
    fig.legend(loc="outside lower right", ncols=3, fontsize=9)
    return fig


def interval_histogram(draws, scores, low, high, xlabel: str) -> Figure:
    """What lies behind an interval: the bootstrap of the dev rows, the seeds, and both together.

    Args:
        draws: (D,) means over the seeds on drawn dev rows. scores: (S,), one per seed.
        low, high: the ends of the interval over rows and seeds.

    Taught in: notebooks/05_ablations.
    """
    fig, ax = _axes(width=7.5)
    bars = {"stat": "probability", "color": BLUE, "alpha": 0.4, "label": "draws of the dev rows"}
    seaborn.histplot(x=draws, bins=30, ax=ax, **bars)
    top = ax.get_ylim()[1]
    ax.plot(scores, np.full(len(scores), 1.1 * top), "o", color=GREEN, label="each seed")
    ax.hlines(1.2 * top, low, high, color=BLACK, lw=3, label="95 % interval")
    ax.set(xlabel=xlabel, ylabel="share of the draws", ylim=(0, 1.3 * top))
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def outlined_histograms(groups, xlabel: str, marks=None, stat="probability") -> Figure:
    """The outlines of several histograms over one axis, with the mean ± sd of each.

    Args:
        groups: {label: (n,) numbers}; an empty one is left out.
        marks: {label: x}, vertical lines with their labels in the legend.
        stat: "probability", shares of the rows, or "density", each with area 1.

    Taught in: notebooks/04_two_stage_distillation, notebooks/07_mse_and_angle.
    """
    fig, ax = _axes(width=8)
    groups = {
        f"{name}: {np.mean(v):.3f} ± {np.std(v):.3f}": v for name, v in groups.items() if len(v)
    }
    edges = np.histogram_bin_edges(np.concatenate([*groups.values()]), 25)
    for (label, values), colour, line in zip(groups.items(), COLOURS, LINES, strict=False):
        look = {"color": colour, "linestyle": line, "linewidth": 2, "label": label}
        seaborn.histplot(x=values, bins=edges, stat=stat, element="step", fill=False, ax=ax, **look)
    for label, x in (marks or {}).items():
        ax.axvline(x, color=BLACK, ls=":", label=label)
    ax.set(xlabel=xlabel, ylabel="share of the rows" if stat == "probability" else stat)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def gram_maps(maps, groups=()) -> Figure:
    """The cosines of all pairs of a batch as colours, one map per system.

    Args:
        maps: {title: (n, n) cosines}.
        groups: first row of each group after the first one, where a line is drawn.

    Taught in: notebooks/01_cos_nce_geometry, notebooks/02_teacher_and_student.
    """
    fig, axes = _axes(len(maps), width=9.6, height=3.6, squeeze=False)
    low = min(np.asarray(m).min() for m in maps.values())
    for ax, (title, cosines) in zip(axes[0], maps.items(), strict=True):
        image = ax.imshow(cosines, cmap="cividis", vmin=low, vmax=1)
        for row in groups:
            ax.axhline(row - 0.5, color="white", ls="-", lw=1)
            ax.axvline(row - 0.5, color="white", ls="-", lw=1)
        ax.set(title=title, xticks=[], yticks=[])
        ax.grid(visible=False)
    fig.colorbar(image, ax=axes, label="cosine of two rows", shrink=0.8)
    return fig


def flow(boxes, arrows) -> Figure:
    """A drawing of boxes and arrows.

    Args:
        boxes: {name: (x, y, text)}, any units.
        arrows: (from, to, label, line style) of each.

    Taught in: notebooks/04_two_stage_distillation.
    """
    fig, ax = _axes(width=9.6, height=0.8 * len({y for _, y, _ in boxes.values()}))
    look, drawn = {"ha": "center", "va": "center", "zorder": 3}, {}
    for name, (x, y, text) in boxes.items():
        frame = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": BLACK}
        drawn[name] = ax.text(x, y, text, bbox=frame, **look).get_bbox_patch()
    for start, end, label, line in arrows:
        ends = np.array([boxes[start][:2], boxes[end][:2]])
        how = {"arrowstyle": "-|>", "ls": line, "color": BLUE, "lw": 1.6}
        how |= {"patchA": drawn[start], "patchB": drawn[end]}
        ax.annotate("", ends[1], ends[0], arrowprops=how, zorder=4)  # after the boxes it ends at
        paper = {"fc": "white", "ec": "none", "pad": 1}
        above = look | {"zorder": 5, "bbox": paper}
        ax.text(*ends.mean(0), label, color=ink(BLUE), fontsize=9, **above)
    xs, ys = zip(*((x, y) for x, y, _ in boxes.values()), strict=True)
    ax.set(xlim=(min(xs) - 0.5, max(xs) + 0.5), ylim=(min(ys) - 0.5, max(ys) + 0.5))
    ax.axis("off")
    return fig


def grouped_bars(frame, ylabel: str, title: str = "") -> Figure:
    """Bars of a data frame: a group for each index value, a hatched bar for each column."""
    fig, ax = _axes(width=8)
    long = frame.rename_axis("group").reset_index().melt("group", var_name="column")
    colours = list(COLOURS[: len(frame.columns)])
    columns = {"x": "group", "y": "value", "hue": "column"}
    seaborn.barplot(long, **columns, palette=colours, saturation=1, edgecolor="white", ax=ax)
    for bars, hatch in zip(ax.containers, HATCHES, strict=False):
        for bar in bars:
            bar.set_hatch(hatch)
    ax.set(xlabel="", ylabel=ylabel, title=title)
    ax.grid(axis="x", visible=False)
    ax.legend(ax.containers, frame.columns)
    return fig


def layer_maps(maps) -> Figure:
    """Lines between layers that are compared: {title: (1-based pairs, M, N)}, a panel each. (Eq. 3)

    Taught in: notebooks/02_teacher_and_student.
    """
    fig, axes = _axes(len(maps), width=min(9.6, 2.4 * len(maps)), squeeze=False)
    for ax, (title, (pairs, ours, theirs)) in zip(axes[0], maps.items(), strict=True):
        for s, t in pairs:
            ax.plot([0, 1], [t, s * theirs / ours], color=BLACK, ls="-", lw=1.2)
        for x, count, marker, colour in ((0, theirs, "s", BLUE), (1, ours, "o", GREEN)):
            for layer in range(1, count + 1):
                y = layer * theirs / count
                ax.plot(x, y, marker, markerfacecolor="white", markeredgecolor=colour, ms=14)
                ax.text(x, y, layer, ha="center", va="center_baseline", fontsize=8)
        ax.set(title=title, xlim=(-0.4, 1.4), ylim=(0.4, theirs + 0.6), yticks=[])
        ax.set_xticks([0, 1], ["teacher", "student"])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    return fig
