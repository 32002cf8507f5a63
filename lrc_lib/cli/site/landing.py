"""The landing page, the paper's numbers, and the page of the search."""

from lrc_lib.cli.report import verdict, wide_table
from lrc_lib.cli.site.equations import EQUATIONS, page_of
from lrc_lib.course.display import escaped
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.paper import CITATION, COLUMNS, DOI, ERRATA, METRICS, SPLITS, TABLE_5, TABLES

ABOUT = (
    "LRC-BERT (Fu et al., AAAI 2021) distils BERT-base into a student of four layers that learns "
    "the <em>directions</em> of its teacher's layers. Its authors published no code. This kit "
    "rebuilds the method from the paper's text in eight notebooks and a small library, trains "
    "every system of the paper's tables with one command, and says what did not reproduce."
)
TITLES = {
    1: "Table 1: GLUE, test server",
    2: "Table 2: size and speed",
    3: "Table 3: a loss removed",
    4: "Table 4: two stages or one",
}


def landing(entries) -> str:
    """The body of index.html.

    Args:
        entries: one a notebook: {"name", "result" (its record, or None), "missing" (the command
            that makes it, or "")}.
    """
    html = ["<h1>LRC-BERT, step by step</h1>", f'<p class="lead">{ABOUT}</p>', _about(entries)]
    html += [verdict(entries), "<h2>The notebooks</h2>"]
    html += [_notebook(entry) for entry in entries]
    html.append("<h2>The equations</h2>")
    items = "".join(
        f'<li><a href="{page_of(n)}">({n}) {escaped(name)}</a></li>'
        for n, (name, _) in EQUATIONS.items()
    )
    html.append(f'<ul class="columns">{items}</ul>')
    return "\n".join(html)


def _about(entries) -> str:
    """Where the numbers on this site come from."""
    result = next((e["result"] for e in entries[::-1] if e["result"]), None)
    if result is None:
        return "<p>No results were found beside the notebooks.</p>"
    made, chosen = result["provenance"], result["parameters"]
    return (
        f"<p><small>Numbers on these pages: profile {escaped(chosen['profile'])}, tasks "
        f"{escaped(', '.join(chosen['tasks']))}, {chosen['seeds']} seed(s), dev sets; "
        f"{escaped(made.get('time', ''))}, device {escaped(made.get('device', ''))}, commit "
        f"{escaped(made.get('commit') or 'unknown')}.</small></p>"
    )


def _notebook(entry) -> str:
    name, result = entry["name"], entry["result"]
    html = [
        f'<section class="card"><h3><a href="{name}.html">{name[:2]} '
        f"{escaped(NOTEBOOKS[name].question)}</a></h3>"
    ]
    if entry["missing"]:
        html.append(f"<p>Not executed yet: <code>{escaped(entry['missing'])}</code></p>")
    findings = (result or {}).get("findings", [])
    if findings:
        from lrc_lib.cli.mathml import rich_text

        items = "".join(f"<li>{rich_text(text)}</li>" for text in findings)
        count = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
        html.append(f"<details><summary>{count}</summary><ul>{items}</ul></details>")
    return "".join([*html, "</section>"])


def paper_page() -> str:
    """The body of paper.html: the paper's tables as data, and its errata."""
    html = ["<h1>The paper's numbers</h1>"]
    html.append(
        f'<p>{escaped(CITATION)} <a href="https://doi.org/{DOI}">doi:{DOI}</a>. Everything on '
        "this page is the paper's: one number a cell, no seeds and no intervals.</p>"
    )
    for number, rows in TABLES.items():
        columns = list(next(iter(rows.values())))
        cells = [[name, *map(_printed, row.values())] for name, row in rows.items()]
        split = f"On the {SPLITS[number]} set. " if number in SPLITS else "As printed."
        names = [column.replace("_", " ") for column in columns]
        html.append(f"<h2>{TITLES[number]}</h2>")
        html.append(wide_table(("system", *names), cells, split + _metrics(columns)))
    html.append("<h2>Table 5: four cases from MNLI-m</h2>")
    cases = [(f"case {i}", *case) for i, case in enumerate(TABLE_5, 1)]
    columns = ("case", "MSE", "angle", "label", "BERT_M says")
    html.append(wide_table(columns, cases, "On the dev set; LRC-BERT is right in all four"))
    html.append("<h2>Errata</h2>")
    columns = ("where", "the paper says", "what is known", "source")
    html.append(
        wide_table(columns, ERRATA, "Places that are wrong, contradictory, or say too much")
    )
    return "\n".join(html)


def _printed(value) -> str:
    """A number of a table with the digits that the paper prints."""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _metrics(columns) -> str:
    return ", ".join(f"{c}: {METRICS[c]}" for c in columns if c in COLUMNS)


def search_page() -> str:
    """The body of search.html, which search.js fills."""
    return (
        "<h1>Search</h1>"
        '<form role="search" id="search"><label for="words">Words to look for</label> '
        '<input type="search" id="words" name="q" autocomplete="off"></form>'
        '<p id="count" role="status">The search needs JavaScript; it asks no server.</p>'
        '<ol id="found"></ol>'
        '<script src="search-index.js"></script><script src="search.js"></script>'
    )
