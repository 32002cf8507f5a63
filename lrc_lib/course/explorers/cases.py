"""A browser of dev rows: sorted by a measure, with texts, labels and what each system answers.

Texts are data: they are escaped wherever they are shown. Taught in notebooks/07_mse_and_angle.
"""

import functools

import numpy as np
import pandas as pd

from lrc_lib.course.display import escaped, table_html
from lrc_lib.course.explorers.sliders import explorer, positions
from lrc_lib.course.palette import BLUE, VERMILION
from lrc_lib.errors import InputError

PAGE = 8  # rows
PARTS = 10  # into which the sorted rows are divided
ORDERS = ("largest first", "smallest first")
STYLE = """<style>.lrc-explorer table :is(th, td, caption) {text-align: left; vertical-align: top;
padding: .3em .6em; border-bottom: 1px solid #8886; line-height: 1.4}
.lrc-explorer td:first-of-type {min-width: 16em} .lrc-explorer mark {white-space: nowrap}
.lrc-explorer .widget-readout {min-width: fit-content}</style>"""


def measures(rows: pd.DataFrame, wrong: dict) -> list[str]:
    """The columns to sort by: all but "text", "label" and the systems' answers.

    Raises:
        InputError: no rows, columns that are missing, or mistakes of another length.
    """
    named = ("text", "label", *wrong)
    found = [name for name in rows if name not in named]
    missing = [f"column '{name}'" for name in named if name not in rows]
    if missing or not found:
        what = missing[0] if missing else "column of a measure to sort by"
        raise InputError(f"The dev rows have no {what}.")
    if len(rows) == 0:
        raise InputError(
            "There are no dev rows to show. `python reproduce.py --only 07` makes them."
        )
    for system, missed in wrong.items():
        if len(missed) != len(rows):
            raise InputError(f"{len(missed)} mistakes of '{system}' for {len(rows)} dev rows.")
    return found


def kinds(wrong: dict) -> dict:
    """{words: (n,) bool} of rows by which of the two systems is right."""
    (first, a), (second, b) = ((name, np.asarray(w, dtype=bool)) for name, w in wrong.items())
    return {
        "all rows": np.ones(len(a), dtype=bool),
        f"only {first} is right": ~a & b,
        f"only {second} is right": a & ~b,
        "both are wrong": a & b,
        "both are right": ~a & ~b,
    }


def ordered(values, chosen, largest: bool) -> np.ndarray:
    """Numbers of the `chosen` rows by their values, NaN last, ties by row number."""
    rows, values = np.flatnonzero(chosen), np.asarray(values, dtype=float)
    return rows[np.argsort(-values[rows] if largest else values[rows], kind="stable")]


def page_of(rows, wrong, by: str, order: str, kind: str, page: int) -> str:
    """A page of sorted rows as an HTML table, with what each system answers and its mistakes.

    Args:
        rows, wrong: as for `explore_cases`.
        by: the measure.
        order, kind: one of `ORDERS`, one of `kinds`.
        page: from 1; a page after the last one is the last one.
    """
    found = ordered(rows[by], kinds(wrong)[kind], order == ORDERS[0])
    last = max(1, -(-len(found) // PAGE))
    page = min(page, last)
    chosen = found[(page - 1) * PAGE : page * PAGE]
    table = rows.iloc[chosen].copy()
    for system, missed in wrong.items():
        marks = np.where(np.asarray(missed)[chosen], " ✗ wrong", " ✓")
        table[system] = [f"{said}{mark}" for said, mark in zip(table[system], marks, strict=True)]
    names = ["row", *(f"{name} says" if name in wrong else str(name) for name in table)]
    lines = [[int(i), *values] for i, values in zip(chosen, table.to_numpy(object), strict=True)]
    caption = f"{kind}, by {by}, {order}: {len(found)} rows, page {page} of {last}"
    html = table_html(names, lines, escaped(caption))
    return STYLE + html.replace(" ✗ wrong<", " <mark>✗ wrong</mark><")


def mistakes_at(axes, rows, wrong, by: str, **_) -> str:
    """Draws where the mistakes lie in the order by one measure; `rows`, `wrong` as above."""
    order = ordered(rows[by], np.full(len(rows), True), largest=False)
    parts = np.array_split(order, min(PARTS, len(order)))
    x, ends = 100 * (np.arange(len(parts)) + 0.5) / len(parts), []
    looks = ("o-", BLUE, BLUE, 5), ("s--", VERMILION, "white", 9)
    for (system, missed), (line, colour, face, size) in zip(wrong.items(), looks, strict=True):
        share = [100 * np.mean(np.asarray(missed)[part]) for part in parts]
        look = {"mfc": face, "ms": size, "zorder": 3 - size / 10}  # none hides the other
        axes[0].plot(x, share, line, color=colour, label=f"{system} is wrong", **look)
        ends.append(f"{system} gives {share[0]:.0f} % and {share[-1]:.0f} % wrong answers")
    axes[0].set(xlim=(0, 100), ylim=(0, 100), ylabel="wrong answers (%)")
    axes[0].set_xlabel("place in the order,\nsmallest first (%)")
    return f"At the smallest and at the largest values of {by}, {'; '.join(ends)}."


def explore_cases(rows: pd.DataFrame, wrong: dict):
    """Sliders over measures, kinds of rows, and the pages of dev rows that they find. (Table 5)

    Args:
        rows: one dev row each: "text", "label", a column of answers for each system, and the
            measures.
        wrong: {system: (n,) bool} of two systems.

    Returns:
        The widget; when headless, HTML with a button for each preset.

    Raises:
        InputError: no rows, or columns and mistakes that do not fit.

    Taught in: notebooks/07_mse_and_angle.
    """
    found = measures(rows, wrong)
    controls = {
        "by": ("sort by", found[0], found),
        "order": ("order", ORDERS[0], ORDERS),
        "kind": ("show", "all rows", [*kinds(wrong)]),
        "page": ("page", 1, range(1, -(-len(rows) // PAGE) + 1)),
    }
    draw, below = (functools.partial(f, rows=rows, wrong=wrong) for f in (mistakes_at, page_of))
    places = {f"largest {name}": {"by": name} for name in found}
    places |= {kind: {"kind": kind} for kind in list(kinds(wrong))[1:3]}
    return explorer(draw, controls, places, below=below, panels=1, presets=False)


def draw_cases(rows: pd.DataFrame, wrong: dict):
    """Where the mistakes lie when the dev rows are sorted by each measure, as a figure.

    Args:
        rows, wrong: as for `explore_cases`.

    Taught in: notebooks/07_mse_and_angle.
    """
    draw = functools.partial(mistakes_at, rows=rows, wrong=wrong)
    return positions(draw, {f"by {name}": {"by": name} for name in measures(rows, wrong)}, 1)
