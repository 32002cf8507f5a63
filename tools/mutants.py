"""Do the tests notice a changed line? Mutates the method's files and runs the tests of each.

  python tools/mutants.py [--per-file 20] [--seed 0] [--jobs 2] [--out FILE.json]

A mutant is one changed operator, comparison, constant, condition or argument, drawn at random from
all such places in a file. It is killed if a test fails or the tests take more than three times as
long as usual. The share of killed mutants is printed per file; survivors are listed with their
line, since some of them change nothing that can be observed.
"""

import argparse
import ast
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "lrc_lib/losses.py": ["tests/test_losses.py", "tests/test_benchmarks.py"],
    "lrc_lib/perturbation.py": ["tests/test_perturbation.py"],
    "lrc_lib/schedule.py": ["tests/test_schedule.py"],
    "lrc_lib/distil.py": [
        "tests/test_distil.py",
        "tests/test_benchmarks.py",
        "tests/runs/test_runs.py",
    ],
    "lrc_lib/training.py": [
        "tests/test_benchmarks.py",
        "tests/runs/test_runs.py",
        "tests/test_best.py",
    ],
    "lrc_lib/runs/store.py": ["tests/runs/test_store.py", "tests/runs/test_runs.py"],
}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
OPERATORS |= {ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
COMPARISONS |= {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
COMPARISONS |= {ast.In: ast.NotIn, ast.NotIn: ast.In}


def changed(node):
    """A mutated copy of a node, or None if it is not of a kind that is mutated."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        node = node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    else:
        return None
    return node


def places(tree):
    """(parent, field, index or None) of every node that can be mutated; messages are left out."""
    for parent in ast.walk(tree):
        if isinstance(parent, ast.Raise | ast.JoinedStr | ast.arg):
            continue
        for field, value in ast.iter_fields(parent):
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.expr) and changed(node) is not None:
                    yield parent, field, index


def mutants(source: str, count: int, seed: int):
    """(line, mutated source) of `count` random mutants."""
    total = sum(1 for _ in places(ast.parse(source)))
    for number in sorted(random.Random(seed).sample(range(total), min(count, total))):
        tree = ast.parse(source)
        parent, field, index = list(places(tree))[number]
        value = getattr(parent, field)
        node = changed(value if index is None else value[index])
        line = (value if index is None else value[index]).lineno
        setattr(parent, field, node) if index is None else value.__setitem__(index, node)
        yield line, ast.unparse(ast.fix_missing_locations(tree))


def passes(folder: Path, tests, seconds: float) -> bool:
    """Whether the tests pass in a copy of the repository within the time."""
    tests = [test for test in tests if (folder / test).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def copy_of_repository() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mutants-")) / "repository"
    ignore = shutil.ignore_patterns(".git", "out", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list(TESTS), metavar="FILE")
    parser.add_argument("--per-file", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    folders = [copy_of_repository() for _ in range(options.jobs)]
    results = {}
    for path in options.only:
        tests = TESTS[path]
        source, begun = (ROOT / path).read_text(encoding="utf-8"), time.monotonic()
        assert passes(folders[0], tests, 1800), f"the tests of {path} fail without a mutant"
        limit = 3 * (time.monotonic() - begun) * options.jobs + 30
        queue = list(mutants(source, options.per_file, options.seed))

        def work(job, free=folders, path=path, tests=tests, source=source, limit=limit):
            line, text = job
            folder = free.pop()
            (folder / path).write_text(text, encoding="utf-8")
            alive = passes(folder, tests, limit)
            (folder / path).write_text(source, encoding="utf-8")
            free.append(folder)
            return line, alive

        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(pool.map(work, queue))
        lines = source.splitlines()
        alive = [f"{line}: {lines[line - 1].strip()}" for line, lives in found if lives]
        results[path] = {"mutants": len(found), "killed": len(found) - len(alive), "alive": alive}
        print(f"{path}: {len(found) - len(alive)} of {len(found)} killed", *alive, sep="\n  ")
    total = sum(r["mutants"] for r in results.values())
    killed = sum(r["killed"] for r in results.values())
    print(f"in all {killed} of {total} killed, {100 * killed / total:.0f} %")
    if options.out:
        Path(options.out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
