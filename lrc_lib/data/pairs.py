"""Unlabelled text in the form of pair tasks: [CLS] a [SEP] b [SEP].

A student that has read single texts only cannot compare two.
"""

from collections.abc import Sequence

import numpy as np

from lrc_lib.data.rows import Row


def with_pairs(documents: Sequence[Sequence[str]], share: float, seed: int) -> list[Row]:
    """A row per passage, in order; a share of the rows has a second text.

    `round(share * n)` of the n passages, drawn at random, become the first text of a pair. In the
    order in which they are drawn, the second text is in turn

    - the next passage of the same document, or for its last passage the one before;
    - the passage itself;
    - another passage, drawn from all n - 1 others with equal chances.

    A document of one passage has no neighbour: where it would be the turn of one, its passage is
    paired with itself and with another passage alternately.

    Args:
        documents: the passages of each document, in order; two passages or more in all.
        share: from 0 (no pair) to 1 (pairs only).
        seed: of the draws. The same arguments give the same rows.

    Returns:
        n rows with the label 0.
    """
    flat = [text for document in documents for text in document]
    beside = [n for d in documents for n in ([*d[1:], *d[-2:-1]] or [None])]  # None: d is alone
    rng, second = np.random.default_rng(seed), [None] * len(flat)
    for turn, i in enumerate(rng.permutation(len(flat))[: round(share * len(flat))]):
        kind = ("neighbour", "same", "other")[turn % 3]
        if kind == "neighbour" and beside[i] is None:
            kind = ("same", "other")[turn // 3 % 2]
        other = rng.integers(len(flat) - 1)
        choice = {"neighbour": beside[i], "same": flat[i], "other": flat[other + (other >= i)]}
        second[i] = choice[kind]
    return [Row(a, b, 0) for a, b in zip(flat, second, strict=True)]
