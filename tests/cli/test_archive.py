"""`pack`: a zip that loads, whose hashes fit, and a card that says what each form costs."""

import hashlib
import re
import zipfile

import pytest
import torch

from lrc_lib import run
from lrc_lib.cli.archive import pack, sizes
from lrc_lib.cli.commands import main
from lrc_lib.errors import InputError
from lrc_lib.results import variants as module


@pytest.fixture(scope="module")
def packed(learned, out, tmp_path_factory):
    """The folder that the zip holds, unpacked."""
    place = tmp_path_factory.mktemp("packed")
    command = ["pack", learned.id, "--out", str(place / "new" / "s.zip"), "--runs", str(out)]
    assert main(command) == 0
    assert [path.name for path in (place / "new").iterdir()] == ["s.zip"]
    with zipfile.ZipFile(place / "new" / "s.zip") as archive:
        archive.extractall(place)
    return place / learned.id


def test_the_zip_holds_the_student_twice_and_hashes_that_fit(packed, learned):
    from transformers import AutoModelForSequenceClassification as Model

    sums = dict(line.split("  ")[::-1] for line in (packed / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in packed.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((packed / name).read_bytes()).hexdigest() == digest
    whole = learned.student().state_dict()
    for options in ({}, {"variant": "fp16"}):
        for name, value in Model.from_pretrained(packed, **options).state_dict().items():
            rounded = whole[name].half() if options else whole[name]
            assert torch.equal(value.float(), rounded.float()), name


def test_the_card_says_size_time_and_score_of_each_form(packed, learned):
    card = (packed / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (fp32|fp16|int8) \| (.*) \|$", card, re.M))
    assert set(rows) >= {"fp32", "fp16"} and "accuracy, points" in card and "60 rows" in card
    megabytes, milliseconds, score, interval = rows["fp32"].split(" | ")
    assert float(score) == pytest.approx(100 * learned.score(), abs=0.05)
    assert float(milliseconds) > 0 and " to " in interval and float(megabytes) >= 0
    assert card.index("## Sizes") > card.index("## Scores")


def test_the_forms_shrink_and_answer_alike(learned, monkeypatch):
    found = {form.name: form for form in module.variants(learned)}
    assert found["fp16"].bytes < 0.8 * found["fp32"].bytes
    assert found["fp16"].score == pytest.approx(found["fp32"].score, abs=2)
    if "int8" in found:
        assert found["int8"].score == pytest.approx(found["fp32"].score, abs=5)
    monkeypatch.setattr(module, "quantize_dynamic", None)
    assert module.quantized(learned.student()) is None
    assert "makes no int8" in sizes(list(found.values())[:2], learned)


def test_what_is_not_packed(learned, out, tmp_path):
    general = run(learned.spec.general_spec(), out, device="cpu")
    with pytest.raises(InputError, match="has learned no task"):
        pack(general, tmp_path / "a.zip")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is there already"):
        pack(learned, tmp_path / "file")
    with pytest.raises(InputError, match="Cannot write"):
        pack(learned, tmp_path / "file" / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
