"""Sliders for JupyterLab. Headless (LRC_HEADLESS=1) nothing is built: the static figure stands.

ipywidgets is imported only when a widget is wanted.
"""

import io
import os

import numpy as np


def fan(centre: float, spread: float, count: int = 15) -> np.ndarray:
    """Directions in the plane: `count` unit vectors, evenly over `spread` degrees about `centre`.

    Args:
        centre, spread: degrees.
        count: K >= 1.

    Returns:
        (K, 2).

    Taught in: notebooks/01_cos_nce_geometry.
    """
    degrees = centre + (np.linspace(-spread / 2, spread / 2, count) if count > 1 else np.zeros(1))
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def explore_cos_nce():
    """Sliders over the negatives' direction, spread and number; the loss curve follows. (Eq. 1)

    Returns:
        The widget, or None when headless; then one line says where the static figure is.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    if os.environ.get("LRC_HEADLESS"):
        print("No sliders when headless: the static figure above shows four of their positions.")
        return None
    import ipywidgets

    from .plots import loss_on_circle

    def slider(kind, value, low, high, step, text):
        style = {"description_width": "14em"}
        return kind(value, min=low, max=high, step=step, description=text, style=style,
                    continuous_update=False, layout={"width": "34em"})  # fmt: skip

    centre = slider(ipywidgets.IntSlider, 70, -180, 180, 5, "negatives' direction (degrees)")
    spread = slider(ipywidgets.IntSlider, 60, 0, 360, 10, "negatives' spread (degrees)")
    count = slider(ipywidgets.IntSlider, 15, 1, 31, 1, "number of negatives K")
    picture = ipywidgets.Image(format="png")

    def draw(_=None):
        png = io.BytesIO()
        figure = loss_on_circle((1.0, 0.0), fan(centre.value, spread.value, count.value))
        figure.savefig(png, format="png", dpi=96)
        picture.value = png.getvalue()

    for control in (centre, spread, count):
        control.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([centre, spread, count, picture])
