"""Augmentation: candidates, copies, the file that resumes, the run in the store, the command."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lrc_lib import RunSpec, load_profile, run
from lrc_lib.cli.commands import main
from lrc_lib.cli.plan import all_specs, cost
from lrc_lib.cli.submission import choose_runs
from lrc_lib.data import Row
from lrc_lib.data import augment as method
from lrc_lib.data.augment import MaskedLM, augment, find_slots
from lrc_lib.data.tasks import get_task
from lrc_lib.data.vectors import WORD, PieceVectors, WordVectors, read_glove, whole_words
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.runs import augmentation as module
from lrc_lib.runs import spec as spec_module
from lrc_lib.runs.augmentation import Augmentation, augmented_rows
from lrc_lib.runs.run import find

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WHOLE = "the film plot actor was dull fine bright it don t".split()
OTHER = ["##s", "##ly", "##ing", ".", ",", "'", "1990", "7"]
TEXTS = [
    "The film was dull.",
    "the PLOT was brightly fine, it don't Bright films",
    "fine",
    "1990, 7.",
    "the actor , the film , the plot was fine and it was dull the bright film the fine plot",
]


def word_piece(mask="[MASK]", cased=False):
    """A BERT tokenizer of a few words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = WHOLE + [word.capitalize() for word in WHOLE if cased]
    vocab = {token: i for i, token in enumerate(SPECIAL + words + OTHER)}
    raw = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    return PreTrainedTokenizerFast(tokenizer_object=raw, mask_token=mask, **names)


def random_model(tokenizer, positions=64):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=positions, initializer_range=0.5, **shape
    )
    return BertForMaskedLM(config).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return word_piece()


@pytest.fixture(scope="module")
def masked_lm(tokenizer):
    return MaskedLM(random_model(tokenizer), tokenizer)


@pytest.fixture(scope="module")
def vectors(tokenizer):
    embeddings = np.random.default_rng(0).normal(size=(len(tokenizer), 8)).astype(np.float32)
    return PieceVectors(tokenizer, embeddings)


@pytest.fixture(scope="module")
def mlm_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlm")
    random_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def word_by_word(model, tokenizer, text, count):
    """{word's span: candidates}, one pass a word, written for clarity."""
    found, pieces = {}, tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    for position, (start, end) in enumerate(offsets):
        word = text[start:end].lower()
        if word not in WHOLE or (start, end) not in [m.span() for m in WORD.finditer(text)]:
            continue
        masked = list(pieces)
        masked[position] = "[MASK]"
        ids = torch.tensor([tokenizer.convert_tokens_to_ids(masked)])
        with torch.no_grad():
            logits = model(ids).logits[0, position]
        likely = [tokenizer.convert_ids_to_tokens(int(i)) for i in logits.argsort(descending=True)]
        found[start, end] = set([w for w in likely if w in WHOLE and w != word][:count])
    return found


def as_sets(slots):
    return {(slot.start, slot.end): set(slot.words) for slot in slots}


@pytest.mark.parametrize(
    "text, words",
    [
        ("Don't stop-me, 1990s x2!", ["Don't", "stop", "me"]),
        ("l’été d'un naïf", ["l’été", "d'un", "naïf"]),
        ("'quoted' snake_case", ["quoted"]),
        ("", []),
    ],
)
def test_what_a_word_is(text, words):
    assert WORD.findall(text) == words


def test_whole_words_are_neither_parts_nor_marks_nor_special(tokenizer):
    assert set(whole_words(tokenizer).values()) == set(WHOLE)
    assert all(tokenizer.convert_ids_to_tokens(i) == w for i, w in whole_words(tokenizer).items())


def test_batched_candidates_are_those_of_a_loop_word_by_word(masked_lm, tokenizer):
    slots = masked_lm.slots(TEXTS, 4)
    for text, found in zip(TEXTS, slots, strict=True):
        assert as_sets(found) == word_by_word(masked_lm.model, tokenizer, text, 4)
    assert sum(map(len, slots)) > 20 and all(len(s.words) == 4 for row in slots for s in row)


