"""Checks of notebooks/06_loss_curves: fluctuation, its interval, and a broken run."""

import functools

import numpy as np
import pandas as pd
import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise
from lrc_lib.losses import hard_label_loss, in_batch_cos_nce, soft_label_loss, unit
from lrc_lib.models import build_student
from lrc_lib.perturbation import perturb_embeddings

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


HIDDEN = {  # fault: what tells it
    "sign": "A step uphill lifts the loss: compare `perturbed` with `loss`.",
    "rate": "Look at `layers`: does it end stage 1 near its least value, or leave it again?",
    "labels": "Look at `hard` in stage 2: what can be learned is learned in a few steps.",
    "healthy": "Both label losses and the layers fall, and `perturbed` lies above `loss`.",
}


OFF = (np.nan, np.nan)  # stage 1 has no label losses


@functools.cache
def broken_run(fault: str, seed: int) -> pd.DataFrame:
    """The history of a tiny student, 75 steps of each stage, with a fault of `HIDDEN` in it."""
    rng, rows = torch.Generator().manual_seed(seed), []
    texts, wanted, start = (torch.randn(*s, generator=rng) for s in ((2400, 1, 8), (8, 8), (8, 8)))
    hidden = (texts @ wanted / 3).tanh()
    logits = 3 * hidden[:, 0, :2]
    shuffled = torch.randperm(2400, generator=rng) if fault == "labels" else slice(None)
    labels = logits.argmax(-1)[shuffled]
    layer, head = (start / 3).requires_grad_(), torch.zeros(8, 2, requires_grad=True)
    optimizer = torch.optim.Adam([layer, head], lr=20.0 if fault == "rate" else 0.05)

    def losses(emb, part, stage):
        states = (emb @ layer).tanh()[:, 0]
        layers, out = in_batch_cos_nce(states, hidden[part, 0]), states @ head
        soft = soft_label_loss(out, logits[part])
        hard = hard_label_loss(out, labels[part], target="one_hot")
        return layers + (soft + 3 * hard if stage == 2 else 0), layers, soft, hard

    for step in range(150):
        part, stage = slice(16 * step, 16 * step + 16), 1 + (step >= 75)
        emb = texts[part].clone().requires_grad_()
        clean = losses(emb, part, stage)
        moved = perturb_embeddings(emb, clean[0], epsilon=-0.1 if fault == "sign" else 0.1)
        loss = losses(moved, part, stage)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        parts = [x.item() for x in clean]
        rows.append([step, stage, loss.item(), *parts[:2], *(parts[2:] if stage == 2 else OFF)])
    return pd.DataFrame(rows, columns="step stage perturbed loss layers soft hard".split())


@exercise()
def ex_06_2(diagnose):
    """The fault in each of four histories, (history) -> a word of `HIDDEN`."""
    for seed, fault in enumerate(HIDDEN):
        found = core.call(diagnose, broken_run(fault, seed))
        if not isinstance(found, str) or found not in HIDDEN:
            raise core.Mistake(f"Return one of {', '.join(HIDDEN)}, not {repr(found)[:40]}.")
        if found != fault:
            raise core.Mistake(f"Run {seed + 1} is not '{found}'. {HIDDEN[fault]}")
    return "Four runs, four right diagnoses. Now a real student is broken on purpose."


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
