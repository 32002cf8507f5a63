"""The list of notebooks: their questions, the runs that they read, and where their files lie.

Nothing heavy is imported here, so that `--list` answers at once.
"""

import ast
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lrc_lib.course.display import plain
from lrc_lib.data.manifest import rename
from lrc_lib.errors import UnavailableError, unknown
from lrc_lib.schedule import FEWER_NEGATIVES

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
SCHEMA = 1  # of OUT/results/<notebook>.json
SHORTEST_ALT = 20  # characters


def _specs(profile, task, recipes, seeds=1):
    """The specs of a task's recipes, after the candidates where settings are to be chosen."""
    found = []
    for recipe in recipes:
        found += profile.candidates(task, recipe)
        found += [profile.spec(task, recipe, profile.first_seed + i) for i in range(seeds)]
    return found


def _first(*recipes):
    """The first task, the first seed."""
    return lambda profile: _specs(profile, profile.tasks[0], recipes)


def _main(*recipes):
    """The task of the paper's Tables 3 to 5 and Fig. 5, the first seed."""
    return lambda profile: _specs(profile, profile.main, recipes)


def _every_seed(*recipes):
    """The same task, all seeds."""
    return lambda profile: _specs(profile, profile.main, recipes, profile.seeds)


def _tables(profile):
    """All tasks, the profile's recipes for each, all seeds."""
    tasks = ((task, profile.recipes[task]) for task in profile.tasks)
    return [spec for task in tasks for spec in _specs(profile, *task, profile.seeds)]


def _controls(profile):
    """The controls that the profile lists; with `shuffled`, the numbers of negatives too."""
    task, count = profile.main, profile.control_seeds
    paired = [r for r in ("lrc", "cosine", "centred", "shuffled") if r in profile.recipes[task]]
    alone = [r for r in ("info_nce", "kd") if r in profile.recipes[task]]
    found = _specs(profile, task, paired, count) + _specs(profile, task, alone, profile.seeds)
    for spec in [s for s in found if s.recipe == "lrc" and not s.selection_rows]:
        least = min(spec.batch_size, spec.general_batch_size) if "shuffled" in paired else 0
        found += [spec.replace(negative_count=k) for k in FEWER_NEGATIVES if k < least]
    return found


@dataclass(frozen=True)
class Notebook:
    """One notebook: the question it answers, the runs it reads and how long it may take.

    Attributes:
        needs: a function of a profile that returns the list of `RunSpec` the notebook reads.
        minutes: the wall limit of its execution, its runs being in the store already.
    """

    name: str
    question: str
    needs: Callable = field(repr=False, default=lambda profile: [])
    minutes: float = 15


NOTEBOOKS = {
    notebook.name: notebook
    for notebook in (
        Notebook(
            "00_start_here",
            "What is distillation, and what does the paper claim for it?",
            _main("teacher"),
        ),
        Notebook("01_cos_nce_geometry", "Why measure the angle, and what does COS-NCE reward?"),
        Notebook(
            "02_teacher_and_student",
            "Who teaches whom, and through which layers?",
            _first("teacher", "lrc"),
        ),
        Notebook(
            "03_in_eighty_lines",
            "How short is the whole method, and does it work?",
            _main("teacher"),
        ),
        Notebook(
            "04_two_stage_distillation",
            "What happens in one run of LRC-BERT, step by step?",
            _first("lrc", "lrc_1", "finetune"),
        ),
        Notebook("05_ablations", "Which part of the method does the work?", _tables),
        Notebook(
            "06_loss_curves",
            "Does gradient perturbation make training steadier?",
            _every_seed("lrc", "lrc_g"),
        ),
        Notebook(
            "07_mse_and_angle",
            "Does the angle tell right from wrong better than the distance?",
            _main("lrc", "bert_m"),
        ),
        Notebook("08_is_it_contrastive", "Is contrastive more than centring?", _controls),
        Notebook("09_glue_results", "What reproduced, and what did not?", _tables),
    )
}


def find_notebook(word: str) -> Notebook:
    """The notebook of that name or number: "04", "4" or "04_two_stage_distillation".

    Raises:
        InputError: unknown, with the nearest right name.
    """
    word = word.removesuffix(".ipynb")
    for name, notebook in NOTEBOOKS.items():
        if word == name or (word.isdigit() and int(word) == int(name[:2])):
            return notebook
    raise unknown("notebook", word, NOTEBOOKS)


def notebook_path(name: str) -> Path:
    """The file of the notebook `name`: in the repository, else in the installed package."""
    source = ROOT / "notebooks" / f"{name}.ipynb"
    return source if source.exists() else PACKAGE / "_notebooks" / source.name


def code_lines(path: Path, tag: str) -> int:
    """Lines in a notebook's cells with that tag, without imports, blank lines and comments."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    chosen = ("".join(c["source"]) for c in cells if tag in c["metadata"].get("tags", []))
    lines = [line.strip() for line in "\n".join(chosen).splitlines()]
    return sum(bool(line) and not line.startswith(("#", "import ", "from ")) for line in lines)


def cell_of(name: str, path: Path) -> str:
    """Which cell of a notebook defines the variable or function `name`, in words; "" for none."""
    heading, cells = "", json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"^#+ (.+)$", source, flags=re.M) or [heading])[-1]
            continue
        for node in ast.walk(ast.parse(source)):
            stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            if (node.id if stored else getattr(node, "name", None)) == name:
                first = source.splitlines()[0]
                return f"'{name}' comes from the cell '{first}' under \"{heading}\": run it first."
    return ""


def output_root(out="") -> Path:
    """Where runs and results live: `out`, else $LRC_OUT, else `out/` in the repository.

    Where the package is installed without its repository: `out/` in the current folder.
    """
    default = ROOT / "out" if (ROOT / "notebooks").exists() else "out"
    return Path(out or os.environ.get("LRC_OUT") or default).expanduser().resolve()


def publish(path: Path, content: bytes) -> None:
    """Writes `content` so that `path` holds either all of it or what it held before.

    Raises:
        UnavailableError: the disk refuses, e.g. because it is full.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rename(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise UnavailableError(
            f"Cannot write '{path}': {error.strerror or error}. What was trained and executed is "
            "kept; make room, and the same command continues."
        ) from error


def write_json(path: Path, content) -> None:
    """Writes `content` as JSON, as `publish` does."""
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    publish(path, (text + "\n").encode("utf-8", errors="replace"))