@pytest.mark.parametrize("tokens, rows", [(1, 256), (40, 2), (10**6, 256)])
def test_the_size_of_batches_and_the_other_texts_do_not_matter(
    masked_lm, vectors, monkeypatch, tokens, rows
):
    data = [Row(text, "the film was fine", 0) for text in TEXTS]
    whole = augment(data, vectors, masked_lm, copies=4, seed=3)
    monkeypatch.setitem(method.BATCH_TOKENS, "cpu", tokens)
    monkeypatch.setattr(method, "BATCH_ROWS", rows)
    monkeypatch.setattr("lrc_lib.data.vectors.BLOCK", 1)
    parts = augment(data[:2], vectors, masked_lm, copies=4, seed=3)
    parts += augment(data[2:], vectors, masked_lm, copies=4, seed=3, first=2)
    assert parts == whole
    assert augment(data, vectors, masked_lm, copies=4, seed=4) != whole


def test_the_head_sees_one_position_a_row_and_the_model_is_left_as_it_was(masked_lm):
    seen = []
    hook = masked_lm.model.cls.register_forward_hook(lambda m, i, out: seen.append(out.shape))
    masked_lm.slots(TEXTS, 2)
    hook.remove()
    assert seen and all(shape[1] == 1 for shape in seen)
    assert masked_lm.model(torch.tensor([[2, 5, 6, 3]])).logits.shape[1] == 4


def test_a_word_that_differs_in_case_only_is_the_same_word():
    tokenizer = word_piece(cased=True)
    cased = MaskedLM(random_model(tokenizer), tokenizer)
    (slots,) = cased.slots(["The film"], len(WHOLE) * 2)
    assert {word.lower() for word in slots[0].words} == set(WHOLE) - {"the"}
    vectors = WordVectors(["The", "the", "THE", "film"], np.eye(4, dtype=np.float32))
    assert vectors.neighbours(["The", "the"], 3) == [("film",), ("film",)]


def test_a_tokenizer_whose_pieces_hold_the_space_before_them(monkeypatch):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = "<s> <pad> </s> <mask>".split()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    raw.train_from_iterator([" the film was fine, the finest film was dull"] * 9, trainer)
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>", mask_token="<mask>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=30, **names)
    shape = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    torch.manual_seed(0)
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer), max_position_embeddings=32, pad_token_id=1, **shape
        )
    )
    masked_lm = MaskedLM(model, tokenizer)
    assert {"the", "film", "was", "fine", "finest", "dull"} <= set(masked_lm.words.values())
    texts = ["so the film was, fine dull!", "the finest"]
    slots = masked_lm.slots(texts, 3)
    found = [texts[0][slot.start : slot.end] for slot in slots[0]]
    assert found == ["the", "film", "was", "fine", "dull"]
    monkeypatch.setitem(method.BATCH_TOKENS, "cpu", 1)
    assert masked_lm.slots(texts, 3) == slots


def test_a_text_over_the_model_s_limit_is_augmented_as_far_as_it_reads(tokenizer, vectors):
    short = MaskedLM(random_model(tokenizer, positions=12), tokenizer)
    text = "the film was fine " * 20
    (slots,) = short.slots([text], 3)
    assert len(slots) == 10  # 12 positions, two of them special
    assert len(find_slots([text], vectors, short)[0]) == 80  # the rest has vectors


def test_neighbours_are_the_nearest_by_angle_and_never_the_word_itself():
    angles = {"a": 0, "b": 10, "c": 25, "d": 60, "e": 170}
    points = [[math.cos(math.radians(x)), math.sin(math.radians(x))] for x in angles.values()]
    lengths = np.array([[1], [9], [2], [0.1], [5]])  # of no account
    vectors = WordVectors(angles, (lengths * points).astype(np.float32))
    assert vectors.neighbours(["a", "d", "zebra", "C"], 2) == [
        ("b", "c"), ("b", "c"), (), ("a", "b"),
    ]  # fmt: skip
    assert vectors.neighbours(["e"], 99) == [("a", "b", "c", "d")]
    assert vectors.neighbours([], 2) == []


