"""TinyBERT's augmentation: candidates of words, and copies of rows."""

import json

import numpy as np
import pytest
import torch
from word_pieces import TEXTS, WHOLE, random_model, word_piece

from lrc_lib.data import Row
from lrc_lib.data import augmentation as method
from lrc_lib.data.augmentation import MaskedLM, augment, find_slots
from lrc_lib.data.vectors import WORD, PieceVectors, WordVectors
from lrc_lib.errors import InputError


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


def test_each_text_of_a_pair_is_changed_next_to_the_unchanged_other(masked_lm, vectors):
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
    "values, says",
    [({"copies": 0}, "copies"), ({"p": 1.5}, r"p in \[0, 1\]"), ({"candidates": 0}, "candidates")],
)
def test_values_out_of_range(vectors, values, says):
    with pytest.raises(InputError, match=says):
        augment([Row("fine", None, 0)], vectors, **values)


def test_a_text_without_words_is_copied_as_it_is(masked_lm, vectors):
    rows = [Row("", None, 0), Row("1990 ... 7", None, 1)]
    assert augment(rows, vectors, masked_lm, copies=2) == [rows[0]] * 2 + [rows[1]] * 2


def test_a_model_without_a_mask_token_is_refused(tokenizer):
    with pytest.raises(InputError, match="no mask token.*bert-base-uncased"):
        MaskedLM(random_model(tokenizer), word_piece(mask=None))


def test_the_benchmark_compares_equal_candidates(
    masked_lm, tokenizer, tiny_teacher, tmp_path, capsys
):
    from benchmarks import augment as benchmark

    masked_lm.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    options = ["--mlm", str(tmp_path), "--teacher", tiny_teacher, "--task", "nli"]
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
def test_the_head_sees_one_position_whatever_the_model(tokenizer, kind):
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
    logits = model.get_output_embeddings().register_forward_hook(
        lambda module, arguments, out: seen.append(out.shape[1])
    )
    slots = MaskedLM(model, tokenizer).slots(TEXTS, 4)
    logits.remove()
    assert set(seen) == {1}
    assert model(torch.tensor([[2, 5, 6, 3]])).logits.shape[1] == 4  # the model is as it was
    for text, found in zip(TEXTS, slots, strict=True):
        assert as_sets(found) == word_by_word(model, tokenizer, text, 4)
