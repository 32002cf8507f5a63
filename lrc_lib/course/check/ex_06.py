"""Checks of notebooks/06_loss_curves: fluctuation, its interval, and Fig. 5."""

import numpy as np
import pandas as pd
import torch

from lrc_lib.course.check.core import (
    Mistake,
    array,
    as_array,
    as_tensor,
    call,
    close,
    compare,
    exercise,
    name_of,
)


@exercise
def ex_06_1(jaggedness):
    """The sd of neighbouring differences over the root of 2, (n,) -> number."""
    rng = np.random.default_rng(1)
    values = np.linspace(0, 30, 3000) + 0.5 * rng.normal(size=3000)
    steps = np.diff(values)
    compare(
        array(jaggedness, values),
        steps.std() / 2**0.5,
        {
            "A difference of two noisy values has twice the variance: divide by the root of 2.": (
                steps.std()
            ),
            "You divided by 2: the root of 2 is asked for, since variances add.": steps.std() / 2,
            "That is the spread of the values: the trend is still in it.": values.std(),
            "That is the variance: take its root.": steps.var() / 2,
            "That is the mean size of a step, not its standard deviation.": (
                np.abs(steps).mean() / 2**0.5
            ),
            "Those are the differences: their standard deviation is asked for.": steps,
        },
        "the jaggedness of noise with sd 0.5 on a trend",
    )
    return "It finds the noise and leaves the trend out, without a window."


