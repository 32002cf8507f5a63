"""What the explorers share: a figure of some positions, and sliders that redraw it at one.

Each explorer has one function `draw(axes, **values)`. It draws one position of the sliders on
`axes` and returns what there is to see, in words. `positions` calls it for the static figure and
`explorer` for the sliders, so both show the same. Where no kernel runs, as on the site, buttons in
plain HTML show some of the positions. pyplot is not used: no figure stays open.
"""

import base64
import functools
import io
import os
import textwrap

import ipywidgets
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure

from lrc_lib.course.display import escaped
from lrc_lib.course.palette import BLUE

CARD = "background:#fff;color:#111;border-radius:8px;padding:.6em;line-height:1.4"  # in dark, too
CLICKED = """<style>
fieldset.positions{display:flex;flex-wrap:wrap;gap:.3em 1.2em;border:1px solid #8888;min-width:0}
.positions>div{display:none;order:1;flex:1 0 100%;overflow-x:auto}
.positions>label:has(:checked)+div{display:block}
</style>"""


def positions(draw, places: dict[str, dict], panels: int = 2) -> Figure:
    """One column for each position, with its panels one below the other and one legend for all.

    Args:
        draw: see the module.
        places: {title of the column: values for `draw`}, up to four.
        panels: how many axes `draw` needs.
    """
    return _positions(draw, places, panels)[0]


def _positions(draw, places, panels, flat=False):
    """`flat`: the panels of one position lie side by side, so that it fits a low screen."""
    columns, size = len(places), (min(9.6, 4.8 * len(places)), 0.8 + 2.5 * panels)
    fig = Figure(figsize=(6.8, 3.3) if flat else size, layout="constrained")
    shape = (1, panels) if flat else (panels, columns)
    grid = fig.subplots(*shape, sharey=False if flat else "row", squeeze=False)
    grid = grid.T if flat else grid
    for column, (title, values) in enumerate(places.items()):
        words = draw(grid[:, column], **values)
        grid[0, column].set_title(textwrap.fill(title, 96 // columns), fontsize=9)
        for ax in grid[:, column]:
            ax.set_xlabel(ax.get_xlabel(), fontsize=9)
            ax.set_ylabel("" if column else ax.get_ylabel(), fontsize=9)
            ax.tick_params(labelsize=8)
    named = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in fig.axes]
    legend = {label: handle for pairs in reversed(named) for handle, label in pairs}
    look = {"ncols": 3 if flat else min(4, 2 * columns), "fontsize": 9}
    fig.legend(legend.values(), legend.keys(), loc="outside lower center", **look)
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


def explorer(draw, controls, places, used=None, below=None, panels=2, downhill=None, presets=True):
    """Sliders, buttons for choices and presets, and next to them the figure that they redraw.

    Args:
        draw: see the module.
        controls: {argument of `draw`: (text, first value, all values)}. Words become a row of
            buttons, numbers a slider. (JupyterLab takes the arrow keys of a menu to change cells.)
        places: {title of a preset button: the values that differ from the first ones}.
        used: a function of the values that returns the names of the controls that matter now;
            the other ones are hidden. None: all of them matter.
        below: a function of the values that returns HTML to show below the figure.
        panels: how many axes `draw` needs.
        downhill: a function of the values that returns the values one step on, or the same ones
            at the end. A button walks all the way.
        presets: False where the controls reach all places by one click.

    Returns:
        A Box of a VBox with the controls and two HTML widgets: the figure, and what is below.
        When headless (LRC_HEADLESS=1), when nobody could move a slider, HTML with a button for
        each preset instead.
    """
    if os.environ.get("LRC_HEADLESS"):
        start = {name: first for name, (_, first, _) in controls.items()}
        shown = {title: start | place for title, place in places.items()}
        if downhill:
            shown["rolled downhill"] = _bottom(downhill, start)
        return HTML(_clickable(draw, shown, below, panels))
    moved, busy = {name: _control(*control) for name, control in controls.items()}, []
    picture = ipywidgets.HTML(layout={"flex": "3 1 32em", "min_width": "0"})
    more = ipywidgets.HTML(layout={"flex": "1 1 100%", "min_width": "0"})

    def values():
        return {name: control.value for name, control in moved.items()}

    def redraw(_=None):
        if busy:
            return
        here = values()
        names = used(**here) if used else moved
        for name, control in moved.items():
            control.layout.display = None if name in names else "none"
        picture.value = picture_html(draw, here, panels)
        more.value = below(**here) if below else ""

    def go_to(wanted):
        busy.append("one picture, not one per control")
        for name, control in moved.items():
            control.value = wanted.get(name, controls[name][1])
        busy.clear()
        redraw()

    shown = places if presets else {}
    actions = {title: functools.partial(go_to, place) for title, place in shown.items()}
    if downhill:
        actions["roll downhill"] = lambda: _bottom(downhill, values(), go_to)
    actions["reset"] = functools.partial(go_to, {})
    buttons = [ipywidgets.Button(description=t, layout={"width": "auto"}) for t in actions]
    for button, action in zip(buttons, actions.values(), strict=True):
        button.on_click(lambda _, action=action: action())
    for control in moved.values():
        control.observe(redraw, names="value")
    redraw()
    row = ipywidgets.Box(buttons, layout={"flex_flow": "row wrap"})
    column = ipywidgets.VBox([*moved.values(), row], layout={"flex": "2 1 20em", "min_width": "0"})
    look = {"flex_flow": "row wrap", "grid_gap": "1em", "align_items": "flex-start"}
    return ipywidgets.Box([column, picture, more], layout=look).add_class("lrc-explorer")


def _control(name, first, values):
    words = all(isinstance(value, str) for value in values)
    options = [(value if words else f"{value:g}", value) for value in values]
    look = {"style": {"description_width": "11em"}, "layout": {"width": "auto"}}
    if words:
        look["style"]["button_width"] = "auto"
    kind = ipywidgets.ToggleButtons if words else ipywidgets.SelectionSlider
    return kind(options=options, value=first, description=name, **look)


def _bottom(downhill, values: dict, see=lambda values: None) -> dict:
    """The values where `downhill` ends; `see` is called at every step."""
    while (there := downhill(**values)) != values:
        see(values := there)
    return values


def picture_html(draw, values: dict, panels: int = 2) -> str:
    """One position as HTML: a white card with a PNG and the words of `draw`, its alt text too."""
    return f'<div style="{CARD}">{_picture(draw, values, panels)}</div>'


def _picture(draw, values, panels):
    fig, words = _positions(draw, {"": values}, panels, flat=True)
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=144)
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    size = f'width="{96 * fig.get_figwidth():.0f}" style="max-width:100%"'
    image = f'<img src="{source}" alt="{escaped(words)}" {size}>'
    return f'{image}<p role="status">{escaped(words)}</p>'


def _clickable(draw, places, below, panels):
    """A radio button for each place; plain CSS shows the picture of the one that is chosen."""
    parts, group = [], f"explore-{next(iter(next(iter(places.values()))))}"
    for title, values in places.items():
        button = f'<input type="radio" name="{group}" {"" if parts else "checked"}>'
        shown = _picture(draw, values, panels) + (below(**values) if below else "")
        parts.append(f"<label>{button} {escaped(title)}</label><div>{shown}</div>")
    legend = "<legend>Positions of the sliders</legend>"
    return f'{CLICKED}<fieldset class="lrc-explorer positions">{legend}{"".join(parts)}</fieldset>'
