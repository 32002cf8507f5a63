"""Checks of notebooks/06_loss_curves: fluctuation, its interval, and Fig. 5."""

import numpy as np
import pandas as pd
import torch

from lrc_lib.course.check import core
from lrc_lib.course.check.core import compare, exercise, unit
from lrc_lib.models import embeddings_replaced

JAGGEDNESS = {
    "A difference has twice the variance: divide by the root of 2.": lambda x: np.diff(x).std(),
    "You divided by 2: divide by the root of 2.": lambda x: np.diff(x).std() / 2,
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
    "All seeds give the same draw: make the generator from `seed`.":
        (_unpaired(fixed=True), lambda f: f.spread < 1e-9),
    "The ratio is upside down: first over second.":
        (_unpaired(turned=True), lambda f: abs(f.mean - 0.5) < 0.1),
    "The mean of your draws is {mean:.2f}, and should be about 2: divide the standard deviation of "
    "the first by that of the second.":
        (_unpaired(of=np.var), lambda f: abs(f.mean / 2 - 1) > 0.2),
    "The same blocks are drawn for both runs: that is the paired bootstrap.":
        (_unpaired(shared=True), lambda f: f.spread < 1.5 * f.paired),
    "Your intervals are too narrow: draw blocks of neighbours, not single steps.":
        (_unpaired(length=1), lambda f: f.spread < (f.right + f.steps) / 2),
    "Your intervals are too wide: len(values) // block blocks in each draw.":
        (_unpaired(share=0.2), lambda f: f.spread > 1.4 * f.right),
}  # fmt: skip


@exercise(UNPAIRED)
def ex_06_2(unpaired):
    """One bootstrap draw of a ratio of sds, each run with blocks of its own."""
    rng = np.random.default_rng(2)
    common = np.convolve(rng.normal(size=619), np.ones(20) / 20**0.5, "valid")  # neighbours alike
    first, second = 2 * (common + 0.2 * rng.normal(size=600)), common + 0.2 * rng.normal(size=600)

    def drawn(draw):
        inputs = [(first, second, 20, seed) for seed in range(200)]
        return np.array([core.number(draw, *x, what="the ratio of one draw") for x in inputs])

    found, paired = drawn(unpaired), drawn(_unpaired(shared=True)).std()
    right, steps = drawn(_unpaired()).std(), drawn(_unpaired(length=1)).std()
    facts = {"mean": found.mean(), "spread": found.std()}
    core.apply_rules(UNPAIRED, **facts, right=right, steps=steps, paired=paired)
    return f"Unpaired spread {found.std():.3f}, paired {paired:.3f}: what both share cancels."


