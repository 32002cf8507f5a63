"""What is disturbed: a store with every kind of file, made in about three seconds.

A trial runs in a forked child of a process that has loaded torch already. The child ends with the
exit code of the command line, and with `CRASHED` after an exception that is none of the kit's.
"""

import hashlib
import itertools
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from lrc_lib import load_profile, run, training
from lrc_lib.cli import report
from lrc_lib.cli.merge import merge
from lrc_lib.data import packing
from lrc_lib.data.manifest import ASIDE, DAMAGED, MANIFEST, fault
from lrc_lib.errors import LrcError
from tests.conftest import save_rows, save_teacher, save_texts, small_spec

CRASHED = 70
TIMES = ("provenance.json", "README.md", "report.html", "results.json", MANIFEST)  # hold times
EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"),
    *("os.chmod", "os.listdir", "os.scandir", "shutil.copyfile", "fsync"),
}


def quietly(*_) -> None:
    """No progress."""


class Workload:
    """A teacher, packed text, general distillation, augmentation, two students with one stage 1,
    a merged store and a report.

    Args:
        place: a folder for the teacher, the rows and the texts.
        seed: of everything that is drawn.
    """

    def __init__(self, place: Path, seed: int = 0):
        for name in ("teacher", "opinions"):
            (place / name).mkdir(parents=True, exist_ok=True)
        if not (place / "texts.txt").exists():
            save_teacher(place / "teacher", layers=2)
            save_rows(place / "opinions")
            save_texts(place / "texts.txt")
        parts = (str(place / name) for name in ("teacher", "opinions", "texts.txt"))
        self.spec = small_spec(*parts).replace(
            train_rows=80, teacher_epochs=8, teacher_lr=5e-3, student_layers=1, general_packed=True,
            general_max_length=16, augment=1, augment_epochs=1, keep="best",
            seed=seed, teacher_seed=seed, general_seed=seed,
        )  # fmt: skip
        first = [self.spec.teacher_spec(), self.spec.general_spec(), self.spec.augmented_spec()]
        self.specs = [*first, self.spec, self.spec.replace(recipe="lrc_h")]

        self.steps = [*self.specs, self._merge, self._report]

    def __call__(self, out: Path, *steps: int) -> None:
        """Makes whatever is not in the store, all of it or some of its steps."""
        training.FLUSH_STEPS, training.CHECKPOINT_SECONDS = 6, 0
        packing.PART_CHARACTERS = 300
        if not (stage1 := out / "cache" / self.spec.stage1_id()).exists():
            stage1.mkdir(parents=True)
        for step in [self.steps[number] for number in steps] or self.steps:
            step(out) if callable(step) else run(step, out, "cpu", quietly)

    def _merge(self, out: Path) -> None:
        merge([out], out / "merged", weights=True)

    def _report(self, out: Path) -> None:
        report.write(report.collect(load_profile("smoke"), {}, {}, out, 0), out)


def content(out: Path) -> dict[str, str]:
    """{path: sha256} of a store's files: no locks, none that hold times, none set aside."""
    paths = [p for p in out.rglob("*") if p.is_file() and p.suffix != ".lock"]
    paths = [p for p in paths if not re.search(rf"{DAMAGED}/|/\.[^/]+\.partial$", p.as_posix())]
    wanted = {p.relative_to(out).as_posix(): p for p in paths if p.name not in TIMES}
    return {name: hashlib.sha256(_bytes(p)).hexdigest() for name, p in wanted.items()}


def _bytes(path: Path) -> bytes:
    """What a file holds; of a checkpoint its values, since torch may order them differently."""
    if path.suffix != ".pt":
        return path.read_bytes()
    torch.set_printoptions(threshold=10**9, precision=12)
    return repr(torch.load(path, weights_only=True)).encode()


def faults(out: Path) -> list[str]:
    """What is wrong with the folders of a store that have a manifest."""
    folders = [path.parent for path in out.rglob(MANIFEST) if path.parent.suffix not in ASIDE]
    found = {folder: fault(folder) for folder in folders}
    return [f"{folder.name}: {why}" for folder, why in found.items() if why]


def kind_of(name: str) -> str:
    """A file's path in a store without what differs from run to run."""
    return re.sub(r"[-.][0-9a-f]{10,16}(?![0-9a-f])|-s\d", "", name)


# ---- a child, and what it does


class Child:
    """A forked process that calls `work`; what it says on standard error is kept in a file."""

    def __init__(self, work, said: Path):
        self.said, self.began = said, time.perf_counter()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = CRASHED
            try:
                os.setsid()
                with open(said, "wb") as errors, open(os.devnull, "wb") as nothing:
                    os.dup2(errors.fileno(), 2)
                    os.dup2(nothing.fileno(), 1)
                code = _judged(work)
            finally:
                os._exit(code)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self, within: float = 600) -> int:
        """Its exit code, -9 where it was killed; it is killed where it takes too long."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.perf_counter() - self.began > within:
                self.kill()
                os.waitpid(self.pid, 0)
                return -99
            time.sleep(0.005)


def _judged(work) -> int:
    torch.set_num_threads(1)
    try:
        work()
        return 0
    except LrcError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return CRASHED


def watch(out: Path, operation) -> None:
    """Calls operation(number, name) before each file operation of this process in a store.

    What it raises is what the operation raises. Operations of compiled code are not seen.
    """
    numbers, inside = itertools.count(), str(out)

    def hook(event, arguments):
        if event not in EVENTS or not arguments or isinstance(arguments[0], int):
            return
        path = arguments[1 if event in ("os.rename", "os.link", "shutil.copyfile") else 0]
        if not isinstance(path, int) and os.fsdecode(path).startswith(inside):
            mode = f"{arguments[1]} " if event == "open" else ""
            name = kind_of(os.fsdecode(path).removeprefix(inside))
            operation(next(numbers), f"{event} {mode}{name}")

    fsync = os.fsync

    def flushed(file):
        sys.audit("fsync", os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    if os.path.exists("/proc/self/fd"):
        os.fsync = flushed
    sys.addaudithook(hook)
