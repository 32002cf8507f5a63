"""The claims as a picture: for each that is about points, our interval and the paper's number.

The rows are those of notebook 09's table of verdicts, as words. The report draws them in its table;
tools/readme.py draws the same marks as one SVG for README and the site.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jinja2

from lrc_lib.course.display import visible
from lrc_lib.results.claims import VERDICTS

HERE = Path(__file__).parent
SIGNS = {  # verdict: the class of its colour, and a sign next to it
    "opposite": ("bad", "✗"),
    "undecided": ("open", "?"),
    "supported": ("good", "✓"),
    "equivalent": ("good", "≈"),
    "not tested here": ("unrun", "○"),
    "not run": ("unrun", "–"),
}
WIDTH, EDGE = 260, 8  # of the strip with the marks, in pixels
NUMBER = r"([+-]?\d+(?:\.\d+)?)"
OURS = re.compile(rf"{NUMBER} points \({NUMBER} to {NUMBER}")
PAPERS = re.compile(rf"{NUMBER} points")


@dataclass(frozen=True)
class Mark:
    """Where the marks of one claim lie on the strip. `beyond`: our number, if it lies past the end
    of the strip; else "".
    """

    low: float
    at: float
    high: float
    paper: float | None
    beyond: str


@dataclass(frozen=True)
class Picture:
    """The strip: where 0 lies, (place, number) of its ticks, and {claim: Mark}."""

    zero: float
    ticks: list
    marks: dict
    width: int = WIDTH


def picture(claims) -> Picture:
    """The `Picture` of rows of verdicts; its axis reaches as far as the paper's claims need.

    Args:
        claims: dicts with "claim", "paper" and "ours", as text.
    """
    found = {}
    for row in claims:
        if ours := OURS.match(str(row["ours"])):
            papers = PAPERS.match(str(row["paper"]))
            found[row["claim"]] = *map(float, ours.groups()), float(papers[1]) if papers else None
    axis = [x for row in found.values() if row[3] is not None for x in row] or [0.0, 1.0]
    low, high = min(0.0, *axis), max(0.0, *axis)
    scale = (WIDTH - 2 * EDGE) / (high - low or 1.0)

    def place(x: float) -> float:
        return round(min(WIDTH, max(0.0, EDGE + (x - low) * scale)), 1)

    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if (high - low) / s < 6)
    ticks = range(-int(-low // step) * step, int(high) + 1, step)
    marks = {}
    for claim, (at, least, most, papers) in found.items():
        beyond = f"{at:+g}" if at > high else ""
        diamond = None if papers is None else place(papers)
        marks[claim] = Mark(place(least), place(at), place(most), diamond, beyond)
    return Picture(place(0.0), [(place(x), f"{x:+d}" if x else "0") for x in ticks], marks)


def counts(claims) -> str:
    """ "15 claims: 4 undecided, 4 supported, 7 not run", what did not reproduce first."""
    number = Counter(row["verdict"] for row in claims)
    parts = (f"{number[word]} {word}" for word in VERDICTS if number[word])
    return f"{len(claims)} claims: {', '.join(parts)}"


def short(claims) -> list[dict]:
    """The rows that were measured, cut short: numbers in points lose their unit, and what "ours"
    rests on is in "basis", where the paper's number is from in "source".
    """
    rows = []
    for row in claims:
        if row["verdict"] != "not run":
            ours, _, basis = str(row["ours"] or "").partition("; ")
            paper, _, source = str(row["paper"] or "").partition(" (")
            made = {"basis": basis, "source": source.removesuffix(")")}
            made |= zip(("kind", "sign"), SIGNS.get(row["verdict"], ("", "")), strict=True)
            made |= {"ours": ours.replace(" points", ""), "paper": paper.replace(" points", "")}
            rows.append(row | made)
    return rows


def environment(*folders: Path) -> jinja2.Environment:
    """The templates next to this file, and in `folders`; whatever they show is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, *folders]), autoescape=True, finalize=shown,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip


def shown(value):
    """A value on a page: nothing for a missing one, four significant digits of a float."""
    if value is None or value != value:
        return ""
    if hasattr(value, "__html__"):  # made by a template itself
        return value
    return f"{value:.4g}" if isinstance(value, float) else visible(value)
