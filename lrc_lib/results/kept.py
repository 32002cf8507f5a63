"""Results that came with the repository, in its folder `results/`: read, never computed."""

import json
from pathlib import Path

from lrc_lib.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "results"  # absent where the kit is a wheel
GLUE_PROFILES = ("gpu", "paper")


def load_results(name: str, folder: Path | None = None) -> dict:
    """`results/<name>.json`, the results.json of one `reproduce.py` call; {} for none.

    `folder` is another folder of results.

    Raises:
        InputError: it cannot be read.
    """
    path = (folder or FOLDER) / f"{name}.json"
    try:
        return dict(json.loads(path.read_bytes())) if path.exists() else {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"'{path}' is not a file of results: {error}.") from None


def glue_results() -> dict[str, dict]:
    """{profile: Table 1 as notebook 09 made it} of the GLUE results that were kept; {} for none.

    The tables are as in `kept_table`.
    """
    return {name: t for name in GLUE_PROFILES if (t := kept_table(name, "09", "table1"))}


def kept_table(profile: str, number: str, name: str) -> dict:
    """A table of the notebook of that number in `results/<profile>.json`; {} for none.

    It has "columns", "rows", "caption", "made": where it is from, and a "note" that ends with this.
    """
    results = load_results(profile)
    for notebook in results.get("notebooks", ()):
        result = notebook["result"] if notebook["name"].startswith(number) else None
        for table in (result or {}).get("tables", ()):
            if table["name"] == name:
                made, runs = result["provenance"], results["runs"].values()
                precision = ", ".join(sorted({run["spec"]["precision"] for run in runs}))
                where = (
                    f"{results['seeds']} seed(s); {made['device_name']}, {precision}, torch "
                    f"{made['versions']['torch']}, commit {made['commit']}, {made['time'][:10]}."
                )
                return table | {"note": f"{table['note']} {where}".strip(), "made": where}
    return {}
