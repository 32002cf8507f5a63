"""A graded problem set that is made from a course's name: the same questions, other numbers.

No list of answers exists: each is computed from the numbers, by the library where it has the
equation. `lrc_lib.course.edition` writes the set as a notebook.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t
from torch import tensor

from lrc_lib.course.check import core
from lrc_lib.losses import cos_nce, soft_label_loss
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.results.statistics import holm
from lrc_lib.schedule import learning_rate_factor


@dataclass(frozen=True)
class Problem:
    """A question with the numbers of one course.

    Attributes:
        text: Markdown.
        answer: a number, to be met within 1 %.
        points: of difficulty, from 1 to 3.
    """

    text: str
    answer: float
    points: int


def problems(course: str) -> list[Problem]:
    """The ten problems of a course; another name gives other numbers."""
    seed = hashlib.sha256(course.encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed))
    return [Problem(*make(rng)) for make in (
        _eq_1, _angle, _negatives, _eq_4, _cap, _rate, _step, _spread, _seeds, _holm,
    )]  # fmt: skip


def problem(course: str, number: int, answer) -> core.Result:
    """Checks `answer`, a function that returns the number, to problem `number`, from 1."""

    def judge(answer):
        found, right = core.number(answer, what="the answer"), problems(course)[number - 1]
        if not math.isclose(found, right.answer, rel_tol=0.01, abs_tol=1e-3):
            raise core.Mistake(f"{found:.4g} is not the answer. Work it out again by hand.")
        return "That is the answer for these numbers."

    return core.judged(f"Problem {number}", judge, answer)


def _vectors(rng, *shape):
    return (rng.integers(1, 6, shape) * rng.choice([-1, 1], shape)).tolist()


def _eq_1(rng):
    student, teacher, *negatives = _vectors(rng, 4, 2)
    loss = cos_nce(*(tensor([x]).float() for x in (student, teacher, negatives))).item()
    return f"Eq. (1) for the student {student}, teacher {teacher}, negatives {negatives}.", loss, 2


def _angle(rng):
    degrees, length = int(rng.integers(40, 140)), rng.integers(3, 10) / 10
    x, y = (f(math.radians(degrees)) * length / 2 for f in (math.cos, math.sin))
    text = (
        f"The mean negative has length {length} and lies {degrees} degrees from the teacher. How "
    )
    text += "many degrees from its teacher is the student with the least COS-NCE?"
    return text, math.degrees(math.atan2(y, 1.5 - x)), 3


def _negatives(rng):
    k, share = int(rng.integers(3, 40)), int(rng.integers(2, 7))
    text = f"With {k} random negatives COS-NCE has a certain spread. How many give 1/{share} of it?"
    return text, k * share**2, 1


def _eq_4(rng):
    (student, teacher), tau = _vectors(rng, 2, 3), rng.integers(11, 40) / 10
    loss = soft_label_loss(*(tensor([x]).float() for x in (student, teacher)), tau).item()
    return f"Eq. (4) for logits {student}, the teacher's {teacher}, temperature {tau}.", loss, 2


def _cap(rng):
    classes, tau = int(rng.integers(3, 9)), rng.integers(5, 20) / 10
    gold = math.exp(1 / tau)
    text = f"The probability of the gold class at which Eq. (5) is smallest: {classes} classes, "
    return f"{text}temperature {tau}.", gold / (gold + classes - 1), 2


def _rate(rng):
    steps, warmup, boundary = 1000, rng.integers(1, 5) / 20, rng.integers(10, 19) / 20
    factor = learning_rate_factor(int(steps * boundary), steps, warmup)
    text = (
        f"One linear schedule, warm-up over {warmup:.0%} of the steps. At which share of its peak "
    )
    return f"{text}is the rate when stage 2 begins at {boundary:.0%} (0 to 1)?", factor, 1


def _step(rng):
    emb, slope = (tensor([x]).float() for x in _vectors(rng, 2, 2, 2))
    emb.requires_grad_()
    moved = perturb_embeddings(emb, (emb * slope).sum())[0, 0, 0].item()
    text = f"A text's embeddings are {emb[0].tolist()}, the loss's gradient there is "
    text += (
        f"{slope[0].tolist()}. What do Eqs. (7)-(8) make of the first token's first number, with "
    )
    return f"{text}one norm for the text?", moved, 2


def _spread(rng):
    gained, lost, n = (int(rng.integers(*ends)) for ends in ((20, 60), (5, 20), (300, 900)))
    variance = ((gained + lost) / n - ((gained - lost) / n) ** 2) / n
    text = (
        f"Of {n} dev rows the first system alone is right on {gained}, the second alone on {lost}."
    )
    return f"{text} The standard deviation of the difference in points?", 100 * variance**0.5, 2


def _seeds(rng):
    gaps = np.round(rng.normal(1.5, 1, int(rng.integers(3, 6))), 1)
    half = student_t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    text = (
        f"Paired differences of {len(gaps)} seeds: {gaps.tolist()} points. Half the width of their"
    )
    return f"{text} 95 % interval (seeds alone, Student's t)?", half, 2


def _holm(rng):
    p = np.sort(rng.integers(2, 60, 4)) / 1000
    text = f"Four p values: {rng.permutation(p).tolist()}. What does Holm's correction make of the"
    return f"{text} second smallest?", holm(p)[1], 2
