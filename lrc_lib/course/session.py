"""The session of a notebook: runs, figures, tables, findings, and the record of them all.

`start` begins every notebook. Its session finds or trains runs, shows figures, tables and findings,
and writes them all to `OUT/results/<notebook>.json`, from which the report is made.
"""

import io
import os
import re
import time
from functools import partial
from pathlib import Path

import matplotlib
import torch
from IPython import get_ipython
from IPython.display import Image, display
from matplotlib import pyplot

from lrc_lib.course.display import escaped, plain, table_html
from lrc_lib.course.notebook import (
    NOTEBOOKS,
    SCHEMA,
    SHORTEST_ALT,
    cell_of,
    notebook_path,
    output_root,
    publish,
    write_json,
)
from lrc_lib.course.palette import use_style
from lrc_lib.data.manifest import sealed
from lrc_lib.data.text import visible
from lrc_lib.errors import InputError, unknown
from lrc_lib.runs.device import resolve_device
from lrc_lib.runs.profiles import load_profile, student_of
from lrc_lib.runs.provenance import peak_memory_mb, provenance
from lrc_lib.runs.run import run
from lrc_lib.runs.selection import with_choice
from lrc_lib.runs.store import find

PNG_DPI = 150
STYLE = """<style>
table.lrc{border-collapse:collapse;margin:.5em 0}
table.lrc caption{text-align:left;font-weight:600;padding:.3em 0}
table.lrc th,table.lrc td{padding:.25em .7em;text-align:right;border-bottom:1px solid #8884}
table.lrc th[scope=row]{text-align:left;font-weight:500}
table.lrc .words{text-align:left}
</style>"""


