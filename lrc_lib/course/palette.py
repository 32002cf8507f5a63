"""Colours, line styles and hatches of all figures.

Colours are Okabe and Ito's, told apart by the colour-blind. None stands alone: whatever is drawn in
a colour has a line style, a marker, a hatch or a label, too. As text most are too pale: `ink`.
"""

import matplotlib
from cycler import cycler

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#666666"
INKS = {  # the same hues for text, dark enough to be read on white
    VERMILION: "#B75100",
    GREEN: "#007E5C",
    PURPLE: "#995B7D",
    ORANGE: "#936600",
    SKY: "#387597",
}
COLOURS = (BLUE, VERMILION, GREEN, BLACK, PURPLE, ORANGE, SKY)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++")


def ink(colour: str) -> str:
    """The colour for text that belongs to what is drawn in `colour`: contrast 4.5 on white."""
    return INKS.get(colour, colour)


def use_style() -> None:
    """Sets matplotlib's defaults for the kit: palette, line styles, sizes, reproducible SVG."""
    matplotlib.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "grid.alpha": 0.25,
            "font.size": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "figure.facecolor": "white",
            "svg.hashsalt": "lrc_lib",
        }
    )
