"""The harness of faults, with a few trials of each kind; in full: python -m tests.chaos."""

import json
import runpy
import subprocess
import sys

import pytest
from chaos.record import RESULTS, ROOT, keep, problems


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
    assert found["commands"]["kills"] == 3 and {"full_disks", "contention"} <= found.keys()


def test_the_committed_results_have_no_problem():
    assert not problems(json.loads(RESULTS.read_text()))


def test_the_page_says_what_the_results_say():
    tool = runpy.run_path(str(ROOT / "tools" / "reliability.py"))
    assert (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8") == tool["page"]()
    assert set(tool["WHAT"]) | {"fuzz"} >= set(json.loads(RESULTS.read_text()))


def test_a_shorter_repetition_does_not_replace_the_longer_one(tmp_path):
    path, first, again = tmp_path / "kept.json", {"kills": 9}, {"kills": 3, "problems": ["lost"]}
    keep("kills", first, path)
    keep("kills", again, path)
    assert json.loads(path.read_text()) == {"kills": first | {"again": again}}
    assert problems(json.loads(path.read_text())) == ["lost"]
    keep("kills", {"kills": 10}, path)
    assert json.loads(path.read_text()) == {"kills": {"kills": 10}}
