"""Results that came with the repository, in its folder `results/`: read, never computed."""

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "results"  # absent where the kit is a wheel
GLUE_PROFILES = ("gpu", "paper")


def load_results(name: str) -> dict:
    """`results/<name>.json`, the results.json of one `reproduce.py` call; {} for none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def notebook_result(results: dict, number: str) -> dict:
    """What the notebook of that number ("09") left in a results.json."""
    return next(n["result"] for n in results["notebooks"] if n["name"].startswith(number))


def glue_results() -> dict[str, dict]:
    """{profile: Table 1 as notebook 09 made it} of the GLUE results that were kept; {} for none.

    The tables are as in `kept_table`.
    """
    tables = {name: kept_table(name, "09", "table1") for name in GLUE_PROFILES}
    return {name: table for name, table in tables.items() if table}


def kept_table(profile: str, number: str, name: str) -> dict:
    """A table of the notebook of that number in `results/<profile>.json`; {} for none.

    It has "columns", "rows", "caption" and a "note", which ends with where it is from.
    """
    results = load_results(profile)
    numbers = [notebook["name"][:2] for notebook in results.get("notebooks", ())]
    result = notebook_result(results, number) if number in numbers else None
    for table in (result or {}).get("tables", ()):
        if table["name"] == name:
            made = result["provenance"]
            return table | {
                "note": f"{table['note']} {results['seeds']} seed(s); {made['device_name']}, torch "
                f"{made['versions']['torch']}, commit {made['commit']}, {made['time'][:10]}; "
                f"{results['seconds'] / 60:.0f} min in all."
            }
    return {}
