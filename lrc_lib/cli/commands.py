"""LRC-BERT, taught in notebooks and reproduced with one command.

In the repository, `python reproduce.py` is `python -m lrc_lib reproduce`.

exit codes:
  0    all is well
  1    a run, a notebook or the check of an export failed
  2    wrong input
  3    something is missing and could not be fetched
  130  interrupted; the same command continues from there

examples:
  python reproduce.py                                  the laptop profile
  python reproduce.py --profile smoke                  every step, tiny
  python reproduce.py --glue-dir glue_data --task rte cola
  python reproduce.py --only 04,05 --set epochs=2 --seeds 3
"""

import argparse
import os
import sys
import tomllib

from lrc_lib.cli.options import OFFLINE, add_data, add_options, complete
from lrc_lib.course.edition import EDITIONS, make_edition
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.data.tasks import TASKS
from lrc_lib.errors import LrcError
from lrc_lib.runs.profiles import FOLDER, PROFILES
from lrc_lib.schedule import RECIPES

INTERRUPTED = 130
RUN_HELP = "a run id, a run folder, or a task name for its best run by dev score"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; it imports nothing heavy, so that --help answers at once."""
    text = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser("python -m lrc_lib", **text)
    parser.set_defaults(only=[], minutes=None, list=False, plan=False, offline=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_reproduce(commands.add_parser("reproduce", help="train, execute, report", **text))
    add_profile_commands(commands)
    add_run(commands.add_parser("run", help="train, resume or read one run; print its metrics"))
    add_general(commands.add_parser("general", help="distil on text without labels, of any size"))
    add_augment(commands.add_parser("augment", help="write a task's rows with words replaced"))
    add_student_commands(commands)
    edition = commands.add_parser("edition", help="write the notebooks for students, or solved")
    edition.add_argument("kind", choices=EDITIONS)
    edition.add_argument("out", metavar="OUT", help="a new or empty folder")
    edition.add_argument("--force", action="store_true", help="write into a folder with files")
    commands.add_parser("list", help="list notebooks, profiles, tasks and recipes")
    return parser


def add_reproduce(parser) -> None:
    add = parser.add_argument
    add_options(parser, "profile")
    add("--only", action="append", default=[], metavar="04,05", help="these notebooks only")
    add_options(parser, "task")
    add_data(parser)
    add_options(parser, "device", "seeds", "out", "set", "jobs")
    add(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="train on a Ray cluster (without ADDRESS: $RAY_ADDRESS, else one on this machine)",
    )  # fmt: skip
    add("--limit", dest="minutes", type=float, metavar="MINUTES", help="wall limit per notebook")
    add("--list", action="store_true", help="list notebooks, profiles, tasks and recipes")
    add("--plan", action="store_true", help="say what it would cost here; train nothing")
    add_options(parser, "offline")
    add("--fresh", action="store_true", help="set earlier runs aside and train again")
    add("--verbose", action="store_true", help="show what runs and notebooks print")


def add_profile_commands(commands) -> None:
    plan = commands.add_parser("plan", help="say what a profile costs here; train nothing")
    fetch = commands.add_parser(
        "fetch", help="bring a profile's data and teacher here, for work without a network"
    )
    for parser in (plan, fetch):
        add_options(parser, "profile", "task")
        add_data(parser)
        add_options(parser, "seeds", "set", "out", "device")
    plan.add_argument(
        "--specs", default="", metavar="DIR",
        help="write each run's spec there, 0.json, 1.json, ..., for a job array",
    )  # fmt: skip
    plan.set_defaults(plan=True)


def add_run(parser) -> None:
    parser.add_argument("spec", metavar="SPEC.json", help='fields of RunSpec, e.g. {"task": "rte"}')
    add_options(parser, "out", "device")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="how many torchrun started, in all"
    )


def add_general(parser) -> None:
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument(
        "--text", nargs="+", metavar="FILE|DIR", help=".txt files or folders; one text per line"
    )
    text.add_argument("--wikipedia", action="store_true", help="Wikipedia from the hub, streamed")
    add = parser.add_argument
    add("--config", default="", metavar="DATE.LANGUAGE", help="which one (default: 20231101.en)")
    add("--revision", default="", metavar="SHA", help="of the hub's data set (default: pinned)")
    add("--limit", type=int, default=0, metavar="N", help="the first N documents only; 0: all")
    add("--teacher", default="", metavar="T", help="a folder, a hub id or package:NAME")
    add_options(parser, "profile", default="", help="start from this profile's values")
    add_options(parser, "set", "out", "device")
    add("--plan", action="store_true", help="say what it would cost here; train nothing")


def add_augment(parser) -> None:
    add = parser.add_argument
    add("--task", required=True, metavar="T")
    add_data(parser)
    add("--mlm", default="", metavar="ID_OR_FOLDER", help="a masked language model")
    add("--glove", default="", metavar="FILE", help="word vectors as text")
    add("--teacher", default="", metavar="T", help="its embeddings serve without --glove")
    add("--copies", type=int, default=20, metavar="N", help="per row (default: 20)")
    add("--limit", type=int, default=0, metavar="ROWS", help="a fixed sample; 0: all rows")
    add("--seed", type=int, default=0, metavar="N")
    add_options(parser, "device")
    add_options(parser, "out", required=True, metavar="FILE.jsonl", help="a new file")


def add_student_commands(commands) -> None:
    predict = commands.add_parser("predict", help="answer GLUE's test sets: the server's zip")
    predict.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    add_options(predict, "glue-dir", required=True, help="holds the test files")
    add_options(predict, "out", default="submission.zip", metavar="ZIP", help="a new zip file")
    add_options(predict, "device")
    export = commands.add_parser("export", help="write a run's student as ONNX, checked and timed")
    export.add_argument("run", metavar="RUN", help=RUN_HELP)
    add_options(export, "out", required=True, help="a new folder")
    for parser in (predict, export):
        parser.add_argument(
            "--runs", dest="root", default="", metavar="DIR",
            help="output folder that holds runs/ (default: as --out of `reproduce`)",
        )  # fmt: skip


def main(arguments=None) -> int:
    """Returns the exit code."""
    try:
        options = build_parser().parse_args(arguments)
        if options.list or options.command == "list":
            return show_list()
        if options.command == "edition":
            paths = make_edition(options.kind, options.out, options.force)
            print(f"{options.kind} edition: {len(paths)} notebooks in {paths[0].parent}")
            return 0
        if options.offline:
            os.environ["LRC_OFFLINE"] = "1"
        if options.offline or options.plan:  # a plan needs no hub
            os.environ.update(OFFLINE)  # before the hub's libraries load
        complete(options)
        from lrc_lib.cli.handlers import HANDLERS  # takes seconds: torch, transformers

        return HANDLERS[options.command](options)
    except LrcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from here", file=sys.stderr)
        return INTERRUPTED


def show_list() -> int:
    """Notebooks with their questions, profiles with their titles, tasks and recipes."""
    print("notebooks")
    for notebook in NOTEBOOKS.values():
        print(f"  {notebook.name:<27} {notebook.question}")
    print("\nprofiles")
    for name in PROFILES:
        table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        print(f"  {name:<8} {table['title']}")
    print(f"\ntasks: {', '.join(TASKS)}\nrecipes: {', '.join(RECIPES)}")
    return 0
