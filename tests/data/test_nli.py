"""The grammar: its labels are checked by going through all small worlds, not by its own rules."""

import functools
import itertools
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from lrc_lib.data import load_task_data, load_texts
from lrc_lib.data.nli import GRAMMAR, generate
from lrc_lib.errors import InputError

DATA = load_task_data("nli")
EVERY = DATA.train + DATA.dev["dev"]
NUMBERS = GRAMMAR["numbers"]
WHEN = "|".join(filter(None, GRAMMAR["when"]))
KINDS = {g: words["train"] | words["dev"] for g, words in GRAMMAR["groups"].items()}
OPPOSITES = [words["pair"] for split in GRAMMAR["opposites"].values() for words in split]


def label_of(premise: np.ndarray, hypothesis: np.ndarray) -> int:
    """The label from the truth of both sentences in every world."""
    assert premise.any(), "a premise that is never true"
    assert hypothesis.any() and not hypothesis.all()
    held = hypothesis[premise]
    return 0 if held.all() else 2 if not held.any() else 1


# Sets: a world says how many x, other y and other z there are with and without the property.
WITH = np.array(list(itertools.product(range(14), repeat=3)))
WORLDS = [(WITH, np.array(without)) for without in itertools.product((0, 1, 2), repeat=3)]
HAS = np.concatenate([w[(w + o > 0).all(1)] for w, o in WORLDS])  # every kind has members
LACKS = np.concatenate([np.broadcast_to(o, w.shape)[(w + o > 0).all(1)] for w, o in WORLDS])
SETS = re.compile(r"(Some|No|All|Not all|At least|Fewer than|Exactly)(?: (\w+))? (\w+) are (not )?")


def kinds_in(noun: str) -> int:
    """How many of x, other y, other z a plural covers."""
    for group, kinds in KINDS.items():
        if noun == group:
            return 3
        for kind, members in kinds.items():
            if noun == kind or noun in members:
                return 2 if noun == kind else 1
    raise AssertionError(noun)


def set_truth(sentence: str) -> np.ndarray:
    quantifier, number, noun, negated = SETS.match(sentence).groups()
    return quantified(quantifier, number, kinds_in(noun), bool(negated))


@functools.cache
def quantified(quantifier: str, number: str | None, covered: int, negated: bool) -> np.ndarray:
    has, lacks = HAS[:, :covered].sum(1), LACKS[:, :covered].sum(1)
    if negated:
        has, lacks = lacks, has
    if number:
        n = NUMBERS.index(number) + 2
        return {"At least": has >= n, "Fewer than": has < n, "Exactly": has == n}[quantifier]
    return {"Some": has > 0, "No": has == 0, "All": lacks == 0, "Not all": lacks > 0}[quantifier]


def opposite_truth(sentence: str) -> np.ndarray:
    pattern = rf"The (\w+) is (not )?(\w+)(?:{WHEN})?\."
    _, negated, word = re.fullmatch(pattern, sentence).groups()
    first, unrelated = np.array(list(itertools.product((True, False), repeat=2))).T
    truth = unrelated
    for one, other in OPPOSITES:
        if word in (one, other):
            truth = first if word == one else ~first
    return ~truth if negated else truth


MORE = {"younger": "older", "shorter": "taller", "slower": "faster"}
MORE |= {"poorer": "richer", "weaker": "stronger"}
COMPARE = re.compile(r"(\w+) is (\w+) than (\w+)")


def order_truth(sentence: str, names: list[str], main: str) -> np.ndarray:
    """Worlds: one strict order of three people by what the hypothesis says, one by all else."""
    worlds = list(itertools.product(itertools.permutations(range(3)), repeat=2))
    truth = np.ones(len(worlds), dtype=bool)
    for who, word, whom in COMPARE.findall(sentence):
        i, j = names.index(who), names.index(whom)
        if word in MORE:
            i, j = j, i
        column = int(MORE.get(word, word) != main)
        truth &= np.array([world[column][i] > world[column][j] for world in worlds])
    return truth


def pair_label(premise: str, hypothesis: str) -> int:
    if SETS.match(hypothesis):
        return label_of(set_truth(premise), set_truth(hypothesis))
    if hypothesis.startswith("The "):
        assert premise.split()[1] == hypothesis.split()[1]
        return label_of(opposite_truth(premise), opposite_truth(hypothesis))
    found = COMPARE.findall(f"{hypothesis} {premise}")
    names = list(dict.fromkeys(name for i, _, j in found for name in (i, j)))
    main = MORE.get(found[0][1], found[0][1])
    return label_of(order_truth(premise, names, main), order_truth(hypothesis, names, main))


def test_every_label_follows_in_all_small_worlds():
    for row in EVERY:
        assert pair_label(row.text_a, row.text_b) == row.label, row


def test_set_premises_speak_of_the_hypothesis_kinds():
    """`pair_label` takes x, y and z from the sentences; they must belong together."""
    for row in EVERY:
        if not SETS.match(row.text_b):
            continue
        kind, noun = SETS.match(row.text_b)[3], SETS.match(row.text_a)[3]
        group = next(g for g, kinds in KINDS.items() if kind in kinds)
        assert noun in (group, kind, *KINDS[group][kind])
        assert row.text_a.split(" are ")[1].removeprefix("not ") == row.text_b.split(" are ")[1]


def test_sizes_balance_and_no_row_twice():
    assert (len(DATA.train), len(DATA.dev["dev"])) == (3000, 600)
    for rows in (DATA.train, DATA.dev["dev"]):
        assert len(set(Counter(row.label for row in rows).values())) == 1
        assert len({row[:2] for row in rows}) == len(rows)


def test_dev_names_no_kind_opposite_or_comparison_of_training():
    def special(rows):
        words = {word for row in rows for word in re.findall(r"\w+", " ".join(row[:2]))}
        members = {m for kinds in KINDS.values() for k in kinds for m in (k, *kinds[k])}
        opposites = {word for pair in OPPOSITES for word in pair}
        return words & (members | opposites | set(MORE) | set(MORE.values()))

    train, dev = special(DATA.train), special(DATA.dev["dev"])
    assert len(train) > 30 and len(dev) > 20 and not train & dev


def test_the_hypothesis_alone_says_nothing():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counts = CountVectorizer(ngram_range=(1, 2))
    train = counts.fit_transform([row.text_b for row in DATA.train])
    model = LogisticRegression(max_iter=50).fit(train, [row.label for row in DATA.train])
    dev = counts.transform([row.text_b for row in DATA.dev["dev"]])
    assert model.score(dev, [row.label for row in DATA.dev["dev"]]) < 0.37


def test_the_same_rows_in_every_process():
    code = "from lrc_lib.data import load_task_data as f; print(f('nli').fingerprint)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == DATA.fingerprint == "4b753b4a1492c547"
    assert generate(300, seed=1) != generate(300, seed=2)


@pytest.mark.parametrize("rows", [0, 4, 10**6])
def test_impossible_numbers_of_rows(rows):
    with pytest.raises(InputError, match="rows"):
        generate(rows)


def test_texts_for_general_distillation_hold_no_dev_sentence():
    texts, source = load_texts("nli")
    assert len(texts) > 1000 and "grammar" in source
    assert not set(texts) & {text for row in DATA.dev["dev"] for text in row[:2]}
