"""Tables of `results/glue.json`: the paper's Table 1 with our rows, and what these rest on.

They are made of the file's rows when it is read, for notebooks/09_glue_results, README.md and
docs/results.md.
"""

from collections.abc import Iterable

from lrc_lib import paper
from lrc_lib.data.corpus import TOKENS_PER_WORD
from lrc_lib.data.tasks import TASKS
from lrc_lib.runs.card import PACKAGED
from lrc_lib.schedule import RECIPES

WORDS_OF_WIKIPEDIA = 2.5e9  # English, as BERT's authors counted; LRC-BERT names no number
PAPERS = ("BERT-base (teacher)", "LRC-BERT", "LRC-BERT₁", "TinyBERT")
USUAL = ("sst-2", "mrpc", "rte", "cola", "sts-b")  # columns of the table, also while they are empty
CORE = ("teacher", "lrc", "lrc_1", "finetune")
NAMES = {"f1": "F1", "matthews": "Matthews", "pearson": "Pearson", "spearman": "Spearman"}
CHECKS = (
    "First seed. Layer loss: above its minimum, summed over layers; means of the first and of the "
    "last 100 steps of stage 1. Gradient: norm of the task loss's gradient after training, on 64 "
    "training rows. The share of the teacher's score is on the same dev rows."
)
COMMAND = "python tools/glue.py train {} {} --glue-dir DIR"


def columns(found: list[dict]) -> list[str]:
    """The paper's columns that are measured or may well be, in its order."""
    here = {row["column"] for row in found}
    return [c for c in paper.COLUMNS if c in here or c in map(_title, USUAL)]


def titles(found: list[dict]) -> list[str]:
    """The `columns` with their metric: "CoLA, Matthews"."""
    metrics = {c: paper.METRICS[c].partition("/")[0] for c in columns(found)}
    metrics |= {row["column"]: row["metric"] for row in found}
    return [f"{c}, {NAMES.get(name, name)}" for c, name in metrics.items()]


def table(found: list[dict]) -> tuple[list[str], list[list]]:
    """(column names, rows): the paper's rows on GLUE's test server, then ours on dev.

    Args:
        found: `lrc_lib.results.glue.entries`.
    """
    shown = columns(found)
    theirs = {f"{name}, paper": paper.TABLE_1[name] for name in PAPERS}
    theirs["TinyBERT, as its authors corrected it"] = paper.TINYBERT_FINDINGS
    rows = [[name, "test", *(f"{of[c]:.1f}" for c in shown)] for name, of in theirs.items()]
    for system in dict.fromkeys(row["system"] for row in found):
        of = {row["column"]: row for row in found if row["system"] == system}
        recipe = next(iter(of.values()))["recipe"]
        title = f"{RECIPES[recipe].title} ({system})" if recipe in RECIPES else system
        rows.append([title, "dev", *(c in of and _cell(of[c]) or None for c in shown)])
    best = {row["column"]: f"{row['constant']:.1f}" for row in found}
    rows.append(["best constant answer", "dev", *map(best.get, shown)])
    return ["system", "rows", *titles(found)], rows


def checks(results: dict) -> tuple[list[str], list[list]]:
    """(column names, rows): what each score rests on, see `CHECKS`.

    Args:
        results: the contents of results/glue.json.
    """
    head = ["column", "system", "learning rate", "epochs", "layer loss, first and last",
            "gradient, head and all weights", "% of its teacher", "other metric"]  # fmt: skip
    rows = []
    for row in _ordered(results["rows"]):
        first, used = next(iter(row["runs"].values())), row["settings"]
        loss, pull = (results[part].get(first) for part in ("excess", "head_gradient"))
        others = (f"{NAMES.get(name, name)} {value:.1f}" for name, value in row["others"].items())
        rows.append([
            row["column"], row["system"], f"{used.get('learning_rate', used.get('teacher_lr')):g}",
            used["epochs"], loss and f"{loss[0]:.2f}, {loss[1]:.2f}",
            pull and f"{pull[0]:.2g}, {pull[1]:.2g}", row["share"], ", ".join(others),
        ])  # fmt: skip
    return head, rows


def minus(found: list[dict]) -> tuple[list[str], list[list]]:
    """(column names, rows): each paired difference of two students on the same dev rows."""
    rows = []
    for row in _ordered(found):
        for control, text in row["minus"].items():
            column, theirs = row["column"], None
            if (row["recipe"], control) == ("lrc", "lrc_1"):
                ours, without = paper.TABLE_1["LRC-BERT"], paper.TABLE_1["LRC-BERT₁"]
                theirs = f"{ours[column] - without[column]:+.1f}"
            rows.append([column, row["system"], control, text, theirs])
    return ["column", "system", "minus", "points", "the paper's, test"], rows


