"""Checks of notebooks/06_loss_curves: fluctuation, its interval, and Fig. 5."""

import numpy as np
import pandas as pd
import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise
from lrc_lib.losses import unit
from lrc_lib.models import build_student

JAGGEDNESS = {
    "A difference has twice the variance: divide by the root of 2.": lambda x: np.diff(x).std(),
    "That is the spread of the values: the trend is still in it.": np.std,
    "That is the variance: take its root.": lambda x: np.diff(x).var() / 2,
    "That is the mean size of a step, not its standard deviation.":
        lambda x: np.abs(np.diff(x)).mean() / 2**0.5,
    "Those are the differences: return their standard deviation.": np.diff,
}  # fmt: skip


@exercise(JAGGEDNESS)
def ex_06_1(jaggedness):
    """The sd of neighbouring differences over the root of 2, (n,) -> number."""
    values = np.linspace(0, 30, 3000) + 0.5 * np.random.default_rng(1).normal(size=3000)

    def right(x):
        return np.diff(x).std() / 2**0.5

    what = "the jaggedness of noise with sd 0.5 on a trend"
    compare(jaggedness, right, JAGGEDNESS, values, what=what, probe=core.array)
    return "It finds the noise and leaves the trend out, without a window."


def _unpaired(shared=False, length=None, fixed=False, turned=False, share=1, of=np.std):
    """One draw of a ratio of sds; the arguments are mistakes in it."""

    def draw(first, second, block, seed):
        rng, spreads = np.random.default_rng(0 if fixed else seed), []
        block = length or block
        for values in (first, second):
            rng = np.random.default_rng(seed) if shared else rng
            count = max(1, int(share * (len(values) // block)))
            starts = rng.integers(0, len(values) - block + 1, count)
            spreads.append(of(values[(starts[:, None] + np.arange(block)).ravel()]))
        return spreads[1] / spreads[0] if turned else spreads[0] / spreads[1]

    return draw


UNPAIRED = {
    "All seeds give the same draw: make the generator from `seed`.": _unpaired(fixed=True),
    "The ratio is upside down: first over second.": _unpaired(turned=True),
    "Those are variances: divide standard deviations.": _unpaired(of=np.var),
    "The same blocks are drawn for both runs: that is the paired bootstrap.":
        _unpaired(shared=True),
    "Your intervals are too narrow: draw blocks of neighbours, not single steps.":
        _unpaired(length=1),
    "Your intervals are too wide: len(values) // block blocks in each draw.": _unpaired(share=0.2),
}  # fmt: skip


@exercise(UNPAIRED)
def ex_06_2(unpaired):
    """One bootstrap draw of a ratio of sds, each run with blocks of its own."""
    rng = np.random.default_rng(2)
    common = np.convolve(rng.normal(size=619), np.ones(20) / 20**0.5, "valid")  # neighbours alike
    first, second = 2 * (common + 0.2 * rng.normal(size=600)), common + 0.2 * rng.normal(size=600)

    def drawn(draw):
        inputs = [(first, second, 20, seed) for seed in range(200)]
        found = [core.number(draw, *x, what="the ratio of one draw") for x in inputs]
        return np.array([np.mean(found), np.std(found)])

    what = "the mean and the spread of 200 draws"
    compare(unpaired, _unpaired(), UNPAIRED, what=what, probe=drawn, rtol=0.25)
    spreads = [drawn(draw)[1] for draw in (unpaired, _unpaired(shared=True))]
    return f"Unpaired spread {spreads[0]:.3f}, paired {spreads[1]:.3f}: what both share cancels."


@exercise()
def ex_06_3(noisy_logits):
    """Logits with every embedding moved by `size` times its length, (student, batch, size)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = build_student(1, 32, 32, 2, vocab_size=40).eval()
        ids = torch.randint(1, 40, (5, 7))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        batch |= {"token_type_ids": 0 * ids, "labels": torch.zeros(5, dtype=torch.long)}
        emb = student.bert.embeddings(input_ids=ids).detach()
        entered, steps = [emb], []  # what the encoder gets; how far it was moved
        student.bert.encoder.register_forward_pre_hook(
            lambda module, args, kwargs: entered.append((*args, *kwargs.values())[0].detach()),
            with_kwargs=True,
        )
        for size in (0.0, 0.5):
            if core.tensor(noisy_logits, student, batch, size).shape != (5, 2):
                raise core.Mistake("Return the (B, C) logits, (5, 2) for this batch.")
            steps.append([x for x in entered if x.shape == emb.shape][-1] - emb)
    still, moved = steps
    length, flat = moved.norm(dim=-1), unit(moved.flatten(0, 1))
    share = length / emb.norm(dim=-1)
    low, high = share.min(), share.max()
    core.refuse({
        "Size 0 changes the logits: put the moved embeddings in place of the layer's output "
        "(embeddings_replaced); `inputs_embeds` normalises them again.": still.abs().max() > 1e-4,
        "Nothing moves at size 0.5: do the moved embeddings enter the student?": high < 1e-4,
        "All tokens move the same way: draw a direction for each.": (flat @ flat.T).mean() > 0.9,
        "Every token moves by 0.5: it should move by 0.5 times its own length.":
            (length - 0.5).abs().max() < 1e-4,
        f"The steps are {low:.2f} to {high:.2f} of a token's length: bring the random direction to "
        "length 1 first.": share.std() > 1e-3,
        f"Each token moves by {low:.2f} of its length; it should move by 0.50.":
            abs(share.mean() - 0.5) > 1e-3,
    })  # fmt: skip
    return "Half a length in a random direction for each token, and nothing at size 0."


def _history(level, noise, seed):
    """A made-up run: 300 steps of stage 1, 90 of stage 2, which is more jagged; both falling."""
    rng, step = np.random.default_rng(seed), np.arange(390)
    stage = np.where(step < 300, 1, 2)
    spread = np.where(stage == 1, 0.02, noise)
    loss = level * (1.5 - step / 300 % 1) * np.exp(spread * rng.normal(size=390))
    perturbed = loss + 0.4 * level * (1 + 0.3 * rng.normal(size=390))
    return pd.DataFrame({"step": step, "stage": stage, "loss": loss, "perturbed": perturbed})


def _fluctuation(history, stages, window, column="loss", scale=np.log, trend=False):
    values = scale(history[history["stage"].isin(stages)][column])
    smooth = 0 if trend else values.rolling(window, center=True).mean()
    return (values - smooth).std(ddof=0)


def _ratio(stages=lambda stage: [stage], first="loss", **how):
    """A `fair_ratio`; the arguments are mistakes in it."""

    def fair_ratio(with_it, without, stage, window):
        ours = _fluctuation(with_it, stages(stage), window, first, **how)
        return ours / _fluctuation(without, stages(stage), window, **how)

    return fair_ratio


RATIO = {
    "You compare the perturbed loss of one run with the clean loss of the other. Take `loss` of "
    "both.": _ratio(first="perturbed"),
    "The stage is ignored: both stages are in your number.": _ratio(lambda stage: [1, 2]),
    "`stage` has no effect.": _ratio(lambda stage: [2]),
    "The ratio is upside down: with perturbation over without.":
        lambda a, b, *how: _ratio()(b, a, *how),
    "The larger loss looks more jagged: take the logarithm first.": _ratio(scale=lambda x: x),
    "The trend is still in it: take the running mean off.": _ratio(trend=True),
}  # fmt: skip


@exercise(RATIO)
def ex_06_4(fair_ratio, what_fig5_shows):
    """Fluctuation of the same quantity in the same stage, with / without; and what was compared."""
    ours, theirs = _history(4.0, 0.05, 0), _history(1.5, 0.08, 1)
    for stage in (1, 2):
        inputs, what = (ours, theirs, stage, 9), f"the ratio in stage {stage}"
        right = compare(fair_ratio, _ratio(), RATIO, *inputs, what=what, probe=core.array)
    letters = core.call(what_fig5_shows)
    if isinstance(letters, str):
        letters = set(letters) - set(" ,")
    if not isinstance(letters, set | list | tuple) or not set(letters) <= set("abcde"):
        raise core.Mistake("Return the letters of the statements that hold, such as {'a', 'c'}.")
    core.refuse({
        "Not (a). No score of LRC-BERT_g is given anywhere in the paper: no accuracy is compared.":
            "a" in letters,
        "Not (c). A training loss on clean texts is no test of robustness.": "c" in letters,
        "Not (d). Text and caption do not say which of its two losses stands for LRC-BERT.":
            "d" in letters,
        "Not (e). One pair of runs has no interval: another seed is not in the figure.":
            "e" in letters,
        "One statement does hold: what is on the two axes of Fig. 5?": set(letters) != {"b"},
    })  # fmt: skip
    return f"Clean with clean, stage 2 alone: {right:.2f}. And the figure shows (b), no more."
