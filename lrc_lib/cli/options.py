"""The options that several commands share, each defined once."""

from pathlib import Path

from lrc_lib.course.notebook import find_notebook
from lrc_lib.errors import InputError
from lrc_lib.runs.profiles import PROFILES, load_profile

OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")


def _file(text: str) -> str:
    """A profile's name as it is, a TOML file's path in full: notebooks run in another folder."""
    return str(Path(text).expanduser().resolve()) if text.endswith(".toml") else text


def _folder(text: str) -> str:
    return text if text in ("", "hub") else str(Path(text).expanduser().resolve())


SHARED = {
    "profile": dict(
        default="laptop", metavar="P", type=_file,
        help=f"{', '.join(PROFILES)}, or a TOML file (default: laptop)",
    ),
    "task": dict(
        action="extend", nargs="+", default=[], metavar="T",
        help="these tasks instead of the profile's",
    ),
    "glue-dir": dict(dest="data", default="", metavar="DIR", type=_folder, help="GLUE's files"),
    "data-dir": dict(
        dest="data", default="", metavar="DIR", type=_folder, help='your own files, or "hub"'
    ),
    "device": dict(default="auto", metavar="D", help="auto (default), cpu, cuda or mps"),
    "seeds": dict(
        type=int, metavar="N", help="seeds 0 to N-1 instead of the profile's; 1 or more"
    ),
    "set": dict(
        action="extend", nargs="+", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a field of RunSpec, e.g. epochs=2",
    ),
    "out": dict(
        default="", metavar="DIR",
        help="folder of runs and results (default: $LRC_OUT, else out/ in the repository, "
        "else out/ here)",
    ),
    "jobs": dict(
        type=int, metavar="N",
        help="processes side by side (default: one per core on a CPU, up to 4 on a GPU)",
    ),
    "offline": dict(action="store_true", help="do not touch the network"),
}  # fmt: skip


def add_options(parser, *names: str, **changes) -> None:
    """Adds shared options to a parser; `changes` replace what their definition says."""
    for name in names:
        parser.add_argument(f"--{name}", **SHARED[name] | changes)


def add_data(parser) -> None:
    """Adds --glue-dir and --data-dir, of which one can be given."""
    add_options(parser.add_mutually_exclusive_group(), "glue-dir", "data-dir")


def complete(options) -> None:
    """Checks numbers, finds the notebooks of --only and loads the profile, all of it quickly.

    Raises:
        InputError: a number that is too small, an unknown notebook, or see `load_profile`.
    """
    if options.minutes is not None and not options.minutes > 0:
        raise InputError(f"--limit takes more than 0 minutes, not {options.minutes:g}.")
    for name in ("seeds", "jobs"):
        value = getattr(options, name, None)
        if value is not None and value < 1:
            raise InputError(f"--{name} takes 1 or more, not {value}.")
    words = " ".join(options.only).replace(",", " ").split()
    options.notebooks = list(dict.fromkeys(find_notebook(word) for word in words))
    if "seeds" in options:
        options.chosen = load_profile(
            options.profile, options.settings, options.task, options.data, options.seeds or 0
        )