def notes(results: dict) -> list[str]:
    """What is to be said below the table, a few sentences for each subject.

    Args:
        results: the contents of results/glue.json.
    """
    found = results["rows"]
    students = [row for row in found if row["recipe"] != "teacher"]
    many = {c for c in columns(found) if len({r["basis"] for r in found if r["column"] == c}) > 1}
    bases = _where((row["basis"], f"{row['column']} {row['recipe']}" if row["column"] in many
                    else row["column"]) for row in found)  # fmt: skip
    said = [f"Ours: 95 % intervals; {bases}. “Rows only”: one seed, whose interval covers the "
            "choice of dev rows and no other seed."]  # fmt: skip
    said += [f"No better than a constant: {row['system']} on {row['column']}, {row['collapsed']}."
             for row in found if row["collapsed"]]  # fmt: skip
    repeated = [f"{_title(task)} {count}" for task, splits in results["in_train"].items()
                for count in splits.values() if count]  # fmt: skip
    said += [f"Dev rows whose texts are also a training row: {'; '.join(repeated)}."] * bool(
        repeated
    )
    settings = _where(
        (f"batch {s['batch_size']}, {s['precision']}, length buckets {s['bucket']}", row["column"])
        for row in students
        for s in (row["settings"],)
    )
    said.append(f"Students: {settings}. {_machine(results)}")
    if any(row["settings"]["teacher"] in PACKAGED for row in found):
        said.append(
            "The teacher was trained on pairs of sentences before, among them SNLI, MultiNLI, "
            "Quora's questions and captions of pictures, which are close to RTE, MNLI, QQP and "
            "STS-B. The paper's BERT-base was not."
        )
    differs = _where((what, row["column"]) for row in found for what in row["differs"])
    said.append(
        f"Differs from the paper: dev rows instead of GLUE's test server; {differs}."
        + " Length buckets make the negatives alike in length."
        * any(row["settings"]["bucket"] for row in students)
    )
    starts = {row["general"]["run"]: row["general"] for row in sorted(found, key=most_read)
              if row["general"]}  # fmt: skip
    for start in starts.values():
        of = ((r["recipe"], r["column"]) for r in found if r["general"] == start)
        times, seen = start["epochs"], start["tokens_seen"] / 1e6
        said.append(
            f"{seen:.1f} million tokens before {_where(of).replace('; ', ' and ')}: "
            f"{seen / times:.1f} million, read {'once' if times == 1 else f'{times} times'}."
        )
    if starts:
        said[-1] += (
            " The paper's student read Wikipedia once. If it was the English one, this is roughly "
            f"{times_the_papers(start)} times as much: {WORDS_OF_WIKIPEDIA / 1e9:g} billion words, "
            f"as BERT's authors counted, {TOKENS_PER_WORD} tokens each. {start['source']}"
        )
    return said


def most_read(entry: dict) -> tuple[int, int]:
    """For sorting: how many tokens the student of an entry read before the task; then its runs."""
    return entry["general"]["tokens_seen"] if entry["general"] else 0, len(entry["runs"])


def times_the_papers(start: dict) -> str:
    """How many times as much text the paper's student read: "270", two digits of a guess."""
    times = WORDS_OF_WIKIPEDIA * TOKENS_PER_WORD / start["tokens_seen"]
    return f"{float(f'{times:.2g}'):,.0f}"


def empty(found: list[dict]) -> str:
    """Which cells of the core systems are empty, and the command that measures one; "" for none."""
    there = {(row["recipe"], row["task"]) for row in found}
    missing = [(task, recipe) for task in USUAL for recipe in CORE if (recipe, task) not in there]
    if not missing:
        return ""
    named = ", ".join(f"{_title(task)}: {recipe}" for task, recipe in missing)
    return f"Not measured: {named}. One cell: {COMMAND.format(*missing[0])}"


def _cell(row: dict) -> str:
    marks = [f"{row['low']:.1f} to {row['high']:.1f}"]
    marks += ["rows only"] * (len(row["runs"]) == 1)
    marks += ["without augmentation"] * ("not augmented" in row["differs"])
    marks += ["no better than a constant"] * bool(row["collapsed"])
    return f"{row['value']:.1f} ({', '.join(marks)})"


def _machine(results: dict) -> str:
    made = [results["runs"][run]["provenance"] for row in results["rows"]
            for run in row["runs"].values()]  # fmt: skip
    where = {f"{p['device_name']}, torch {p['versions']['torch']}" for p in made}
    commits = sorted({p["commit"] for p in made})
    return f"Trained on {' and '.join(sorted(where))}, at commit {', '.join(commits)}."


def _ordered(found: list[dict]) -> list[dict]:
    return sorted(found, key=lambda row: paper.COLUMNS.index(row["column"]))


def _title(task: str) -> str:
    return next(iter(TASKS[task].paper_columns.values()))


def _where(pairs: Iterable[tuple[str, str]]) -> str:
    """("18 epochs", "STS-B"), ... as "18 epochs (STS-B, SST-2); 90 epochs (CoLA)"."""
    found: dict[str, dict] = {}
    for what, column in pairs:
        found.setdefault(what, {})[column] = None
    return "; ".join(f"{what} ({', '.join(where)})" for what, where in found.items())
