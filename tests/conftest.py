"""Fixtures: a tiny teacher and a tiny task that it can learn, made in a second; the smoke run."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(config, items):
    """Of several processes (`.ci/run`) one gets all tests of a file, and one all tests that read
    the smoke run, so that fixtures are made once."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            group = "smoke" if "smoke" in item.fixturenames else str(item.path)
            item.add_marker(pytest.mark.xdist_group(group))


GOOD = "fine bright warm clever lovely".split()
BAD = "dull grey cold stupid awful".split()
FILLER = "the a film story actor scene plot with and was is very quite one two".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """(text, label) rows: the label is the kind of the one opinion word."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        words = rng.choices(FILLER, k=rng.randint(2, 9))
        words.insert(rng.randrange(len(words)), rng.choice(GOOD if i % 2 else BAD))
        rows.append((" ".join(words) + f" {'one ' * (i % 3)}".rstrip(), "good" if i % 2 else "bad"))
    return rows


def save_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(SPECIAL + FILLER + GOOD + BAD)}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    keys = "pad_token unk_token cls_token sep_token mask_token".split()
    names = dict(zip(keys, SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder)
    return len(vocab)


def save_teacher(folder, layers: int = 4) -> None:
    """A folder with a random 32-wide BERT and a word-level tokenizer."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=save_tokenizer(folder),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    model = BertModel(config)
    positions = torch.nn.Embedding(128, 32)  # the other weights are drawn as for 64
    positions.weight.data[:64] = model.embeddings.position_embeddings.weight.data
    model.embeddings.position_embeddings, config.max_position_embeddings = positions, 128
    model.save_pretrained(folder)


def save_rows(folder) -> None:
    """A user's folder: train.csv and dev.csv with text and label."""
    import csv

    for name, count, seed in (("train", 160, 1), ("dev", 60, 2)):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *sentences(count, seed)])


def save_texts(path) -> None:
    """A text file for general distillation, one text a line."""
    path.write_text("\n".join(text for text, _ in sentences(64, 3)), encoding="utf-8")


def small_spec(teacher: str, data: str, texts: str):
    """A RunSpec that trains in about a second."""
    from lrc_lib import RunSpec

    return RunSpec(
        task=Path(data).name,
        data=data,
        teacher=teacher,
        teacher_epochs=6,
        teacher_lr=2e-3,
        teacher_batch_size=16,
        student_layers=2,
        student_hidden=24,
        student_intermediate=32,
        student_heads=2,
        epochs=2,
        learning_rate=2e-3,
        general_data=texts,
        general_batch_size=16,
    )


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("teacher")
    save_teacher(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("opinions")
    save_rows(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_texts(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    save_texts(path)
    return str(path)


@pytest.fixture(scope="session")
def tiny_spec(tiny_teacher, tiny_data, tiny_texts):
    return small_spec(tiny_teacher, tiny_data, tiny_texts)


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """An output folder shared by the session's tests: each run is trained once."""
    return tmp_path_factory.mktemp("out")


LEARNS = dict(recipe="finetune", learning_rate=1e-2, epochs=12, dropout=0.0)


@pytest.fixture(scope="session")
def learned(tiny_spec, out):
    """A run whose student has learned its task, so that its logits differ from row to row."""
    from lrc_lib import run

    result = run(tiny_spec.replace(**LEARNS), out, device="cpu")
    assert result.score() > 0.95
    return result


def reproduce_smoke(out, *options):
    """`reproduce.py --profile smoke` in a process of its own."""
    script = Path(__file__).resolve().parents[1] / "reproduce.py"
    command = [sys.executable, str(script), "--profile", "smoke", "--out", str(out)]
    return subprocess.run(
        [*command, "--device", "cpu", *options], capture_output=True, text=True, timeout=1500
    )


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The output folder of the whole kit, run once, and its results.json."""
    out = tmp_path_factory.mktemp("smoke")
    done = reproduce_smoke(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads((out / "results.json").read_text())
