"""The disturbances: each gives what was tried, how it ended, and what is wrong ("problems")."""

import errno
import functools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import torch

from lrc_lib import run
from lrc_lib.data.manifest import ASIDE, DAMAGED, MANIFEST
from tests.chaos.record import ROOT
from tests.chaos.workload import Child, Workload, content, faults, kind_of, quietly, watch

ERRORS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES")}
WRITES = re.compile(r"open [wax+]|os.(mkdir|link|truncate)|shutil.copyfile|fsync")
READERS = {  # what is made again, so that a cache is read
    "cache/corpus": ["runs/general-cos_nce"],
    "cache/augment": ["runs/opinions-augmented"],
    "cache/opinions-teacher-augment-tokens-2": ["runs/opinions-augmented"],
    "cache/opinions-teacher-tokens-2": ["cache/stage1", "runs/opinions-lrc_h"],
    "cache/stage1": ["runs/opinions-lrc_h"],
}


class Lab:
    """A place for trials, the workload, and what it gives when nothing disturbs it."""

    def __init__(self, place: Path, seed: int = 0, smoke: Path | None = None):
        self.place, self.random, self.work = place, random.Random(seed), Workload(place / "in")
        self.smoke = smoke  # a finished store of the profile smoke, or None
        self.trials = 0

    def make(self) -> None:
        """Calls the workload undisturbed: what is compared with."""
        place = self.place
        self.other = Workload(place / "in", seed=1)  # has all other digits
        self.other(place / "foreign")  # in this process: what it imports is here when it forks
        self.expected: list[dict] = [{}]  # what is in the store after n steps
        for number in range(len(self.work.steps)):
            self.work(place / "good", number)
            self.expected.append(content(place / "good"))
            shutil.copytree(place / "good", place / f"steps-{number + 1}")
        began = time.perf_counter()
        assert Child(lambda: self.work(place / "again"), place / "said").end() == 0
        self.seconds = time.perf_counter() - began
        assert content(place / "again") == self.expected[-1], "the workload differs by itself"

    def fresh(self, like: str = "") -> Path:
        """An empty store, or a copy of one; the store of the trial before is deleted."""
        shutil.rmtree(self.place / f"trial-{self.trials}", ignore_errors=True)
        self.trials += 1
        out = self.place / f"trial-{self.trials}"
        if like:
            shutil.copytree(self.place / like, out)
        return out

    def child(self, work) -> Child:
        return Child(work, self.place / "said")

    def said(self) -> str:
        return (self.place / "said").read_text(errors="replace")

    def problems(self, out: Path, repaired=False, steps=()) -> list[str]:
        """Calls the workload, or a step, until it ends; what is wrong with the store after that."""
        code = self.child(lambda: self.work(out, *steps)).end()
        found = [f"the same command ends with {code}: {self.said()[-300:]}"] * (code != 0)
        if not repaired:
            found += [f"set aside: {path.name}" for path in out.rglob(f"*{DAMAGED}")]
        return found + self.differences(out, *steps)

    def differences(self, out: Path, step: int = -2) -> list[str]:
        """In what a store differs from one that was made undisturbed, up to a step."""
        after, expected = content(out), self.expected[step + 1]
        names = {n for n in after.keys() | expected if after.get(n) != expected.get(n)}
        return [*sorted(f"differs: {kind_of(name)}" for name in names), *faults(out)]


def one_sentence(said: str, code: int) -> bool:
    """Whether an error is the kit's, and is one line."""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    return code in (1, 2, 3) and len(lines) == 1 and "Traceback" not in said


def kills(lab: Lab, least: int, deadline: float) -> dict:
    """SIGKILL at random times; the command is called again until it ends."""
    killed, stores, problems = Counter(), 0, []
    while killed.total() < least and time.monotonic() < deadline:
        out, wait, before, code = lab.fresh(), lab.seconds * lab.random.uniform(0.1, 0.6), set(), -9
        steps: dict[str, int] = {}
        while code == -9:
            child = lab.child(lambda out=out: lab.work(out))
            timer = threading.Timer(lab.random.uniform(0, wait), child.kill)
            timer.start()
            code = child.end()
            timer.cancel()
            folders = {path.parent for path in out.glob(f"runs/*/{MANIFEST}")}
            published = {folder.name for folder in folders if folder.suffix not in ASIDE}
            problems += [f"lost: {kind_of(name)}" for name in before - published] + faults(out)
            before, wait, saved = published, wait * 1.1, checkpoint_steps(out)
            problems += [
                f"lost: the checkpoint of {kind_of(name)}"
                for name, step in steps.items()
                if name not in published and saved.get(name, -1) < step
            ]
            steps = saved
            if code == -9:
                at = [kind_of(path.name) for path in out.rglob("*.partial") if path.is_dir()]
                killed[min(at, default="between runs")] += 1
            elif code:
                problems.append(f"ends with {code}: {lab.said()[-300:]}")
        problems += lab.problems(out)
        stores += 1
    return {"kills": killed.total(), "at": dict(killed), "stores": stores, "problems": problems}


