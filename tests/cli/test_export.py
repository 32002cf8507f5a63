"""ONNX: the file answers as the student does, or there is no file."""

import contextlib
import importlib.util
import io
import re
import shutil

import pytest
import torch

from lrc_lib import run
from lrc_lib.cli import export as export_module
from lrc_lib.cli.commands import main
from lrc_lib.cli.export import PACKAGES, OnnxClassifier, export
from lrc_lib.errors import InputError, LrcError

HERE = all(importlib.util.find_spec(name) for name in PACKAGES)
HERE = HERE and not torch.__version__.startswith("2.5.")  # its exporter refuses, and we say so
needs_extra = pytest.mark.skipif(not HERE, reason="needs the extra: pip install -e '.[export]'")


@pytest.fixture(scope="module")
def exported(learned, out, tmp_path_factory):
    """(folder, what the command printed): exported once, from the command line."""
    folder, told = tmp_path_factory.mktemp("exported") / "onnx", io.StringIO()
    with contextlib.redirect_stdout(told):
        code = main(["export", learned.id, "--out", str(folder), "--runs", str(out)])
    assert code == 0
    return folder, told.getvalue()


@needs_extra
def test_parity_and_latency_are_told(exported):
    folder, told = exported
    found = re.search(r"on (\d+) dev rows: (\S+) \(at most 0.0001 allowed\)", told)
    assert found[1] == "60" and float(found[2]) < 1e-5
    times = re.findall(r"batch of +(\d+): torch (\S+) ms, onnx (\S+) ms", told)
    assert [size for size, *_ in times] == ["1", "16"]
    assert all(float(ms) > 0 for _, *pair in times for ms in pair)
    assert {"model.onnx", "config.json", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    assert [p.name for p in folder.parent.iterdir()] == ["onnx"]


@needs_extra
@pytest.mark.parametrize("shape", [(1, 2), (1, 64), (2, 2), (5, 3), (33, 17)])
def test_batch_and_length_are_free(exported, learned, shape):
    model, onnx = learned.student(), OnnxClassifier(exported[0] / "model.onnx")
    generator = torch.Generator().manual_seed(sum(shape))
    batch = {"input_ids": torch.randint(5, 20, shape, generator=generator)}
    batch["attention_mask"] = torch.ones(shape, dtype=torch.int64)
    batch["attention_mask"][0, shape[1] // 2 + 1 :] = 0
    ours = {name: batch.get(name, torch.zeros(shape, dtype=torch.int64)) for name in onnx.names}
    with torch.no_grad():
        expected = model(**ours).logits
    assert torch.allclose(onnx(**ours).logits, expected, atol=1e-5)


@needs_extra
def test_a_file_that_answers_otherwise_is_refused(exported, learned, tmp_path, monkeypatch):
    copy = lambda model, encoded, path: shutil.copy(exported[0] / "model.onnx", path)  # noqa: E731
    monkeypatch.setattr(export_module, "write_onnx", copy)
    made = export(learned, tmp_path / "same")
    assert made.difference < 1e-5 and set(made.seconds) == {
        (engine, size) for engine in ("torch", "onnx") for size in (1, 16)
    }
    weights = learned.student()
    with torch.no_grad():
        weights.classifier.bias += torch.tensor([0.0, 2e-4])
    monkeypatch.setattr(type(learned), "student", lambda self: weights)
    with pytest.raises(LrcError, match="differ by 2.0e-04 .*more than 0.0001; nothing was written"):
        export(learned, tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir()] == ["same"]


def test_without_the_extra(learned, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else real(name)
    )
    with pytest.raises(InputError, match=r"onnxscript. Install the extra: .*\[export\]"):
        export(learned, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_what_is_not_exported(learned, out, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    general = run(learned.spec.general_spec(), out, device="cpu")
    with pytest.raises(InputError, match="has learned no task"):
        export(general, tmp_path / "onnx")
    (tmp_path / "full").mkdir()
    with pytest.raises(InputError, match="is there already"):
        export(learned, tmp_path / "full")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"):
        export(learned, tmp_path / "file" / "onnx")


@needs_extra
def test_a_model_that_the_exporter_cannot_follow(learned, tmp_path, monkeypatch):
    class Branching(torch.nn.Module):
        def forward(self, input_ids, **rest):
            return input_ids if input_ids.sum() > 3 else input_ids + 1

    monkeypatch.setattr(type(learned), "student", lambda self: Branching())
    with pytest.raises(LrcError, match="torch cannot export this model: .*constraints.txt"):
        export(learned, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())
