"""The report: whole, harmless and readable without a network."""

import html.parser
import json
import re

import numpy as np
import pandas as pd
import pytest

from lrc_lib.cli import forest
from lrc_lib.cli.report import OPEN, render, short_table, show, write
from lrc_lib.course.display import escaped, plain, table_html
from lrc_lib.course.notebook import NOTEBOOKS, SCHEMA
from lrc_lib.data.text import visible

HOSTILE = "<script>alert(1)</script>\x00\x1b[31m\u202e\"'&"
PNG = b"\x89PNG\r\n\x1a\n"
NAME = "09_glue_results"


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def record(name=NAME, **more):
    return {
        "schema": SCHEMA,
        "notebook": name,
        "parameters": {"profile": "smoke"},
        "findings": ["The optimum is $u^*$; " + HOSTILE],
        "figures": [
            {"name": "f", "file": "figures/f.png", "alt": f"A line {HOSTILE}", "caption": HOSTILE}
        ],
        "tables": [
            {"name": "t", "caption": HOSTILE, "note": "n", "columns": ["a", HOSTILE],
             "rows": [[HOSTILE, 0.123456], ["b", None]]}
        ],
        "numbers": {
            "verdict": [
                {"claim": HOSTILE, "paper": 1.5, "ours": "x", "verdict": "opposite", "reason": "y"}
            ]
        },
        "provenance": {"time": "2026-01-01", "versions": {"torch": "2"}, "device": "cpu"},
        **more,
    }  # fmt: skip


@pytest.fixture
def summary(tmp_path):
    (tmp_path / "results" / "figures").mkdir(parents=True)
    (tmp_path / "results" / "figures" / "f.png").write_bytes(PNG)
    base = {"seconds": 1.0, "peak_mb": 5.0, "message": ""}
    failed = {"name": "01_cos_nce_geometry", "status": "failed", "result": None}
    failed |= base | {"message": HOSTILE, "traceback": HOSTILE}
    good = {"name": NAME, "status": "ok", "result": record()} | base
    run = {"name": HOSTILE, "status": "trained", "message": "", "metrics": {}, "spec": {}}
    return {
        "schema": SCHEMA, "time": "now", "profile": "smoke", "title": HOSTILE, "tasks": ["nli"],
        "seeds": 1, "data": HOSTILE, "settings": {}, "status": "failed", "seconds": 2.0,
        "notebooks": [failed, good], "runs": {"id": run | {"provenance": {"seconds": 3.0}}},
    }  # fmt: skip


def test_hostile_text_is_shown_and_harmless(summary, tmp_path):
    raw = render(summary, tmp_path)
    page = Page(raw)
    assert not page.all("script")
    assert "<script>alert(1)</script>" in page.text  # as text
    assert not set(raw) & {chr(code) for code in (*range(9), *range(11, 32), 0x202E)}
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)


def test_nothing_comes_from_elsewhere(summary, tmp_path):
    page = Page(render(summary, tmp_path))
    for _, attrs in page.tags:
        for key in ("src", "href"):
            assert attrs.get(key, "#").startswith(("#", "data:image/png;base64,"))
    assert not page.all("link") and not page.all("iframe")
    assert "url(" not in render(summary, tmp_path)


def test_figures_have_alt_text_and_headings_are_in_order(summary, tmp_path):
    page = Page(render(summary, tmp_path))
    images = page.all("img")
    assert len(images) == 1 and all(image["alt"].startswith("A line") for image in images)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("th") and all(th["scope"] in ("row", "col") for th in page.all("th"))


def test_the_verdict_comes_first_and_without_it_the_report_says_how_to_get_it(summary, tmp_path):
    text = Page(render(summary, tmp_path)).text
    assert text.index("opposite") < text.rindex(NOTEBOOKS[NAME].question)
    summary["notebooks"].pop()
    assert "reproduce.py --only 09" in Page(render(summary, tmp_path)).text


def test_a_verdict_has_a_sign_and_a_class_and_what_a_number_rests_on_is_small(summary, tmp_path):
    (row,) = summary["notebooks"][1]["result"]["numbers"]["verdict"]
    row["ours"], row["paper"] = "+1.0 points (+0.1 to +2.0); dev, n = 9 <b>", "+3.5 points (test)"
    html = render(summary, tmp_path)
    assert '<td class="bad"><span aria-hidden="true">✗</span> opposite</td>' in html
    assert '"ours">+1.0 (+0.1 to +2.0)</td><td data-name="paper">+3.5</td>' in html
    assert "dev, n = 9 &lt;b&gt;; y. The paper's number: test." in html
    assert html.index("1 claims: 1 opposite") < html.index("<h2>") and "2 s." in html


def claim(ours, paper, verdict="supported"):
    return {"claim": f"claim {ours}", "paper": paper, "ours": ours, "verdict": verdict}


CLAIMS = [
    claim("+2.0 points (-1.0 to +5.0); dev", "+8.0 points (test)", "undecided"),
    claim("+30.5 points (+20.0 to +40.0, collapsed: x); dev", "not asked"),
    claim("89.0 % (86.8 to 91.1); dev", "97.4 %"),
    claim("", "+1.0 points", "not run"),
]