def checkpoint_steps(out: Path) -> dict[str, int]:
    """{run: the step of its checkpoint} of what is not finished in a store."""
    found = {}
    for path in out.glob("runs/*.partial/checkpoint.pt"):
        found[path.parent.stem] = torch.load(path, weights_only=True)["step"]
    return found


def recorded(lab: Lab, out: Path, work) -> list[str]:
    """The names of the file operations of `work()` in a folder."""
    names = lab.place / "operations"

    def record():
        with names.open("w") as file:
            watch(out, lambda number, name: print(name, file=file, flush=True))
            work()

    assert lab.child(record).end(3600) == 0, lab.said()
    return names.read_text().splitlines()


def operations_of(lab: Lab, step: int) -> dict[str, list[int]]:
    """{name of a file operation: its numbers} in a step of the workload."""
    out = lab.fresh(f"steps-{step}" if step else "")
    by_name: dict[str, list[int]] = {}
    for number, name in enumerate(recorded(lab, out, functools.partial(lab.work, out, step))):
        by_name.setdefault(name, []).append(number)
    return by_name


def disturbed(lab: Lab, out: Path, step: int, at: int, what: str) -> None:
    """A step with a kill or an errno at the operation number `at`; a full disk stays full."""

    def operation(number, name):
        if number == at and what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == at or (what == "ENOSPC" and number > at and WRITES.match(name)):
            raise OSError(ERRORS[what], os.strerror(ERRORS[what]), name)

    (out / "cache" / lab.work.spec.stage1_id()).mkdir(parents=True, exist_ok=True)
    watch(out, operation)
    lab.work(out, step)


def operations(lab: Lab, least: int, deadline: float) -> dict:
    """A kill or an errno at the n-th file operation of a step, each kind of operation in turn."""
    kinds = [
        (step, name, numbers)
        for step in range(len(lab.work.steps))
        for name, numbers in operations_of(lab, step).items()
    ]
    trials = [(kind, what) for kind in kinds for what in ("kill", *ERRORS)]
    lab.random.shuffle(trials)
    ended, problems = Counter(), []
    for (step, name, numbers), what in trials[:least]:
        if time.monotonic() > deadline:
            break
        out, at = lab.fresh(f"steps-{step}" if step else ""), lab.random.choice(numbers)
        work = functools.partial(disturbed, lab, out, step, at, what)
        code = lab.child(work).end()
        sentence = one_sentence(lab.said(), code)
        how = {0: "went on", -9: "killed"}.get(code, "one sentence" if sentence else "no sentence")
        ended[f"{what}: {how}"] += 1
        found = [f"no sentence ({code}): {lab.said()[-600:]}"] * (how == "no sentence")
        repaired = "damaged: " in lab.said()  # a file that could not be read is made again
        found += lab.problems(out, repaired, [step])
        problems += [f"{what} at '{name}': {line}" for line in found]
    return {"trials": ended.total(), "kinds": len(kinds), "ended": ended, "problems": problems}


