"""General distillation's text, and `python -m lrc_lib general`, which is that run by itself.

The run is one in the store like any other: `lrc` runs with the same settings start from it.
"""

import json
import os
from pathlib import Path

from lrc_lib.errors import InputError

SAMPLE_BYTES = 1 << 20  # of a text file, from which the number of its tokens is estimated


def add_arguments(parser) -> None:
    """The command's options."""
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument(
        "--text",
        nargs="+",
        metavar="FILE|DIR",
        help=".txt files, or folders of them: a text a line",
    )
    text.add_argument("--wikipedia", action="store_true", help="Wikipedia from the hub, streamed")
    add = parser.add_argument
    add("--config", default="", metavar="DATE.LANGUAGE", help="which one (default: 20231101.en)")
    add("--revision", default="", metavar="SHA", help="of the hub's data set (default: pinned)")
    add("--limit", type=int, default=0, metavar="N", help="the first documents only; 0: all")
    add("--teacher", default="", metavar="T", help="a folder, a hub id or package:NAME")
    add("--profile", default="", metavar="P", help="take this profile's values first")
    add("--set", action="extend", default=[], nargs="+", metavar="KEY=VALUE", dest="settings")
    add("--out", default="", metavar="DIR", help="where runs and packed text live (default: out/)")
    add("--device", default="auto")
    add("--plan", action="store_true", help="say what it would cost here; train nothing")


def command(options) -> int:
    """Prints what it will cost, trains (resumes, reads) the run, prints its metrics."""
    from lrc_lib.cli.plan import show_general_plan
    from lrc_lib.cli.terminal import make_console
    from lrc_lib.course.notebook import output_root
    from lrc_lib.runs.run import run

    spec, out = spec_of(options), output_root(options.out)
    show_general_plan(make_console(), spec, out, options.device)
    if options.plan:
        return 0
    result = run(spec, out, options.device)
    print(json.dumps({"id": result.id, "path": str(result.path)} | result.metrics, indent=1))
    recipe = "lrc" if spec.general_loss == "cos_nce" else "bert_m"
    print(f"{recipe} runs start from it with: --set {' '.join(settings_of(spec))}")
    return 0


def spec_of(options):
    """The spec that the options describe: packed, and the profile's or else the paper's values.

    Raises:
        InputError: a value that does not fit, or --config and --revision without --wikipedia.
    """
    from lrc_lib.runs.profiles import load_profile
    from lrc_lib.runs.spec import RunSpec

    if options.limit < 0:
        raise InputError(f"--limit must be 0 (all) or more documents, not {options.limit}.")
    given = {"general_data": _data(options), "general_packed": "true"}
    given |= {"general_rows": options.limit} if options.limit else {}
    settings = [f"{name}={value}" for name, value in given.items()] + options.settings
    profile = load_profile(options.profile or "laptop", settings, teacher=options.teacher)
    spec = profile.spec() if options.profile else RunSpec(**profile.settings)
    loss = profile.settings.get("general_loss", spec.general_loss)
    return spec.replace(recipe="general", general_loss=loss).general_spec()


def _data(options) -> str:
    from lrc_lib.data.corpus import BUILT_IN, CONFIG, WIKIPEDIA, is_wikipedia

    if options.wikipedia:
        revision = f"@{options.revision}" if options.revision else ""
        return f"{WIKIPEDIA}:{options.config or CONFIG}{revision}"
    if options.config or options.revision:
        raise InputError("--config and --revision choose a Wikipedia: they go with --wikipedia.")
    if len(options.text) == 1 and options.text[0] in BUILT_IN:
        return options.text[0]
    for place in options.text:
        if is_wikipedia(place) or not Path(place).exists():
            raise InputError(f"There is no text '{place}'. --text takes .txt files and folders.")
        if os.pathsep in place:
            raise InputError(f"'{place}' has a '{os.pathsep}' in its name, which parts names here.")
    return os.pathsep.join(options.text)


