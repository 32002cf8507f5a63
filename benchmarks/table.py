"""Nine recipes as one: a column of the ablation table trained together, against one by one.

  python -m benchmarks.table [--set general_rows=1000 ...] [--out DIR]

"One by one" is nine commands `python -m lrc_lib run`, one after the other, each with all cores, in
a store that already holds the teacher, the general distillation and the teacher's cache. "As one"
is what `reproduce.py` does with the same nine in a copy of that store: processes side by side, and
a first stage that several recipes have in common is trained once. The results are the same but for
rounding, which depends on the number of threads (tests hold them bit-equal at equal threads).
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lrc_lib import find, run
from lrc_lib.runs.device import default_jobs, resolve_device
from lrc_lib.runs.pool import close_over, train_all
from lrc_lib.runs.profiles import load_profile

from .measure import parser, write


class Silent:
    """A screen that shows nothing but failures."""

    def start(self, key):
        pass

    def step(self, key, step, total, text):
        pass

    def end(self, key, status, text=""):
        if status == "FAILED":
            print(f"FAILED {key}: {text}", file=sys.stderr)
        return 0.0

    def say(self, text):
        print(text, file=sys.stderr)


def one_by_one(specs, out: Path, device: str) -> float:
    """Wall seconds of a command for each spec."""
    begun = time.perf_counter()
    for spec in specs:
        path = out / "spec.json"
        path.write_text(spec.to_json())
        command = [sys.executable, "-m", "lrc_lib", "run", str(path), "--out", str(out)]
        subprocess.run([*command, "--device", device], check=True, capture_output=True)
    return time.perf_counter() - begun


def as_one(specs, out: Path, device: str, jobs: int) -> float:
    """Wall seconds of all specs together."""
    begun = time.perf_counter()
    train_all(close_over(specs), out, device, jobs, Silent())
    return time.perf_counter() - begun


def main(arguments=None) -> None:
    command = parser("table", __doc__)
    command.add_argument("--profile", default="laptop")
    command.add_argument("--set", nargs="+", default=[], metavar="K=V")
    command.add_argument("--recipes", type=int, default=0, help="only the first N; 0: all")
    command.add_argument("--jobs", type=int, default=0)
    options = command.parse_args(arguments)
    options.jobs = options.jobs or default_jobs(resolve_device(options.device))
    profile = load_profile(options.profile, options.set)
    task = profile.tasks[0]
    recipes = profile.recipes[task][: options.recipes or None]
    specs = [profile.spec(task, recipe, 0) for recipe in recipes]
    root = Path(tempfile.mkdtemp(prefix="table-"))
    warm, apart = root / "together", root / "apart"
    needed = [d for spec in specs for d in spec.dependencies()]
    train_all(close_over(needed), warm, options.device, options.jobs, Silent())
    run(specs[0].replace(recipe="lrc_c", seed=1, epochs=1), warm, options.device)  # fills the cache
    shutil.copytree(warm, apart)
    alone = root / "alone"
    shutil.copytree(warm, alone)
    seconds = {
        "one of them": as_one(specs[:1], alone, options.device, 1),
        "one by one": one_by_one(specs, apart, options.device),
        "as one": as_one(specs, warm, options.device, options.jobs),
    }
    stores = {"one by one": apart, "as one": warm}
    scores = {name: [find(spec, out).score() for spec in specs] for name, out in stores.items()}
    line = {"recipes": [spec.recipe for spec in specs], "jobs": options.jobs}
    line |= {"steps": find(specs[0], warm).metrics["steps"], "wall_seconds": seconds}
    line["training_process_seconds"] = {
        name: sum(find(spec, out).provenance["seconds"] for spec in specs)
        for name, out in stores.items()
    }
    differences = zip(scores["as one"], scores["one by one"], strict=True)
    line["as one"] = {
        "ratio": seconds["as one"] / seconds["one by one"],
        "times_one_of_them": seconds["as one"] / seconds["one of them"],
        "largest_difference_of_scores": max(abs(a - b) for a, b in differences),
    }
    write([line], f"table-{options.device}", options.out, options.device)
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