def test_a_word_of_several_pieces_has_their_mean_and_one_with_an_unknown_piece_none(vectors):
    pieces = vectors.tokenizer.convert_tokens_to_ids(["bright", "##ly"])
    mean = vectors.embeddings[pieces].mean(axis=0)
    assert np.allclose(vectors.vector("brightly"), mean / np.linalg.norm(mean), atol=1e-6)
    assert vectors.vector("quux") is None
    assert vectors.neighbours(["quux"], 3) == [()]


def test_pieces_ask_the_model_and_the_rest_its_neighbours(masked_lm, vectors):
    (slots,) = find_slots(["brightly fine quux"], vectors, masked_lm, 3)
    assert [(slot.start, slot.end) for slot in slots] == [(0, 8), (9, 13)]  # quux stays
    assert slots[0].words == vectors.neighbours(["brightly"], 3)[0]
    assert slots[1].words == masked_lm.slots(["brightly fine quux"], 3)[0][0].words
    (without,) = find_slots(["brightly fine quux"], vectors, None, 3)
    assert without[1].words == vectors.neighbours(["fine"], 3)[0]


def test_copies_keep_the_label_the_marks_and_the_spaces(masked_lm, vectors):
    row = Row("The  film, was 'DULL' (in 1990)!", None, 1)
    made = augment([row], vectors, masked_lm, copies=30, p=1.0)
    assert len(made) == 30 and {copy.label for copy in made} == {1}
    marks = WORD.sub("_", row.text_a)
    for copy in made:
        assert WORD.sub("_", copy.text_a) == marks
        first, second, third, fourth, fifth = WORD.findall(copy.text_a)
        assert first[0].isupper() and fourth.isupper() and fifth == "in"  # unknown: it stays
        assert first.lower() != "the" and second != "film" and third != "was"
    assert {copy.text_a for copy in augment([row], vectors, masked_lm, p=0.0)} == {row.text_a}


def test_words_are_replaced_as_often_as_p_says(masked_lm, vectors):
    words = "the film was fine it dull".split() * 5
    made = augment([Row(" ".join(words), None, 0)] * 20, vectors, masked_lm, p=0.4)
    changed = [a != b for row in made for a, b in zip(row.text_a.split(), words, strict=True)]
    error = (0.4 * 0.6 / len(changed)) ** 0.5
    assert len(changed) == 12_000 and abs(np.mean(changed) - 0.4) < 4 * error


def test_each_text_of_a_pair_is_changed_beside_the_other_as_it_was_given(masked_lm, vectors):
    row = Row(TEXTS[4], "the plot was dull the film was fine", 0)
    made = augment([row], vectors, masked_lm, copies=20)
    kept = [(copy.text_a == row.text_a, copy.text_b == row.text_b) for copy in made]
    assert kept.count((False, True)) >= 9 and kept.count((True, False)) >= 9
    assert (False, False) not in kept and len(made) == 20


def test_all_candidates_are_used(masked_lm, vectors):
    (slots,) = find_slots(["fine"], vectors, masked_lm, 5)
    made = augment([Row("fine", None, 0)], vectors, masked_lm, 200, p=1.0, candidates=5)
    assert {copy.text_a for copy in made} == set(slots[0].words)


@pytest.mark.parametrize(
    "rows, values, says",
    [
        ([], {}, "no rows to augment"),
        ([Row("fine", None, 0)], {"copies": 0}, "copies"),
        ([Row("fine", None, 0)], {"p": 1.5}, r"p in \[0, 1\]"),
        ([Row("fine", None, 0)], {"candidates": 0}, "candidates"),
    ],
)
def test_wrong_values_and_empty_input(vectors, rows, values, says):
    with pytest.raises(InputError, match=says):
        augment(rows, vectors, **values)


def test_a_text_without_words_is_copied_as_it_is(masked_lm, vectors):
    rows = [Row("", None, 0), Row("1990 ... 7", None, 1)]
    assert augment(rows, vectors, masked_lm, copies=2) == [rows[0]] * 2 + [rows[1]] * 2


