"""`python -m lrc_lib run SPEC.json | plan | fetch | edition | list`: what the shell can ask for.

exit codes: 0 all is well; 1 a training failed; 2 wrong input; 3 something is missing and could not
be fetched; 130 interrupted (a run goes on from its checkpoint when it is asked for again).
"""

import argparse
import os
import sys
from pathlib import Path

from .edition import EDITIONS, make_edition
from .errors import InputError, LrcError
from .notebook import NOTEBOOKS, output_root


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
    for name, text in (
        ("plan", "what a profile costs here; trains nothing"),
        ("fetch", "bring a profile's data and teacher into the caches, for work without network"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--profile", default="laptop")
        command.add_argument("--task", nargs="+", default=[], metavar="T")
        command.add_argument("--data-dir", default="", metavar="DIR")
        command.add_argument("--out", default="", metavar="DIR")
        command.add_argument("--device", default="auto")
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
    from .runs import RunSpec, run

    result = run(RunSpec.from_json(text), output_root(options.out), options.device)
    print(json.dumps({"id": result.id, "path": str(result.path)} | result.metrics, indent=1))
    return 0


def _profile(options):
    from .profiles import load_profile

    return load_profile(options.profile, tasks=options.task, data=options.data_dir)


def _plan(options) -> int:
    from .execute import offline_environment

    os.environ.update(offline_environment())  # a plan needs no hub
    from .plan import show_plan
    from .terminal import make_console

    out = output_root(options.out)
    notebooks = list(NOTEBOOKS.values())
    show_plan(make_console(), notebooks, _profile(options), out, options.device)
    return 0


def _fetch(options) -> int:
    from .models import load_tokenizer, teacher_folder
    from .plan import all_specs
    from .spec import data_of, texts_of

    profile = _profile(options)
    specs = all_specs(s for n in NOTEBOOKS.values() for s in n.needs(profile))
    for teacher in dict.fromkeys(spec.teacher for spec in specs):
        folder = teacher_folder(teacher)
        if not Path(folder).is_dir():
            from .data.hub import fetch

            folder = fetch(teacher)
        load_tokenizer(teacher)
        print(f"teacher {teacher}: {folder}")
    sources = dict.fromkeys(
        texts_of(spec)[1] if spec.kind == "general" else data_of(spec).source for spec in specs
    )
    print("\n".join(f"data: {source}" for source in sources))
    return 0


def _edition(options) -> int:
    paths = make_edition(options.kind, options.out, options.force)
    print(f"{options.kind} edition: {len(paths)} notebooks in {paths[0].parent}")
    return 0


def _list(options) -> int:
    from .profiles import PROFILES
    from .schedule import RECIPES
    from .tasks import TASKS

    print("notebooks:", *NOTEBOOKS, sep="\n  ")
    print("profiles:", ", ".join(PROFILES))
    print("tasks:", ", ".join(TASKS))
    print("recipes:", ", ".join(RECIPES))
    return 0


COMMANDS = {"run": _run, "plan": _plan, "fetch": _fetch, "edition": _edition, "list": _list}

if __name__ == "__main__":
    sys.exit(main())
