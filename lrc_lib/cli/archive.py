"""A student to take away: `python -m lrc_lib pack RUN` writes one zip of it.

The zip holds the folder `student/` of the run with the weights in float32 and in float16, its card
with a table of sizes, and SHA256SUMS, which `sha256sum -c` reads.
"""

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import torch

from lrc_lib.data.manifest import rename, scratch
from lrc_lib.errors import InputError
from lrc_lib.models import quiet_transformers
from lrc_lib.results.variants import Variant, half, variants
from lrc_lib.runs.store import RunResult

HALF = "model.fp16.safetensors"  # transformers' name: from_pretrained(..., variant="fp16")
HEAD = """
## Sizes

| weights | file, MB | ms a row | {metric}, points | 95 % interval, rows only |
| --- | --- | --- | --- | --- |
"""
NOTE = """
On the {n:,} rows of the first dev split; rows one at a time on a CPU ({threads} thread(s)), the
best of three passes. `from_pretrained(..., variant="fp16")` loads `{half}`, whose weights are
computed with in float32 here. int8 is made from the float32 weights by
`lrc_lib.results.variants.quantized`: dynamic quantisation of linear layers, 8-bit word embeddings.
{without}
"""


def pack(result: RunResult, path) -> list[Variant]:
    """Writes the zip, whole or not at all; returns what the card's table says.

    Args:
        result: a finished run of a task.
        path: of a new zip.

    Raises:
        InputError: the run is general distillation, the path is taken or cannot be written, or the
            run's data are no longer where they were.
    """
    path = Path(path)
    if not result.metrics["splits"]:
        raise InputError(f"{result.id} has learned no task yet; pack a student or a teacher.")
    if path.exists():
        raise InputError(f"'{path}' is there already. Give another --out FILE.")
    model, found = result.student(), variants(result)
    try:
        with scratch(path) as place:
            folder = shutil.copytree(result.path / "student", place / result.id)
            with quiet_transformers():
                half(model).save_pretrained(place / "half", variant="fp16")
            os.replace(place / "half" / HALF, folder / HALF)
            card = folder / "README.md"
            table = sizes(found, result)
            card.write_text(card.read_text(encoding="utf-8") + table, encoding="utf-8")
            files = sorted(folder.iterdir())
            sums = (f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files)
            (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
            made = place / "made.zip"
            with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(folder.iterdir()):
                    archive.write(file, f"{result.id}/{file.name}")
            rename(made, path)
    except OSError as error:
        raise InputError(f"Cannot write '{path}': {error}.") from None
    return found


def sizes(found: list[Variant], result: RunResult) -> str:
    """The card's section on the forms of the student."""
    rows = [
        f"| {v.name} | {v.bytes / 1e6:.1f} | {v.milliseconds:.1f} | {v.score:.1f} "
        f"| {v.low:.1f} to {v.high:.1f} |\n"
        for v in found
    ]
    without = "" if len(found) == 3 else "This torch makes no int8 form here."
    facts = {"n": found[0].n, "threads": torch.get_num_threads(), "half": HALF}
    head = HEAD.format(metric=result.metrics["primary"])
    return head + "".join(rows) + NOTE.format(without=without, **facts).rstrip() + "\n"
