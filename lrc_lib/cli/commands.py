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

import errno
import os
import sys
import tomllib
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from lrc_lib.cli.options import (
    DATA,
    DEVICE,
    OFFLINE,
    PLACE,
    PROFILE,
    SETTINGS,
    complete,
    profile_path,
)
from lrc_lib.course.edition import EDITIONS, make_edition
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.data.tasks import TASKS
from lrc_lib.errors import LrcError, UnavailableError
from lrc_lib.runs.profiles import FOLDER, PROFILES
from lrc_lib.schedule import RECIPES

INTERRUPTED = 130
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # full, or broken
RUN_HELP = "a run id, a run folder, or a task name for its best run by dev score"
PLAN_HELP = "show what it would cost here; train nothing"
WHOLE = [PROFILE, DATA, SETTINGS, PLACE]


def build_parser() -> ArgumentParser:
    """The parser of all commands; it imports nothing heavy, so that --help answers at once."""
    text = {"description": __doc__, "formatter_class": RawDescriptionHelpFormatter}
    parser = ArgumentParser("python -m lrc_lib", **text)
    parser.set_defaults(only=[], minutes=None, list=False, plan=False, offline=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, parents=(), **more) -> ArgumentParser:
        return commands.add_parser(name, help=help, parents=parents, **more)

    does = "train what is missing, execute the notebooks, write the report"
    add_reproduce(command("reproduce", does, WHOLE, **text))
    plan = command("plan", "show what a profile would cost here; train nothing", WHOLE)
    plan.set_defaults(plan=True, jobs=None)
    plan.add_argument(
        "--specs", default="", metavar="DIR",
        help="write the spec of each run to DIR/0.json, DIR/1.json, ..., for a job array",
    )  # fmt: skip
    command("fetch", "download what a profile needs, to work offline later", WHOLE)
    one = command("run", "train, resume or read one run; print its metrics", [PLACE])
    one.add_argument("spec", metavar="SPEC.json", help='fields of RunSpec, e.g. {"task": "rte"}')
    one.add_argument(
        "--processes", type=int, default=1, metavar="N", help="how many torchrun started, in all"
    )
    add_general(command("general", "distil on unlabelled text of any size", [SETTINGS, PLACE]))
    add_augment(command("augment", "write a task's rows with words replaced", [DATA]))
    add_merge(command("merge", "bring the finished runs of many stores into one; train nothing"))
    add_student_commands(command)
    verify = command("verify", "score the kept results again from kept predictions")
    verify.add_argument("--results", default="", metavar="DIR", help="default: results/ here")
    edition = command("edition", "write the notebooks for students or for instructors")
    edition.add_argument("kind", choices=EDITIONS)
    edition.add_argument("out", metavar="OUT", help="a new or empty folder")
    edition.add_argument(
        "--course", default="", metavar="NAME", help="adds a problem set of its own"
    )
    edition.add_argument(
        "--force", action="store_true", help="write into a folder that holds files"
    )
    command("list", "list notebooks, profiles, tasks and recipes")
    return parser


def add_reproduce(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="04,05", help="use these notebooks only")
    add(
        "--jobs", type=int, metavar="N",
        help="processes side by side (default: one per core on a CPU, up to 4 on a GPU; fewer "
        "where there is less than 2.5 GB of memory for each)",
    )  # fmt: skip
    add("--limit", dest="minutes", type=float, metavar="MINUTES", help="time limit per notebook")
    add("--list", action="store_true", help="list notebooks, profiles, tasks and recipes")
    add("--plan", action="store_true", help=PLAN_HELP)
    add("--offline", action="store_true", help="do not use the network")
    add("--fresh", action="store_true", help="set earlier runs aside, train and execute again")
    add("--verbose", action="store_true", help="show what runs and notebooks print")


def add_general(parser: ArgumentParser) -> None:
    text, add = parser.add_mutually_exclusive_group(required=True), parser.add_argument
    names = "reviews, wiki, glue=DIR, .txt files or folders"
    text.add_argument("--text", nargs="+", metavar="TEXT", help=names)
    text.add_argument("--wikipedia", action="store_true", help="stream Wikipedia from the hub")
    add("--config", default="", metavar="DATE.LANGUAGE", help="which one (default: 20231101.en)")
    add("--revision", default="", metavar="SHA", help="of the hub's data set (default: pinned)")
    add("--limit", type=int, default=0, metavar="N", help="the first N documents only; 0: all")
    add("--teacher", default="", metavar="T", help="a folder, a hub id or package:NAME")
    add(
        "--profile",
        default="",
        metavar="P",
        type=profile_path,
        help="start from this profile's values",
    )
    add("--plan", action="store_true", help=PLAN_HELP)


def add_augment(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", required=True, metavar="T", help="the task whose training rows are altered")
    add("--mlm", default="", metavar="ID_OR_FOLDER", help="a masked language model")
    add("--glove", default="", metavar="FILE", help="word vectors as text")
    add("--teacher", default="", metavar="T", help="use its embeddings where there is no --glove")
    add("--copies", type=int, default=20, metavar="N", help="copies of each row (default: 20)")
    add("--limit", type=int, default=0, metavar="ROWS", help="take a fixed sample; 0: all rows")
    add("--seed", type=int, default=0, metavar="N", help="for the choice of words (default: 0)")
    add("--device", **DEVICE)
    add("--out", required=True, metavar="FILE.jsonl", help="a new file")


def add_merge(parser: ArgumentParser) -> None:
    add = parser.add_argument
    parser.set_defaults(offline=True)  # specs from elsewhere must fetch nothing
    add("stores", nargs="+", metavar="OUT", help="folders that hold runs/")
    add("--into", required=True, metavar="ALL", help="the store to fill; it may hold runs already")
    add("--weights", action="store_true", help="the students' weights too (not for 05 and 09)")


def add_student_commands(command) -> None:
    predict = command("predict", "predict GLUE's test sets; write the server's zip")
    predict.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    add = predict.add_argument
    add("--glue-dir", dest="data", required=True, metavar="DIR", help="holds the test files")
    add("--out", default="submission.zip", metavar="ZIP", help="a new zip file")
    add("--device", **DEVICE)
    export = command("export", "write a run's student as ONNX; check and time it")
    export.add_argument("run", metavar="RUN", help=RUN_HELP)
    export.add_argument("--out", required=True, metavar="DIR", help="a new folder")
    pack = command("pack", "write a run's student, its card and its hashes as one zip")
    pack.add_argument("run", metavar="RUN", help=RUN_HELP)
    pack.add_argument("--out", default="", metavar="ZIP", help="a new file (default: the run's id)")
    for parser in (predict, export, pack):
        parser.add_argument(
            "--runs", dest="root", default="", metavar="DIR",
            help="the folder that holds runs/ (default: as --out of `reproduce`)",
        )  # fmt: skip


def main(arguments=None) -> int:
    """Returns the exit code."""
    try:
        options = build_parser().parse_args(arguments)
        if options.list or options.command == "list":
            return show_list()
        if options.command == "edition":
            paths = make_edition(options.kind, options.out, options.force, options.course)
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
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = f"'{error.filename}': " if error.filename else ""
        print(
            f"error: {where}{error.strerror}. What was finished is kept; make room, and the same "
            "command continues.",
            file=sys.stderr,
        )
        return UnavailableError.exit_code
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
