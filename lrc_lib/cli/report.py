"""The report: one HTML file to read anywhere, and all numbers as JSON.

It holds no scripts and fetches nothing; figures are embedded. Whatever came from data is escaped.
"""

import base64
import json
import time
from pathlib import Path

import jinja2

from lrc_lib.cli.execute import Execution, read_json
from lrc_lib.cli.terminal import say, show_table
from lrc_lib.course.display import visible
from lrc_lib.course.notebook import NOTEBOOKS, SCHEMA, publish, write_json
from lrc_lib.data.manifest import sealed
from lrc_lib.errors import LrcError, UnavailableError
from lrc_lib.runs.pool import headline
from lrc_lib.runs.store import find

HERE = Path(__file__).parent
SIGNS = {  # verdict: the class of its cell, and a sign next to its colour
    "opposite": ("bad", "✗"),
    "undecided": ("open", "?"),
    "supported": ("good", "✓"),
    "equivalent": ("good", "≈"),
    "not tested here": ("unrun", "○"),
    "not run": ("unrun", "–"),
}


def collect(profile, outcomes: dict, executions: dict, out: Path, seconds: float) -> dict:
    """Everything that this call of reproduce.py found, ready for `results.json`.

    Args:
        profile: the `Profile`.
        outcomes: {run id: `pool.Outcome`}.
        executions: {name: `execute.Execution`} of the notebooks that were asked for.

    The results of other notebooks are taken from an earlier call, and marked so, if their
    parameters are the same.
    """
    records = {name: read_json(out / "results" / f"{name}.json") for name in NOTEBOOKS}
    notebooks = [
        vars(execution) | {"result": records[name] if execution.status == "ok" else None}
        for name, execution in executions.items()
    ]
    parameters = next((n["result"]["parameters"] for n in notebooks if n["result"]), None)
    for name in NOTEBOOKS.keys() - executions.keys():
        record = records[name]
        if record and record == sealed(record) and record["parameters"] == parameters:
            notebooks.append(vars(Execution(name, "earlier")) | {"result": record})
    good = all(n["status"] in ("ok", "earlier") for n in notebooks)
    return {
        "schema": SCHEMA,
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "profile": profile.name,
        "title": profile.title,
        "tasks": profile.tasks,
        "seeds": profile.seeds,
        "data": profile.data,
        "settings": profile.settings,
        "status": "ok" if good else "failed",
        "seconds": seconds,
        "notebooks": sorted(notebooks, key=lambda entry: entry["name"]),
        "runs": {key: _run(outcome, out) for key, outcome in outcomes.items()},
    }


def _run(outcome, out: Path) -> dict:
    entry = {"name": outcome.spec.name, "status": outcome.status, "message": outcome.message}
    entry |= {"spec": json.loads(outcome.spec.to_json()), "metrics": outcome.metrics}
    try:
        result = find(outcome.spec, out)
    except LrcError:
        result = None
    return entry | {"provenance": result.provenance if result else {}}


def write(summary: dict, out: Path) -> None:
    """Writes `out/results.json` and `out/report.html`, each whole or not at all.

    Raises:
        UnavailableError: the disk refuses, e.g. because it is full.
    """
    try:
        write_json(out / "results.json", summary)
        publish(out / "report.html", render(summary, out).encode("utf-8", errors="replace"))
    except OSError as error:
        raise UnavailableError(
            f"Cannot write the report to '{out}': {error}. What was trained and executed is kept; "
            "make room, and the same command writes the report."
        ) from error


def show(summary: dict, out: Path) -> int:
    """Prints the summary; returns the exit code."""
    rows = [
        (n["name"], n["status"], f"{n['seconds']:.0f}", f"{n['peak_mb']:.0f}", n["message"])
        for n in summary["notebooks"]
    ]
    show_table("Notebooks", ("notebook", "status", "s", "peak MB", ""), rows)
    trained = [run for run in summary["runs"].values() if run["status"] == "trained"]
    say(
        f"{len(summary['runs'])} run(s), {len(trained)} trained now; {summary['seconds']:.0f} s in "
        f"all.\nReport: {out / 'report.html'}\nNumbers: {out / 'results.json'}"
    )
    return 0 if summary["status"] == "ok" else 1


def render(summary: dict, out: Path) -> str:
    """The report as HTML, from the template `report.html.j2`, which escapes all that it shows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, finalize=_shown,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    results = [entry["result"] for entry in summary["notebooks"] if entry["result"]]
    made = dict(results[0]["provenance"]) if results else {}
    versions = made.pop("versions", {})
    made.pop("seconds", None)
    page = environment.get_template("report.html.j2").render(
        **summary,
        style=(HERE / "report.css").read_text(encoding="utf-8"),
        signs=SIGNS,
        questions={notebook.name: notebook.question for notebook in NOTEBOOKS.values()},
        claims=next((c for r in results if (c := r["numbers"].get("verdict"))), None),
        embedded=lambda file: _embedded(out / "results" / file),
        executed=[
            (n["name"], n["status"], round(n["seconds"]), round(n["peak_mb"]))
            for n in summary["notebooks"]
        ],
        trained=[_trained(key, run) for key, run in summary["runs"].items()],
        machine=[*made.items(), *versions.items()],
    )
    return page.lstrip()


def _shown(value):
    """A value in the report: nothing for a missing one, four significant digits of a float."""
    if value is None or value != value:
        return ""
    if hasattr(value, "__html__"):  # made by the template itself
        return value
    return f"{value:.4g}" if isinstance(value, float) else visible(value)


def _embedded(path: Path) -> str:
    """A PNG as a URL that holds it; "" where the file is gone."""
    try:
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError:
        return ""


def _trained(key: str, run: dict) -> tuple:
    made = run["provenance"]
    took = (made.get("seconds"), made.get("peak_memory_mb"), made.get("threads"))
    return run["name"], headline(run["metrics"]), key, run["status"], *took, made.get("commit")
