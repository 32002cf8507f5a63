"""Premise/hypothesis pairs from a small grammar: the labels follow from rules, nothing is fetched.

`nli.toml` is the grammar: rules about sets (dogs are animals; "no", "all", "at least three"; every
kind has members), opposites (a door is locked or unlocked) and strict orders (older, younger). Each
hypothesis comes three times, with a premise that entails it, one that leaves it open and one that
contradicts it, so a hypothesis alone says nothing about its label. The dev split names kinds,
opposites and comparisons that training never names.
"""

import random
import tomllib
from pathlib import Path

from lrc_lib.data.rows import Row
from lrc_lib.data.tasks import Task
from lrc_lib.errors import InputError

TRAIN_ROWS, DEV_ROWS = 3000, 600
LABELS = ("entailment", "neutral", "contradiction")
GRAMMAR = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _set_words(rng: random.Random, split: str) -> dict[str, str]:
    group = rng.choice(list(GRAMMAR["groups"]))
    words = GRAMMAR["groups"][group]
    kind = rng.choice(list(words[split]))
    numbers = GRAMMAR["numbers"]
    less, n, more = (numbers[i] for i in sorted(rng.sample(range(len(numbers)), 3)))
    member = rng.choice(words[split][kind])
    said = rng.choice(words["said"]) + rng.choice(GRAMMAR["when"])
    return {"x": member, "y": kind, "z": group, "p": said, "less": less, "n": n, "more": more}


def _opposite_words(rng: random.Random, split: str) -> dict[str, str]:
    words = rng.choice(GRAMMAR["opposites"][split])
    a, b = rng.sample(words["pair"], 2)
    subject = rng.choice(words["subjects"])
    unrelated, when = rng.choice(GRAMMAR["unrelated"]), rng.choice(GRAMMAR["when"])
    return {"s": subject, "a": a, "b": b, "u": unrelated, "w": when}


def _order_words(rng: random.Random, split: str) -> dict[str, str]:
    first, second = rng.sample(GRAMMAR["comparisons"][split], 2)
    a, b = rng.sample(first, 2)
    i, j, k = rng.sample(GRAMMAR["names"], 3)
    return {"i": i, "j": j, "k": k, "a": a, "b": b, "u": rng.choice(second)}


# The rules of a family, and what fills them. Set rules are drawn three times as often.
FAMILIES = [("set_rules", _set_words)] * 3 + [
    ("opposite_rules", _opposite_words),
    ("order_rules", _order_words),
]


def generate(rows: int, dev: bool = False, seed: int = 0) -> tuple[Row, ...]:
    """Rows from the grammar, in a random order; the three labels are equally frequent.

    Args:
        rows: a multiple of 3; about 10,000 is possible for training, 2,000 for dev.
        dev: take the words kept for dev.
        seed: the same seed gives the same rows on every machine.

    Raises:
        InputError: a number of rows that is not a multiple of 3, or more than there are.
    """
    if rows < 3 or rows % 3:
        raise InputError(f"The grammar writes rows in threes (one per label), not {rows}.")
    split = "dev" if dev else "train"
    rng = random.Random(f"nli {split} {seed}")
    made = {}
    for _ in range(20 * rows):
        family, words = rng.choice(FAMILIES)
        rule, filled = rng.choice(GRAMMAR[family]), words(rng, split)
        hypothesis = rule["hypothesis"].format(**filled)
        if hypothesis not in made:
            made[hypothesis] = [rng.choice(rule[label]).format(**filled) for label in LABELS]
        if len(made) == rows // 3:
            break
    else:
        raise InputError(f"The grammar has no {rows} different rows; it wrote {3 * len(made)}.")
    written = [
        Row(premise, hypothesis, label)
        for hypothesis, premises in made.items()
        for label, premise in enumerate(premises)
    ]
    rng.shuffle(written)
    return tuple(written)


def read(task: Task) -> tuple[dict[str, tuple[Row, ...]], str]:
    """Split -> rows, and source, of `nli`."""
    assert task.labels == LABELS
    splits = {"train": generate(TRAIN_ROWS), "dev": generate(DEV_ROWS, dev=True)}
    return splits, (
        "Sentence pairs written by this kit's own grammar (toy data); dev is about kinds, "
        "opposites and comparisons that training never names."
    )


def read_texts() -> tuple[tuple[str, ...], str]:
    """The training pairs' sentences that are in no dev pair, each once, and their source."""
    held_out = {text for row in generate(DEV_ROWS, dev=True) for text in row[:2]}
    texts = dict.fromkeys(text for row in generate(TRAIN_ROWS) for text in row[:2])
    return (
        tuple(text for text in texts if text not in held_out),
        "Sentences written by this kit's own grammar (toy data), none of them of the dev split.",
    )
