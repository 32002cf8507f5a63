"""The harness of faults, with a few trials of each kind; in full: python -m tests.chaos."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and looks into /proc")
def test_a_small_version_finds_nothing_lost_nothing_other_and_no_traceback(tmp_path):
    results = tmp_path / "reliability.json"
    command = [sys.executable, "-m", "tests.chaos", "--small", "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(results.read_text())
    assert found["kills"]["kills"] >= 6 and found["operations"]["trials"] == 10
    assert sum(found["damages"]["outcomes"].values()) == found["damages"]["trials"] >= 30
    assert found["damages"]["outcomes"]["made again"] > 0
    assert {"full_disks", "contention"} <= found.keys()


def test_the_committed_results_have_no_problem():
    kept = json.loads((ROOT / "results" / "reliability.json").read_text())
    assert not [name for name, entry in kept.items() if entry.get("problems")]
