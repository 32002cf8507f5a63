"""The options that several commands share, each defined once, and the checks of their values."""

from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

from lrc_lib.course.notebook import find_notebook
from lrc_lib.errors import InputError
from lrc_lib.runs.profiles import PROFILES, load_profile

OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")


DEVICE = dict(default="auto", metavar="D", help="auto (default), cpu, cuda or mps")


def profile_path(text: str) -> str:
    """A profile's name as it is, a TOML file's path in full: notebooks run in another folder."""
    return str(Path(text).expanduser().resolve()) if text.endswith(".toml") else text


def data_folder(text: str) -> str:
    """A folder in full: notebooks run in another one."""
    return text if text in ("", "hub") else str(Path(text).expanduser().resolve())


# Parents of the parsers of those commands that take their options:
PROFILE, DATA, SETTINGS, PLACE = (ArgumentParser(add_help=False) for _ in range(4))
PROFILE.add_argument(
    "--profile", default="laptop", metavar="P", type=profile_path,
    help=f"{', '.join(PROFILES)}, or a TOML file (default: laptop)",
)  # fmt: skip
PROFILE.add_argument(
    "--task", action="extend", nargs="+", default=[], metavar="T",
    help="use these tasks instead of the profile's",
)  # fmt: skip
PROFILE.add_argument(
    "--seeds", type=int, metavar="N", help="use N seeds instead of the profile's number"
)
PROFILE.add_argument(
    "--first-seed", type=int, default=0, metavar="N", help="the first of the seeds (default: 0)"
)
_data = DATA.add_mutually_exclusive_group()
_folder = dict(dest="data", default="", metavar="DIR", type=data_folder)
_data.add_argument("--glue-dir", help="a folder with GLUE's files", **_folder)
_data.add_argument("--data-dir", help='a folder with your own files, or "hub"', **_folder)
SETTINGS.add_argument(
    "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", dest="settings",
    help="change a field of RunSpec, e.g. epochs=2",
)  # fmt: skip
PLACE.add_argument(
    "--out", default="", metavar="DIR",
    help="the folder of runs and results (default: $LRC_OUT, else out/ in the repository, else "
    "out/ here)",
)  # fmt: skip
PLACE.add_argument("--device", **DEVICE)


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
    if getattr(options, "first_seed", 0) < 0:
        raise InputError(f"--first-seed takes 0 or more, not {options.first_seed}.")
    words = " ".join(options.only).replace(",", " ").split()
    options.notebooks = list(dict.fromkeys(find_notebook(word) for word in words))
    if "seeds" in options:
        profile = load_profile(
            options.profile, options.settings, options.task, options.data, options.seeds or 0,
            device=options.device,
        )  # fmt: skip
        options.chosen = replace(profile, first_seed=options.first_seed)
