"""The session of a notebook: runs, figures, tables, findings, and the record of them all."""

import contextlib
import io
import os
import re
import time
from pathlib import Path

from lrc_lib.course.display import escaped, plain, table_html, visible
from lrc_lib.course.notebook import ROOT, SCHEMA, SHORTEST_ALT, write_json
from lrc_lib.errors import InputError, LrcError

PNG_DPI = 150
STYLE = """<style>
table.lrc{border-collapse:collapse;margin:.5em 0}
table.lrc caption{text-align:left;font-weight:600;padding:.3em 0}
table.lrc th,table.lrc td{padding:.25em .7em;text-align:right;border-bottom:1px solid #8884}
table.lrc th[scope=row]{text-align:left;font-weight:500}
</style>"""


class Session:
    """Made by `lrc_lib.course.notebook.start`.

    Attributes:
        profile: the `Profile`.
        task, tasks: the first task's name, and all of them.
        seeds: range(number of seeds).
        device: a `torch.device`.
        out: the folder of runs and results.
        interactive: False under `reproduce.py`: no widgets then.
    """

    def __init__(self, notebook, profile, device, out, parameters):
        import torch

        from lrc_lib.cli.measured import how_long
        from lrc_lib.runs.device import resolve_device

        self.notebook, self.profile, self.out = notebook, profile, Path(out)
        self.tasks, self.task = profile.tasks, profile.tasks[0]
        self.seeds = range(profile.seeds)
        self.device = resolve_device(device)
        self.interactive = not os.environ.get("LRC_HEADLESS")
        self._begun = time.perf_counter()
        self._record = {"parameters": parameters, "runs": [], "figures": [], "tables": []}
        self._record |= {"findings": [], "numbers": {}}
        self._use_style()
        print(
            f"Profile {profile.name}: {', '.join(self.tasks)}; {profile.seeds} seed(s); "
            f"device {self.device}, {torch.get_num_threads()} thread(s); store {self.out}"
        )
        print(how_long(notebook, profile, self.out))

    def _use_style(self):
        import matplotlib

        if not self.interactive:
            matplotlib.use("agg")
        from lrc_lib.course.palette import use_style

        use_style()

    def spec(self, recipe="lrc", task=None, seed=0):
        """The `RunSpec` of one run of this profile; `task` None is the first task.

        Where the profile names several learning rates, the one that was chosen on dev, as soon as
        all of them are in the store (`lrc_lib.runs.selection`).
        """
        from lrc_lib.runs.selection import with_chosen_rate

        self.profile = with_chosen_rate(self.profile, task or self.task, recipe, self.out)
        return self.profile.spec(task or self.task, recipe, seed)

    def run(self, recipe="lrc", task=None, seed=0, like=None):
        """The `RunResult` of a run: read from the store, or trained now. Prints one line.

        Where its learning rate is still to be chosen, all candidates are trained first. `like`: a
        result whose learning rate is taken instead, to compare two runs that differ in one switch.
        """
        from lrc_lib.runs.profiles import student_of
        from lrc_lib.runs.store import find

        spec = self.spec(recipe, task, seed)
        begun = time.perf_counter()
        if self.profile.rate_is_open(spec.task, recipe):  # train all candidates, then choose
            for number in self.seeds:
                for candidate in self.profile.candidates(spec.task, student_of(recipe), number):
                    self._train(candidate)
            spec = self.spec(recipe, task, seed)
        if like is not None:
            spec = spec.replace(learning_rate=like.spec.learning_rate)
        known = find(spec, self.out)
        result = known or self._train(spec)
        if result.id not in self._record["runs"]:
            self._record["runs"].append(result.id)
        how = "read from the store" if known else f"trained in {time.perf_counter() - begun:.0f} s"
        print(f"{spec.recipe} on {spec.task}, seed {spec.seed}: {how} ({result.id})")
        return result

    def _train(self, spec):
        """Trains a run; together with others that this notebook reads, where that was measured to
        be faster."""
        from lrc_lib.runs.device import stacking_pays
        from lrc_lib.runs.run import run
        from lrc_lib.runs.stacked_runs import run_stack
        from lrc_lib.runs.store import find

        if spec.stack_key() and stacking_pays(self.device.type, ROOT / "results" / "benchmarks"):
            wanted = [s for s in self.notebook.needs(self.profile) if find(s, self.out) is None]
            alike = [s for s in wanted if s.stack_key() == spec.stack_key()]
            with contextlib.suppress(LrcError, OSError):  # of one of them: then each by itself
                run_stack(list(dict.fromkeys([spec, *alike])), self.out, str(self.device))
        return run(spec, self.out, str(self.device))

    def figure(self, fig, name, alt, caption=""):
        """Saves a matplotlib figure as PNG and SVG, shows it with its alt text and closes it.

        Args:
            name: of the files, letters, digits, - and _.
            alt: what one should see, for those who do not: 20 characters at least.

        Raises:
            InputError: no proper alt text, or a name that is no file name.

        A later figure (or table) of the same name replaces the earlier one.
        """
        import matplotlib.pyplot as plt
        from IPython.display import Image, display

        if len(alt.strip()) < SHORTEST_ALT:
            raise InputError(
                f"Figure '{name}' needs alt text of at least {SHORTEST_ALT} characters that says "
                f"what there is to see, not {alt!r}."
            )
        self._check_name(name, "figures")
        stem = f"{self.notebook.name}-{name}"
        folder = self.out / "results" / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=PNG_DPI, bbox_inches="tight")
        self._publish(folder / f"{stem}.png", buffer.getvalue())
        vector = io.BytesIO()
        fig.savefig(vector, format="svg", bbox_inches="tight", metadata={"Date": None})
        self._publish(folder / f"{stem}.svg", vector.getvalue())
        plt.close(fig)
        entry = {"name": name, "file": f"figures/{stem}.png", "alt": visible(alt)}
        self._record["figures"].append(entry | {"caption": visible(caption)})
        width = round(fig.get_figwidth() * 96)
        display(Image(buffer.getvalue(), format="png", alt=visible(alt), width=width))
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
            f"<blockquote><strong>Found here:</strong> {escaped(sentence)}</blockquote>",
            f"Found here: {sentence}",
        )

    def note(self, **numbers):
        """Records numbers by name for OUT/results.json; a later value replaces an earlier one."""
        self._record["numbers"].update(plain(numbers))

    def finish(self):
        """Writes OUT/results/<notebook>.json in one stroke and shows where the numbers are from."""
        from lrc_lib.runs.provenance import peak_memory_mb, provenance

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
        write_json(path, record)
        versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
        runs = f"{len(self._record['runs'])} run(s): {', '.join(self._record['runs']) or 'none'}"
        print(
            f"Written to {path}\n{runs}\n{made['time']}, {made['seconds']} s, "
            f"device {made['device']}, {made['threads']} thread(s), "
            f"commit {made['commit'] or 'unknown'}\n{versions}"
        )

    def _show(self, html, text):
        from IPython.display import display

        display({"text/html": html, "text/plain": visible(text)}, raw=True)

    @staticmethod
    def _publish(path, content):
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        os.replace(partial, path)

    def _check_name(self, name, where):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(f"'{name}' must be letters, digits, - and _ only: it names a file.")
        self._record[where] = [e for e in self._record[where] if e["name"] != name]
