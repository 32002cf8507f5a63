"""The report: one HTML file to read anywhere, and all numbers as JSON.

No scripts and nothing from elsewhere: figures are embedded, formulas are MathML. Whatever came from
data is escaped.
"""

import base64
import json
import re
import time
from pathlib import Path

from lrc_lib.cli.mathml import rich_text
from lrc_lib.course.display import escaped, table_html, wide
from lrc_lib.course.notebook import NOTEBOOKS, SCHEMA, write_json
from lrc_lib.errors import LrcError
from lrc_lib.runs.pool import headline

STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
VERDICTS = {  # of `compare`: the class of the cell, and a sign beside its colour
    "not reproduced": ("bad", "✗"),
    "not distinguishable": ("open", "≈"),
    "reproduced": ("good", "✓"),
    "not run": ("unrun", "–"),
}


def collect(profile, chosen, outcomes, executions, skipped, out: Path, seconds: float) -> dict:
    """Everything that this call of reproduce.py found, ready for `results.json`.

    Args:
        profile: the `Profile`.
        chosen: the notebooks asked for.
        outcomes: {run id: `pool.Outcome`}.
        executions: {name: `execute.Execution`}.
        skipped: {name: why}.

    Results of notebooks that were not asked for are taken over from an earlier call where their
    parameters are the same, and marked so.
    """
    asked = {notebook.name for notebook in chosen}
    notebooks = [_notebook(name, executions.get(name), skipped, out) for name in asked]
    parameters = next((n["result"]["parameters"] for n in notebooks if n["result"]), None)
    for name in NOTEBOOKS.keys() - asked:
        result = read_record(out / "results" / f"{name}.json")
        if result and parameters and result["parameters"] == parameters:
            entry = {"name": name, "status": "earlier", "seconds": 0.0, "peak_mb": 0.0}
            notebooks.append(entry | {"message": "", "result": result})
    runs = {key: _run(outcome, out) for key, outcome in outcomes.items()}
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
        "runs": runs,
    }


def _notebook(name: str, execution, skipped: dict, out: Path) -> dict:
    if execution is None:
        entry = {"name": name, "status": "skipped", "seconds": 0.0, "peak_mb": 0.0}
        return entry | {"message": skipped.get(name, ""), "result": None}
    result = read_record(out / "results" / f"{name}.json") if execution.status == "ok" else None
    return vars(execution) | {"result": result}


def _run(outcome, out: Path) -> dict:
    from lrc_lib.runs.run import find

    entry = {"name": outcome.spec.name, "status": outcome.status, "message": outcome.message}
    entry |= {"spec": json.loads(outcome.spec.to_json()), "metrics": outcome.metrics}
    try:
        result = find(outcome.spec, out)
    except LrcError:
        result = None
    return entry | {"provenance": result.provenance if result else {}}


def read_record(path: Path) -> dict | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if record.get("schema") == SCHEMA else None


def write(summary: dict, out: Path) -> None:
    """Writes `out/results.json` and `out/report.html`, each whole or not at all."""
    write_json(out / "results.json", summary)
    partial = out / ".report.html.partial"
    partial.write_text(render(summary, out), encoding="utf-8", errors="replace")
    partial.replace(out / "report.html")


def show(console, summary: dict, out: Path) -> int:
    """Prints the summary; returns the exit code."""
    from lrc_lib.cli.terminal import show_table

    rows = [
        (n["name"], n["status"], f"{n['seconds']:.0f}", f"{n['peak_mb']:.0f}", n["message"])
        for n in summary["notebooks"]
    ]
    show_table(console, "Notebooks", ("notebook", "status", "s", "peak MB", ""), rows)
    trained = [run for run in summary["runs"].values() if run["status"] == "trained"]
    console.print(
        f"{len(summary['runs'])} run(s), {len(trained)} trained now; {summary['seconds']:.0f} s in "
        f"all.\nReport: {out / 'report.html'}\nNumbers: {out / 'results.json'}"
    )
    return 0 if summary["status"] == "ok" else 1


