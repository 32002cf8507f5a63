"""`python -m lrc_lib general`: the spec of a general distillation that is a run by itself.

The run lies in the store like any other: `lrc` runs with the same settings start from it.
"""

import os
from pathlib import Path

from lrc_lib.data.corpus import CONFIG, WIKIPEDIA, is_wikipedia
from lrc_lib.data.texts import is_named
from lrc_lib.errors import InputError
from lrc_lib.runs.profiles import load_profile
from lrc_lib.runs.spec import FIELDS, RunSpec, belongs, check_kind


def spec_of(options) -> RunSpec:
    """The spec that the options describe: packed text, and the profile's or else the paper's
    values.

    Raises:
        InputError: a value that does not fit, a setting of another kind of run, or --config and
            --revision without --wikipedia.
    """
    if options.limit < 0:
        raise InputError(f"--limit must be 0 (all) or more documents, not {options.limit}.")
    given = {"general_data": _data(options), "general_packed": "true"}
    given |= {"general_rows": options.limit} if options.limit else {}
    settings = [f"{name}={value}" for name, value in given.items()] + options.settings
    profile = load_profile(
        options.profile or "laptop", settings, teacher=options.teacher, device=options.device
    )
    check_kind(profile.settings, "general")
    student = profile.spec() if options.profile else RunSpec(**profile.settings)
    loss = profile.settings.get("general_loss", RunSpec.general_loss)
    return student.general_spec().replace(general_loss=loss)


def _data(options) -> str:
    if options.wikipedia:
        revision = f"@{options.revision}" if options.revision else ""
        return f"{WIKIPEDIA}:{options.config or CONFIG}{revision}"
    if options.config or options.revision:
        raise InputError("--config and --revision choose a Wikipedia: they go with --wikipedia.")
    for place in options.text:
        if is_wikipedia(place) or not (is_named(place) or Path(place).exists()):
            raise InputError(
                f"There is no text '{place}'. --text takes names, .txt files, folders."
            )
        if os.pathsep in place:
            raise InputError(f"'{place}' has a '{os.pathsep}' in its name, which separates names.")
    return os.pathsep.join(options.text)


def settings_of(spec: RunSpec) -> list[str]:
    """KEY=VALUE of every field that the run depends on and that is not at its default."""
    names = [name for name in FIELDS if belongs(name, "general")]
    values = {name: getattr(spec, name) for name in names if name not in ("recipe", "general_loss")}
    return [f"{name}={value}" for name, value in values.items() if value != FIELDS[name].default]