def full_disks(lab: Lab, least: int, deadline: float) -> dict:
    """A disk that fills up while a file is written: a small tmpfs, or a limit to a file's size."""
    disk, ended, problems = lab.place / "disk", Counter(), []
    size = sum(path.stat().st_size for path in (lab.place / "good").rglob("*") if path.is_file())
    largest = max(path.stat().st_size for path in (lab.place / "good").rglob("*"))
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    real = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        for number in range(least):
            if time.monotonic() > deadline:
                break
            share, on_disk = lab.random.uniform(0.05, 1), real and number % 2
            out = disk / str(number) if on_disk else lab.fresh()
            if on_disk:
                resize(disk, int(size * share))
                code = lab.child(lambda out=out: lab.work(out)).end()
            else:
                limit = int(largest * share)
                code = lab.child(lambda out=out, limit=limit: limited(lab, out, limit)).end()
            good = not code or one_sentence(lab.said(), code)
            kind = "a small disk" if on_disk else "a limit to the size of a file"
            ended[f"{kind}: {('one sentence' if code else 'went on') if good else 'crashed'}"] += 1
            found = [] if good else [f"no sentence ({code}): {lab.said()[-600:]}"]
            if on_disk:
                resize(disk, 4 * size)
            problems += found + lab.problems(out)
            shutil.rmtree(out)
    finally:
        if real:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    note = "" if real else "no file system could be mounted here (not root)"
    return {"trials": ended.total(), "ended": ended, "note": note, "problems": problems}


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def limited(lab: Lab, out: Path, size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    lab.work(out)


# ---- damage

HOW = ("missing", "empty", "cut", "flipped", "foreign")


def damage(path: Path, how: str, foreign: Path) -> None:
    good = path.read_bytes()
    path.unlink()
    if how != "missing":
        flipped = bytearray(good)
        flipped[len(good) // 2 : len(good) // 2 + 1] = bytes([good[len(good) // 2] ^ 1])
        other = foreign.read_bytes() if foreign.exists() else b""
        versions = {"empty": b"", "cut": good[: len(good) * 2 // 3], "flipped": flipped}
        path.write_bytes(versions.get(how, other))


def interrupted(lab: Lab, wanted: str, times: int) -> list[str]:
    """Two stores, of the workload and of the foreign one, killed before a file operation."""
    made = []
    for work in (lab.work, lab.other):
        out, seen = lab.place / f"partial-{len(wanted)}-{times}-{len(made)}", Counter()

        def operation(number, name, seen=seen):
            seen[name] += bool(re.search(wanted, name))
            if seen.total() == times:
                os.kill(os.getpid(), signal.SIGKILL)

        def stopped(out=out, work=work, operation=operation):
            watch(out, operation)
            work(out)

        assert lab.child(stopped).end() == -9, f"{wanted}: {lab.said()}"
        made.append(out.name)
    return made


# Before which operation a store is left, so that it holds unfinished work of every kind.
LEFT = [
    (r"open w /cache/corpus\.partial/state\.json\.partial", 4),
    (r"open w /cache/augment\.partial/rows\.jsonl\.state\.partial", 2),
    (r"open w /runs/opinions-teacher\.partial/checkpoint", 6),
    (r"open w /runs/opinions-lrc\.partial/manifest", 1),
]


def damages(lab: Lab, least: int, deadline: float) -> dict:
    """Every kind of file of a store: missing, empty, cut, flipped, or another run's."""
    ended: dict[str, Counter] = {}
    trials, problems = [], []
    for good, foreign in [("good", "foreign"), *(interrupted(lab, *left) for left in LEFT)]:
        others = {kind_of(p.relative_to(lab.place / foreign).as_posix()): p
                  for p in (lab.place / foreign).rglob("*")}  # fmt: skip
        for path in sorted((lab.place / good).rglob("*")):
            name = path.relative_to(lab.place / good).as_posix()
            if (
                not path.is_file()
                or path.suffix == ".lock"
                or path.name in ("report.html", "results.json")
            ):
                continue
            if good == "good" or ".partial" in name:
                trials += [
                    [good, name, how, others.get(kind_of(name), Path("none"))] for how in HOW
                ]
    lab.random.shuffle(trials)
    turn: Counter = Counter()
    for trial in trials:  # every kind of file once, then every kind a second time, ...
        turn[trial[0], kind_of(trial[1])] += 1
        trial.append(turn[trial[0], kind_of(trial[1])])
    trials.sort(key=lambda trial: trial[-1])
    for good, name, how, foreign, _ in trials[:least]:
        if time.monotonic() > deadline:
            break
        out = lab.fresh(good)
        cache = kind_of(name).rpartition("/")[0]
        for folder in out.glob("*/*/") if good == "good" else ():
            if kind_of(folder.relative_to(out).as_posix()) in READERS.get(cache, ()):
                shutil.rmtree(folder)
        if (path := out / name).stat().st_size == 0:
            continue
        damage(path, how, foreign)
        code = lab.child(lambda out=out: lab.work(out)).end()
        said, result = lab.said(), "crashed"
        if one_sentence(said, code):
            result = "refused"
        elif code == 0:
            wrong = lab.differences(out)
            if cache == "cache/stage1":  # which is shared only where something asks for it
                wrong = [line for line in wrong if not line.startswith("differs: cache/stage1")]
            result = "other" if wrong else "made again" if "damaged: " in said else "same numbers"
        ended.setdefault(kind_of(name), Counter())[f"{how}: {result}"] += 1
        if result in ("other", "crashed"):
            what = wrong[:3] if result == "other" else said[-600:]
            problems.append(f"{how} {kind_of(name)} of {good}: {result} ({code}): {what}")
    tried = sum(counter.total() for counter in ended.values())
    total = sum(ended.values(), Counter())
    outcomes = Counter()
    for key, count in total.items():
        outcomes[key.split(": ")[1]] += count
    return {
        "trials": tried, "of": len(trials), "kinds": len(ended), "outcomes": outcomes,
        "by_damage": total, "by_kind": ended, "problems": problems,
    }  # fmt: skip


# ---- several processes, and one process for a long time


def contention(lab: Lab, least: int, deadline: float) -> dict:
    """Three processes make the same store at once; in half of the trials one is killed."""
    trials = killed = 0
    problems: list[str] = []
    while trials < least and time.monotonic() < deadline:
        out = lab.fresh()
        children = [Child(lambda out=out: lab.work(out), lab.place / f"said-{i}") for i in range(3)]
        if trials % 2:
            time.sleep(lab.random.uniform(0, 2 * lab.seconds))
            children[0].kill()
        for child in children:
            code = child.end(600)
            killed += code == -9
            if code != 0 and not (code == -9 and child is children[0]):
                problems.append(f"ends with {code}: {child.said.read_text()[-600:]}")
        problems += lab.problems(out)
        trials += 1
    return {"trials": trials, "processes": 3, "killed": killed, "problems": problems}


def orphans(lab: Lab, least: int, deadline: float) -> dict:
    """SIGTERM or SIGKILL for reproduce.py: who is alive five seconds later."""
    trials, problems, alive = 0, [], []
    while trials < least and time.monotonic() < deadline:
        out, mark = lab.fresh(), f"LRC_CHAOS={os.getpid()}-{trials}"
        command = [sys.executable, str(ROOT / "reproduce.py"), "--profile", "smoke", "--jobs", "2"]
        environment = os.environ | dict([mark.split("=")])
        silent = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        parent = subprocess.Popen([*command, "--out", str(out)], env=environment, **silent)
        time.sleep(lab.random.uniform(1, 8 * lab.seconds))
        alive.append(len(marked(mark)))
        parent.send_signal((signal.SIGTERM, signal.SIGKILL)[trials % 2])
        parent.wait()
        time.sleep(5)
        problems += [f"an orphan after 5 s: {command}" for command in marked(mark)]
        trials += 1
    return {"trials": trials, "processes": alive, "problems": problems}


def marked(mark: str) -> list[str]:
    """The command lines of the processes that have this in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue
    return found


def long_process(lab: Lab, least: int, deadline: float) -> dict:
    """Many short runs in one process: its memory, file handles and threads."""
    out, record = lab.fresh(), lab.place / "long.json"
    spec = lab.work.spec.replace(recipe="finetune", train_rows=32, epochs=1, keep="last", augment=0)

    def work():
        seen = []
        for seed in range(least):
            result = run(spec.replace(seed=seed), out, "cpu", quietly)
            result.score(), result.student(), result.history, result.predictions()
            status = Path("/proc/self/status").read_text()
            facts = [int(re.search(rf"{key}:\s+(\d+)", status)[1]) for key in ("VmRSS", "Threads")]
            seen.append([*facts, len(list(Path("/proc/self/fd").iterdir()))])
            if time.monotonic() > deadline:
                break
        record.write_text(json.dumps(seen))

    code = lab.child(work).end(3600)
    seen = json.loads(record.read_text()) if code == 0 else []
    if len(seen) < 20:
        return {
            "runs": len(seen),
            "problems": [f"ends with {code}: {lab.said()[-300:]}"] * (code != 0),
        }
    # transformers loads weights in threads that may outlive a run for a moment: the fewest count
    quarter = len(seen) // 4
    warm, last = (
        [of[-1][0], *(min(numbers) for numbers in zip(*(row[1:] for row in of), strict=True))]
        for of in (seen[: quarter + 1], seen[-quarter:])
    )
    growth = last[0] / warm[0] - 1
    facts = {"runs": len(seen), "memory_mb": [warm[0] / 1024, last[0] / 1024], "growth": growth}
    facts |= {"threads": [warm[1], last[1]], "handles": [warm[2], last[2]]}
    return facts | {"problems": ["it grows"] * (growth > 0.02 or warm[1:] != last[1:])}