def render(summary: dict, out: Path) -> str:
    """The report as HTML."""
    title = "LRC-BERT: what reproduced here"
    body = [
        f"<h1>{title}</h1>",
        f"<p>{escaped(_about(summary))}</p>",
        verdict(summary["notebooks"]),
    ]
    body += [_contents(summary)]
    body += [_section(entry, out) for entry in summary["notebooks"]]
    body += ["<h2>Where the numbers come from</h2>", *_origin(summary)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _about(summary: dict) -> str:
    return (
        f"Profile {summary['profile']}: {summary['title']} Tasks: {', '.join(summary['tasks'])}; "
        f"seeds: {summary['seeds']}; data: {summary['data'] or 'built-in'}. "
        f"Made {summary['time']} in {summary['seconds'] / 60:.1f} min. All scores are on dev sets."
    )


def wide_table(columns, rows, caption: str, note: str = "") -> str:
    """An HTML table in a box of its own that scrolls; `$...$` in its texts is typeset."""
    return wide(table_html(columns, rows, rich_text(caption), rich_text(note)), caption)


def verdict(entries) -> str:
    """The section with the verdict on the paper's claims, from the first record that holds it.

    Args:
        entries: one a notebook, with its record or None as "result".
    """
    for entry in entries:
        rows = ((entry["result"] or {}).get("numbers") or {}).get("verdict")
        if rows:
            columns = ("claim", "verdict", "paper", "ours")
            cells = [[row.get(column) for column in columns] for row in rows]
            html = wide_table(columns, cells, "The paper's claims, measured here")
            # What a number rests on is set small under it.
            html = re.sub(
                r"<td>([^<;]+\)); ([^<]+)</td>", r"<td>\1<br><small>\2</small></td>", html
            )
            for text, (kind, sign) in VERDICTS.items():
                shown = f'<td class="{kind}"><span aria-hidden="true">{sign}</span> {text}</td>'
                html = html.replace(f"<td>{text}</td>", shown)
            return "<h2>Verdict</h2>" + html
    return (
        "<h2>Verdict</h2><p>Notebook 09_glue_results gives it; it did not run to its end here. "
        "<code>python reproduce.py --only 09</code></p>"
    )


def _contents(summary: dict) -> str:
    items = "".join(
        f'<li><a href="#{entry["name"]}">{escaped(NOTEBOOKS[entry["name"]].question)}</a> '
        f"{escaped(_status(entry))}</li>"
        for entry in summary["notebooks"]
    )
    return f"<nav aria-label='Notebooks'><ul>{items}</ul></nav>"


def _status(entry: dict) -> str:
    if entry["status"] == "earlier":
        return f"(from an earlier run, {entry['result']['provenance'].get('time', '')})"
    return "" if entry["status"] == "ok" else f"({entry['status']}: {entry['message']})"


def _section(entry: dict, out: Path) -> str:
    name, result = entry["name"], entry["result"]
    html = [f'<section id="{name}"><h2>{escaped(NOTEBOOKS[name].question)}</h2>']
    html.append(f"<p><small>notebooks/{name}.ipynb {escaped(_status(entry))}</small></p>")
    if not result:
        html.append(f'<blockquote class="failed">{escaped(entry["message"])}</blockquote>')
        if entry.get("traceback"):
            html.append(f"<pre>{escaped(entry['traceback'])}</pre>")
        return "\n".join([*html, "</section>"])
    html += [f"<blockquote>{rich_text(text)}</blockquote>" for text in result["findings"]]
    html += [
        wide_table(table["columns"], table["rows"], table["caption"], table["note"])
        for table in result["tables"]
    ]
    html += [_figure(figure, out) for figure in result["figures"]]
    return "\n".join([*html, "</section>"])


def _figure(figure: dict, out: Path) -> str:
    try:
        data = base64.b64encode((out / "results" / figure["file"]).read_bytes()).decode()
    except OSError:
        return f"<p>The file {escaped(figure['file'])} is not here any more.</p>"
    return (
        f'<figure><img alt="{escaped(figure["alt"])}" src="data:image/png;base64,{data}">'
        f"<figcaption>{rich_text(figure['caption'])}</figcaption></figure>"
    )


def _origin(summary: dict):
    rows = [
        (n["name"], n["status"], round(n["seconds"]), round(n["peak_mb"]))
        for n in summary["notebooks"]
    ]
    yield wide_table(("notebook", "status", "seconds", "peak memory, MB"), rows, "Notebooks")
    rows = []
    for key, run in summary["runs"].items():
        made = run["provenance"]
        times = (made.get("seconds"), made.get("peak_memory_mb"), made.get("threads"))
        found = headline(run["metrics"])
        rows.append((run["name"], found, key, run["status"], *times, made.get("commit")))
    columns = ("run", "found", "id", "now", "seconds", "peak memory, MB", "threads", "commit")
    yield wide_table(columns, rows, "Runs, with what each took when it was trained")
    made = next((n["result"]["provenance"] for n in summary["notebooks"] if n["result"]), {})
    versions = made.get("versions", {})
    facts = [(k, str(v)) for k, v in made.items() if k not in ("versions", "seconds")]
    yield wide_table(("what", "value"), [*facts, *versions.items()], "Machine and versions")
