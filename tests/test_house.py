"""The house as docs/architecture.md draws it: rooms, one-way imports, few late imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "lrc_lib"
METHOD = "losses perturbation schedule models teacher distil training evaluate paper".split()
ROOMS = {"cli", "course", "data", "results", "runs"}
LATE_IMPORTS = 20  # imports within functions: for what is optional or slow


def test_the_root_holds_the_method_and_five_rooms():
    files = {path.stem for path in LIBRARY.glob("*.py")} - {"__init__", "__main__", "errors"}
    assert files == set(METHOD)
    assert {path.parent.name for path in LIBRARY.glob("*/__init__.py")} == ROOMS


def test_imports_go_one_way_and_in_no_circle():
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_few_imports_stand_in_functions():
    late = []
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom))
                late += [f"{path.relative_to(ROOT)}:{n.lineno}" for n in inner]
    assert len(late) <= LATE_IMPORTS, late


def test_the_way_of_a_batch_is_short():
    """From `run(spec)` to Eq. (1): the files that docs/architecture.md names, and no other."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    way = text.split("## The way of a batch")[1].split("\n## ")[0]
    files = set(re.findall(r"`((?:runs/)?\w+\.py)`", way)) - {"runs/store.py"}
    assert files == {"runs/run.py", "training.py", "distil.py", "losses.py", "perturbation.py"}
    assert all((LIBRARY / name).exists() for name in files)
