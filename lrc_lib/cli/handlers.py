"""What the commands that train, read or export runs do; imported when one of them is called."""

import json
import shlex
from contextlib import suppress
from pathlib import Path

from lrc_lib.cli import reproduce
from lrc_lib.cli.archive import pack
from lrc_lib.cli.export import BATCHES, LARGEST, export
from lrc_lib.cli.general import settings_of, spec_of
from lrc_lib.cli.merge import merge
from lrc_lib.cli.plan import show_runs, write_specs
from lrc_lib.cli.submission import write_submission
from lrc_lib.cli.verify import verify
from lrc_lib.course.notebook import NOTEBOOKS, output_root
from lrc_lib.data import load_task_data
from lrc_lib.errors import InputError, LrcError
from lrc_lib.models import load_tokenizer, teacher_folder
from lrc_lib.results.kept import FOLDER
from lrc_lib.runs.augmentation import Augmentation, augmented_rows
from lrc_lib.runs.device import resolve_device
from lrc_lib.runs.pool import all_specs
from lrc_lib.runs.processes import current, together
from lrc_lib.runs.run import run
from lrc_lib.runs.selection import to_choose, with_choices
from lrc_lib.runs.spec import RunSpec, data_of
from lrc_lib.runs.store import open_run
from lrc_lib.runs.unlabelled import text_source
from lrc_lib.schedule import RECIPES


def run_one(options) -> int:
    """Trains, resumes or reads the run of a spec file; process 0 prints its metrics."""
    try:
        text = Path(options.spec).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the spec '{options.spec}': {error}") from None
    with together(options.processes, options.device) as device:
        result = run(RunSpec.from_json(text), output_root(options.out), device)
        if current().rank == 0:
            show_metrics(result)
    return 0


def general(options) -> int:
    """Prints what a general distillation will cost, trains (resumes, reads) it, prints metrics."""
    spec, out = spec_of(options), output_root(options.out)
    show_runs([spec], out, options.device)
    print("It takes more time to fetch and pack the text.")
    if options.plan:
        return 0
    show_metrics(run(spec, out, options.device))
    names = [r.name for r in RECIPES.values() if r.general and r.layer_loss == spec.general_loss]
    if names:
        print(f"{names[0]} runs start from it with: --set {shlex.join(settings_of(spec))}")
    return 0


def show_metrics(result) -> None:
    facts = {"id": result.id, "path": str(result.path)} | result.metrics
    print(json.dumps(facts, indent=1))


def plan(options) -> int:
    """Prints what all notebooks of a profile cost, or writes the specs of their runs."""
    if not options.specs:
        return reproduce.command(options)
    profile = options.chosen
    with suppress(LrcError):  # where data are not here, nothing has been chosen here
        profile = with_choices(profile, output_root(options.out))
    wanted = [s for n in NOTEBOOKS.values() for s in n.needs(profile)]
    first = to_choose(profile, wanted)
    count = write_specs(first or wanted, Path(options.specs))
    print(f"{count} specs in {options.specs}: 0.json to {count - 1}.json")
    if first:
        print("Settings are chosen by these runs. Train them, then plan again for the others.")
    return 0


def merge_stores(options) -> int:
    """Merges stores and says what became of every run."""
    print("\n".join(merge(options.stores, output_root(options.into), options.weights).lines()))
    return 0


def fetch_all(options) -> int:
    """Brings teachers, masked language models and texts of a profile into the caches."""
    specs = all_specs(s for n in NOTEBOOKS.values() for s in n.needs(options.chosen))
    for teacher in dict.fromkeys(spec.teacher for spec in specs):
        load_tokenizer(teacher)
        print(f"teacher {teacher}: {teacher_folder(teacher)}")
    for masked_lm in dict.fromkeys(s.augment_mlm for s in specs if s.augment and s.augment_mlm):
        print(f"masked LM {masked_lm}: {teacher_folder(masked_lm)}")
    cache = output_root(options.out) / "cache"
    sources = dict.fromkeys(
        text_source(spec, cache) if spec.kind == "general" else data_of(spec).source
        for spec in specs
    )
    print("\n".join(f"data: {name}" for name in sources))
    return 0


