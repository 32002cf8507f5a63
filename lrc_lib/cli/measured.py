"""How long a notebook takes, from what was measured: nothing about time is typed in a notebook.

`reproduce.py` leaves OUT/results.json; `results/` in the repository holds such files too, one a
profile. Shown by `lrc_lib.course.notebook.start`.
"""

import json
from pathlib import Path

from lrc_lib.course.notebook import ROOT


def trainings(notebook, profile) -> set[str]:
    """The names of the runs that a `Notebook` reads under a `Profile`, all they need included."""
    from lrc_lib.cli.plan import all_specs

    return {spec.name for spec in all_specs(notebook.needs(profile))}


def how_long(notebook, profile, out) -> str:
    """A sentence on what a notebook took, on this store's machine or else where it was measured.

    Args:
        notebook: a `lrc_lib.course.notebook.Notebook`.
        profile: the `Profile` in use; a measurement with other tasks, data or settings says
            nothing about it.
        out: the store's folder.
    """
    wanted = trainings(notebook, profile)
    places = {
        "In this store": Path(out) / "results.json",
        f"As measured in results/{profile.name}.json": ROOT / "results" / f"{profile.name}.json",
    }
    for where, path in places.items():
        found = _measured(_read(path), notebook.name, wanted, profile)
        if found:
            return f"{where}, {found}"
    number = notebook.name[:2]
    return (
        "How long this takes was not measured with these settings: `python reproduce.py --plan "
        f"--only {number}`, with your settings, computes it for this machine."
    )


def _read(path: Path) -> dict:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) else {}


def _measured(results: dict, name: str, wanted: set[str], profile) -> str:
    """What `results` says about the notebook; "" if it does not fit the profile, or is silent."""
    same = {"profile": profile.name, "data": profile.data, "settings": profile.settings}
    if any(results.get(key) != value for key, value in same.items()):
        return ""
    entries = {n["name"]: n["seconds"] for n in results["notebooks"] if n["status"] == "ok"}
    runs = {r["name"]: r["provenance"] for r in results["runs"].values() if r["provenance"]}
    if name not in entries or not wanted <= set(runs):
        return ""
    if not wanted:
        return f"this notebook took {entries[name]:.0f} s; it trains nothing."
    minutes = sum(runs[run]["seconds"] for run in wanted) / 60
    made = next(iter(runs.values()))
    return (
        f"this notebook took {entries[name]:.0f} s once its {len(wanted)} trainings were done; "
        f"they took {minutes:.1f} min of computing ({made['device']}, {made['cores']} cores)."
    )