def test_marks_lie_where_the_numbers_are():
    made = forest.picture(CLAIMS)
    near, far = (made.marks[row["claim"]] for row in CLAIMS[:2])
    assert len(made.marks) == 2 and not near.beyond and far.beyond == "+30.5"
    places = dict((text, place) for place, text in made.ticks)
    assert made.zero == places["0"] and near.at == places["+2"] and near.paper == places["+8"]
    assert near.low < made.zero < near.at < near.high < near.paper < made.width
    assert far.high == made.width and far.paper is None
    assert forest.counts(CLAIMS) == "4 claims: 1 undecided, 2 supported, 1 not run"
    assert [row["basis"] for row in forest.short(CLAIMS)] == ["dev"] * 3
    assert forest.picture([]).marks == {}


def test_the_first_findings_and_figures_are_open_and_the_rest_is_folded(summary, tmp_path):
    result = summary["notebooks"][1]["result"]
    result["findings"] = [f"finding {i}" for i in range(OPEN + 1)]
    html = render(summary, tmp_path)
    fold = html.index("<summary>More: 1 finding(s), 1 table(s)")
    assert html.index(f"finding {OPEN - 1}") < fold < html.index(f"finding {OPEN}<")
    assert html.index("<img") < fold < html.index(">0.1235<")


def test_blank_rows_and_long_commands_are_left_out():
    table = {"columns": "system a b how".split(), "caption": "c", "note": "n",
             "rows": [["x", 1, None, 'python -c "1"'], ["y", None, None, ""]]}  # fmt: skip
    assert short_table(table)["columns"] == ["system", "a", "b"]
    assert short_table(table)["rows"] == [["x", 1, None], ["y", None, None]]
    table["columns"].append("c")
    table["rows"] = [[*row, *last] for row, last in zip(table["rows"], ([2], [None]), strict=True)]
    made = short_table(table)
    assert made["rows"] == [["x", 1, None, 2]] and made["note"].startswith("1 row(s) that were not")


def test_a_row_with_a_score_in_the_one_full_column_is_shown():
    rows = [["paper", 1.0, 2.0, 3.0, 5.0], ["ours", None, None, None, 4.0]]
    table = {"columns": "system a b c d".split(), "caption": "", "note": "", "rows": rows}
    made = short_table(table)
    assert made["rows"] == rows and not made["note"]


def test_numbers_have_four_digits_and_what_is_missing_is_empty(summary, tmp_path):
    html = render(summary, tmp_path)
    assert '<td class="number">0.1235</td>' in html and '<th scope="row">b</th><td></td>' in html


def test_a_figure_whose_file_is_gone_is_said_not_hidden(summary, tmp_path):
    (tmp_path / "results" / "figures" / "f.png").unlink()
    page = Page(render(summary, tmp_path))
    assert not page.all("img") and "figures/f.png is not here any more" in page.text


def test_texts_are_shown_as_typed_and_none_holds_tex(smoke):
    """No formula is typeset here: captions and findings write u*, not TeX."""
    for entry in smoke[1]["notebooks"]:
        result = entry["result"]
        texts = [*result["findings"], *(item["caption"] for item in result["figures"])]
        texts += [text for made in result["tables"] for text in (made["caption"], made["note"])]
        assert not [text for text in texts if re.search(r"\$\S.*\$|\\[a-z]+\{", text)]


def test_written_files_are_whole(summary, tmp_path):
    write(summary, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["runs"]["id"]["name"] == HOSTILE
    assert (tmp_path / "report.html").read_text().endswith("</html>\n")
    assert not list(tmp_path.glob(".*partial"))


def test_the_exit_code_follows_the_status(summary, tmp_path, capsys):
    assert show(summary, tmp_path) == 1
    assert show(summary | {"status": "ok"}, tmp_path) == 0
    said = capsys.readouterr().out
    assert "01_cos_nce_geometry" in said and "1 claims: 1 opposite.\nOpen next: " in said
    assert f"then: {tmp_path / 'notebooks' / '01_cos_nce_geometry.failed.ipynb'}" in said


def test_visible_and_escaped():
    assert visible("a\x00b\x7f\u202ec\n\td") == "a\u2400b\u2421\ufffd(202E)c\n\td"
    assert visible("\ud800") == "\ufffd(D800)"
    assert visible("né 👩‍🔬") == "né 👩‍🔬"
    assert escaped("<a href='x'>&") == "&lt;a href=&#x27;x&#x27;&gt;&amp;"


def test_tables_have_row_headers_and_empty_cells_for_what_is_missing():
    made = table_html(["task", "score"], [["rte", 0.123456], ["<b>", float("nan")]], "c")
    assert '<th scope="row">rte</th><td>0.1235</td>' in made
    assert '<th scope="row">&lt;b&gt;</th><td></td>' in made
    made = table_html(["a", "b", "c"], [["x", "+0.5 (-1 to 2)", 1], ["y", None, "undecided"]], "c")
    assert '<td>+0.5 (-1 to 2)</td><td class="words">1</td>' in made
    assert table_html(["a"], [], "c").count("<th") == 2  # of the head, and its only column


def test_plain_makes_everything_json():
    value = {1: np.float32(0.5), "a": (np.arange(2), float("nan"), pd.NA, np.bool_(True))}
    assert plain(value) == {"1": 0.5, "a": [[0, 1], None, None, True]}
    json.dumps(plain(value), allow_nan=False)
