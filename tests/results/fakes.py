"""Runs with made-up dev answers, for tests of statistics and of what is made of them."""

import numpy as np

RNG = np.random.default_rng(7)


class Fake:
    """What the statistics need of a `RunResult`: an id and dev predictions."""

    def __init__(self, name, logits, labels):
        self.id, self.dev = name, {"logits": logits, "labels": labels}

    def predictions(self, split):
        return self.dev


def fake(task, labels, skill, name="run"):
    """A system that gives the right answer the more surely the larger `skill` is."""
    if task.kind == "regression":
        return Fake(name, (skill * labels + RNG.normal(size=len(labels)))[:, None], labels)
    logits = RNG.normal(size=(len(labels), task.num_labels))
    logits[np.arange(len(labels)), labels] += skill
    return Fake(name, logits, labels)


def labels_of(task, n):
    if task.kind == "regression":
        return RNG.normal(size=n).astype("float32")
    return RNG.integers(0, task.num_labels, n)
