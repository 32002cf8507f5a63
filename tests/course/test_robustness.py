"""Notebook 06, section 9: its damage to texts and its two scores, against values by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from lrc_lib.data import get_task
from lrc_lib.evaluate import METRICS, decide, resampled, row_counts

PATH = Path(__file__).resolve().parents[2] / "notebooks" / "06_loss_curves.ipynb"
CELLS = {c["id"]: "".join(c["source"]) for c in json.loads(PATH.read_text("utf-8"))["cells"]}


@pytest.mark.parametrize("kind", ["typing errors", "dropped words"])
def test_damage_grows_with_its_rate_and_leaves_something(kind):
    names = {}
    exec(CELLS["curves-38"], names)
    damage, words = names["DAMAGE"][kind], "an actor and a clever story about letters".split() * 50
    left = {r: damage(words, r, np.random.default_rng(0)) for r in (0.0, 0.2, 0.6, 1.0)}
    assert left[0.0] == words and all(left.values())
    changed = [sum(left[r].count(w) for w in {*words}) for r in (0.2, 0.6)]
    assert len(words) > changed[0] > changed[1]
    share = 0.2 * (0.5 if kind == "typing errors" else 1)  # half of the words are long enough
    assert 1 - changed[0] / len(words) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("name", ["reviews", "reviews-score"])
def test_the_squared_error_is_a_proper_score_of_the_answers(name):
    task, sure = get_task(name), np.array([[9.0, -9.0], [-9.0, 9.0], [0.0, 0.0]])
    labels = np.array([0, 0, 1])
    expected = [0, 2, 0.5]  # right and sure, wrong and sure, half and half
    if task.kind == "regression":
        sure, labels, expected = np.array([[1.0], [2.0], [0.5]]), labels + 0.5, [0.25, 2.25, 1]
    names = dict(task=task, labels=labels, np=np, softmax=softmax, METRICS=METRICS, decide=decide)
    names |= dict(resampled=resampled, row_counts=row_counts, row_keys=np.array, dev=[1, 2, 3])
    exec(CELLS["curves-41"], names)
    assert names["squared_error"](sure) == pytest.approx(expected, abs=1e-6)
    value, draws = names["brier"](sure)
    assert value == pytest.approx(np.mean(expected)) and draws.shape == (1000,)
    score, drawn = names["metric"](sure)
    assert score == pytest.approx(100 * METRICS[task.primary](labels, decide(task, sure)))
    assert drawn.shape == (1000,) and draws.max() <= max(expected) + 1e-6
