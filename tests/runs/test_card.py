"""The student as others get it: its card, and its folder read by a Python without this kit."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import mistune
import numpy as np
import pytest
from huggingface_hub import ModelCard

from lrc_lib import run
from lrc_lib.evaluate import bootstrap
from lrc_lib.runs.card import _scores, model_card
from lrc_lib.runs.spec import data_of
from lrc_lib.schedule import RECIPES


@pytest.fixture(scope="module")
def result(tiny_spec, out):
    return run(tiny_spec, out, device="cpu")


def page(result) -> str:
    return (result.path / "student" / "README.md").read_text(encoding="utf-8")


def table(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose header begins with `first`."""
    block = text[text.index(f"| {first} |") :].split("\n\n")[0].splitlines()
    return [[cell.strip(" *`") for cell in line.strip("|").split(" | ")] for line in block[2:]]


def test_the_card_is_published_with_the_run_and_the_hub_reads_its_header(result):
    text = page(result)
    assert text == model_card(result) and ".partial" not in text
    assert text.startswith("---\n# license: left to you")
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert data.model_name == result.id and data.license is None and data.base_model is None
    found = {(one.dataset_split, one.metric_name): one.metric_value for one in data.eval_results}
    scores = result.metrics["splits"]["dev"]
    assert found == {
        ("dev", name): pytest.approx(scores[name], abs=5e-5) for name in ("accuracy", "f1")
    }


def test_a_teacher_from_the_hub_and_a_task_of_glue_are_named(result):
    spec = result.spec.replace(teacher="google-bert/bert-base-uncased", task="sst-2")
    data = ModelCard(model_card(type(result)(spec, result.path))).data
    assert data.base_model == "google-bert/bert-base-uncased" and data.language == "en"
    assert data.datasets == ["nyu-mll/glue"]
    spec = result.spec.replace(teacher="package:all_mpnet_base_v2", task="qqp")
    assert "saw pairs of SNLI, MultiNLI and Quora" in model_card(type(result)(spec, result.path))


def test_scores_and_intervals_are_the_run_s_own(result):
    task = data_of(result.spec).task
    rows = table(page(result), "dev split")
    assert [row[2] for row in rows] == ["accuracy", "f1"]
    for split, n, metric, value, interval, constant in rows:
        exact, low, high = bootstrap(task, **result.predictions(), metric=metric)
        assert (split, n) == ("dev", "60")
        assert value == f"{exact:.3f}" == f"{result.score(metric=metric):.3f}"
        assert interval == f"{low:.3f} to {high:.3f}" and low < high
        assert constant == f"{result.metrics['constant']['dev'][metric]:.3f}"


def test_a_student_below_the_most_frequent_class_is_collapsed_whichever_class_it_is(tiny_spec):
    labels = np.array([1] * 25 + [0] * 15)
    guesses = np.array([1] * 12 + [0] * 13 + [0] * 8 + [1] * 7)
    dev = {"logits": np.eye(2)[guesses], "labels": labels, "keys": np.arange(40)}
    metrics = {"splits": {"dev": {"n": 40, "accuracy": 0.5}}, "pair": False}
    metrics["constant"] = {"dev": {"accuracy": 0.625}}
    result = SimpleNamespace(spec=tiny_spec, metrics=metrics, predictions=lambda split: dev)
    (score,) = _scores(result)
    assert "not above the best constant answer's 0.625" in score.collapsed


def test_a_rival_s_temperature_is_its_own(result):
    card = model_card(type(result)(result.spec.replace(recipe="distilbert"), result.path))
    assert dict(table(card, "setting"))["temperature"] == str(RECIPES["distilbert"].temperature)
    assert RECIPES["distilbert"].temperature != result.spec.temperature


