"""How long each notebook takes to study, what to read in it and what may wait; the sample report.

The minutes are those that the notebook's header and its exercises name; the tests hold the header
to its words, code and pictures.
"""

import json
import re
from typing import NamedTuple

from lrc_lib.course.notebook import NOTEBOOKS, notebook_path
from lrc_lib.results.kept import kept_table

SAMPLE = "COS-NCE helps"  # the claim of the sample report


class Study(NamedTuple):
    """Minutes of reading and of exercises; what to read, and what may wait, in words."""

    reading: int
    exercises: int
    must: str
    skip: str


def study(name: str) -> Study:
    """The `Study` of a notebook in `NOTEBOOKS`, from its header and its exercises."""
    cells = json.loads(notebook_path(name).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    told = dict(re.findall(r"^\| ([^|]+) \| (.*) \|$", sources[0], flags=re.M))
    reading = int(re.search(r"about (\d+) minutes", told["Study time"])[1])
    minutes = sum(int(m[1]) for t in sources if (m := re.search(r"[●○]{3} \w+, (\d+) minutes", t)))
    return Study(reading, minutes, told["Must read"], told["May skip"])


def study_rows() -> list[list[str]]:
    """Notebook, minutes of reading and of exercises, what to read, what may wait."""
    rows = []
    for name in NOTEBOOKS:
        one = study(name)
        link = f"[{name[:2]}](../notebooks/{name}.ipynb)"
        rows.append([link, f"{one.reading} min", f"{one.exercises} min", one.must, one.skip])
    return rows


def sample_report() -> str:
    """A page as a student would hand it in, with the numbers of results/laptop.json."""
    made = kept_table("laptop", "09", "verdict")
    row = next(dict(zip(made["columns"], r, strict=True)) for r in made["rows"] if r[0] == SAMPLE)
    effect, _, rest = row["ours"].partition("; ")
    column, _, basis = rest.partition(" (dev), ")
    numbers = {"effect": effect, "points": effect.partition(" points")[0], "column": column}
    numbers |= {"basis": basis, "seeds": basis.partition(", ")[2], "reason": row["reason"]}
    text = REPORT.format(
        **row | numbers, because=BECAUSE.format(**numbers) if row["reason"] else ""
    )
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


BECAUSE = " The table adds: {reason} points."
REPORT = """\
**Claim.** *{claim}.* The paper's Table 3 removes COS-NCE and reports {paper}, with one run for each
system and without an interval.

**Registered.** Supported, with an effect of 3 points. I expect less than the paper has: the student
is half as wide, and the teacher is smaller. I stop after the profile's seeds, whatever they say.

**Measured.** {effect}, on {column} (dev); {basis}. Command: `python reproduce.py --only 05,09`.

**Verdict.** *{verdict}* by the rule of notebook 09.{because} The interval is uncorrected; Holm's
correction over the table decides.

**What it does not cover.** The runs are {seeds}, so another teacher is not in the interval. The
learning rate of each system is the best of three; a larger one was not tried.

**Why it may differ from the paper.** (1) Task and data: `--glue-dir DIR --task mrpc` would test
that. (2) The teacher: `--set teacher=google-bert/bert-base-uncased` would.

**For a newspaper.** "On short reviews, training with the direction loss changed the score by
{points} points; by a rule that was fixed before the runs, this is *{verdict}*.\""""
