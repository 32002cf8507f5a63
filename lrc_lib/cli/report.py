"""The report: one HTML file to read anywhere, and all numbers as JSON.

It holds no scripts and fetches nothing; figures are embedded. Whatever came from data is escaped.
"""

import base64
import json
import time
from pathlib import Path

from lrc_lib.cli import forest
from lrc_lib.cli.execute import Execution, read_json
from lrc_lib.cli.terminal import duration, say, show_table
from lrc_lib.course.notebook import NOTEBOOKS, SCHEMA, publish, write_json
from lrc_lib.data.manifest import sealed
from lrc_lib.errors import LrcError
from lrc_lib.runs.pool import headline
from lrc_lib.runs.store import find

HERE = Path(__file__).parent
FIRST = "00_start_here"
OPEN = 3  # findings and figures of a notebook that are not folded


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
    write_json(out / "results.json", summary)
    publish(out / "report.html", render(summary, out).encode("utf-8", errors="replace"))


def show(summary: dict, out: Path) -> int:
    """Prints how the notebooks went, the verdicts, and what to open; returns the exit code."""
    rows = [
        (n["name"], n["status"], f"{n['seconds']:.0f}", f"{n['peak_mb']:.0f}", n["message"])
        for n in summary["notebooks"]
    ]
    show_table("Notebooks", ("notebook", "status", "s", "peak MB", ""), rows)
    trained = [run for run in summary["runs"].values() if run["status"] == "trained"]
    took = duration(summary["seconds"])
    say(f"{len(summary['runs'])} run(s), {len(trained)} trained now; {took} in all.")
    if claims := _claims(summary):
        say(f"\n{forest.counts(claims)}.")
    bad = [n["name"] for n in summary["notebooks"] if n["status"] == "failed"]
    say(f"Open next: {out / 'report.html'}")
    say(f"     then: {out / 'notebooks' / (f'{bad[0]}.failed' if bad else FIRST)}.ipynb")
    say(f"All numbers: {out / 'results.json'}")
    return 0 if summary["status"] == "ok" else 1


def _claims(summary: dict) -> list | None:
    """The rows of notebook 09's verdicts; None where it has not run to its end."""
    results = (n["result"] for n in summary["notebooks"] if n["result"])
    return next((c for r in results if (c := r["numbers"].get("verdict"))), None)


def render(summary: dict, out: Path) -> str:
    """The report as HTML, from the template `report.html.j2`, which escapes all that it shows."""
    results = [entry["result"] for entry in summary["notebooks"] if entry["result"]]
    made = dict(results[0]["provenance"]) if results else {}
    versions, claims = made.pop("versions", {}), _claims(summary)
    made.pop("seconds", None)
    page = (
        forest.environment()
        .get_template("report.html.j2")
        .render(
            **summary,
            style=(HERE / "report.css").read_text(encoding="utf-8"),
            open=OPEN,
            took=duration(summary["seconds"]),
            cores=made.get("cores"),
            questions={notebook.name: notebook.question for notebook in NOTEBOOKS.values()},
            claims=claims,
            counts=forest.counts(claims or ()),
            verdicts=forest.short(claims or ()),
            picture=forest.picture(claims or ()),
            short=short_table,
            embedded=lambda file: _embedded(out / "results" / file),
            executed=[
                (n["name"], n["status"], round(n["seconds"]), round(n["peak_mb"]))
                for n in summary["notebooks"]
            ],
            trained=[_trained(key, run) for key, run in summary["runs"].items()],
            machine=[*made.items(), *versions.items()],
        )
    )
    return page.lstrip()


def short_table(table: dict) -> dict:
    """A notebook's table as the report shows it: no blank rows, no long commands.

    A row is blank that is empty from the first column on that is empty in some row. Where fewer
    than half of the columns are empty in some row, no row is left out.
    """
    columns, rows = table["columns"], table["rows"]
    long = [any("python -c" in str(row[i]) for row in rows) for i in range(len(columns))]
    gaps = [i for i in range(len(columns)) if any(row[i] is None for row in rows)]
    many = 2 * len(gaps) > len(columns)
    full = [
        row for row in rows if not many or any(cell not in (None, "") for cell in row[gaps[0] :])
    ]
    note = f"{len(rows) - len(full)} row(s) that were not run are left out. " * (full != rows)
    note += "The notebook has the commands. " * any(long)
    return {
        "columns": [name for name, command in zip(columns, long, strict=True) if not command],
        "rows": [[c for c, command in zip(r, long, strict=True) if not command] for r in full],
        "caption": table["caption"],
        "note": note + (table["note"] or ""),
    }


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