def _unpaired(first, second, block, seed, shared=False):
    rng, spreads = np.random.default_rng(seed), []
    for values in (first, second):
        rng = np.random.default_rng(seed) if shared else rng
        starts = rng.integers(0, len(values) - block + 1, len(values) // block)
        spreads.append(values[(starts[:, None] + np.arange(block)).ravel()].std())
    return spreads[0] / spreads[1]


@exercise
def ex_06_2(unpaired):
    """One bootstrap draw of a ratio of sds, each run with blocks of its own."""
    rng, block = np.random.default_rng(2), 20
    common = np.convolve(rng.normal(size=619), np.ones(20) / 20**0.5, "valid")  # neighbours alike
    first, second = 2 * (common + 0.2 * rng.normal(size=600)), common + 0.2 * rng.normal(size=600)
    found = np.stack([array(unpaired, first, second, block, seed) for seed in range(200)])
    if found.ndim > 1:
        raise Mistake("One number is asked for: the ratio of one draw.")
    known = {
        kind: np.std([_unpaired(first, second, size, s, same) for s in range(200)])
        for kind, size, same in (("right", block, 0), ("steps", 1, 0), ("paired", block, 1))
    }
    spread = found.std()
    if spread < 1e-9:
        raise Mistake("All seeds give the same draw: make the generator from `seed`.")
    if abs(found.mean() - 0.5) < 0.1:
        raise Mistake("The ratio is upside down: first over second.")
    if abs(found.mean() / 2 - 1) > 0.2:
        raise Mistake(
            f"The mean of your draws is {found.mean():.2f}, and about 2 expected: the standard "
            "deviation of the one over that of the other."
        )
    if spread < 1.5 * known["paired"]:
        raise Mistake("The same blocks are drawn for both runs: that is the paired bootstrap.")
    if spread < (known["right"] + known["steps"]) / 2:
        raise Mistake("Your intervals are too narrow: draw blocks of neighbours, not single steps.")
    if spread > 1.4 * known["right"]:
        raise Mistake("Your intervals are too wide: len(values) // block blocks in each draw.")
    return f"Unpaired spread {spread:.3f}, paired {known['paired']:.3f}: what both share cancels."


def _tiny_student():
    from transformers import BertConfig, BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1}
        sizes |= {"num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.3}
        return BertForSequenceClassification(BertConfig(**sizes)).eval()


@exercise
def ex_06_3(noisy_logits):
    """Logits with every embedding moved by `size` times its length, (student, batch, size)."""
    student, entered = _tiny_student(), []
    ids = torch.randint(1, 40, (5, 7), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch |= {"token_type_ids": torch.zeros_like(ids), "labels": torch.zeros(5, dtype=torch.long)}
    with torch.no_grad():
        plain = student(batch["input_ids"]).logits
        emb = student.bert.embeddings(input_ids=batch["input_ids"])
    hook = student.bert.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: entered.append((*args, *kwargs.values())[0].detach()),
        with_kwargs=True,
    )

    def at(size):
        value = call(noisy_logits, student, batch, size)
        if hasattr(value, "logits"):
            raise Mistake("That is the model's whole output: return its `.logits`.")
        return as_tensor(value, name_of(noisy_logits))

    with torch.random.fork_rng(devices=[]):
        still = at(0.0)
        if still.shape == plain.shape and not torch.allclose(still, plain.to(still), atol=1e-4):
            raise Mistake(
                "Size 0 changes the logits: put the moved embeddings in place of the layer's "
                "output (embeddings_replaced); `inputs_embeds` normalises them again."
            )
        compare(still, plain, {}, "the (B, C) logits at size 0")
        entered.clear()
        at(0.5)
    hook.remove()
    moved = entered[-1] - emb if entered and entered[-1].shape == emb.shape else 0 * emb
    share = moved.norm(dim=-1) / emb.norm(dim=-1)
    if share.max() < 1e-4:
        raise Mistake("Nothing moves at size 0.5: do the moved embeddings enter the student?")
    flat = torch.nn.functional.normalize(moved.flatten(0, 1), dim=-1)
    if (flat @ flat.T).mean() > 0.9:
        raise Mistake("All tokens move the same way: draw a direction for each.")
    if close(moved.norm(dim=-1), torch.full_like(share, 0.5)):
        raise Mistake("Every token moves by 0.5: asked is 0.5 times its own length.")
    if share.std() > 1e-3:
        raise Mistake(
            f"The steps are {share.min():.2f} to {share.max():.2f} of a token's length: bring the "
            "random direction to length 1 first."
        )
    if abs(share.mean() - 0.5) > 1e-3:
        raise Mistake(f"Each token moves by {share.mean():.2f} of its length, and 0.5 was asked.")
    return "Half a length in a random direction for each token, and nothing at size 0."


def _history(level, noise, lift, seed):
    """A made-up run: 300 steps of stage 1, 90 of stage 2, with a jump between them."""
    rng, stage = np.random.default_rng(seed), np.repeat([1, 2], [300, 90])
    trend = level * np.where(stage == 1, 1.5 - np.arange(390) / 300, 2.5 - np.arange(390) / 250)
    loss = trend * np.exp(np.where(stage == 1, 0.02, noise) * rng.normal(size=390))
    perturbed = loss + lift * level * (1 + 0.3 * rng.normal(size=390))
    frame = {"step": np.arange(390), "stage": stage, "loss": loss, "perturbed": perturbed}
    return pd.DataFrame(frame)


def _fluctuation(history, stage, window, column="loss", scale=np.log):
    chosen = history if stage is None else history[history["stage"] == stage]
    values = scale(chosen[column].to_numpy(float))
    half = window // 2
    smooth = np.convolve(values, np.ones(window) / window, "valid")
    return (values[half : len(values) - half] - smooth).std()


SHOWN = {
    "a": "No score of LRC-BERT_g is given anywhere in the paper: no accuracy is compared.",
    "c": "A training loss on clean texts is no test of robustness.",
    "d": "Text and caption do not say which of its two losses stands for LRC-BERT.",
    "e": "One pair of runs has no interval: another seed is not in the figure.",
}


@exercise
def ex_06_4(fair_ratio, what_fig5_shows):
    """Fluctuation of the same quantity in the same stage, with / without; and what was compared."""
    window, (ours, theirs) = 9, (_history(4.0, 0.05, 0.4, 0), _history(1.5, 0.08, 0.0, 1))

    def ratio(stage=2, column="loss", **how):
        first = _fluctuation(ours, stage, window, column, **how)
        return first / _fluctuation(theirs, stage, window, **how)

    def raw(column):
        first, second = (np.log(h[h["stage"] == 2][column]).std(ddof=0) for h in (ours, theirs))
        return first / second

    right = ratio()
    found = as_array(call(fair_ratio, ours, theirs, 2, window), name_of(fair_ratio))
    compare(
        found,
        right,
        {
            "Apples with pears: you compare the perturbed loss of the one run with the clean loss "
            "of the other. Take `loss` of both.": ratio(column="perturbed"),
            "The stage is ignored: the jump at the boundary and stage 1 are in your number.": (
                ratio(stage=None)
            ),
            "That is the other stage.": ratio(stage=1),
            "The ratio is upside down: with perturbation over without.": 1 / right,
            "The run with the larger loss looks more jagged: take the logarithm first.": (
                ratio(scale=np.asarray)
            ),
            "The trend is still in it: take the running mean off.": raw("loss"),
        },
        "the ratio in stage 2",
    )
    other = array(fair_ratio, ours, theirs, 1, window)
    compare(other, ratio(stage=1), {"`stage` has no effect.": right}, "the ratio in stage 1")
    letters = call(what_fig5_shows)
    if isinstance(letters, str):
        letters = set(letters) - set(" ,")
    if not isinstance(letters, set | list | tuple) or not set(letters) <= set("abcde"):
        raise Mistake("Return the letters of the statements that hold, such as {'a', 'c'}.")
    for letter, why in SHOWN.items():
        if letter in letters:
            raise Mistake(f"Not ({letter}). {why}")
    if set(letters) != {"b"}:
        raise Mistake("One statement does hold: what is on the two axes of Fig. 5?")
    return f"Clean with clean, stage 2 alone: {right:.2f}. And the figure shows (b), no more."
