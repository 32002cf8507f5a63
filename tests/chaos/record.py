"""results/reliability.json: what was tried, how often, at which commit and with which versions."""

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "reliability.json"
PACKAGES = ("torch", "transformers", "datasets", "numpy", "safetensors", "filelock")


def made_with(command: str) -> dict:
    """Time, command, commit, versions and machine."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command,
        "commit": subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def count(entry: dict) -> int:
    """How often something was tried."""
    return next((entry[key] for key in ("kills", "trials", "runs", "cases") if key in entry), 0)


def problems(kept: dict) -> list[str]:
    """What is wrong, in any entry."""
    entries = [part for entry in kept.values() for part in (entry, entry.get("again", {}))]
    return [line for entry in entries for line in entry.get("problems", ())]


def keep(name: str, entry: dict, path: Path = RESULTS, among: str = "") -> None:
    """Writes an entry to the file, or below another one; a repetition with fewer trials does not
    replace the longer one: it is kept next to it, as "again"."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    place = kept.setdefault(among, {}) if among else kept
    old = place.get(name, {})
    place[name] = old | {"again": entry} if count(entry) < count(old) else entry
    path.write_text(json.dumps(kept, indent=1) + "\n")
