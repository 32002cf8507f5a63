"""What the explorers share: a figure of some positions, and sliders that redraw it at one.

Each explorer has one function `draw(axes, **values)`. It draws one position of the sliders on
`axes` and returns what there is to see, in words. `positions` calls it for the static figure and
`explorer` for the sliders, so both show the same. pyplot is not used: no figure stays open.
"""

import base64
import io
import os
import textwrap

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from lrc_lib.course.display import escaped
from lrc_lib.course.palette import BLUE


def positions(draw, places: dict[str, dict], panels: int = 2) -> Figure:
    """One column for each position, with its panels one below the other and one legend for all.

    Args:
        draw: see the module.
        places: {title of the column: values for `draw`}, up to four.
        panels: how many axes `draw` needs.
    """
    return _positions(draw, places, panels)[0]


def _positions(draw, places, panels):
    fig = Figure(figsize=(min(9.6, 4.8 * len(places)), 0.8 + 2.5 * panels), layout="constrained")
    grid = fig.subplots(panels, len(places), sharey="row", squeeze=False)
    for column, (title, values) in enumerate(places.items()):
        words = draw(grid[:, column], **values)
        grid[0, column].set_title(textwrap.fill(title, 96 // len(places)), fontsize=9)
        for ax in grid[:, column]:
            ax.set_xlabel(ax.get_xlabel(), fontsize=9)
            ax.set_ylabel("" if column else ax.get_ylabel(), fontsize=9)
            ax.tick_params(labelsize=8)
    named = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in fig.axes]
    legend = {label: handle for pairs in reversed(named) for handle, label in pairs}
    look = {"loc": "outside lower center", "ncols": min(4, 2 * len(places)), "fontsize": 9}
    fig.legend(legend.values(), legend.keys(), **look)
    return fig, words


def bars(ax, names, percent, limit: float) -> None:
    """Draws bars up to `limit`, named, from the top, each with its number; NaN is "none"."""
    drawn = ax.barh(range(len(names)), np.nan_to_num(percent), 0.7, color=BLUE)
    words = ["none" if share != share else f"{share:.1f} %" for share in percent]
    ax.bar_label(drawn, words, padding=3, fontsize=8)
    ax.set_yticks(range(len(names)), names, parse_math=False)  # names may hold a dollar sign
    ax.set(xlim=(0, 1.35 * limit), ylim=(len(names) - 0.4, -0.6), xticks=[])
    ax.grid(visible=False)


def steps(low: float, high: float, step: float) -> list[float]:
    """The numbers from `low` to `high`, both included."""
    return [round(low + i * step, 6) for i in range(round((high - low) / step) + 1)]


def explorer(draw, controls: dict, used=None, below=None, panels: int = 2):
    """Sliders and, next to them where there is room, the figure that they redraw.

    Every control is a slider: JupyterLab takes the arrow keys of a menu to change cells.

    Args:
        draw: see the module.
        controls: {argument of `draw`: (text, first value, all values)}.
        used: a function of the values that returns the names of the controls that matter now;
            the other ones are hidden. None: all of them matter.
        below: a function of the values that returns HTML to show below the figure.
        panels: how many axes `draw` needs.

    Returns:
        A Box of a VBox with the sliders and two HTML widgets: the figure, and what is below.
        None when headless (LRC_HEADLESS=1), when nobody could move a slider; then it prints
        one line.
    """
    if os.environ.get("LRC_HEADLESS"):
        print("No sliders when headless: the static figure above shows some of their positions.")
        return None
    sliders = {name: _slider(*control) for name, control in controls.items()}
    column = ipywidgets.VBox([*sliders.values()], layout={"flex": "1 1 24em", "min_width": "0"})
    picture = ipywidgets.HTML(layout={"flex": "1 1 30em", "min_width": "0"})
    more = ipywidgets.HTML(layout={"flex": "1 1 100%"})

    def redraw(_=None):
        values = {name: control.value for name, control in sliders.items()}
        names = used(**values) if used else sliders
        for name, control in sliders.items():
            control.layout.display = None if name in names else "none"
        picture.value = picture_html(draw, values, panels)
        more.value = below(**values) if below else ""

    for control in sliders.values():
        control.observe(redraw, names="value")
    redraw()
    box = ipywidgets.Box(
        [column, picture, more], layout={"flex_flow": "row wrap", "grid_gap": "1em"}
    )
    return box.add_class("lrc-explorer")


def _slider(name, first, values):
    options = [(value if isinstance(value, str) else f"{value:g}", value) for value in values]
    look = {"style": {"description_width": "13em"}, "layout": {"width": "auto"}}
    return ipywidgets.SelectionSlider(options=options, value=first, description=name, **look)


def picture_html(draw, values: dict, panels: int = 2) -> str:
    """One position as HTML: a PNG, and the words of `draw`, below it and as its alt text."""
    fig, words = _positions(draw, {"": values}, panels)
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=144)
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    size = f'width="{96 * fig.get_figwidth():.0f}" style="max-width:100%"'
    image = f'<img src="{source}" alt="{escaped(words)}" {size}>'
    return f'{image}<p role="status" style="line-height:1.4">{escaped(words)}</p>'
