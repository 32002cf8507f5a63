"""python -m tests.chaos [--minutes 20] [--only kills,damages] [--store FOLDER] [--smoke FOLDER]

Disturbs a small workload in every way that a computer can, and compares what comes out, bit for
bit, with what an undisturbed workload gives. Writes results/reliability.json. For Linux.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # this process forks

from lrc_lib.cli.reproduce import needed  # noqa: E402
from lrc_lib.course.notebook import NOTEBOOKS  # noqa: E402
from lrc_lib.data.manifest import MANIFEST, _sha256  # noqa: E402
from lrc_lib.runs.profiles import load_profile  # noqa: E402
from lrc_lib.runs.store import run_folder  # noqa: E402
from tests.chaos import calls, faults  # noqa: E402
from tests.chaos.record import RESULTS, keep, made_with, problems  # noqa: E402

PARTS = {  # trials, trials of a small version, share of the time
    "kills": (faults.kills, 200, 6, 0.25),
    "operations": (faults.operations, 150, 10, 0.25),
    "damages": (faults.damages, 9999, 45, 0.3),
    "full_disks": (faults.full_disks, 20, 3, 0.05),
    "contention": (faults.contention, 10, 1, 0.05),
    "commands": (calls.commands, 60, 3, 0.05),
    "calls": (calls.calls, 40, 0, 0.2),
    "orphans": (faults.orphans, 6, 0, 0.05),
    "long_process": (faults.long_process, 200, 0, 0.05),
}


def checking(store: Path) -> dict:
    """What comparing everything with its manifest costs a whole run of the profile laptop.

    Each notebook's process checks the runs that it opens. Each of two workers checks the whole
    store, the caches too, which is more than they do. The time of a whole run is that in
    results/laptop.json.
    """
    profile = load_profile("laptop")
    needs, specs = needed(list(NOTEBOOKS.values()), profile)
    sizes = {
        path.parent: sum(entry["size"] for entry in json.loads(path.read_text())["files"].values())
        for path in store.glob(f"*/*/{MANIFEST}")
    }
    read = 2 * sum(sizes.values())
    read += sum(
        sizes.get(run_folder(spec, store), 0) for wanted in needs.values() for spec in wanted
    )
    largest = sorted(store.glob("*/*/*/*.safetensors"), key=lambda path: path.stat().st_size)[-20:]
    began = time.process_time()
    for path in largest:
        _sha256(path)
    rate = sum(path.stat().st_size for path in largest) / (time.process_time() - began)
    whole = json.loads((RESULTS.parent / "laptop.json").read_text())["seconds"]
    facts = {"store_gb": sum(sizes.values()) / 1e9, "read_gb": read / 1e9, "gb_per_s": rate / 1e9}
    facts |= {"seconds": read / rate, "of_seconds": whole, "share": read / rate / whole}
    return facts | {"problems": ["more than 2 %"] * (facts["share"] > 0.02)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--store", type=Path, help="a finished store of the profile laptop")
    parser.add_argument("--smoke", type=Path, help="a finished store of the profile smoke, to copy")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--small", action="store_true", help="a few trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seconds = 36_000 if options.small else 60 * options.minutes
    wanted = [name for name in options.only.split(",") if name]
    path, command = options.results, shlex.join(["python", "-m", "tests.chaos", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        lab = faults.Lab(Path(place), options.seed, options.smoke)
        if set(wanted) - {"calls"}:
            lab.make()
        shares = sum(PARTS[name][3] for name in wanted)
        for name in wanted:
            part, many, few, share = PARTS[name]
            least = few if options.small else many
            if not least:
                continue
            began = time.monotonic()
            found = part(lab, least, began + seconds * share / shares)
            found |= {"seconds": time.monotonic() - began, "made": made_with(command)}
            _keep(name, found, path)
        if options.store:
            _keep("checking", checking(options.store) | {"made": made_with(command)}, path)
    return int(bool(problems(json.loads(path.read_text()))))


def _keep(name: str, found: dict, path: Path) -> None:
    print(
        f"{name}: {len(found['problems'])} problem(s)", *found["problems"], sep="\n  ", flush=True
    )
    keep(name, found, path)


if __name__ == "__main__":
    sys.exit(main())
