"""The whole kit, once: `reproduce.py --profile smoke` in a process of its own, and again."""

import json
import re

from conftest import reproduce_smoke

from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.results.claims import VERDICTS


def test_every_notebook_ran_to_its_end(smoke):
    out, summary = smoke
    assert [n["name"] for n in summary["notebooks"]] == list(NOTEBOOKS)
    assert {n["status"] for n in summary["notebooks"]} == {"ok"}
    for name in NOTEBOOKS:
        cells = json.loads((out / "notebooks" / f"{name}.ipynb").read_text())["cells"]
        code = [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]
        assert all(isinstance(c["execution_count"], int) for c in code), name
        assert not [o for c in code for o in c["outputs"] if o["output_type"] == "error"], name


def test_every_notebook_shows_and_concludes(smoke):
    out, summary = smoke
    for entry in summary["notebooks"]:
        result = entry["result"]
        assert result["findings"], entry["name"]
        assert result["figures"] or result["tables"], entry["name"]
        for figure in result["figures"]:
            assert (out / "results" / figure["file"]).stat().st_size > 5000
            assert len(figure["alt"]) >= 20


def test_report_is_one_file_that_needs_nothing(smoke):
    out, summary = smoke
    html = (out / "report.html").read_text()
    assert html.index("Verdict") < html.index("01_cos_nce_geometry")
    assert not re.search(r"<script|<link|src=[\"']http|@import", html)
    figures = sum(len(n["result"]["figures"]) for n in summary["notebooks"])
    assert html.count("<img ") == html.count("data:image/png;base64,") == figures > 8


def test_verdicts_cover_the_claims_and_say_so_when_not_run(smoke):
    _, summary = smoke
    rows = next(n for n in summary["notebooks"] if n["name"].startswith("09"))
    rows = rows["result"]["numbers"]["verdict"]
    assert len(rows) >= 6
    assert {row["verdict"] for row in rows} <= VERDICTS.keys()


def test_the_run_is_what_the_reader_does_by_hand(smoke):
    _, summary = smoke
    three = next(n for n in summary["notebooks"] if n["name"].startswith("04"))
    assert three["result"]["numbers"]["by_hand_difference"] < 1e-4


def test_second_time_trains_and_executes_nothing(smoke):
    out, summary = smoke
    before = {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*/metrics.json")}
    assert len(before) == len(summary["runs"]) >= 9
    done = reproduce_smoke(out, "--offline")
    assert done.returncode == 0, done.stdout + done.stderr
    again = json.loads((out / "results.json").read_text())
    assert {run["status"] for run in again["runs"].values()} == {"read"}
    assert {n["message"] for n in again["notebooks"]} == {"kept, nothing changed"}
    assert [n["result"] for n in again["notebooks"]] == [n["result"] for n in summary["notebooks"]]
    after = {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*/metrics.json")}
    assert after == before
