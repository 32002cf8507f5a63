"""A browser of dev rows: sorted by a measure, with texts, labels and what each system answers.

Texts are data: they are escaped wherever they are shown. Taught in notebooks/07_mse_and_angle.
"""

import numpy as np
import pandas as pd

from lrc_lib.course.display import escaped, table_html
from lrc_lib.course.explorers.controls import choice, explorer, headless, slider
from lrc_lib.course.explorers.picture import Mark, Panel, View
from lrc_lib.course.explorers.static import positions
from lrc_lib.course.palette import COLOURS
from lrc_lib.errors import InputError

PAGE = 8  # rows
PARTS = 10  # into which the sorted rows are divided
ORDERS = ("largest first", "smallest first")
STYLE = """<style>
table.lrc-cases{border-collapse:collapse;line-height:1.4;max-width:60em}
.lrc-cases caption{text-align:left;font-weight:600;padding:.3em 0}
.lrc-cases th,.lrc-cases td{padding:.25em .6em;text-align:left;vertical-align:top;
border-bottom:1px solid #8886;white-space:normal;overflow-wrap:anywhere}
.lrc-cases td:nth-child(2){min-width:16em}
</style>"""


def measures(rows: pd.DataFrame, wrong: dict) -> list[str]:
    """The columns to sort by: all but "text", "label" and the systems' answers.

    Raises:
        InputError: no rows, columns that are missing, or mistakes of another length.
    """
    missing = [name for name in ("text", "label", *wrong) if name not in rows]
    found = [name for name in rows if name not in ("text", "label", *wrong)]
    if missing or not found:
        what = f"column '{missing[0]}'" if missing else "column of a measure to sort by"
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
    """{words: (n,) bool} of rows by who answers them rightly; two systems."""
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


def cases_page(rows, wrong, by: str, order="largest first", kind="all rows", page=1) -> str:
    """One page of the browser as HTML; a page after the last one is the last one."""
    found = ordered(rows[by], kinds(wrong)[kind], order == ORDERS[0])
    last = max(1, -(-len(found) // PAGE))
    page = min(page, last)
    shown = found[(page - 1) * PAGE : page * PAGE]
    table = rows.iloc[shown].copy()
    for system, missed in wrong.items():
        marks = np.where(np.asarray(missed)[shown], " ✗ wrong", " ✓")
        table[system] = [f"{said}{mark}" for said, mark in zip(table[system], marks, strict=True)]
    names = ["row", *(f"{name} says" if name in wrong else str(name) for name in table)]
    lines = [[int(row), *values] for row, values in zip(shown, table.to_numpy(object), strict=True)]
    caption = f"{kind}, by {by}, {order}: {len(found)} rows, page {page} of {last}"
    html = table_html(names, lines, escaped(caption))
    return STYLE + html.replace('class="lrc"', 'class="lrc-cases"', 1)


def explore_cases(rows: pd.DataFrame, wrong: dict):
    """Sliders over measures, kinds of rows, and the pages of dev rows that they find. (Table 5)

    Args:
        rows: a dev row each: "text", "label", a column of answers for each system, and the
            measures.
        wrong: {system: (n,) bool} of two systems.

    Returns:
        The widget, or None when headless; then one line says where the static figure is.

    Raises:
        InputError: no rows, or columns and mistakes that do not fit.

    Taught in: notebooks/07_mse_and_angle.
    """
    found = measures(rows, wrong)
    if headless("where the mistakes lie in each order"):
        return None
    controls = {
        "by": choice("sort by", found),
        "order": choice("order", ORDERS),
        "kind": choice("show", [*kinds(wrong)]),
        "page": slider("page", 1, 1, -(-len(rows) // PAGE), 1),
    }
    return explorer(lambda **values: cases_page(rows, wrong, **values), controls)


def draw_cases(rows: pd.DataFrame, wrong: dict):
    """Where the mistakes lie when the dev rows are sorted by each measure, as a figure.

    Args:
        rows, wrong: as for `explore_cases`.

    Taught in: notebooks/07_mse_and_angle.
    """
    return positions({f"by {name}": _mistakes(rows[name], wrong) for name in measures(rows, wrong)})


def _mistakes(values, wrong):
    order = ordered(values, np.ones(len(values), dtype=bool), largest=False)
    parts = np.array_split(order, min(PARTS, len(order)))
    x = 100 * (np.arange(len(parts)) + 0.5) / len(parts)
    marks = []
    for (system, missed), line, marker, colour in zip(
        wrong.items(), ("-", "--"), "os", COLOURS, strict=False
    ):
        look = {"filled": not marks, "size": 13 if marks else 7}  # none hides the other
        share = [100 * np.mean(np.asarray(missed)[part]) for part in parts]
        marks.append(Mark(x, share, colour, line, marker, f"{system} is wrong", **look))
    names = "place in the order, smallest first (%)", "wrong answers (%)"
    return View((Panel("", (0, 100), (0, 100), marks[::-1], *names),), "", "")
