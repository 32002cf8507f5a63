"""The static twin of every explorer: the same views, drawn with matplotlib at a few positions."""

import textwrap

from matplotlib.figure import Figure

from lrc_lib.course.explorers.picture import Bars, View
from lrc_lib.course.palette import GREY


def positions(views: dict[str, View]) -> Figure:
    """One column a position, the view's panels under each other, one legend for all.

    Args:
        views: {title of the column: view}, two to four, all with the same kinds of panels.
    """
    first, *_ = views.values()
    rows, columns = len(first.panels), len(views)
    fig = Figure(figsize=(9.6, 0.6 + 2.4 * rows), layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False)
    for column, (title, view) in enumerate(views.items()):
        for row, panel in enumerate(view.panels):
            ax = grid[row][column]
            (_draw_bars if isinstance(panel, Bars) else _draw)(ax, panel, column == 0)
            lines = [textwrap.fill(title, 96 // columns)] if row == 0 else []
            lines += [panel.title] if isinstance(panel, Bars) and column == 0 else []
            ax.set_title("\n".join(lines), fontsize=9)
            ax.set_xlabel(textwrap.fill(ax.get_xlabel(), 84 // columns), fontsize=9)
    handles = {}
    for view in views.values():
        for label, mark in view.legend.items():
            handles.setdefault(label, _handle(mark, label))
    if handles:
        fig.legend(handles=list(handles.values()), loc="outside lower center", ncols=4, fontsize=9)
    return fig


def _handle(mark, label):
    from matplotlib.lines import Line2D

    face = mark.colour if mark.filled else "white"
    shape = ">" if mark.arrow and not mark.marker else mark.marker
    look = {"color": mark.colour, "ls": mark.line or "none", "marker": shape or "none", "mfc": face}
    return Line2D([], [], label=label, lw=mark.width, ms=7, **look)


def _draw(ax, panel, labelled):
    for mark in panel.marks:
        face = mark.colour if mark.filled else "white"
        look = {"color": mark.colour, "lw": mark.width * 0.8}
        if mark.arrow:
            ends = (mark.x[-1], mark.y[-1]), (mark.x[-2], mark.y[-2])
            arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "linestyle": mark.line}
            ax.annotate("", *ends, arrowprops=arrow | look)
        ls = "none" if mark.arrow or not mark.line else mark.line
        shape = {"marker": mark.marker or "none", "ms": mark.size * 0.7, "mfc": face}
        ax.plot(mark.x, mark.y, ls=ls, **look, **shape)
    ax.set(xlim=panel.x, ylim=panel.y)
    if panel.plane:
        ax.set_aspect("equal")
        ax.axis("off")
        return
    ax.set_xlabel(panel.xlabel)
    if panel.xticks:
        ax.set_xticks(list(panel.xticks), list(panel.xticks.values()))
    if labelled:
        ax.set_ylabel(panel.ylabel, fontsize=9)
    ax.tick_params(labelsize=8)


def _draw_bars(ax, panel, labelled):
    names, values, words = zip(*panel.rows, strict=True)
    drawn = ax.barh(range(len(names)), values, 0.7, color=panel.colour)
    ax.bar_label(drawn, words, padding=3, fontsize=8)
    ax.set_yticks(range(len(names)), names if labelled else [], fontsize=8)
    ax.set(xlim=(0, panel.limit * 1.3), ylim=(len(names) - 0.4, -0.6), xticks=[])
    ax.spines["bottom"].set_visible(False)
    ax.spines["left"].set_color(GREY)
    ax.grid(visible=False)