def _tiny_student():
    from transformers import BertConfig, BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1}
        sizes |= {"num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.3}
        return BertForSequenceClassification(BertConfig(**sizes)).eval()


def _noisy(direction=unit, of_length=0, alike=False, door="layer", whole=False):
    """Logits with moved embeddings; the arguments are mistakes in it."""

    @torch.no_grad()
    def logits(student, batch, size):
        inputs = {name: x for name, x in batch.items() if name != "labels"}
        emb = student.bert.embeddings(input_ids=inputs["input_ids"])
        way = torch.randn(emb.shape[-1:] if alike else emb.shape).expand_as(emb)
        length = of_length or emb.norm(dim=-1, keepdim=True)
        moved = emb + size * direction(way) * length
        if door == "inputs_embeds":
            return student(inputs_embeds=moved, **inputs | {"input_ids": None}).logits
        with embeddings_replaced(student, emb if door == "none" else moved):
            return student(**inputs) if whole else student(**inputs).logits

    return logits


OUTPUT = "That is the model's whole output: return its `.logits`."
NOISY = {
    OUTPUT: (_noisy(whole=True), lambda f: False),
    "Size 0 changes the logits: put the moved embeddings in place of the layer's output "
    "(embeddings_replaced); `inputs_embeds` normalises them again.":
        (_noisy(door="inputs_embeds"), lambda f: f.still > 1e-4),
    "Nothing moves at size 0.5: do the moved embeddings enter the student?":
        (_noisy(door="none"), lambda f: f.share.max() < 1e-4),
    "All tokens move the same way: draw a direction for each.":
        (_noisy(alike=True), lambda f: f.alike > 0.9),
    "Every token moves by 0.5: it should move by 0.5 times its own length.":
        (_noisy(of_length=1.0), lambda f: (f.length - 0.5).abs().max() < 1e-4),
    "The steps are {low:.2f} to {high:.2f} of a token's length: bring the random direction to "
    "length 1 first.":
        (_noisy(direction=lambda way: way / way.shape[-1] ** 0.5), lambda f: f.share.std() > 1e-3),
    "Each token moves by {low:.2f} of its length; it should move by 0.50.":
        (_noisy(direction=lambda way: unit(way) / 2), lambda f: abs(f.share.mean() - 0.5) > 1e-3),
}  # fmt: skip


@exercise(NOISY)
def ex_06_3(noisy_logits):
    """Logits with every embedding moved by `size` times its length, (student, batch, size)."""
    student, entered = _tiny_student(), []
    ids = torch.randint(1, 40, (5, 7), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch |= {"token_type_ids": torch.zeros_like(ids), "labels": torch.zeros(5, dtype=torch.long)}
    with torch.no_grad():
        plain = student(ids).logits
        emb = student.bert.embeddings(input_ids=ids)
    student.bert.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: entered.append((*args, *kwargs.values())[0].detach()),
        with_kwargs=True,
    )

    def at(size):
        value = core.call(noisy_logits, student, batch, size)
        if hasattr(value, "logits"):
            raise core.Mistake(OUTPUT)
        value = core.as_tensor(value, core.name_of(noisy_logits))
        if value.shape != plain.shape:
            raise core.Mistake(f"Return the (B, C) logits, {tuple(plain.shape)}, for this batch.")
        return value

    with torch.random.fork_rng(devices=[]):
        still = (at(0.0) - plain).abs().max()
        entered.clear()
        at(0.5)
    moved = entered[-1] - emb if entered and entered[-1].shape == emb.shape else 0 * emb
    length, flat = moved.norm(dim=-1), unit(moved.flatten(0, 1))
    share = length / emb.norm(dim=-1)
    facts = {"still": still, "length": length, "share": share, "alike": (flat @ flat.T).mean()}
    core.apply_rules(NOISY, **facts, low=share.min(), high=share.max())
    return "Half a length in a random direction for each token, and nothing at size 0."


def _history(level, noise, lift, seed):
    """A made-up run: 300 steps of stage 1, 90 of stage 2, with a jump between them."""
    rng, stage = np.random.default_rng(seed), np.repeat([1, 2], [300, 90])
    trend = level * np.where(stage == 1, 1.5 - np.arange(390) / 300, 2.5 - np.arange(390) / 250)
    loss = trend * np.exp(np.where(stage == 1, 0.02, noise) * rng.normal(size=390))
    perturbed = loss + lift * level * (1 + 0.3 * rng.normal(size=390))
    frame = {"step": np.arange(390), "stage": stage, "loss": loss, "perturbed": perturbed}
    return pd.DataFrame(frame)


def _fluctuation(history, stage, window, column="loss", scale=np.log, trend=False):
    chosen = history[history["stage"] == stage] if stage else history
    values = scale(chosen[column].to_numpy(float))
    if trend:
        return values.std()
    smooth = np.convolve(values, np.ones(window) / window, "valid")
    return (values[window // 2 : -(window // 2)] - smooth).std()


def _ratio(stage_of=lambda stage: stage, first="loss", **how):
    """A `fair_ratio`; the arguments are mistakes in it."""

    def fair_ratio(with_it, without, stage, window):
        ours = _fluctuation(with_it, stage_of(stage), window, first, **how)
        return ours / _fluctuation(without, stage_of(stage), window, **how)

    return fair_ratio


RATIO = {
    "You compare the perturbed loss of one run with the clean loss of the other. Take `loss` of "
    "both.":
        _ratio(first="perturbed"),
    "The stage is ignored: both stages are in your number.": _ratio(lambda stage: 0),
    "`stage` has no effect.": _ratio(lambda stage: 2),
    "That is the other stage.": _ratio(lambda stage: 3 - stage),
    "The ratio is upside down: with perturbation over without.":
        lambda a, b, *how: _ratio()(b, a, *how),
    "The larger loss looks more jagged: take the logarithm first.": _ratio(scale=np.asarray),
    "The trend is still in it: take the running mean off.": _ratio(trend=True),
}  # fmt: skip
SHOWN = {
    "Not (a). No score of LRC-BERT_g is given anywhere in the paper: no accuracy is compared.":
        (lambda: {"a", "b"}, lambda f: "a" in f.letters),
    "Not (c). A training loss on clean texts is no test of robustness.":
        (lambda: {"b", "c"}, lambda f: "c" in f.letters),
    "Not (d). Text and caption do not say which of its two losses stands for LRC-BERT.":
        (lambda: "b, d", lambda f: "d" in f.letters),
    "Not (e). One pair of runs has no interval: another seed is not in the figure.":
        (lambda: ["b", "e"], lambda f: "e" in f.letters),
    "One statement does hold: what is on the two axes of Fig. 5?":
        (set, lambda f: set(f.letters) != {"b"}),
}  # fmt: skip


@exercise(RATIO, SHOWN)
def ex_06_4(fair_ratio, what_fig5_shows):
    """Fluctuation of the same quantity in the same stage, with / without; and what was compared."""
    ours, theirs = _history(4.0, 0.05, 0.4, 0), _history(1.5, 0.08, 0.0, 1)
    rights = []
    for stage in (2, 1):
        inputs, what = (ours, theirs, stage, 9), f"the ratio in stage {stage}"
        right = compare(fair_ratio, _ratio(), RATIO, *inputs, what=what, probe=core.array)
        rights.append(right)
    letters = core.call(what_fig5_shows)
    if isinstance(letters, str):
        letters = set(letters) - set(" ,")
    if not isinstance(letters, set | list | tuple) or not set(letters) <= set("abcde"):
        raise core.Mistake("Return the letters of the statements that hold, such as {'a', 'c'}.")
    core.apply_rules(SHOWN, letters=letters)
    return f"Clean with clean, stage 2 alone: {rights[0]:.2f}. And the figure shows (b), no more."