def augment(options) -> int:
    """Writes augmented rows of a task and shows the copies of its first row."""
    path = Path(options.out)
    if path.exists():
        raise InputError(f"'{path}' exists already. Give another --out FILE, or delete it.")
    teacher = options.teacher or Augmentation.teacher
    how = Augmentation(options.copies, options.mlm, options.glove, teacher, options.seed)
    data = load_task_data(options.task, options.data, options.limit)
    rows = augmented_rows(
        data.train, data.task, how, path, resolve_device(options.device),
        lambda done, total, line: line and print(line, flush=True),
    )  # fmt: skip
    print(f"{path}: {len(rows):,} rows, {options.copies} of each of {len(data.train):,}, such as")
    for mark, row in zip("<>>>>", (data.train[0], *rows), strict=False):
        print(f"  {mark} " + " | ".join(text for text in row[:2] if text is not None))
    return 0


def predict(options) -> int:
    """Writes the zip for GLUE's server; says which files are missing."""
    root = output_root(options.root)
    made = write_submission(options.runs, options.data, options.out, root, options.device)
    for name, result in made.runs.items():
        metrics, (split, scores) = result.metrics, next(iter(result.metrics["splits"].items()))
        print(
            f"{name + '.tsv':<12} from {result.id} "
            f"({metrics['primary']} {result.score():.3f} on {scores['n']:,} rows of {split})"
        )
    print(f"wrote {made.path}: {len(made.runs)} of {len(made.runs) + len(made.missing)} files")
    if made.missing:
        print("missing, and the GLUE server scores only a zip that holds all of them:")
        print("\n".join(f"  {name + '.tsv':<12} {why}" for name, why in made.missing.items()))
    return 0


def export_student(options) -> int:
    """Writes a run's student as ONNX; says how close and how fast it is."""
    result = open_run(options.run, output_root(options.root))
    made = export(result, options.out)
    print(f"wrote {made.path} from {result.id}")
    print(
        f"largest difference of a logit on {made.rows} dev rows: {made.difference:.1e} "
        f"(at most {LARGEST:g} allowed)"
    )
    for size in BATCHES:
        torch, onnx = (made.seconds[engine, size] * 1e3 for engine in ("torch", "onnx"))
        print(f"batch of {size:>2}: torch {torch:.1f} ms, onnx {onnx:.1f} ms")
    return 0


def pack_student(options) -> int:
    """Writes a run's student as a zip; shows the sizes of its forms."""
    result = open_run(options.run, output_root(options.root))
    path = Path(options.out or f"{result.id}.zip")
    found = pack(result, path)
    print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB")
    for form in found:
        print(
            f"  {form.name}: {form.bytes / 1e6:.1f} MB, {form.milliseconds:.1f} ms a row, "
            f"{result.metrics['primary']} {form.score:.1f} ({form.low:.1f} to {form.high:.1f})"
        )
    return 0


def verify_results(options) -> int:
    """Names each kept number that does not follow from the kept predictions; exit code 1 if any."""
    folder = Path(options.results or FOLDER)
    if not folder.is_dir():
        raise InputError(f"There is no folder of results '{folder}'. Give --results DIR.")
    cells, without = verify(folder)
    wrong = [cell for cell in cells if not cell.agrees]
    for cell in wrong:
        kept, made = (f"{value!s:.200}" for value in (cell.kept, cell.made))
        print(f"mismatch: {cell.where}: it says {kept!r}, the predictions give {made!r}")
    left = sum(cell.made is ... for cell in cells)
    print(f"{len(cells) - left:,} values scored again: {len(wrong)} mismatches")
    print(f"{left:,} cells of the same tables rest on no prediction, such as times and commands")
    if without:
        print(f"no predictions are kept for: {', '.join(without)}")
    return int(bool(wrong))


HANDLERS = {
    "reproduce": reproduce.command,
    "run": run_one,
    "plan": plan,
    "fetch": fetch_all,
    "general": general,
    "merge": merge_stores,
    "augment": augment,
    "predict": predict,
    "export": export_student,
    "pack": pack_student,
    "verify": verify_results,
}
