"""`python -m lrc_lib run SPEC.json | general | predict | export | augment | edition | ...`.

exit codes: 0 all is well; 1 a training, or the check of an export, failed; 2 wrong input; 3
something is missing and could not be fetched; 130 interrupted (a run goes on from its checkpoint
when it is asked for again).
"""

import argparse
import os
import sys
from pathlib import Path

from lrc_lib.course.edition import EDITIONS, make_edition
from lrc_lib.course.notebook import NOTEBOOKS, output_root
from lrc_lib.errors import InputError, LrcError
from lrc_lib.runs import general

RUNS_HELP = "output folder that holds runs/ (default: $LRC_OUT, else out/)"


def build_parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        "python -m lrc_lib", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, resume or read one run; prints its metrics")
    run.add_argument("spec", metavar="SPEC.json", help='fields of RunSpec, e.g. {"task": "rte"}')
    run.add_argument("--out", default="", metavar="DIR")
    run.add_argument("--device", default="auto")
    run.add_argument(
        "--processes", type=int, default=1, metavar="N", help="how many torchrun started, in all"
    )
    general.add_arguments(
        commands.add_parser("general", help="distil on text without labels, of any size, by itself")
    )
    predict = commands.add_parser("predict", help="answer GLUE's test sets: the server's zip")
    predict.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="a run id, a run folder, or a task name for its best run by dev score",
    )  # fmt: skip
    predict.add_argument("--glue-dir", required=True, metavar="DIR", help="holds the test files")
    predict.add_argument("--out", default="submission.zip", metavar="ZIP")
    predict.add_argument("--device", default="auto")
    export = commands.add_parser("export", help="write a run's student as ONNX, checked and timed")
    export.add_argument("run", metavar="RUN", help="a run id, a run folder, or a task name")
    export.add_argument("--out", required=True, metavar="DIR", help="a new folder")
    for command in (predict, export):
        command.add_argument("--runs", dest="root", default="", metavar="DIR", help=RUNS_HELP)
    for name, text in (
        ("plan", "what a profile costs here; trains nothing"),
        ("fetch", "bring a profile's data and teacher into the caches, for work without network"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--profile", default="laptop")
        command.add_argument("--task", nargs="+", default=[], metavar="T")
        command.add_argument("--data-dir", default="", metavar="DIR")
        command.add_argument("--seeds", type=int, default=0, metavar="N")
        command.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings")
        command.add_argument("--out", default="", metavar="DIR")
        command.add_argument("--device", default="auto")
        if name == "plan":
            command.add_argument(
                "--specs", default="", metavar="DIR",
                help="write each run's spec there, 0.json, 1.json, ..., for a job array",
            )  # fmt: skip
    augment = commands.add_parser(
        "augment",
        help="write copies of a task's training rows with words replaced (TinyBERT's way)",
    )
    augment.add_argument("--task", required=True, metavar="T")
    augment.add_argument("--data-dir", "--glue-dir", default="", metavar="DIR")
    augment.add_argument(
        "--mlm", default="", metavar="ID_OR_FOLDER", help="a masked language model"
    )
    augment.add_argument("--glove", default="", metavar="FILE", help="word vectors as text")
    augment.add_argument("--teacher", default="", help="its embeddings serve without --glove")
    augment.add_argument("--copies", type=int, default=20, metavar="N")
    augment.add_argument(
        "--limit", type=int, default=0, metavar="ROWS", help="a fixed sample; 0: all"
    )
    augment.add_argument("--seed", type=int, default=0)
    augment.add_argument("--device", default="auto")
    augment.add_argument("--out", required=True, metavar="FILE.jsonl")
    edition = commands.add_parser(
        "edition", help="the notebooks without solutions (student), or solved (instructor)"
    )
    edition.add_argument("kind", choices=EDITIONS)
    edition.add_argument("out", metavar="OUT", help="a new or empty folder")
    edition.add_argument("--force", action="store_true", help="write into it though it is not")
    commands.add_parser("list", help="notebooks, profiles, tasks and recipes")
    return parser


def main(arguments=None) -> int:
    """Returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except LrcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _run(options) -> int:
    import json

    try:
        text = Path(options.spec).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the spec '{options.spec}': {error}") from None
    from lrc_lib.runs.parallel import current, together
    from lrc_lib.runs.run import RunSpec, run

    with together(options.processes, options.device) as device:
        result = run(RunSpec.from_json(text), output_root(options.out), device)
        if current().rank == 0:
            facts = {"id": result.id, "path": str(result.path)} | result.metrics
            print(json.dumps(facts, indent=1))
    return 0


def _predict(options) -> int:
    from lrc_lib.cli.submission import write_submission

    root = output_root(options.root)
    made = write_submission(options.runs, options.glue_dir, options.out, root, options.device)
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


def _export(options) -> int:
    from lrc_lib.cli.export import BATCHES, LARGEST, export
    from lrc_lib.runs.run import open_run

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


def _profile(options):
    from lrc_lib.runs.profiles import load_profile

    data = options.data_dir
    if data and data != "hub":
        data = str(Path(data).expanduser().resolve())
    return load_profile(options.profile, options.settings, options.task, data, options.seeds)


def _plan(options) -> int:
    from lrc_lib.cli.execute import offline_environment

    os.environ.update(offline_environment())  # a plan needs no hub
    from lrc_lib.cli.plan import show_plan, write_specs
    from lrc_lib.cli.terminal import make_console

    out = output_root(options.out)
    notebooks = list(NOTEBOOKS.values())
    if options.specs:
        profile = _profile(options)
        count = write_specs((s for n in notebooks for s in n.needs(profile)), Path(options.specs))
        print(f"{count} specs in {options.specs}: 0.json to {count - 1}.json")
        return 0
    show_plan(make_console(), notebooks, _profile(options), out, options.device)
    return 0


def _fetch(options) -> int:
    from lrc_lib.cli.plan import all_specs
    from lrc_lib.models import load_tokenizer, teacher_folder
    from lrc_lib.runs.spec import data_of

    profile = _profile(options)
    specs = all_specs(s for n in NOTEBOOKS.values() for s in n.needs(profile))
    for teacher in dict.fromkeys(spec.teacher for spec in specs):
        folder = teacher_folder(teacher)
        if not Path(folder).is_dir():
            from lrc_lib.data.hub import fetch

            folder = fetch(teacher)
        load_tokenizer(teacher)
        print(f"teacher {teacher}: {folder}")
    for masked_lm in dict.fromkeys(s.augment_mlm for s in specs if s.augment and s.augment_mlm):
        print(f"masked LM {masked_lm}: {teacher_folder(masked_lm)}")
    cache = output_root(options.out) / "cache"
    sources = dict.fromkeys(
        general.source(spec, cache) if spec.kind == "general" else data_of(spec).source
        for spec in specs
    )
    print("\n".join(f"data: {source}" for source in sources))
    return 0


def _augment(options) -> int:
    from lrc_lib.data import load_task_data
    from lrc_lib.runs.augmentation import Augmentation, augmented_rows
    from lrc_lib.runs.device import resolve_device

    path = Path(options.out)
    if path.exists():
        raise InputError(f"'{path}' exists already. Give another --out FILE, or delete it.")
    values = {name: getattr(options, name) for name in ("copies", "glove", "seed")}
    values |= {"masked_lm": options.mlm} | ({"teacher": options.teacher} if options.teacher else {})
    data = load_task_data(options.task, options.data_dir, options.limit)
    rows = augmented_rows(
        data.train, data.task, Augmentation(**values), path, resolve_device(options.device),
        lambda done, total, line: line and print(line, flush=True),
    )  # fmt: skip
    print(f"{path}: {len(rows):,} rows, {options.copies} of each of {len(data.train):,}, such as")
    for mark, row in zip("<>>>>", (data.train[0], *rows), strict=False):
        print(f"  {mark} " + " | ".join(text for text in row[:2] if text is not None))
    return 0


def _edition(options) -> int:
    paths = make_edition(options.kind, options.out, options.force)
    print(f"{options.kind} edition: {len(paths)} notebooks in {paths[0].parent}")
    return 0


def _list(options) -> int:
    from lrc_lib.data.tasks import TASKS
    from lrc_lib.runs.profiles import PROFILES
    from lrc_lib.schedule import RECIPES

    print("notebooks:", *NOTEBOOKS, sep="\n  ")
    print("profiles:", ", ".join(PROFILES))
    print("tasks:", ", ".join(TASKS))
    print("recipes:", ", ".join(RECIPES))
    return 0


COMMANDS = {
    "run": _run,
    "general": general.command,
    "predict": _predict,
    "export": _export,
    "augment": _augment,
    "edition": _edition,
    "plan": _plan,
    "fetch": _fetch,
    "list": _list,
}

if __name__ == "__main__":
    sys.exit(main())
