"""TinyBERT's data augmentation, batched: copies of a row with some of its words replaced.

LRC-BERT uses the method for RTE and CoLA (Jiao et al., TinyBERT, Findings of EMNLP 2020, Algorithm
1): each word of a text is replaced with probability p = 0.4 by one of K = 15 candidates, and a text
gets N = 20 such copies. The candidates of a word that is one piece are the masked language model's
likeliest words at its place; those of any other word are its nearest neighbours in word vectors. A
word with neither stays.

The algorithm leaves some points open. Here:

- A word is a run of letters, with apostrophes in between. Marks, numbers and spaces stay as they
  are. Common words may be replaced too: the algorithm names no stop words.
- Candidates are whole words, never the word itself, and take the capitals of the word that they
  replace.
- Candidates are found once per word, in the original text. So the words of many texts can share a
  forward pass, and forward passes are the main cost.
- A row gives exactly N copies with its label. A copy in which no word was drawn is the original, so
  every row weighs the same; the original is not added again.
- In a pair each copy changes one text and keeps the other; the texts take turns.
- The copies of a row depend only on (seed, number of the row) and on its candidates.

Taught in notebooks/09_glue_results.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from lrc_lib.data.rows import Row
from lrc_lib.data.vectors import WORD, WordVectors, whole_words
from lrc_lib.errors import InputError

BATCH_TOKENS = {"cpu": 1024, "cuda": 16384, "mps": 4096}  # of a forward pass, with padding
BATCH_ROWS = 256


class Slot(NamedTuple):
    """A word of a text that may be replaced: text[start:end], by one of `words`."""

    start: int
    end: int
    words: tuple[str, ...]


class MaskedLM:
    """Asks a masked language model for words, at many masked positions per forward pass.

    Args:
        model: a transformers model with a masked-LM head, in eval mode.
        tokenizer: the model's, a fast one: it must know where in the text a piece is.
        device: where to run.

    Raises:
        InputError: the tokenizer has no mask token, is not fast, or knows no whole words.
    """

    def __init__(self, model, tokenizer, device="cpu"):
        name = tokenizer.name_or_path
        if tokenizer.mask_token_id is None:
            raise InputError(
                f"The tokenizer of '{name}' has no mask token, so it cannot be asked for a word. "
                "Give a masked language model, such as google-bert/bert-base-uncased."
            )
        if not tokenizer.is_fast:
            raise InputError(f"The tokenizer of '{name}' is not a fast one (tokenizer.json).")
        self.words = whole_words(tokenizer)
        if not self.words:
            raise InputError(f"The tokenizer of '{name}' has no piece that is a whole word.")
        self.model, self.tokenizer, self.device = model.to(device).eval(), tokenizer, device
        positions = getattr(model.config, "max_position_embeddings", 512)
        self.longest = min(tokenizer.model_max_length, positions)
        groups: dict[str, int] = {}  # pieces that differ in case only are the same word
        self.group = torch.full((model.config.vocab_size,), -1)
        for piece, word in self.words.items():
            self.group[piece] = groups.setdefault(word.casefold(), len(groups))
        self.group = self.group.to(device)

    def places(self, texts: Sequence[str]):
        """Token ids of each text, and the places of its words that are one piece.

        Returns:
            (ids, places): ids is a list per text, cut at the model's longest input; places is
            [(index of the text, position among its ids, start, end)].
        """
        encoded = self.tokenizer(
            list(texts), truncation=True, max_length=self.longest, return_offsets_mapping=True
        )
        found = []
        for index, offsets in enumerate(encoded["offset_mapping"]):
            words = {match.span() for match in WORD.finditer(texts[index])}
            for position, (start, end) in enumerate(offsets):
                start += texts[index][start:end].startswith(" ")  # some pieces hold the space
                piece = encoded["input_ids"][index][position]
                if (start, end) in words and piece != self.tokenizer.unk_token_id:
                    found.append((index, position, start, end))
        return encoded["input_ids"], found

    def slots(self, texts: Sequence[str], count: int) -> list[list[Slot]]:
        """The words of each text that are one piece, each with the `count` likeliest others.

        Candidates come in the order of the vocabulary (see `WordVectors.neighbours`).
        """
        ids, places = self.places(texts)
        places.sort(key=lambda place: len(ids[place[0]]))  # stable: least padding
        found: list[list[Slot]] = [[] for _ in texts]
        tokens = BATCH_TOKENS[torch.device(self.device).type]
        for batch in _batches(places, [len(ids[place[0]]) for place in places], tokens):
            pieces = self._ask([ids[p[0]] for p in batch], [p[1] for p in batch], count)
            for (index, _, start, end), row in zip(batch, pieces, strict=True):
                words = tuple(self.words[piece] for piece in row if piece >= 0)
                found[index].append(Slot(start, end, words))
        return found

    @torch.inference_mode()
    def _ask(self, ids, positions, count) -> list[list[int]]:
        """The `count` best pieces at one masked position of each row; -1 where there are fewer."""
        pad = self.tokenizer.pad_token_id or 0
        inputs = pad_sequence([torch.tensor(row) for row in ids], True, pad)
        mask = pad_sequence([torch.ones(len(row), dtype=int) for row in ids], True)
        rows, at = torch.arange(len(ids)), torch.tensor(positions)
        own = self.group[inputs[rows, at].to(self.device)]
        inputs[rows, at] = self.tokenizer.mask_token_id
        inputs, mask, at = (x.to(self.device) for x in (inputs, mask, at))

        def pick(module, arguments, output):  # the head, the costly part, sees one position
            states = output.last_hidden_state
            output.last_hidden_state = states[torch.arange(len(states)), at][:, None]
            return output

        hook = self.model.base_model.register_forward_hook(pick)
        try:
            logits = self.model(input_ids=inputs, attention_mask=mask).logits[:, 0].float()
        finally:
            hook.remove()
        barred = (self.group < 0) | (self.group == own[:, None])
        values, best = logits.masked_fill_(barred, -torch.inf).topk(min(count, len(self.words)))
        best[values == -torch.inf] = -1
        return best.sort(dim=1).values.tolist()


def _batches(items: list, lengths: list[int], tokens: int):
    """Cuts items, sorted by length, into batches of at most `tokens` tokens and BATCH_ROWS rows."""
    start = 0
    for end in range(1, len(items) + 1):
        rows = end - start + 1  # with the next one
        if end == len(items) or rows > BATCH_ROWS or rows * lengths[end] > tokens:
            yield items[start:end]
            start = end


def find_slots(
    texts: Sequence[str], vectors: WordVectors, masked_lm: MaskedLM | None = None, count: int = 15
) -> list[list[Slot]]:
    """The words of each text that have candidates, in their order.

    Args:
        texts: any texts.
        vectors: for words that are not one piece, and for all words without `masked_lm`.
        masked_lm: for words that are one piece.
        count: K, candidates per word.
    """
    slots = masked_lm.slots(texts, count) if masked_lm else [[] for _ in texts]
    rest = [
        (index, *match.span(), match[0])
        for index, text in enumerate(texts)
        for known in [{(slot.start, slot.end) for slot in slots[index]}]
        for match in WORD.finditer(text)
        if match.span() not in known
    ]
    words = list(dict.fromkeys(word for *_, word in rest))
    near = dict(zip(words, vectors.neighbours(words, count), strict=True))
    for index, start, end, word in rest:
        slots[index].append(Slot(start, end, near[word]))
    return [sorted(slot for slot in found if slot.words) for found in slots]


def augment(
    rows: Sequence[Row],
    vectors: WordVectors,
    masked_lm: MaskedLM | None = None,
    copies: int = 20,
    p: float = 0.4,
    candidates: int = 15,
    seed: int = 0,
    first: int = 0,
) -> list[Row]:
    """`copies` rows for each row, by TinyBERT's Algorithm 1 (see the module).

    Args:
        rows: any number.
        vectors, masked_lm: see `find_slots`.
        copies: N, at least 1.
        p: probability in [0, 1] that a word is replaced.
        candidates: K, at least 1.
        seed: >= 0.
        first: number of the first row, if these rows are a part of more.

    Returns:
        len(rows) * copies rows; the copies of a row are adjacent.

    Raises:
        InputError: a value out of range.
    """
    if copies < 1 or candidates < 1 or not 0 <= p <= 1:
        raise InputError(
            f"Augmentation needs copies and candidates of at least 1 and p in [0, 1], not "
            f"{copies}, {candidates} and {p}."
        )
    texts = list(dict.fromkeys(text for row in rows for text in row[:2] if text is not None))
    slots = dict(zip(texts, find_slots(texts, vectors, masked_lm, candidates), strict=True))
    made = []
    for number, row in enumerate(rows, first):
        rng = np.random.default_rng([seed, number])
        for copy in range(copies):
            texts = list(row[:2])
            side = copy % 2 if row.text_b is not None else 0
            texts[side] = replaced(texts[side], slots[texts[side]], p, rng)
            made.append(Row(*texts, row.label))
    return made


def replaced(text: str, slots: Sequence[Slot], p: float, rng: np.random.Generator) -> str:
    """The text with each slot filled, with probability p, by one of its words."""
    parts, last = [], 0
    for slot, (drawn, chosen) in zip(slots, rng.random((len(slots), 2)), strict=True):
        if drawn < p:
            word = slot.words[int(chosen * len(slot.words))]
            parts += [text[last : slot.start], with_capitals_of(text[slot.start : slot.end], word)]
            last = slot.end
    return "".join([*parts, text[last:]])


def with_capitals_of(model: str, word: str) -> str:
    """`word` in capitals where `model` is, or with its first letter as in `model`."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[0].upper() + word[1:] if model[0].isupper() else word
