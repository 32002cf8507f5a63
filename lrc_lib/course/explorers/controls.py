"""The ipywidgets side of every explorer: sliders with names, one picture, the numbers in words.

ipywidgets is imported only when a widget is wanted. Headless (LRC_HEADLESS=1) nothing is built.
"""

import os

from lrc_lib.course.display import escaped
from lrc_lib.course.explorers.svg import to_svg

WORDS = "line-height:1.4;margin:.4em 0;max-width:60em"  # of the numbers below a picture
HEADLESS = "No sliders when headless: the static figure above shows {}."


def headless(shows: str = "four of their positions") -> bool:
    """Whether widgets would be in vain; then one line says what the static figure shows."""
    if os.environ.get("LRC_HEADLESS"):
        print(HEADLESS.format(shows))
        return True
    return False


def slider(name: str, value, low, high, step):
    """A slider over whole or decimal numbers, by the type of `step`, that reports every move."""
    import ipywidgets

    whole = isinstance(step, int)
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return kind(
        value, min=low, max=high, step=step, readout_format="d" if whole else ".2f", **_look(name)
    )  # fmt: skip


def choice(name: str, options, value=None):
    """A slider over named options: a list, or (text, value) pairs; None is the first of a list.

    No drop-down menu: JupyterLab takes its arrow keys to move from cell to cell.
    """
    import ipywidgets

    first = next(iter(options)) if value is None else value
    return ipywidgets.SelectionSlider(options=options, value=first, **_look(name))


def _look(name):
    shape = {"width": "40em", "max_width": "98%"}
    return {
        "description": name,
        "tooltip": name,
        "style": {"description_width": "16em"},
        "layout": shape,
    }


def explorer(draw, controls: dict, shown=None):
    """Sliders above the picture that they change.

    Args:
        draw: a function of the controls' values, by name, that returns a `View` or HTML.
        controls: {name of the argument: widget}.
        shown: a function of the values that returns the names of the controls that count;
            the others are hidden. All of them if None.

    Returns:
        A VBox: the controls, and an HTML widget last.
    """
    import ipywidgets

    picture = ipywidgets.HTML()

    def update(_=None):
        values = {name: control.value for name, control in controls.items()}
        count = controls if shown is None else shown(**values)
        for name, control in controls.items():
            control.layout.display = None if name in count else "none"
        made = draw(**values)
        picture.value = made if isinstance(made, str) else page(made)

    for control in controls.values():
        control.observe(update, names="value")
    update()
    return ipywidgets.VBox([*controls.values(), picture])


def page(view) -> str:
    """A view as HTML: the picture, and the numbers below it in words."""
    return f'{to_svg(view)}<p role="status" style="{WORDS}">{escaped(view.says)}</p>'
