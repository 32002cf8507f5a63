"""`verify`: the committed results follow from the committed predictions; what does not is named."""

import json
import shutil
import time

from lrc_lib.cli.commands import main
from lrc_lib.results.kept import FOLDER


def test_the_committed_results_follow_from_the_committed_predictions(capsys):
    begun = time.process_time()
    assert main(["verify"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert time.process_time() - begun < 60
    scored = int(said.split(" values")[0].replace(",", ""))
    assert scored > 1000 and ": 0 mismatches" in said and "are kept for: smoke" in said


def test_every_altered_number_is_named(tmp_path, capsys):
    (tmp_path / "predictions").mkdir()
    shutil.copy(FOLDER / "predictions" / "laptop.npz", tmp_path / "predictions")
    results = json.loads((FOLDER / "laptop.json").read_text(encoding="utf-8"))
    nine = next(n for n in results["notebooks"] if n["name"].startswith("09"))
    results["notebooks"], results["seeds"] = [nine], 3  # the store has two more: they count
    tables = {table["name"]: table["rows"] for table in nine["result"]["tables"]}
    row = next(row for row in tables["verdict"] if row[0] == "COS-NCE beats MSE")
    row[2], row[3] = row[2].replace("5 seeds", "6 seeds"), "opposite"
    tables["other-tasks"][1][1] = "99.9"
    gone = tables["seeds-needed"].pop(0)
    name = next(name for name in results["runs"] if name.startswith("reviews-lrc-s0"))
    run = results["runs"][name]
    run["metrics"]["splits"]["matched"]["accuracy"] += 0.001
    (tmp_path / "laptop.json").write_text(json.dumps(results), encoding="utf-8")
    assert main(["verify", "--results", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.count("mismatch: ") == 5 and ": 5 mismatches" in said
    for part in (
        "verdict, COS-NCE beats MSE, ours: it says",
        "verdict, COS-NCE beats MSE, verdict: it says 'opposite', the predictions give",
        "other-tasks, lrc, Reviews matched, accuracy: it says '99.9'",
        f"seeds-needed, {gone[0]}: it says 'no such row'",
        f"{name}, matched accuracy: it says '0.7",
    ):
        assert part in said, part


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["verify", "--results", str(tmp_path / "no")]) == 2
    assert "There is no folder of results" in capsys.readouterr().err