def settings_of(spec) -> list[str]:
    """KEY=VALUE of all that the run follows from and that is not the default."""
    from lrc_lib.runs.fields import GENERAL_FIELDS
    from lrc_lib.runs.spec import RunSpec

    plain, names = RunSpec(), [name for name in GENERAL_FIELDS if name != "general_loss"]
    values = {name: getattr(spec, name) for name in names}
    return [f"{name}={value}" for name, value in values.items() if value != getattr(plain, name)]


def unlabelled_rows(spec, tokenizer, cache: Path, report):
    """(`Encoded` rows, facts about them) for the general distillation of a spec.

    Args:
        cache: where packed text is kept.
        report: called as report(done, size, line) while text is packed.

    Raises:
        InputError: no text, a line that is not text, or less than one batch.
        UnavailableError: the text cannot be fetched, or the disk is full.
    """
    from lrc_lib.data.batches import encode, steps_per_epoch
    from lrc_lib.data.packing import pack
    from lrc_lib.data.rows import Row
    from lrc_lib.runs.spec import texts_of

    length = spec.general_max_length
    if spec.packed:
        encoded, facts = pack(
            spec.general_data, spec.general_rows, tokenizer, length, cache, report
        )
    else:
        texts, source = texts_of(spec)
        encoded = encode([Row(text, None, 0) for text in texts], tokenizer, length)
        facts = {"texts": len(texts), "source": source}
    if not steps_per_epoch(len(encoded), spec.general_batch_size, spec.drop_last):
        raise InputError(
            f"'{spec.general_data}' gives {len(encoded):,} sequences, less than one batch of "
            f"{spec.general_batch_size}. Give more text, or --set general_batch_size=."
        )
    return encoded, {**facts, "sequences": len(encoded), "tokens": int(encoded.lengths.sum())}


def source(spec, cache: Path) -> str:
    """Where a general run's text comes from; fetches it, and packs it where it is to be packed."""
    from lrc_lib.models import load_tokenizer
    from lrc_lib.runs.spec import texts_of

    if not spec.packed:
        return texts_of(spec)[1]
    tokenizer = load_tokenizer(spec.teacher)
    return unlabelled_rows(spec, tokenizer, cache, _say)[1]["source"]


def _say(done: int, size: int, line: str) -> None:
    if line:
        print(line, flush=True)


def estimate(spec) -> tuple[int, int, str]:
    """(sequences, tokens each, how they were estimated) of a packed corpus, which is not read.

    A Wikipedia's size is the published one; of text files a sample's words are counted.
    """
    from lrc_lib.cli.plan import BYTES_PER_TOKEN, SPECIAL_TOKENS, TOKENS_PER_WORD
    from lrc_lib.data.corpus import BUILT_IN, CONFIG, is_wikipedia, text_files, wikipedia
    from lrc_lib.data.hub import WIKIPEDIA_SIZES
    from lrc_lib.runs.spec import texts_of

    rows, length = spec.general_rows, spec.general_max_length
    if is_wikipedia(spec.general_data):
        config = wikipedia(spec.general_data).config
        documents, size = WIKIPEDIA_SIZES[config if config in WIKIPEDIA_SIZES else CONFIG]
        tokens = size / BYTES_PER_TOKEN * (min(rows, documents) / documents if rows else 1)
        note = f"estimated from the published size of {config}"
        if config not in WIKIPEDIA_SIZES:
            note = f"size of {config} not known here; counted as {CONFIG}"
    elif spec.general_data in BUILT_IN:
        words = [len(text.split()) for text in texts_of(spec)[0]]
        tokens, note = sum(words) * TOKENS_PER_WORD + len(words), "estimated from its words"
    else:
        paths = text_files(spec.general_data)
        size = sum(path.stat().st_size for path in paths)
        with paths[0].open("rb") as file:
            sample = file.read(SAMPLE_BYTES)
        words, lines = len(sample.split()), sample.count(b"\n") + 1
        share = size / max(1, len(sample))
        share = min(share, rows / lines) if rows else share
        tokens, note = share * (words * TOKENS_PER_WORD + lines), "estimated from a sample's words"
    return round(tokens / max(1, length - SPECIAL_TOKENS)), length, note
