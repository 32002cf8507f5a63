"""`python -m benchmarks.grid`, two cells and a triple of weights on the smoke profile."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import readme  # noqa: E402


def test_the_grid_pairs_its_cells_with_the_papers_setting(
    tiny_teacher, tiny_data, tiny_texts, tmp_path, monkeypatch
):
    """At boundary 0 a schedule that restarts is the linear one: the runs must agree exactly."""
    command = [sys.executable, "-m", "benchmarks.grid", "--profile", "smoke", "--seeds", "1"]
    command += ["--data", tiny_data, "--set", f"general_data={tiny_texts}", "epochs=3"]
    command += ["learning_rate=5e-3", f"teacher={tiny_teacher}", "teacher_epochs=6"]
    command += ["teacher_lr=2e-3", "--jobs", "1"]
    command += ["--boundaries", "0", "--schedules", "linear", "restart", "--weights", "1:1:4"]
    command += ["--store", str(tmp_path / "store"), "--out", str(tmp_path)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=threads, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, about, *lines = map(json.loads, (tmp_path / "grid.jsonl").read_text().splitlines())
    assert head["benchmark"] == "grid" and about["metric"] == "accuracy"
    *cells, part = lines
    at = {(c["boundary"], c["schedule"], c["weights"]): c for c in cells}
    assert len(at) == len(cells) == 5
    assert len({c["score"]["value"] for c in cells}) > 1, "nothing to compare"
    papers = at[0.8, "linear", "1:1:3"]
    assert papers["difference"]["scores"] == [0] and "effect" not in papers
    start, again = at[0.0, "linear", "1:1:3"], at[0.0, "restart", "1:1:3"]
    assert start["score"] == again["score"] and start["runs"] != again["runs"]
    gap = start["score"]["value"] - papers["score"]["value"]
    assert start["difference"] == start["effect"] and abs(start["effect"]["value"] - gap) < 1e-3
    own = at[0.8, "restart", "1:1:3"]["score"]["value"]
    shares = gap - (again["score"]["value"] - own)
    assert abs(part["schedules_part"]["value"] - shares) < 1e-3
    weights = at[0.8, "linear", "1:1:4"]
    assert (
        weights["runs"][0].startswith(f"{Path(tiny_data).name}-lrc_1_1_4-s0-")
        and "effect" not in weights
    )
    monkeypatch.setattr(readme, "FOLDER", tmp_path)
    effects = [at[0.0, kind, "1:1:3"]["effect"]["text"] for kind in ("linear", "restart")]
    shown = readme.grid_table()
    assert f"| 0% | {' | '.join(effects)} | {part['schedules_part']['text']} |" in shown
    assert f"| 1:1:4 | {weights['score']['text']} | {weights['difference']['text']} |" in shown
    assert papers["score"]["basis"] in shown and head["made"]["commit"] in shown
