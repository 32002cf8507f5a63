"""The ipywidgets side of every explorer: sliders with names, one picture, the numbers in words.

ipywidgets is imported only when a widget is wanted. Headless (LRC_HEADLESS=1) nothing is built.
"""

import os

from ..display import escaped
from .svg import to_svg

NAME = {"description_width": "15em"}
WIDE = {"width": "36em", "max_width": "98%"}
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
        value, min=low, max=high, step=step, description=name, style=NAME, layout=dict(WIDE),
        readout_format="d" if whole else ".2f",
    )  # fmt: skip


def choice(name: str, options, value):
    """A slider over named options: a list, or (text, value) pairs."""
    import ipywidgets

    return ipywidgets.SelectionSlider(
        options=options, value=value, description=name, style=NAME, layout=dict(WIDE)
    )


def menu(name: str, options, value=None):
    """A drop-down menu over a list, or (text, value) pairs; the first one unless told."""
    import ipywidgets

    look = {"description": name, "style": NAME, "layout": dict(WIDE)}
    menu = ipywidgets.Dropdown(options=options, **look)
    if value is not None:
        menu.value = value
    return menu


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
    return f'{to_svg(view)}<p role="status">{escaped(view.says)}</p>'