def test_recipe_data_and_machine_are_the_run_s_own(result, tiny_data, tiny_teacher, tiny_texts):
    spec, facts, text = result.spec, result.provenance, page(result)
    recipe = dict(table(text, "setting"))
    assert recipe["recipe"] == "lrc: the whole method"
    assert recipe["steps"] == str(result.metrics["steps"]) and recipe["seed"] == str(spec.seed)
    assert recipe["learning rate"] == str(spec.learning_rate)
    assert recipe["starts from"].startswith(result.metrics["general"])
    assert "Rows: train 160, dev 60." in text
    assert f"torch {facts['versions']['torch']}" in text
    assert f"{result.metrics['parameters']:,} parameters" in text
    for folder in (tiny_data, tiny_teacher, tiny_texts):  # no folder of this machine
        parent, _, name = folder.rpartition("/")
        assert parent not in text and name in text


def test_a_teacher_has_a_card_and_general_distillation_has_none(result, out):
    teacher = run(result.spec.teacher_spec(), out, device="cpu")
    assert "fine-tuned on" in page(teacher) and "temperature" not in page(teacher)
    general = run(result.spec.general_spec(), out, device="cpu")
    assert not (general.path / "student" / "README.md").exists()


EVIL = '<img src=x onerror="alert(1)"> [a](javascript:1) `b` | c\n---\nlicense: evil\n# d \u202e\0'


def test_a_user_s_text_stays_text(tiny_spec, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "task.toml").write_text(f"title = {json.dumps(EVIL)}\n")
    labels = ["<b>no</b>", "[yes](x) | `"]
    lines = [json.dumps({"text": f"the film {i}", "label": labels[i % 2]}) for i in range(32)]
    for split in ("train", "dev_a"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    changes = dict(recipe="finetune", data=str(folder), task="own", learning_rate=1e-9, epochs=1)
    text = page(run(tiny_spec.replace(**changes), tmp_path, device="cpu"))
    data = ModelCard(text).data
    assert data.license is None and data.eval_results[0].dataset_name.startswith("<img src=x")
    body = text.split("---\n", 2)[2]
    shown = mistune.create_markdown(escape=False, plugins=["table"])(body)
    for tag in ("<img", "<a ", "<b>", "<hr"):
        assert tag not in shown, tag
    assert shown.count("<h1>") == 1 and "\0" not in text and "\u202e" not in text
    assert "&lt;b&gt;no&lt;/b&gt;" in shown and "[yes](x) | `" in shown
    assert len(re.findall("<tr>", shown)) == len(re.findall(r"^\| (?!---)", body, re.M))
    assert "**Collapsed on a**: the model " in text  # at this learning rate nothing is learned


FRESH = """
import json, os, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
snippet, texts, length = json.load(open("asked.json"))
tokenizer = AutoTokenizer.from_pretrained("student")
model = AutoModelForSequenceClassification.from_pretrained("student").eval()
rows = [tokenizer(t, truncation=True, max_length=length, return_tensors="pt") for t in texts]
print(json.dumps([model(**row).logits[0].tolist() for row in rows]))
exec(snippet)
assert not any(name.split(".")[0] == "lrc_lib" for name in sys.modules)
"""


def test_a_fresh_python_with_only_transformers_gives_the_same_logits(learned, tmp_path):
    rows = data_of(learned.spec).dev["dev"]
    snippet = re.search(r"```python\n(.*?)```", page(learned), re.S)[1]
    assert len([line for line in snippet.splitlines() if line]) == 5
    texts, length = [row.text_a for row in rows], learned.metrics["max_length"]
    (tmp_path / "asked.json").write_text(json.dumps([snippet, texts, length]))
    (tmp_path / "student").symlink_to(learned.path / "student")
    done = subprocess.run(
        [sys.executable, "-I", "-c", FRESH], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, shown = done.stdout.split("\n", 1)
    logits = learned.predictions()["logits"]
    assert logits.std(0).min() > 0.5
    assert np.allclose(json.loads(first), logits, atol=1e-5)
    assert shown.startswith("tensor([[")
