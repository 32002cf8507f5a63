"""Writes docs/reliability.md: what is promised, and what results/reliability.json says of it.

python tools/reliability.py
"""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs" / "reliability.md", ROOT / "results" / "reliability.json"
PAGE_TEXT = """# Reliability

Training takes hours, and computers are switched off, run out of disk or memory, and lose bits. This
page says what the kit promises for such cases, and how each promise was tested.

## What is promised

- **An interrupted run continues.** After Ctrl-C, a crash, a kill or a loss of power, the same
  command continues from the last checkpoint. On the same processor and with the same number of
  threads, weights, history and metrics are bit for bit those of a run that was never interrupted.
- **What has its final name is whole.** Runs, caches, notebooks, records, reports and zips are
  written aside, flushed to the disk and then renamed.
- **What is read is checked.** Each run and each cache has a manifest with the size and the sha256
  of its files. A folder that differs from its manifest is set aside as `….damaged`, named on
  standard error, and made again when it is needed.
- **An error is one sentence.** Whatever a file, a setting or a full disk does, there is no
  traceback: the message says what is wrong, where, and what to do next. [All messages](errors.md).
- **Nothing from a store is executed.** Weights are safetensors, and checkpoints are read without
  pickled objects. `merge` takes a stranger's runs only if manifest, spec and id agree.
- **One call at a time** works in an output folder; others are refused with a sentence. Calls of
  `python -m lrc_lib run SPEC.json` wait for each other, run by run.
- **No process is left behind.** Workers, notebooks and kernels end with the call that started them.

A manifest protects against accidents, not against somebody who writes a wrong file and a manifest
that fits. All numbers below were measured on Linux. What differs on Windows and macOS, such as
renames of open files, is tested by simulation only. A real loss of power was not tried.

## What was tried

Every trial is compared with an undisturbed one. "Problems" counts results that were lost or that
differ, files that were half-written or wrong without a word, and errors that did not end
in one plain sentence.

{disturbances}

In a damaged store, a file is missing, empty, cut to two thirds, has one bit flipped, or is the file
of another store. "Same numbers" means that there was nothing to say: the file was not needed, the
other store's file was equal to it, or what was missing was just made.

## Hostile input

Each reader was given files with cuts and hostile pieces in them, and values of any type under the
right names. It must give a valid object or one of the kit's errors, in less than two seconds of
processor time, with a message of at most 2 KB without control characters.

{readers}

## Try it yourself

```
python -m tests.chaos --minutes 60                       # everything; it needs Linux
python -m tests.chaos --only calls,commands --minutes 10
LRC_FUZZ=10000 python -m pytest tests/test_fuzz.py
python tools/reliability.py                              # this page
```

The first three write `results/reliability.json`: each entry has its commit, command, versions and
machine. A repetition with fewer trials does not replace a longer one; it is kept next to it. Small
versions of most parts run with the tests.
"""
WHAT = {  # entry: what was done
    "kills": "SIGKILL at a random time while teacher, augmentation, general distillation and "
    "students are trained and published",
    "calls": "SIGKILL of `python reproduce.py` while it executes notebooks or writes the report",
    "commands": "SIGKILL of `merge`, of `pack`, and of the packing of text",
    "operations": "SIGKILL, a full disk, a broken disk or a refusal at a chosen file operation",
    "damages": "a damaged file",
    "full_disks": "a disk that fills up",
    "contention": "three processes that make the same store at once; some are killed",
    "orphans": "SIGTERM or SIGKILL of `python reproduce.py`; who is alive 5 s later",
    "long_process": "many runs in one process",
    "checking": "the cost of checking everything a whole laptop run reads",
}


def tried(entry: dict) -> str:
    """How often, in words."""
    if "share" in entry:
        return f"{entry['read_gb']:.1f} GB in {entry['seconds']:.1f} s"
    unit = next(key for key in ("kills", "trials", "runs") if key in entry)
    of = f", {entry['kinds']:,} kinds" if "kinds" in entry else ""
    return f"{entry[unit]:,} {unit}{of}"


def ended(entry: dict) -> str:
    """How it ended, in words."""
    if "share" in entry:
        return f"{100 * entry['share']:.2f} % of the run's time"
    if "growth" in entry:
        same = all(entry[name][0] == entry[name][1] for name in ("threads", "handles"))
        more = f"memory {100 * entry['growth']:+.1f} %"
        return f"{more}; threads and file handles {'equal' if same else 'not equal'}"
    counts = entry.get("outcomes") or entry.get("ended") or entry.get("at") or {}
    words = {name.replace(".partial", "").replace(": ", ", "): n for name, n in counts.items()}
    return "; ".join(f"{n} × {name}" for name, n in words.items())


def disturbances(kept: dict) -> str:
    """The table of all parts of the harness."""
    lines = ["| what | tried | how it ended, or where it struck | problems | commit |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, what in WHAT.items():
        entry = kept.get(name)
        if not entry:
            lines.append(f"| {what} | not yet: `python -m tests.chaos --only {name}` | | | |")
        for part, said in ((entry, what), ((entry or {}).get("again"), "the same, later")):
            if part:
                facts = (said, tried(part), ended(part), str(len(part["problems"])))
                lines.append(f"| {' | '.join(facts)} | {part['made']['commit']} |")
    notes = [f"- {WHAT[name]}: {e['note']}" for name, e in kept.items() if e.get("note")]
    return "\n".join([*lines, *[""][: len(notes)], *notes])


def readers(kept: dict) -> str:
    """The table of the fuzz tests."""
    lines = ["| reader (test) | cases | commit |", "| --- | --- | --- |"]
    for name, entry in sorted(kept.get("fuzz", {}).items()):
        shown = name.removeprefix("test_").replace("_", " ")
        lines.append(f"| {shown} | {entry['cases']:,} | {entry['made']['commit']} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    return PAGE_TEXT.format(disturbances=disturbances(kept), readers=readers(kept))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