class Session:
    """Made by `start`.

    Attributes:
        profile: the `Profile`.
        task, tasks: the first task's name, and all of them.
        seeds: the profile's seeds, a range.
        device: a `torch.device`.
        out: the folder of runs and results.
        watched: whether somebody may look on: not where `reproduce.py` executes the notebook.
    """

    def __init__(self, notebook, profile, device, out, parameters):
        self.notebook, self.profile, self.out = notebook, profile, Path(out)
        self.tasks, self.task = profile.tasks, profile.tasks[0]
        self.seeds = profile.seed_range
        self.device = resolve_device(device)
        self._begun = time.perf_counter()
        self._record = {"parameters": parameters, "runs": [], "figures": [], "tables": []}
        self._record |= {"findings": [], "numbers": {}}
        self.watched = not os.environ.get("LRC_HEADLESS")
        if not self.watched:
            matplotlib.use("agg")
        use_style()
        print(
            f"Profile {profile.name}: {', '.join(self.tasks)}; {profile.seeds} seed(s); "
            f"device {self.device}, {self.spec().precision}, {torch.get_num_threads()} thread(s); "
            f"store {self.out}"
        )

    def spec(self, recipe="lrc", task=None, seed=None):
        """The `RunSpec` of one run of this profile; None is the first task or the first seed.

        Where the profile lists candidates for a setting, the spec has the one that was chosen, as
        soon as all candidates are in the store (`lrc_lib.runs.selection`).
        """
        self.profile = with_choice(self.profile, task or self.task, recipe, self.out)
        return self.profile.spec(task or self.task, recipe, self.seeds[0] if seed is None else seed)

    def run(self, recipe="lrc", task=None, seed=None, like=None, quiet=False, **settings):
        """The `RunResult` of a run: read from the store, or trained now. Prints one line.

        Where its settings are still to be chosen, all candidates are trained first.

        Args:
            like: a result whose learning rate is used, so that two runs differ in one switch only.
            quiet: prints nothing about a run that is in the store.
            settings: fields of `RunSpec` in which the run differs from the profile's.
        """
        spec = self.spec(recipe, task, seed)
        begun = time.perf_counter()
        if self.profile.is_open(spec.task, recipe):  # train all candidates, then choose
            for candidate in self.profile.candidates(spec.task, student_of(recipe)):
                run(candidate, self.out, str(self.device))
            spec = self.spec(recipe, task, seed)
        if like is not None:
            settings["learning_rate"] = like.spec.learning_rate
        spec = spec.replace(**settings)
        known = find(spec, self.out)
        result = known or run(spec, self.out, str(self.device))
        if result.id not in self._record["runs"]:
            self._record["runs"].append(result.id)
        how = "read from the store" if known else f"trained in {time.perf_counter() - begun:.0f} s"
        if not (known and quiet):
            print(f"{spec.recipe} on {spec.task}, seed {spec.seed}: {how} ({result.id})")
        return result

    def figure(self, fig, name, alt, caption="", again=False):
        """Saves a matplotlib figure as PNG and SVG, shows it with its alt text and closes it.

        A later figure (or table) of the same name replaces the earlier one.

        Args:
            name: the files' name, of letters, digits, - and _.
            alt: what there is to see, for readers who cannot see it: at least 20 characters.
            caption: shown below the figure.
            again: put it in the place where the figure of this name is shown already.

        Raises:
            InputError: the alt text is too short, or the name is no file name.
        """
        if len(alt.strip()) < SHORTEST_ALT:
            raise InputError(
                f"Figure '{name}' needs alt text of at least {SHORTEST_ALT} characters that says "
                f"what there is to see, not {alt!r}."
            )
        self._check_name(name, "figures")
        stem = f"{self.notebook.name}-{name}"
        folder = self.out / "results" / "figures"
        for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": PNG_DPI})):
            drawn = io.BytesIO()
            fig.savefig(drawn, format=kind, bbox_inches="tight", **options)
            publish(folder / f"{stem}.{kind}", drawn.getvalue())
        pyplot.close(fig)
        entry = {"name": name, "file": f"figures/{stem}.png", "alt": visible(alt)}
        self._record["figures"].append(entry | {"caption": visible(caption)})
        width = round(fig.get_figwidth() * 96)
        image = Image(drawn.getvalue(), format="png", alt=visible(alt), width=width)
        display(image, display_id=stem, update=again)
        if caption:
            self._show(f"<p><em>{escaped(caption)}</em></p>", caption)

    def table(self, frame, name, caption, note=""):
        """Shows a data frame as an escaped table (first column: row headers) and records it."""
        self._check_name(name, "tables")
        note = note.strip()
        rows = plain(frame.astype(object).to_numpy().tolist())
        columns = [str(column) for column in frame.columns]
        entry = {"name": name, "caption": visible(caption), "note": visible(note)}
        self._record["tables"].append(entry | {"columns": columns, "rows": rows})
        html = table_html(columns, rows, escaped(caption), escaped(note))
        self._show(STYLE + html, frame.to_string(index=False))

    def finding(self, sentence):
        """Shows a computed sentence set apart, and records it for the report."""
        self._record["findings"].append(visible(sentence))
        self._show(
            f'<blockquote style="border-left-color:#0072B2"><strong>Found here:</strong> '
            f"{escaped(sentence)}</blockquote>",
            f"Found here: {sentence}",
        )

    def note(self, **numbers):
        """Records numbers by name for OUT/results.json; a later value replaces an earlier one."""
        self._record["numbers"].update(plain(numbers))

    def finish(self):
        """Writes OUT/results/<notebook>.json and prints where the numbers come from.

        Raises:
            UnavailableError: the disk refuses; the file of an earlier execution stays as it was.
        """
        made = provenance(self.device) | {
            "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "seconds": round(time.perf_counter() - self._begun, 1),
            "peak_memory_mb": round(peak_memory_mb()),
        }
        path = self.out / "results" / f"{self.notebook.name}.json"
        record = {
            "schema": SCHEMA,
            "notebook": self.notebook.name,
            "question": self.notebook.question,
            "token": os.environ.get("LRC_TOKEN", ""),
            **self._record,
            "provenance": made,
        }
        write_json(path, sealed(plain(record)))
        versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
        runs = f"{len(self._record['runs'])} run(s): {', '.join(self._record['runs']) or 'none'}"
        print(
            f"Written to {path}\n{runs}\n{made['time']}, {made['seconds']} s, "
            f"device {made['device']}, {made['threads']} thread(s), "
            f"commit {made['commit'] or 'unknown'}\n{versions}"
        )

    def _show(self, html, text):
        display({"text/html": html, "text/plain": visible(text)}, raw=True)

    def _check_name(self, name, where):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(f"'{name}' must be letters, digits, - and _ only: it names a file.")
        self._record[where] = [e for e in self._record[where] if e["name"] != name]


def start(name, profile="laptop", tasks="", data="", device="auto", seeds=0, out="", settings=""):
    """Begins a notebook; returns its `Session`.

    Args:
        name: a name in `NOTEBOOKS`.
        profile, tasks, data, seeds, settings: see `lrc_lib.runs.profiles.load_profile`.
        device: auto, cpu, cuda or mps.
        out: see `output_root`.

    Raises:
        InputError: whatever of these is wrong.
    """
    if name not in NOTEBOOKS:
        raise unknown("notebook", name, NOTEBOOKS)
    chosen = load_profile(profile, settings, tasks, data, seeds, device=device)
    parameters = {"profile": profile, "tasks": chosen.tasks, "data": data}
    parameters |= {"seeds": chosen.seeds, "first_seed": chosen.first_seed}
    parameters |= {"settings": chosen.settings}
    if shell := get_ipython():
        shell.set_custom_exc((NameError,), partial(_skipped, notebook_path(name)))
    return Session(NOTEBOOKS[name], chosen, device, output_root(out), parameters)


def _skipped(notebook, shell, kind, error, trace, tb_offset=None):
    """Shows a NameError, and which cell of the notebook a reader has to run first."""
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    if said := cell_of(error.name or "", notebook):
        print(said)
