"""Figures, tables, headings and colours that everybody can read: notebooks, report and plots."""

import re
import xml.etree.ElementTree as ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest
from audit import CONTRAST, FAULTS, PALE, WIDER, faults_of, weak_alt
from browser import browser_page
from matplotlib.colors import to_rgb

from lrc_lib.course import palette, plots
from lrc_lib.course.notebook import NOTEBOOKS, SHORTEST_ALT

SVG = "{http://www.w3.org/2000/svg}"


def contrast_on_white(colour) -> float:
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]
    return 1.05 / (float(np.dot([0.2126, 0.7152, 0.0722], linear)) + 0.05)


def test_the_report_is_sound_in_a_browser(smoke):
    with browser_page() as page:
        assert faults_of(page, (smoke[0] / "report.html").as_uri()) == []
        page.set_viewport_size({"width": 1280, "height": 800})
        page.reload()  # folds are closed again
        assert page.evaluate("document.documentElement.scrollHeight") <= 25 * 800
        assert page.locator("table.verdicts").bounding_box()["y"] < 400


BAD = """<h2>Late</h2><h4>A jump</h4><p style="color:#aaa">pale</p><p id=a></p><p id=a></p>
<table><tr><td>x</td></tr></table><table><tbody><tr><th>x</th></tr></tbody></table>
<img src="data:,"><input><div tabindex=0 role=group></div>
<div style="background:#0008"><p style="background:#fff2;color:#777">pale on composed</p></div>
<div style="width:500px">wide</div><div style="overflow-x:auto"><p style="width:900px">ok</p></div>
"""


def test_the_audit_sees_what_is_wrong():
    with browser_page(viewport={"width": 375, "height": 600}) as page:
        page.set_content(BAD)
        found = "; ".join(page.evaluate(FAULTS))
        for fault in (
            "no lang", "no title", "not one h1", "a jump to h2: Late", "a jump to h4", "no alt",
            "no headers: x", "th without scope", "no label", "no name", "the same id twice: a",
            "a row without a header",
        ):  # fmt: skip
            assert fault in found, fault
        pale = page.evaluate(PALE, CONTRAST)
        assert len(pale) == 2 and "2.32" in pale[0]
        assert ["500px" in html for html in page.evaluate(WIDER)] == [True]


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "only 0"),
        ("short", "only 5"),
        ("Figure of the results.", "generic"),
        ("01_cos_nce_geometry-circle.png", "generic"),
        ("The plot of the training losses", ""),
        ("A line that falls from left to right", ""),
    ],
)
def test_generic_alt_texts_are_known(text, says):
    assert weak_alt(text, SHORTEST_ALT).startswith(says) and bool(says) == bool(
        weak_alt(text, SHORTEST_ALT)
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_figure_of_a_notebook_says_what_it_shows(smoke, name):
    notebook = nbformat.read(smoke[0] / "notebooks" / f"{name}.ipynb", as_version=4)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    pictures = [o for o in outputs if any("image" in mime for mime in o.get("data", {}))]
    alts = [o.metadata.get("image/png", {}).get("alt", "") for o in pictures]
    assert [weak for alt in alts if (weak := weak_alt(alt, SHORTEST_ALT))] == []
    assert len(set(alts)) == len(alts), "two figures share an alt text"
    embedded = re.findall(r"<img|!\[", "".join(c.source for c in notebook.cells))
    assert not embedded, "figures go through session.figure"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_tables_in_outputs_have_headers_and_a_caption(smoke, name):
    notebook = nbformat.read(smoke[0] / "notebooks" / f"{name}.ipynb", as_version=4)
    htmls = [
        o.data["text/html"]
        for cell in notebook.cells
        for o in cell.get("outputs", [])
        if "text/html" in o.get("data", {})
    ]
    for table in re.findall(r"<table.*?</table>", "".join(htmls), re.S):
        assert re.search(r"<caption>[^<]", table), table[:200]
        assert not re.search(r"<th(?![a-z]| scope=)", table)
        assert table.count('scope="row"') == table.split("<tbody>")[1].count("<tr>")


def texts_of(svg):
    """(colour, opacity) of every text of a figure, and of a box behind it that is not white."""
    for group in ElementTree.parse(svg).iter(f"{SVG}g"):
        if re.fullmatch(r"text_\d+", group.get("id", "")):
            boxes = [g for g in group.iter(f"{SVG}g") if g.get("id", "").startswith("patch_")]
            white = {path for box in boxes for path in box if "#ffffff" in path.get("style", "")}
            styles = ";".join(g.get("style", "") for g in group.iter() if g not in white)
            colours = re.findall(r"fill: ?(#\w+)", styles) or ["#000000"]
            yield colours, re.findall(r"opacity: ?([\d.]+)", styles)


def test_text_in_every_figure_stands_out_from_the_white(smoke):
    figures = sorted((smoke[0] / "results" / "figures").glob("*.svg"))
    assert len(figures) > 20
    pale = {
        (figure.name, colour)
        for figure in figures
        for colours, opacity in texts_of(figure)
        for colour in colours
        if opacity or contrast_on_white(colour) < CONTRAST
    }
    assert pale == set()


def test_ink_is_dark_enough_and_keeps_the_hue():
    from matplotlib.colors import rgb_to_hsv

    for colour in (*palette.COLOURS, palette.GREY):
        ink = palette.ink(colour)
        assert contrast_on_white(ink) >= CONTRAST
        before, after = (rgb_to_hsv(to_rgb(c)) for c in (colour, ink))
        assert after[0] == pytest.approx(before[0], abs=0.02)
    for dark in (palette.BLUE, palette.BLACK, palette.GREY):
        assert palette.ink(dark) == dark


def test_the_palette_never_stands_alone():
    for cues in (palette.COLOURS, palette.LINES, palette.HATCHES):
        assert len(set(cues)) == len(palette.COLOURS)


STEPS = np.arange(40.0)
SERIES = {str(i): (STEPS, STEPS * i) for i in range(7)}
SMOOTH = {"panel": {str(i): (STEPS, STEPS * i, STEPS * i) for i in range(7)}}


def test_series_of_one_figure_differ_in_more_than_colour():
    def dashes(lines):
        return {str(line._unscaled_dash_pattern) for line in lines}

    assert len(dashes(plots.curves(SERIES, "x", "y").axes[0].lines)) == 7
    smooth = plots.smoothed_curves(SMOOTH, "x", "y").axes[0].lines
    assert len(dashes([line for line in smooth if line.get_label() in SERIES])) == 7
    bars = plots.grouped_bars(pd.DataFrame({str(i): [1, 2] for i in range(7)}), "y").axes[0]
    assert len({patch.get_hatch() for group in bars.containers for patch in group}) == 7
    groups = {str(i): STEPS + i for i in range(7)}
    assert len(dashes(plots.outlined_histograms(groups, "x").axes[0].lines)) == 7
