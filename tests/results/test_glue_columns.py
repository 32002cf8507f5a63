"""GLUE's columns from a store: the entries, the kept file, and what `verify` says about it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import sentences

from lrc_lib import RunSpec, paper, run
from lrc_lib.cli.verify import verify
from lrc_lib.errors import InputError
from lrc_lib.results import glue_table
from lrc_lib.results.glue import compared, entries
from lrc_lib.results.predictions import kept_runs
from lrc_lib.runs.store import open_run

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import glue as tool  # noqa: E402
from predictions import _small  # noqa: E402


def write_cola(folder):
    """CoLA that the tiny teacher can learn; 5 of its 60 dev rows are training rows, too."""
    folder.mkdir(parents=True)
    train, dev = sentences(160, 1), sentences(55, 2)
    for split, rows in (("train", train), ("dev", [*dev, *train[:5]])):
        lines = [f"x\t{int(kind == 'good')}\t\t{text}" for text, kind in rows]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder.parent


@pytest.fixture(scope="module")
def kept(tiny_spec, tmp_path_factory):
    """A folder of results with its store: a teacher, two seeds of lrc, a control, and choices."""
    place = tmp_path_factory.mktemp("glue-results")
    data = write_cola(place / "glue-data" / "CoLA")
    spec = tiny_spec.replace(task="cola", data=str(data), epochs=1, teacher_epochs=6)
    tried = {"selection_rows": 30, "recipe": "lrc_s", "teacher_epochs": 12}
    for values in (
        {}, {"seed": 1}, {"recipe": "finetune"}, {"learning_rate": 1e-3},
        tried, {**tried, "seed": 1}, {**tried, "learning_rate": 1e-3},
    ):  # fmt: skip
        run(spec.replace(**values), place / "out", "cpu")
    tool.take(place / "out", place)
    return place


def test_entries_are_the_store_s_runs_with_seeds_share_and_what_differs(kept):
    results = json.loads((kept / "glue.json").read_text(encoding="utf-8"))
    rows = {row["system"]: row for row in results["rows"]}
    assert list(rows) == ["teacher", "lrc, learning_rate = 0.002", "lrc, learning_rate = 0.001",
                          "finetune"]  # fmt: skip
    lrc = rows["lrc, learning_rate = 0.002"]
    assert list(lrc["runs"]) == ["0", "1"] and "2 seeds that share one teacher" in lrc["basis"]
    score = results["runs"][lrc["runs"]["0"]]["metrics"]["splits"]["dev"]["matthews"]
    other = results["runs"][lrc["runs"]["1"]]["metrics"]["splits"]["dev"]["matthews"]
    assert lrc["value"] == pytest.approx(50 * (score + other)) and lrc["column"] == "CoLA"
    assert lrc["share"].split(" ")[0] == f"{100 * lrc['value'] / rows['teacher']['value']:.1f}"
    assert rows["teacher"]["share"] is rows["teacher"]["general"] is None
    gain = 100 * score - rows["finetune"]["value"]  # the control has seed 0 only
    (control,) = lrc["minus"].items()
    assert control[0] == "finetune" and control[1].startswith(f"{gain:+.1f} (")
    assert control[1].endswith(", 1 of 2 seeds") and "rows only" in control[1]
    assert rows["teacher"]["minus"] == rows["finetune"]["minus"] == {}
    assert list(lrc["others"]) == ["accuracy"] and lrc["constant"] == 0
    assert "rows only" in rows["finetune"]["text"] and rows["finetune"]["general"] is None
    general = results["runs"][lrc["general"]["run"]]
    assert lrc["general"]["tokens_seen"] == general["metrics"]["tokens"] > 0
    assert "not augmented" in lrc["differs"] and lrc["settings"]["epochs"] == 1
    assert results["in_train"] == {"cola": {"dev": 5}}
    one, curve = lrc["runs"]["0"], results["curves"][lrc["runs"]["0"]]
    history = open_run(one, kept / "out").history.iloc[curve["step"]]
    assert curve["perturbed"] == pytest.approx(history["perturbed"], abs=1e-4)
    assert set(curve["stage"]) == {1, 2} and not any("finetune" in run for run in results["curves"])


class Run(SimpleNamespace):
    __hash__ = object.__hash__


def test_systems_that_began_differently_are_named_by_what_they_read():
    specs = [RunSpec(task="cola"), RunSpec(task="cola", general_rows=7, general_lr=1e-3)]
    labels, runs = np.array([0, 1] * 20), []
    dev = {"logits": np.eye(2)[labels], "labels": labels, "keys": np.arange(40)}
    for number, spec in enumerate(specs, 1):
        read = {"tokens": 2_000_000 * number, "texts": 9, "source": "s", "splits": {}}
        runs.append(Run(id=f"g{number}", spec=spec.general_spec(), metrics=read))
        facts = {"rows": 9, "epochs": 1, "steps": 1, "max_length": 8, "source": ""}
        facts |= {
            "splits": {"dev": {"accuracy": 1.0}},
            "constant": {"dev": {"matthews": 0.0, "accuracy": 0.5}},
        }
        read_it = facts | {"general": f"g{number}"}
        runs.append(Run(id=f"r{number}", spec=spec, metrics=read_it, predictions=lambda split: dev))
        alone = spec.replace(recipe="finetune", task=("cola", "sst-2")[number - 1])
        runs.append(Run(id=f"f{number}", spec=alone, metrics=facts, predictions=lambda split: dev))
    assert [entry["system"] for entry in entries(runs)] == [
        "lrc, general distillation = 2.0 million tokens",
        "lrc, general distillation = 4.0 million tokens",
        "finetune",  # has read nothing: one system on both tasks
        "finetune",
    ]


def test_teachers_of_several_seeds_are_one_row_with_all_of_them():
    labels = np.array([0, 1] * 20)
    dev = {"logits": np.eye(2)[labels], "labels": labels, "keys": np.arange(40)}
    facts = {"rows": 9, "epochs": 1, "steps": 1, "max_length": 8, "source": ""}
    facts["splits"] = {"dev": {"accuracy": 1.0}}
    facts["constant"] = {"dev": {"matthews": 0.0, "accuracy": 0.5}}
    (row,) = entries(
        Run(
            id=f"t{seed}",
            spec=RunSpec(task="cola", teacher_seed=seed).teacher_spec(),
            metrics=facts,
            predictions=lambda split: dev,
        )
        for seed in (0, 1)
    )
    assert row["runs"] == {"0": "t0", "1": "t1"} and "2 seeds" in row["basis"]


def test_differences_are_to_students_with_the_same_start_and_to_the_best_that_read_nothing():
    labels, tried = np.array([0, 1] * 20), {"selection_rows": 40}
    runs = []

    def add(name, wrong, start=None, **values):
        logits = np.eye(2)[np.where(np.arange(40) < wrong, 1 - labels, labels)]
        dev = {"logits": logits, "labels": labels, "keys": np.arange(40)}
        score = {"accuracy": 1 - wrong / 40, "matthews": 0.5}
        facts = {"rows": 9, "epochs": 1, "steps": 1, "max_length": 8, "source": "",
                 "splits": {"dev": score}, "constant": {"dev": score}}  # fmt: skip
        facts |= {"general": start} if start else {}
        spec = RunSpec(task="sst-2", **values)
        runs.append(Run(id=name, spec=spec, metrics=facts, predictions=lambda split: dev))

    read = {"tokens": 2_000_000, "texts": 9, "source": "s", "splits": {}}
    for start in ("g1", "g2"):
        runs.append(Run(id=start, spec=RunSpec(task="sst-2").general_spec(), metrics=read))
    add("a", 4, "g1")
    add("b", 10, "g2", recipe="lrc_g", general_rows=7)  # began elsewhere
    add("c", 12, recipe="lrc_1")
    add("d", 14, recipe="lrc_1", learning_rate=1e-5, **tried)
    add("e", 8, recipe="lrc_1", learning_rate=1e-3, **tried)
    add("f", 6, "g1", **tried)
    add("g", 1, recipe="lrc_1", selection_rows=39)  # on other rows
    runs[-1].predictions = lambda split: {k: x[:39] for k, x in runs[2].predictions("").items()}
    (row,) = (row for row in entries(runs) if row["recipe"] == "lrc")
    assert list(row["minus"]) == ["lrc_1"] and row["minus"]["lrc_1"].startswith("+20.0 (")
    add("h", 5, "g1", recipe="lrc_g")
    (row,) = (row for row in entries(runs) if row["recipe"] == "lrc")
    assert list(row["minus"]) == ["lrc_1", "lrc_g"] and row["minus"]["lrc_g"].startswith("+2.5 (")
    over = {one["recipe"]: one["over"] for one in compared(runs)}
    assert over["lrc"].startswith("+5.0 (") and over["lrc_1"] is None


def test_a_start_without_a_student_is_a_row_of_its_own():
    spec = {"general_epochs": 2, "general_lr": 0.002}
    one = {"column": "STS-B", "recipe": "lrc", "settings": {"general_lr": 0.001}, "rows": 30,
           "epochs": 1, "metric": "pearson", "text": "60.0", "over": None,
           "general": {"run": "g1", "tokens_seen": 2_000_000}}  # fmt: skip
    made = {name: {"spec": spec, "metrics": {"tokens": 1_000_000}} for name in ("g1", "g2")}
    page = tool.comparison({"compared": [one], "rows": [], "runs": made,
                            "excess": {"g1": [5, 1.5], "g2": [5, 2.25]}})  # fmt: skip
    assert "| STS-B | lrc | general_lr 0.001 | 2.0 million | 1.50 | 60.0 |  |" in page
    assert page.endswith("|  | no student | general_lr 0.002 | 2.0 million | 2.25 |  |  |")


def test_the_head_s_gradient_is_that_of_the_label_loss(kept):
    results = json.loads((kept / "glue.json").read_text(encoding="utf-8"))
    (one,) = [name for name in results["head_gradient"] if "finetune" in name]
    result = open_run(one, kept / "out")
    model, tokenizer = result.student(), result.tokenizer()
    rows = tool.data_of(result.spec).train[:64]
    inputs = tokenizer([row.text_a for row in rows], padding=True, return_tensors="pt")
    logits = model(**inputs).logits.detach()
    pull = logits.softmax(-1).numpy()
    pull[np.arange(64), [row.label for row in rows]] -= 1
    head, all_of_it = results["head_gradient"][one]
    assert np.linalg.norm(pull.mean(0)) < head < all_of_it
    weight = tool.head_gradient(result)
    model.zero_grad()
    loss = model(**inputs, labels=torch.tensor([row.label for row in rows])).loss
    parts = torch.autograd.grad(loss, [*model.classifier.parameters()])
    assert head >= 0.999 * float(sum((p**2).sum() for p in parts) ** 0.5)
    assert weight == pytest.approx([head, all_of_it])


def test_no_folder_of_this_machine_and_no_text_is_kept(kept, tiny_texts):
    text = (kept / "glue.json").read_text(encoding="utf-8")
    assert str(kept) not in text and tiny_texts not in text and "texts.txt" in text
    arrays = np.load(kept / "predictions" / "glue.npz")
    assert {name.partition("/")[2] for name in arrays if name[0] == "0"} == {
        "split", "ids", "logits", "labels", "keys"
    }  # fmt: skip
    assert arrays["0/logits"].dtype == "float16" and arrays["0/logits"].shape == (5, 60, 2)


def test_a_store_without_glue_writes_nothing(tmp_path):
    with pytest.raises(SystemExit, match="holds no finished run of a GLUE task"):
        tool.take(tmp_path / "out", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_table_has_the_paper_s_rows_ours_and_its_notes(kept):
    page = tool.markdown(kept)
    assert f"| {paper.TINYBERT_FINDINGS['CoLA']} |" in page and "corrected" in page
    assert "| LRC-BERT (lrc, learning_rate = 0.002) | dev |" in page
    assert ", without augmentation" in page and "% of its teacher" in page
    assert "| best constant answer | dev |" in page
    for part in (
        "| CoLA | lrc, learning_rate = 0.002 | 0.002 | 1 | ",
        "CoLA 5.",
        "0.0 million tokens before lrc (CoLA): 0.0 million, read once.",
        "2.5 billion words",
        "| CoLA | finetune | 0.002 | 1 |  | ",
        "Students: batch 16, fp32, length buckets 0 (CoLA).",
        "not augm",
    ):
        assert part in page, part
    assert "| CoLA | lrc, learning_rate = 0.002 | finetune | " in page
    row = {"column": "CoLA", "system": "lrc", "recipe": "lrc", "minus": {"lrc_1": "+1.0"}}
    assert glue_table.minus([row])[1] == [["CoLA", "lrc", "lrc_1", "+1.0", "+14.9"]]
    missing = page.partition("Not measured: ")[2]
    assert "MRPC: lrc" in missing and "CoLA: lrc_1" in missing and "CoLA: lrc," not in missing
    nothing = tool.markdown(kept / "nothing")
    assert "CoLA: lrc," in nothing and "tools/glue.py train sst-2 teacher --glue-dir" in nothing


def test_what_was_compared_on_held_out_rows_is_kept_and_shown(kept):
    results = json.loads((kept / "glue.json").read_text(encoding="utf-8"))
    slow, fast = sorted(results["compared"], key=lambda entry: entry["settings"]["learning_rate"])
    assert (
        slow["settings"] == {"learning_rate": 1e-3} and slow["rows"] == 30 and slow["epochs"] == 1
    )
    assert list(slow["runs"]) == ["0"] and list(fast["runs"]) == ["0", "1"]
    scores = [results["runs"][run]["metrics"]["splits"]["selection"]["matthews"]
              for run in fast["runs"].values()]  # fmt: skip
    assert fast["value"] == pytest.approx(50 * sum(scores))
    general, left = fast["general"]["run"], results["excess"][fast["general"]["run"]]
    losses = open_run(general, kept / "out").history["excess"]
    assert left[1] == pytest.approx(losses[-100:].mean())
    page = tool.markdown(kept).partition("Settings were compared")[2]
    assert (
        "30 rows and 1 epochs (CoLA)" in page and f"| {left[1]:.2f} | {fast['text']} |  |" in page
    )
    assert not any("30" in row["basis"] for row in results["rows"]) and len(results["rows"]) == 4
    assert slow["over"] is fast["over"] is None  # no lrc_1 was tried
    assert tool.comparison({"compared": [], "excess": {}}) == ""


def test_a_cell_is_trained_with_the_settings_of_the_others(kept, monkeypatch):
    asked = []
    results = json.loads((kept / "glue.json").read_text(encoding="utf-8"))
    results["rows"][-1]["settings"]["learning_rate"] = 5e-4
    monkeypatch.setattr(tool, "load_results", lambda name: results)
    monkeypatch.setattr(tool, "run", lambda spec, out: asked.append(spec) or spec_with_id)
    spec_with_id = type("Run", (), {"id": "x"})
    tool.main(["train", "rte", "lrc_1", "--glue-dir", "D", "--text", "more", "--out", "o"])
    assert asked[0].task == "rte" and asked[0].recipe == "lrc_1" and asked[0].data == "D"
    assert asked[0].student_hidden == 24 and asked[0].general_data == "reviews:wiki:glue=D:more"
    tool.main(["train", "rte", "finetune", "--glue-dir", "D", "--out", "o"])
    assert [spec.learning_rate for spec in asked] == [2e-3, 5e-4]  # lrc's; its own
    with pytest.raises(SystemExit):
        tool.main(["train", "other", "lrc", "--glue-dir", "D"])


def test_what_is_kept_scores_the_same_and_a_changed_number_is_named(kept):
    path = kept / "glue.json"
    whole = path.read_text(encoding="utf-8")
    cells, without = verify(kept)
    assert len(cells) > 60 and all(cell.agrees for cell in cells) and not without
    results = json.loads(whole)
    results["rows"][1]["value"] += 0.01
    results["compared"][0]["value"] += 0.01
    results["rows"][1]["minus"]["finetune"] = "+99.9"
    path.write_text(json.dumps(results), encoding="utf-8")
    wrong = [cell for cell in verify(kept)[0] if not cell.agrees]
    path.write_text(whole, encoding="utf-8")
    assert [cell.where for cell in wrong] == [
        "glue.json, lrc, learning_rate = 0.002 on CoLA, value",
        "glue.json, lrc, learning_rate = 0.002 on CoLA, minus",
        "glue.json, compared, lrc_s on CoLA, value",
    ]


def test_predictions_of_other_runs_or_none_at_all(kept, tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "glue.json").write_text((kept / "glue.json").read_text(encoding="utf-8"))
    assert verify(tmp_path) == ([], ["glue"])
    path = tmp_path / "predictions" / "glue.npz"
    path.write_bytes(b"no")
    with pytest.raises(InputError, match="holds no predictions"):
        kept_runs("glue", tmp_path)
    np.savez(path, **{"loss/x": np.zeros(1)})
    with pytest.raises(InputError, match="lacks predictions of cola-"):
        kept_runs("glue", tmp_path)


def test_rounded_logits_keep_every_answer():
    logits = np.array([[[1e-9, 2e-9], [3.0, -1.0]]], dtype=np.float32)  # float16 would tie
    small = _small(logits)
    assert small.dtype == np.float16 and (small.argmax(-1) == logits.argmax(-1)).all()
    assert np.abs(small - (logits - logits[..., :1])).max() < 2e-3
    for kept in (logits[..., :1], np.array([[[1e6, 0.0]]]), np.array([[[np.nan, 0.0]]])):
        assert _small(kept) is kept  # scores, and what float16 cannot hold
