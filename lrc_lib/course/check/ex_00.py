"""Check of notebooks/00_start_here: one loss out of two."""

import torch
import torch.nn.functional as F

from lrc_lib.course.check.core import compare, draws, exercise


def _both(logits, teacher, labels, tau, share, tau_teacher=None, tau_student=None):
    answers = (teacher / (tau_teacher or tau)).softmax(-1)
    soft = F.cross_entropy(logits / (tau_student or tau), answers)
    return share * F.cross_entropy(logits, labels) + (1 - share) * soft


BOTH = {
    "The shares are swapped: `share` belongs to the hard labels.":
        lambda s, t, y, tau, share: _both(s, t, y, tau, 1 - share),
    "The teacher's logits are not divided by the temperature.":
        lambda s, t, y, tau, share: _both(s, t, y, tau, share, tau_teacher=1),
    "In the soft loss the student's logits have to be divided by the temperature, too.":
        lambda s, t, y, tau, share: _both(s, t, y, tau, share, tau_student=1),
    "The hard loss has no temperature.":
        lambda s, t, y, tau, share: _both(s, t, y, tau, share)
        + share * (F.cross_entropy(s / tau, y) - F.cross_entropy(s, y)),
    "You added the two losses: weight them with `share` and `1 - share`.":
        lambda s, t, y, tau, share: 2 * _both(s, t, y, tau, 0.5),
}  # fmt: skip


@exercise(BOTH)
def ex_00_1(both):
    """Hard and soft loss in one, (B, C), (B, C), (B,), temperature, share -> scalar."""
    rows = draws(8, 3), draws(8, 3, seed=1), torch.arange(8) % 3
    compare(both, _both, BOTH, *rows, 2.0, 0.3, what="the loss")
    return "With a share of 1 you have the hard labels, with 0 the soft answers."