def test_a_model_without_a_mask_token_is_refused(tokenizer):
    with pytest.raises(InputError, match="no mask token.*bert-base-uncased"):
        MaskedLM(random_model(tokenizer), word_piece(mask=None))


def test_a_model_without_a_masked_lm_head_is_refused(tiny_teacher, tmp_path):
    with pytest.raises(InputError, match="no masked-LM head"):
        Augmentation(masked_lm=tiny_teacher, teacher=tiny_teacher).open()
    with pytest.raises(InputError, match="The masked LM: .*folder"):
        Augmentation(masked_lm=str(tmp_path / "none"), teacher=tiny_teacher).open()


def glove(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_glove_files_are_read_with_all_their_quirks(tmp_path):
    text = "the 1 0 0\r\n, 5 5 5\n. . . 1 1 1\nat name@domain.com 1 2 3\nfilm 0 3 4 \n"
    text += "the 9 9 9\n1990 1 1 1"
    vectors = read_glove(glove(tmp_path, text))
    assert vectors.words == ("the", "film")
    assert np.allclose(vectors.matrix, [[1, 0, 0], [0, 0.6, 0.8]])


@pytest.mark.parametrize(
    "text, says",
    [
        ("the 1 2 3\nfilm 1 2\n", "line 2: expected a word and 3 numbers, as in line 1; found 2"),
        ("the 1 2 3\n\nfilm 1 2 3\n", "line 2: expected a word and 3 numbers"),
        ("the 1 2 3\nfilm 1 2 3 4\n", "line 2: expected a word and 3 numbers, .*found 4"),
        ("the 1 2 3\nfilm 1 x 3\n", "line 2: expected a word and 3 numbers, .*found 'x'"),
        ("the 1 2 3\nfilm 1 nan 3\n", "line 2: expected 3 finite numbers"),
        ("400000 300\nthe 1 2\n", "line 1: expected a word and its vector's numbers"),
        ("the film was dull\n", "line 1: expected a word and 3 numbers"),
        (b"the 1 2\nfilm\xff 1 2\n", "line 2: expected UTF-8"),
        ("", "holds no word"),
        (". 1 2\n", "holds no word"),
    ],
)
def test_a_broken_glove_file_is_named_with_its_line(tmp_path, text, says):
    with pytest.raises(InputError, match=f"vectors.txt.*{says}"):
        read_glove(glove(tmp_path, text))


def test_a_missing_glove_file_is_named(tmp_path):
    with pytest.raises(InputError, match="Cannot read the word vectors"):
        read_glove(tmp_path / "none.txt")
    with pytest.raises(InputError, match="Cannot read the word vectors"):
        Augmentation(glove=str(tmp_path / "none.txt")).key([Row("a", None, 0)])


@pytest.fixture(scope="module")
def how(mlm_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("glove") / "vectors.txt"
    path.write_text("films 1 2\nplots 1 2.1\nbrightly 3 1\ndully 3 1.1\n")
    return Augmentation(3, mlm_folder, str(path), seed=1)


ROWS = [Row(f"the film was fine {'brightly ' * i}.", None, i % 2) for i in range(7)]
TASK = get_task("cola")


@pytest.fixture
def chunks(monkeypatch):
    """Chunks of two rows; {"stop": n} interrupts at the n-th chunk, "made" counts rows."""
    state = {"stop": None, "made": 0}
    real = Augmentation.open

    def opened(self, device="cpu"):
        make = real(self, device)

        def chunk(rows, first):
            if first == state["stop"]:
                raise KeyboardInterrupt
            state["made"] += len(rows)
            return make(rows, first)

        return chunk

    monkeypatch.setattr(module, "CHUNK_ROWS", 2)
    monkeypatch.setattr(Augmentation, "open", opened)
    return state


def test_rows_are_made_once_and_then_read(how, chunks, tmp_path):
    path, said = tmp_path / "rows.jsonl", []
    made = augmented_rows(ROWS, TASK, how, path, report=lambda *x: said.append(x))
    assert len(made) == 21 and [row.label for row in made[::3]] == [row.label for row in ROWS]
    assert [done for done, *_ in said] == [2, 4, 6, 7] and "sentences/s" in said[-1][2]
    assert how.masked_lm in said[-1][2]
    assert augmented_rows(ROWS, TASK, how, path) == made and chunks["made"] == 7
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["rows.jsonl"]


@pytest.mark.parametrize("stop, torn", [(0, b""), (4, b""), (4, b'{"text": "torn'), (6, b"x\n")])
def test_an_interrupted_job_goes_on_to_the_same_bytes(how, chunks, tmp_path, stop, torn):
    whole, path = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl"
    augmented_rows(ROWS, TASK, how, whole)
    chunks.update(stop=stop, made=0)
    with pytest.raises(KeyboardInterrupt):
        augmented_rows(ROWS, TASK, how, path)
    assert not path.exists() and chunks["made"] == stop
    (partial,) = tmp_path.glob("rows.jsonl.*.partial")
    with partial.open("ab") as file:
        file.write(torn)
    chunks["stop"] = None
    augmented_rows(ROWS, TASK, how, path)
    assert path.read_bytes() == whole.read_bytes()
    assert chunks["made"] == len(ROWS)  # nothing twice


def test_what_other_values_began_is_not_gone_on_with(how, chunks, tmp_path):
    from dataclasses import replace

    path = tmp_path / "rows.jsonl"
    chunks["stop"] = 4
    with pytest.raises(KeyboardInterrupt):
        augmented_rows(ROWS, TASK, how, path)
    chunks.update(stop=None, made=0)
    augmented_rows(ROWS, TASK, replace(how, seed=2), path)
    assert chunks["made"] == len(ROWS)


def test_a_full_disk_in_the_middle_loses_nothing(how, chunks, tmp_path):
    resource = pytest.importorskip("resource")
    whole, path = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl"
    augmented_rows(ROWS, TASK, how, whole)
    chunks["made"] = 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(UnavailableError, match="Cannot write.*is kept in.*goes on there"):
            augmented_rows(ROWS, TASK, how, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    tried = chunks["made"]
    (partial,) = tmp_path.glob("rows.jsonl.*.partial")
    kept = partial.read_bytes()
    assert 0 < tried < len(ROWS) and not path.exists() and not kept.endswith(b"\n")  # torn
    augmented_rows(ROWS, TASK, how, path)
    assert path.read_bytes() == whole.read_bytes()
    assert chunks["made"] == len(ROWS) + 2  # the torn chunk was made again


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda text: "\n".join(text.splitlines()[:11])[:-5], "line 11: expected a row"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "has 20 rows, not 21"),
        (lambda text: text.replace("unacceptable", "perhaps", 1), "line 1: expected a row"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(how, tmp_path, spoil, says):
    path = tmp_path / "rows.jsonl"
    augmented_rows(ROWS, TASK, how, path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=says):
        augmented_rows(ROWS, TASK, how, path)


def test_no_rows_make_no_file(how, tmp_path):
    with pytest.raises(InputError, match="no rows to augment"):
        augmented_rows([], TASK, how, tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task, row", [
    ("rte", Row("a \u2028 b", 'it\'s "é" \n', 1)), ("sts-b", Row("a", "b", 2.6)),
    ("cola", Row("a\r\n", None, 0)),
])  # fmt: skip
def test_rows_are_written_and_read_as_they_are(tmp_path, task, row):
    path = tmp_path / "rows.jsonl"
    path.write_text(module.to_line(row, get_task(task)))
    assert module.read_augmented(path, get_task(task), 1) == (row,)


def test_ids_of_runs_without_augmentation_are_those_from_before_there_was_any(monkeypatch):
    monkeypatch.setattr(spec_module, "RUN_FORMAT", 1)  # of the ids below
    spec_module._run_id.cache_clear()
    spec = RunSpec(task="nli", teacher="some/teacher", general_data="nli")
    known = {
        "lrc": "nli-lrc-s0-7c1b2afff4",
        "lrc_1": "nli-lrc_1-s0-3a608e6265",
        "bert_m": "nli-bert_m-s0-3e007b59cf",
        "finetune": "nli-finetune-s0-14afbeca41",
    }
    for recipe, identity in known.items():
        plain = spec.replace(recipe=recipe)
        assert plain.run_id() == identity
        unused = plain.replace(augment_mlm="some/model", augment_epochs=7)
        assert unused.run_id() == identity
        augmented = plain.replace(augment=20).run_id()
        assert (augmented == identity) == (recipe in ("lrc_1", "finetune"))
    assert spec.teacher_spec().run_id() == "nli-teacher-s0-9b0407fdf2"
    assert spec.general_spec().run_id() == "general-cos_nce-b8f9062a69"
    spec_module._run_id.cache_clear()


def test_the_augmented_run_s_id_follows_from_what_it_is_made_of(tmp_path):
    path = glove(tmp_path, "the 1 2\n")
    spec = RunSpec(task="nli", teacher="some/teacher", general_data="nli", augment=20)
    spec = spec.replace(augment_glove=str(path))
    base = spec.augmented_spec().run_id()
    for change in (
        dict(augment=19), dict(augment_mlm="some/model"), dict(augment_epochs=3),
        dict(augment_glove=""), dict(learning_rate=1e-3), dict(teacher_seed=1),
        dict(general_lr=1e-3), dict(train_rows=50), dict(recipe="bert_m"),
    ):  # fmt: skip
        assert spec.replace(**change).augmented_spec().run_id() != base, change
    for same in (dict(seed=3), dict(epochs=3), dict(epsilon=2.0), dict(recipe="lrc_g")):
        assert spec.replace(**same).augmented_spec().run_id() == base, same
    path.rename(tmp_path / "moved.txt")
    assert spec.replace(augment_glove=str(tmp_path / "moved.txt")).augmented_spec().run_id() == base


def test_what_an_augmented_student_needs():
    spec = RunSpec(task="nli", teacher="some/teacher", general_data="nli", augment=20)
    kinds = [s.kind for s in all_specs([spec, spec.replace(recipe="lrc_g")])]
    assert kinds == ["teacher", "general", "augmented", "student", "student"]
    assert [s.kind for s in spec.replace(recipe="lrc_1").dependencies()] == ["teacher"]
    with pytest.raises(InputError, match="augment must be 1 or more"):
        RunSpec(recipe="augmented")
    with pytest.raises(InputError, match="augment must be"):
        RunSpec(augment=-1)
    with pytest.raises(InputError, match="augment_epochs must be positive"):
        RunSpec(augment_epochs=0)


def test_a_student_starts_from_its_augmented_run(tiny_spec, out):
    spec = tiny_spec.replace(augment=2, augment_epochs=1)
    frozen = run(spec.replace(learning_rate=1e-12, epochs=1), out, device="cpu")
    begun = find(spec.replace(learning_rate=1e-12).augmented_spec(), out)
    assert frozen.metrics["augmented"] == begun.id
    augmented = run(spec.augmented_spec(), out, device="cpu")
    assert augmented.metrics["rows"] == 320 and augmented.metrics["splits"] == {}
    assert augmented.metrics["general"] == find(spec.general_spec(), out).id
    assert "No masked LM was given" in augmented.metrics["source"]
    history = augmented.history
    assert len(history) == cost(spec.augmented_spec()).steps == 20
    assert (
        history.soft.isna().all() and history.hard.isna().all() and history.perturbed.isna().all()
    )
    assert history.layers.notna().all()
    name = "bert.encoder.layer.0.attention.self.query.weight"
    weights = [result.student().state_dict()[name] for result in (augmented, begun, frozen)]
    general = find(spec.general_spec(), out).student().state_dict()[name]
    assert not torch.allclose(weights[0], general, atol=1e-4)  # it learned
    assert torch.allclose(weights[1], general, atol=1e-6)  # from the generally distilled student
    assert torch.allclose(weights[2], weights[1], atol=1e-6)
    assert len(list((out / "cache").glob("augment-*.jsonl"))) == 1  # two runs, one file
    assert begun.id in (frozen.path / "student" / "README.md").read_text()
    assert not (begun.path / "student" / "README.md").exists()  # its head answers nothing
    with pytest.raises(InputError, match="unlabelled text"):
        choose_runs([begun.id], out)


def test_the_plan_counts_the_augmented_run_and_the_masked_lm():
    profile = load_profile("paper")
    steps = {task: cost(profile.spec(task, "augmented")).steps for task in ("rte", "cola")}
    assert steps == {"rte": 62_240, "cola": 213_760}
    spec = profile.spec("rte", "augmented")
    with_masked_lm, without = cost(spec), cost(spec.replace(augment_mlm=""))
    assert with_masked_lm.teacher > without.teacher and "20 copies" in without.note
    assert not profile.spec("mrpc").augment and not load_profile("laptop").spec().augment


def test_preflight_looks_at_the_masked_lm(tmp_path):
    from lrc_lib.cli.preflight import uses_hub

    assert not uses_hub([RunSpec(augment=2), RunSpec(augment_mlm="some/model")])
    assert uses_hub([RunSpec(augment=2, augment_mlm="some/model")])
    assert not uses_hub([RunSpec(augment=2, augment_mlm=str(tmp_path))])


def test_the_command_writes_rows_that_the_kit_can_read(tiny_data, tiny_teacher, tmp_path, capsys):
    import shutil

    folder = tmp_path / "more"
    folder.mkdir()
    task, path = Path(tiny_data).name, folder / "train.jsonl"
    command = ["augment", "--task", task, "--data-dir", tiny_data, "--teacher", tiny_teacher]
    command += ["--copies", "3", "--limit", "9", "--out", str(path), "--device", "cpu"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "sentences/s" in said and "27 rows" in said and said.count("  > ") == 4
    shutil.copy(Path(tiny_data) / "dev.csv", folder)
    from lrc_lib.data import load_task_data

    data = load_task_data("more", str(folder))
    assert len(data.train) == 27 and data.task.labels == ("bad", "good")
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command[:-4], "--out", str(tmp_path / "x"), "--mlm", tiny_teacher]) == 2
    assert "no masked-LM head" in capsys.readouterr().err


def test_the_command_s_help_imports_nothing_heavy():
    code = (
        "import sys; from lrc_lib.cli.commands import main\n"
        "try: main(['augment', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--glove FILE" in done.stdout


def test_the_benchmark_compares_equal_candidates(mlm_folder, tiny_teacher, capsys):
    from benchmarks import augment as benchmark

    options = ["--mlm", mlm_folder, "--teacher", tiny_teacher, "--task", "nli"]
    assert benchmark.main([*options, "--sentences", "6", "--device", "cpu"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [entry["ratio"] > 0 for entry in said["results"]] == [True, True]


def test_the_benchmark_sees_a_difference(masked_lm):
    from benchmarks import augment as benchmark

    loop = [benchmark.word_by_word(masked_lm, TEXTS[0])]
    slots = masked_lm.slots(TEXTS[:1], 15)
    assert benchmark.differ(masked_lm, slots, loop) == 0
    slots[0][1] = slots[0][1]._replace(words=slots[0][1].words[1:])
    assert benchmark.differ(masked_lm, slots, loop) == 1


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "Electra", "DistilBert", "Albert"])
def test_what_follows_the_last_attention_sees_one_position_whatever_the_model(tokenizer, kind):
    import transformers

    names = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    if kind == "DistilBert":
        names = dict(dim=16, n_layers=2, n_heads=2, hidden_dim=16)
    extra = dict(embedding_size=16) if kind in ("Electra", "Albert") else {}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), initializer_range=0.5, pad_token_id=0, **names, **extra
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForMaskedLM")(config).eval()
    seen = []
    if kind in ("Bert", "Roberta", "Electra"):
        last = model.base_model.encoder.layer[-1].intermediate
        last.register_forward_hook(lambda m, i, out: seen.append(out.shape[1]))
    slots = MaskedLM(model, tokenizer).slots(TEXTS, 4)
    assert set(seen) <= {1} and bool(seen) == (kind in ("Bert", "Roberta", "Electra"))
    for text, found in zip(TEXTS, slots, strict=True):
        assert as_sets(found) == word_by_word(model, tokenizer, text, 4)
