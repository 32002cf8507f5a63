"""The training loops that `benchmarks.step` compares: plain ones, TextBrewer's and the library's.

A loop is made anew for each round. Models, optimisers and the teacher's cache are ready before the
clock starts; nothing is written after the last step.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from typing import NamedTuple
from unittest.mock import patch

import torch

from lrc_lib.data.batches import epoch_order
from lrc_lib.losses import LayerLoss, cos_nce_target, cos_nce_to
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.runs.dropout import cheap_dropout
from lrc_lib.schedule import Recipe

from .reference import WEIGHTS, PlainLrc, Savings, all_pairs_cos_nce
from .workload import Workload

BATCH = 16
BUCKET = 16
LRC = Recipe("step", "LRC-BERT, all losses", stage1=WEIGHTS, stage2=WEIGHTS)
KD = Recipe(
    "kd", "no perturbation, MSE", stage1=WEIGHTS, stage2=WEIGHTS, layer_loss="mse", perturb=False
)
SAVINGS = {
    "cached_teacher": "cached teacher",
    "closed_form": "closed-form COS-NCE",
    "shared_pull": "the teacher's part of COS-NCE once a step",
    "narrow_backward": "first backward to the embeddings only",
    "fused_adamw": "fused AdamW",
    "trimmed_vocabulary": "trimmed vocabulary",
    "buckets": "length buckets",
    "cheap_dropout": "cheap dropout",
}


class Loop(NamedTuple):
    """A row of a table.

    what: a few words; steps: how many batches it takes; make: f() -> a function that takes them.
    """

    what: str
    steps: int
    make: Callable


@cache
def textbrewer():
    """`benchmarks.textbrewer_kd.TextBrewer`, or None where the package is not installed."""
    try:
        from .textbrewer_kd import TextBrewer
    except ImportError as error:
        print(f"TextBrewer skipped: {error} (pip install textbrewer tensorboard)", file=sys.stderr)
        return None
    return TextBrewer


def batches(work: Workload, bucket: int = 0) -> list:
    """The row numbers of each batch of one epoch."""
    order = epoch_order(work.encoded.lengths, 0, 0, BATCH, bucket)
    return list(order[: len(order) // BATCH * BATCH].reshape(-1, BATCH))


def loops(work: Workload, precision: str) -> dict[str, Loop]:
    """{key: `Loop`} of everything that can be timed on these rows, in the order of the tables."""
    whole = batches(work)
    few = whole[: max(1, len(whole) // 4)]  # padded to 128 tokens, all batches cost the same
    found = {
        "plain-128": Loop(
            "plain LRC, padded to 128", len(few),
            partial(plain, work, Savings(), precision, few, work.max_length),
        ),
        "plain": Loop(
            "plain LRC, dynamic padding", len(whole), partial(plain, work, Savings(), precision)
        ),
        "ours": Loop("lrc_lib, LRC", len(whole), partial(ours, work, LRC, precision)),
    }  # fmt: skip
    if TextBrewer := textbrewer():
        for key, what, some, how in (
            ("tb-128", "padded to 128", few, {"pad_to": work.max_length}),
            ("tb", "dynamic padding", whole, {}),
            ("tb-cache", "cached teacher", whole, {"cached": True}),
        ):
            new = partial(TextBrewer, work, some, precision=precision, **how)
            found[key] = Loop(f"TextBrewer's KD, {what}", len(some), partial(_run_of, new))
    found["ours-kd"] = Loop("lrc_lib, KD part", len(whole), partial(ours, work, KD, precision))
    switched = {}
    for saving, what in SAVINGS.items():
        switched = switched | {saving: True}
        make = partial(plain, work, Savings(**switched), precision)
        found[f"with:{saving}"] = Loop(f"+ {what}", len(whole), make)
    for saving, what in SAVINGS.items():
        make = partial(ours, work, LRC, precision, saving)
        found[f"without:{saving}"] = Loop(f"lrc_lib without {what}", len(whole), make)
    return found


def plain(work: Workload, savings: Savings, precision: str, some=None, pad_to=0) -> Callable:
    """A new `PlainLrc`, as a function that takes all its batches."""
    student, projection = work.student()
    step = PlainLrc(
        student, projection, work.teacher, work.cached, work.pairs, work.encoded, pad_to,
        savings, work.device, precision,
    )  # fmt: skip
    some = some or batches(work, BUCKET if savings.buckets else 0)

    def run():
        with cheap_dropout(student) if savings.cheap_dropout else nullcontext():
            for indices in some:
                step(indices)

    return run


def _run_of(new: Callable) -> Callable:
    return new().run


def ours(work: Workload, recipe: Recipe, precision: str, saving: str = "") -> Callable:
    """The library's own loop (`lrc_lib.training.train`) over one epoch, perhaps less one saving."""
    teacher = work.live() if saving == "cached_teacher" else None
    bucket = 0 if saving == "buckets" else BUCKET
    with left_out(saving):
        job = work.job(recipe, teacher, batch_size=BATCH, bucket=bucket, precision=precision)
        job.trainer.finish = job.trainer._save = lambda *args: None
    if saving == "narrow_backward":
        job.net.perturb = partial(_whole_backward, list(job.net.parameters()))

    def run():
        with left_out(saving):
            job.train()

    return run


def _whole_backward(parameters, embeddings, loss, **how):
    """`perturb_embeddings`, with a backward pass that goes to the weights, too."""
    wanted = [embeddings, *parameters]
    gradient = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)[0]
    same = (embeddings * gradient.detach()).sum()  # has this gradient, and costs nothing
    return perturb_embeddings(embeddings, same, **how)


@contextmanager
def left_out(saving: str):
    """Within this context the library is without the saving, if it is one of its functions."""
    pull = LayerLoss(lambda states, mask: states, _cos_nce_from_states)
    pairs = LayerLoss(lambda states, mask: states, _all_pairs)
    places = {
        "closed_form": ("lrc_lib.losses.layer_loss", lambda *args: pairs),
        "shared_pull": ("lrc_lib.losses.layer_loss", lambda *args: pull),
        "fused_adamw": ("lrc_lib.training.build_optimizer", _unfused),
        "trimmed_vocabulary": ("lrc_lib.training.trim_vocabulary", lambda *args: None),
        "cheap_dropout": ("lrc_lib.runs.run.cheap_dropout", nullcontext),
    }
    with ExitStack() as stack:
        if saving in places:
            stack.enter_context(patch(*places[saving]))
        yield


def _cos_nce_from_states(student, states, mask):
    return cos_nce_to(student, cos_nce_target(states, mask), mask)


def _all_pairs(student, states, mask):
    real = mask.unsqueeze(-1)
    return all_pairs_cos_nce((student * real).flatten(1), (states * real).flatten(1))


def _unfused(net, learning_rate, weight_decay, device):
    return torch.optim.AdamW(
        net.parameters(), lr=learning_rate, eps=1e-6, weight_decay=weight_decay
    )
