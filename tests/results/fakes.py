"""Runs with made-up dev answers, for tests of statistics and of what is made of them."""

from types import SimpleNamespace

import numpy as np

from lrc_lib.results.statistics import Estimate

RNG = np.random.default_rng(7)


class Fake:
    """What the statistics need of a `RunResult`: an id, a spec and dev predictions."""

    def __init__(self, name, logits, labels, keys=None, recipe="finetune", **seeds):
        keys = np.arange(len(labels), dtype=np.uint64) if keys is None else keys
        self.id, self.dev = name, {"logits": logits, "labels": labels, "keys": keys}
        self.spec = SimpleNamespace(
            **{"recipe": recipe, "teacher_seed": 0, "general_seed": 0} | seeds
        )
        self.metrics = {"rows": 500}

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


def made(value, error, seeds=3, n=10**9):
    """An estimate with that value and standard error, whose noise is all the seeds'."""
    noise = np.linspace(-1, 1, seeds) if seeds > 1 else np.zeros(1)
    spread = error * seeds**0.5 / noise.std(ddof=1) if seeds > 1 else 0
    draws = np.tile(error * np.array([-1, 1.0]), (seeds, 1)) if seeds == 1 else np.zeros((seeds, 2))
    return Estimate(value + spread * noise, draws, (), np.arange(2), n, tuple(range(seeds)))
