"""What an explorer shows, as data: no drawing here, so that it can be computed and tested alone.

A `View` is drawn twice from the same data: `svg.to_svg` for the sliders, in a millisecond or two,
and `static.positions` with matplotlib for the page. Every mark has a line style or a marker beside
its colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mark:
    """Points, joined by a line or set apart by a marker.

    Attributes:
        x, y: (n,) numbers of one length; NaN interrupts the line.
        colour: "#rrggbb".
        line: "-", "--", "-.", ":" or "" for none.
        marker: "o", "s", "D", "^", "x" or "" for none.
        label: its words in the legend; marks of one label share an entry.
        arrow: a head at the last point.
        filled: False for a hollow marker.
        size: of the marker, in points.
    """

    x: Sequence
    y: Sequence
    colour: str
    line: str = ""
    marker: str = ""
    label: str = ""
    arrow: bool = False
    filled: bool = True
    size: float = 8
    width: float = 2


@dataclass(frozen=True)
class Panel:
    """Marks on two axes.

    Attributes:
        x, y: (low, high).
        plane: both axes have one scale and are not drawn.
        xticks: {place: text} where the numbers themselves should not stand.
    """

    title: str
    x: tuple
    y: tuple
    marks: list[Mark]
    xlabel: str = ""
    ylabel: str = ""
    plane: bool = False
    xticks: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Bars:
    """Level bars, each with its name before it and its value after it, from 0 to `limit`.

    Attributes:
        rows: (name, value, text) each, from the top.
    """

    title: str
    rows: list[tuple]
    limit: float
    colour: str


@dataclass(frozen=True)
class View:
    """One position of an explorer's sliders.

    Attributes:
        panels: side by side.
        says: the numbers in words, shown below.
        alt: what the picture shows, for those who do not see it.
    """

    panels: tuple
    says: str
    alt: str

    @property
    def legend(self) -> dict:
        """{label: the first mark that has it}, of all panels."""
        found = {}
        for panel in self.panels:
            for mark in getattr(panel, "marks", ()):
                if mark.label:
                    found.setdefault(mark.label, mark)
        return found
