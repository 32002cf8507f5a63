"""Whole commands, killed: `reproduce.py` while notebooks and report are at work, merge, pack.

A trial kills a command, looks for whatever is half-written, and calls the command again until it
ends. What it leaves is compared with what an undisturbed call leaves.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

from filelock import FileLock, Timeout

from lrc_lib.cli.commands import main
from lrc_lib.data.manifest import sealed
from tests.chaos.faults import Lab, recorded
from tests.chaos.record import ROOT
from tests.chaos.workload import content, faults, watch

ONLY = "05,06"
OPTIONS = ["--profile", "smoke", "--only", ONLY, "--device", "cpu", "--offline", "--jobs", "1"]
TELL_TIME = {"token", "sha256", "provenance"}  # of a notebook's record
READS = re.compile(r"open r|os\.(scandir|listdir)")
ENDS = {".html": b"</html>\n", ".svg": b"</svg>\n", ".png": b"IEND\xaeB`\x82"}


def commands(lab: Lab, least: int, deadline: float) -> dict:
    """SIGKILL of `merge`, `pack` and the packing of text, each at some of its file operations."""
    store = lab.place / "good"
    run = next((store / "runs").glob("opinions-lrc-s*[!k]")).name
    kinds = {
        "merge": (lab.fresh, lambda out: call("merge", store, "--into", out / "all"), content),
        "pack": (
            lab.fresh,
            lambda out: pack(run, store, out / "made.zip"),
            left_by_pack,
        ),
        "packing": (lambda: lab.fresh("steps-1"), lambda out: lab.work(out, 1), content),
    }
    at, problems = Counter(), []
    for name, kind in kinds.items():
        wanted = "corpus" if name == "packing" else ""
        at[name], found = killed_at_operations(lab, *kind, least // 3, deadline, wanted)
        problems += [f"{name} {line}" for line in found]
    return {"kills": at.total(), "at": at, "problems": problems}


def calls(lab: Lab, least: int, deadline: float) -> dict:
    """SIGKILL of `python reproduce.py`: of the report at file operations, of the rest at random."""
    good, begun, kept = (lab.place / f"calls-{name}" for name in ("good", "begun", "kept"))
    if not lab.smoke:
        reproduce(lab.place / "calls-made").communicate()
    shutil.copytree((lab.smoke or lab.place / "calls-made") / "runs", begun / "runs")
    shutil.copytree(begun, good)
    began = time.monotonic()
    said = reproduce(good).communicate()[1].decode()
    seconds, expected = time.monotonic() - began, left_by_reproduce(good)
    assert not half_written(good) and "06_loss_curves.json" in expected, said
    shutil.copytree(good, kept)

    def as_it_was() -> Path:  # an executed notebook is kept in its own place only
        shutil.rmtree(good)
        return Path(shutil.copytree(kept, good))

    report = (as_it_was, lambda out: call("reproduce", *OPTIONS, "--out", out), left_by_reproduce)
    soon = time.monotonic() + (deadline - time.monotonic()) / 3
    killed, problems = killed_at_operations(lab, *report, least // 4, soon)
    at, found = killed_at_random(lab, begun, expected, seconds, least - killed, deadline)
    at["all notebooks kept: the report"] = killed
    return {"kills": at.total(), "at": at, "problems": problems + found}


def call(*words) -> None:
    """A command in this process."""
    assert main([str(word) for word in words]) == 0


def pack(run: str, store: Path, zip_file: Path) -> None:
    """`pack`, which does not write over a zip: one that a killed call finished is deleted."""
    zip_file.unlink(missing_ok=True)
    call("pack", run, "--runs", store, "--out", zip_file)


def reproduce(out: Path) -> subprocess.Popen:
    """`python reproduce.py` in a process of its own."""
    words = [sys.executable, str(ROOT / "reproduce.py"), *OPTIONS, "--out", str(out)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def killed_at_random(lab, begun: Path, expected: dict, seconds, least: int, deadline: float):
    """(what `python reproduce.py` was doing when it was killed, what is wrong)."""
    at, problems = Counter(), []
    while at.total() < least and time.monotonic() < deadline:
        out, wait, code = lab.fresh(begun.name), 1.1 * seconds, -9
        while code == -9:
            process, since = reproduce(out), time.time()
            try:
                late = time.monotonic() > deadline  # it is not killed any more
                said = process.communicate(timeout=None if late else lab.random.uniform(0, wait))[1]
            except subprocess.TimeoutExpired:
                process.kill()
                at[doing(out, since)] += 1
                said = process.communicate()[1]
                problems += ["the lock of a killed call is held"] * is_locked(out)
            code, wait = process.returncode, 1.3 * wait
            problems += half_written(out) + faults(out)
        problems += [f"ends with {code}: {said.decode()[-300:]}"] * (code != 0)
        problems += differences(expected, left_by_reproduce(out)) if code == 0 else []
    return at, problems


def killed_at_operations(lab, begin, work, left, least: int, deadline: float, wanted=""):
    """(kills, what is wrong) of a command, killed before file operations that change something.

    Args:
        begin: begin() gives the folder in which the command works, as it is before.
        work: work(folder) is the command.
        left: left(folder) is what it leaves, {name: digest}.
        wanted: a part of the names of the operations.
    """
    out = begin()
    names = recorded(lab, out, functools.partial(work, out))
    expected = left(out)
    numbers = [n for n, name in enumerate(names) if wanted in name and not READS.match(name)]
    killed, problems = 0, []
    for number in lab.random.sample(numbers, min(least, len(numbers))):
        if time.monotonic() > deadline:
            break
        out = begin()

        def disturbed(out=out, number=number):
            watch(out, lambda n, _: os.kill(os.getpid(), signal.SIGKILL) if n == number else None)
            work(out)

        code = lab.child(disturbed).end(3600)
        killed += code == -9
        found = [f"ends with {code}: {lab.said()[-300:]}"] * (code not in (0, -9))
        found += half_written(out)
        code = lab.child(functools.partial(work, out)).end(3600)
        found += [f"again, it ends with {code}: {lab.said()[-300:]}"] * (code != 0)
        found += differences(expected, left(out)) if code == 0 else []
        problems += [f"at '{names[number]}': {line}" for line in found]
    return killed, problems


def doing(out: Path, since: float) -> str:
    """What a call is doing that began at a time, by the files that it has written."""
    files = [path for path in out.glob("notebooks/*") if path.stat().st_mtime >= since]
    executed = [path.name[1:3] for path in files if path.name.endswith(".partial.ipynb")]
    if executed:
        return f"notebook {min(executed)}"
    return "between notebooks, or the report" if files else "before the notebooks"


def is_locked(out: Path) -> bool:
    try:
        with FileLock(out / "reproduce.lock").acquire(timeout=0):
            return False
    except Timeout:
        return True


def half_written(out: Path) -> list[str]:
    """The files with a final name that are not whole."""
    found = []
    for path in filter(Path.is_file, out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if "/." in f"/{name}" or ".partial" in name:
            continue
        try:
            whole = path.read_bytes().endswith(ENDS.get(path.suffix, b""))
            if path.suffix in (".json", ".ipynb"):
                record = json.loads(path.read_bytes())
                whole = path.parent.name != "results" or record == sealed(record)
            if path.suffix == ".zip":
                whole = zipfile.ZipFile(path).testzip() is None
        except (ValueError, zipfile.BadZipFile):
            whole = False
        found += [f"half-written: {name}"] * (not whole)
    return found


def differences(expected: dict, found: dict) -> list[str]:
    names = {name for name in expected.keys() | found if expected.get(name) != found.get(name)}
    return [f"differs: {name}" for name in sorted(names)]


def left_by_reproduce(out: Path) -> dict[str, str]:
    """What a call leaves, without times: runs, records, pictures, executed cells, the report."""
    found = {name: digest for name, digest in content(out).items() if name.startswith("runs/")}
    for path in out.glob("results/*.json"):
        record = json.loads(path.read_text())
        found[path.name] = json.dumps({k: v for k, v in record.items() if k not in TELL_TIME})
    for path in out.glob("results/figures/[!.]*"):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in (p for p in out.glob("notebooks/*") if p.suffix != ".partial"):
        cells = json.loads(path.read_text())["cells"] if path.suffix == ".ipynb" else []
        kinds = [list({o["output_type"] for o in cell.get("outputs", ())}) for cell in cells]
        numbers = [cell.get("execution_count") for cell in cells]
        sources = [cell["source"] for cell in cells]
        found[path.name] = json.dumps([numbers, [*map(sorted, kinds)], sources])
    summary, page = (
        json.loads((out / "results.json").read_text()),
        (out / "report.html").read_text(),
    )
    metrics = {key: run["metrics"] for key, run in summary["runs"].items()}
    states = [(n["name"], n["status"]) for n in summary["notebooks"]]
    counts = [page.count(mark) for mark in ("<img ", "<table", "<h2", "</html>")]
    found["results.json"] = json.dumps([metrics, states, counts])
    return {name: text.replace(str(out), "OUT") for name, text in found.items()}


def left_by_pack(out: Path) -> dict[str, str]:
    """{name: sha256} of what a zip holds, without what was timed; the hashes in it must fit."""
    with zipfile.ZipFile(out / "made.zip") as archive:
        held = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    sums = {name: hashlib.sha256(part).hexdigest() for name, part in held.items()}
    listed = dict(line.split("  ")[::-1] for line in held["SHA256SUMS"].decode().splitlines())
    found = {
        name: digest for name, digest in sums.items() if name not in ("README.md", "SHA256SUMS")
    }
    fits = listed == {name: digest for name, digest in sums.items() if name != "SHA256SUMS"}
    return found | {
        "hashes": f"fit: {fits}",
        "files": str(sorted(path.name for path in out.iterdir())),
    }
