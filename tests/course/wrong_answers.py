"""Typical wrong answers to the exercises, each with words that the check's message must hold."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from lrc_lib.course.check.core import draws
from lrc_lib.losses import angular_distance, cos_nce, hard_label_loss, in_batch_cos_nce
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.results.statistics import cases


def unit(x):
    return F.normalize(x, dim=-1)


def whole_g(x, y):
    return 1 - (x * y).sum() / (x.norm() * y.norm())


def nan_g(x, y):
    return 1 - (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))


def eq1(push, pull=1.0, inner=2.0, sign=1, reduce="mean"):
    """Eq. (1) with other constants."""

    def loss(student, teacher, negatives):
        p = angular_distance(teacher, student)
        terms = inner - sign * (angular_distance(negatives, student[:, None]) - p[:, None])
        return push * getattr(terms, reduce)(1) + pull * p

    return loss


def with_loop_again(student, teacher, negatives):
    rows = zip(student, teacher, negatives, strict=True)
    return torch.stack([cos_nce(s[None], t[None], n[None]) for s, t, n in rows])


def study(one, spread=torch.std):
    """A `mean_and_spread` whose repeats are made by `one(student, teacher, pool, k, repeats)`."""

    def mean_and_spread(student, teacher, pool, k, repeats):
        losses = one(student, teacher, pool, k, repeats)
        return losses.mean(), spread(losses)

    return mean_and_spread


def drawn(student, teacher, pool, k, repeats):
    negatives = pool[torch.randint(len(pool), (repeats, k))]
    return cos_nce(student.expand(repeats, -1), teacher.expand(repeats, -1), negatives, "none")


def summed(student, teacher, pool, k, repeats):
    return k * drawn(student, teacher, pool, k, repeats)


def always_the_first(student, teacher, pool, k, repeats):
    return drawn(student, teacher, pool[:1], k, repeats)


def one_each(student, teacher, pool, k, repeats):
    return drawn(student, teacher, pool, 1, repeats)


def with_table(student, teacher):
    cosines = unit(student) @ unit(teacher).T
    own = cosines.diagonal()
    return 2 - 1.5 * own + 0.5 * (cosines.sum(1) - own) / (len(own) - 1)


def with_rows(student, teacher):
    return torch.stack([in_batch_cos_nce(student, teacher, "none")[i] for i in range(len(student))])


def in_batch(mean):
    def loss(student, teacher):
        u, t = unit(student), unit(teacher)
        own = (u * t).sum(-1)
        return 2 - 1.5 * own + 0.5 * mean(u @ t.sum(0), own, len(t))

    return loss


def raw_sum(student, teacher):
    u, own = unit(student), (unit(student) * unit(teacher)).sum(-1)
    others = (u @ teacher.sum(0) - (u * teacher).sum(-1)) / (len(teacher) - 1)
    return 2 - 1.5 * own + 0.5 * others


def beside(teacher):
    aside = torch.randn(len(teacher), generator=torch.Generator().manual_seed(3))
    return unit(aside - (aside @ unit(teacher)) * unit(teacher))


def kept(states, mask):
    return states * mask[..., None]


def mean_of(states, mask):
    return kept(states, mask).sum(1) / mask.sum(1, keepdim=True)


def layer(z_of=mean_of, loss=in_batch_cos_nce):
    def layer_loss(student, teacher, mask, weight):
        return loss(z_of(student @ weight, mask), z_of(teacher, mask), "none")

    return layer_loss


def with_itself(z, t, _):
    pull = angular_distance(z, t)
    return 2 - 1.5 * (1 - pull) + 0.5 * (unit(z) @ unit(t).T).mean(1)


def counting(*missing):
    def count(layers, width, inner):
        whole = (30522 + 516) * width + width**2 + width
        whole += layers * (4 * (width**2 + width) + 2 * width * inner + inner + 5 * width)
        return whole - sum(part(layers, width, inner) for part in missing)

    return count


def by(step):
    """A `perturb` that adds `step(gradient)`."""

    def perturb(emb, loss):
        (g,) = torch.autograd.grad(loss, emb)
        return emb + step(g).detach()

    return perturb


def normed(g, axes=(1, 2)):
    return g / g.square().sum(dim=axes, keepdim=True).sqrt().clamp_min(1e-12)


def cut_off(emb, loss):
    return perturb_embeddings(emb, loss).detach()


def through(emb, loss):
    (g,) = torch.autograd.grad(loss, emb, create_graph=True)
    return emb + normed(g)


def by_backward(emb, loss):
    emb.retain_grad()
    loss.backward(retain_graph=True)
    return emb + normed(emb.grad).detach()


def divides_by_zero(emb, loss):
    (g,) = torch.autograd.grad(loss, emb)
    return emb + (g / g.square().sum(dim=(1, 2), keepdim=True).sqrt()).detach()


def two_pass(zero=True, update="perturbed", cut=False, move=perturb_embeddings, first=False):
    def step(embed, loss_of, tokens, optimizer):
        if zero:
            optimizer.zero_grad()
        emb = embed(tokens)
        clean = loss_of(emb)
        if first:
            clean.backward(retain_graph=True)
            if first == "and updates":
                optimizer.step()
                optimizer.zero_grad()
                emb = embed(tokens)
                clean = loss_of(emb)
        moved = move(emb, clean)
        perturbed = loss_of(moved.detach() if cut else moved)
        if update == "clean":
            loss_of(emb.detach())  # a pass that does nothing
            clean = loss_of(embed(tokens))
            clean.backward()
        elif update:
            perturbed.backward()
        optimizer.step()
        return clean.item(), perturbed.item()

    return step


def turned_round(embed, loss_of, tokens, optimizer):
    return two_pass()(embed, loss_of, tokens, optimizer)[::-1]


def detached_only_in_name(emb, loss):
    (g,) = torch.autograd.grad(loss, emb, create_graph=True)
    return emb + normed(g)


def best_temperature(logits, labels, size=800):
    grid = torch.logspace(-2, 1, size)
    return float(grid[torch.stack([F.cross_entropy(logits / t, labels) for t in grid]).argmin()])


def least_loss(logits, labels):
    return F.cross_entropy(logits / best_temperature(logits, labels), labels)


def own_rows(right_a, right_b, rows):
    return 100 * (right_a.mean() - right_b.mean())


def largest(k, sd, reduce=lambda x: x.max(1).mean()):
    return reduce(np.random.default_rng(1).normal(0, sd, (50_000, k)))


def grid_of(boundaries, pick=max):
    def choose(train, budget):
        scores = {b: train(b) for b in boundaries}
        return pick(scores, key=scores.get)

    return choose


def best_score(train, budget):
    return max(train(b) for b in (0.1, 0.5, 0.9))


def unpaired(shared=False, block_of=lambda block: block, fixed=False, turn=False, count=1):
    def draw(first, second, block, seed):
        rng, spreads, block = np.random.default_rng(0 if fixed else seed), [], block_of(block)
        many = max(1, int(count * (len(first) // block)))
        starts = rng.integers(0, len(first) - block + 1, many)
        for values in (first, second):
            if not shared:
                starts = rng.integers(0, len(first) - block + 1, many)
            spreads.append(values[(starts[:, None] + np.arange(block)).ravel()].std())
        return spreads[1] / spreads[0] if turn else spreads[0] / spreads[1]

    return draw


def noisy(length=None, same=False, whole=False, door="layer", normalise=True):
    def logits(student, batch, size):
        from lrc_lib.models import embeddings_replaced

        inputs = {name: x for name, x in batch.items() if name != "labels"}
        with torch.no_grad():
            emb = student.bert.embeddings(input_ids=inputs["input_ids"])
            way = torch.randn(emb.shape[-1:] if same else emb.shape).expand_as(emb)
            way = unit(way) if normalise else way / emb.shape[-1] ** 0.5
            moved = emb + size * way * (length or emb.norm(dim=-1, keepdim=True))
            if door == "none":
                return student(**inputs).logits
            if door == "inputs_embeds":
                return student(inputs_embeds=moved, **inputs | {"input_ids": None}).logits
            with embeddings_replaced(student, moved):
                return student(**inputs) if whole else student(**inputs).logits

    return logits


def fluctuation(history, stage, window, column="loss", scale=np.log, trend=False):
    rows = history[history["stage"] == stage] if stage else history
    values = scale(rows[column].to_numpy(float))
    if trend:
        return values.std()
    smooth = np.convolve(values, np.ones(window) / window, "valid")
    return (values[window // 2 : -(window // 2)] - smooth).std()


def fair(first="loss", every_stage=False, turn=False, **how):
    def ratio(with_it, without, stage, window):
        stage = 0 if every_stage else stage
        a = fluctuation(with_it, stage, window, first, **how)
        b = fluctuation(without, stage, window, **how)
        return b / a if turn else a / b

    return ratio


def only_stage_2(with_it, without, stage, window):
    return fluctuation(with_it, 2, window) / fluctuation(without, 2, window)


def ranked(first=1, order=None, off=True, pairs=None, turn=False):
    def area(score, wrong):
        ranks = (order or (lambda s: s.argsort().argsort()))(score) + first
        ones = wrong.sum()
        won = ranks[wrong].sum() - (ones * (ones + 1) / 2 if off else 0)
        value = won / (pairs or ones * (len(score) - ones))
        return 1 - value if turn else value

    return area


def picked(bad_of=lambda a: -a, bert=True, both=2):
    def pick(mse, angle, wrong_lrc, wrong_bert_m):
        ok = ~wrong_bert_m if bert else wrong_bert_m
        bad, good = np.flatnonzero(wrong_lrc & ok), np.flatnonzero(~wrong_lrc & ok)
        bad = bad[bad_of(angle[bad]).argsort()[:both]]
        return [*good[(-bad_of(angle[good])).argsort()[: 4 - both]], *bad]

    return pick


def auc(score, wrong):
    pairs = score[wrong][:, None] - score[~wrong]
    return (pairs > 0).mean() + 0.5 * (pairs == 0).mean() if pairs.size else np.nan


def thirds(parts_of, reduce=np.nanmean):
    def within(score, wrong, lengths):
        return reduce([auc(score[r], wrong[r]) for r in parts_of(score, lengths)])

    return within


def equal_ranges(score, lengths):
    steps = np.linspace(lengths.min(), lengths.max() + 1, 4)
    pairs = zip(steps, steps[1:], strict=False)
    return [np.flatnonzero((lengths >= a) & (lengths < b)) for a, b in pairs]


def by_rule(sort=cases, mirror=True, filtered=True, fewer=True, swap=False):
    def rule(wrong_lrc, wrong_bert_m, mse, angle, count):
        ours = ~wrong_lrc & wrong_bert_m if filtered else wrong_bert_m
        theirs = wrong_lrc & ~wrong_bert_m
        if fewer:
            count = min(count, ours.sum(), theirs.sum())
        first, second = (angle, mse) if swap else (mse, angle)
        return sort(ours, first, count), sort(theirs, second, count) if mirror else []

    return rule


def by_position(chosen, by, count):
    return np.flatnonzero(chosen)[:count]


CHANCE = np.random.default_rng(0)


def by_chance(chosen, by, count):
    return CHANCE.permutation(np.flatnonzero(chosen))[:count]


def tosses(wins, columns, of=None):
    chosen = range(wins, columns + 1) if of is None else of(wins, columns)
    return sum(math.comb(columns, k) for k in chosen) / 2**columns


def worded(word_of):
    return lambda low, high, margin: word_of(low, high, margin)


def wrong_answers(right: dict) -> dict:
    """{exercise: [(words, wrong function, which of the answers: 0 unless told)]}.

    Args:
        right: {exercise: its right functions}.
    """
    return {
        "ex_01_1": [
            ("the cosine", lambda x, y: 1 - angular_distance(x, y)),
            ("divide the dot product", lambda x, y: 1 - (x * y).sum(-1)),
            ("Only x is divided", lambda x, y: 1 - (unit(x) * y).sum(-1)),
            ("twice g", lambda x, y: (unit(x) - unit(y)).square().sum(-1)),
            ("the angle itself", lambda x, y: (1 - angular_distance(x, y)).acos()),
            ("one long vector", whole_g),
            ("averaged over all pairs", lambda x, y: angular_distance(x, y).mean()),
            ("The shape is (4, 8)", lambda x, y: 1 - F.cosine_similarity(x, y, dim=1)),
            ("zero vector gives NaN", nan_g),
        ],
        "ex_01_2": [
            ("divides their sum by 2K", eq1(0.5, reduce="sum")),
            ("1/2 before the push is missing", eq1(1.0)),
            ("did not halve", eq1(1.0, reduce="sum")),
            ("pull is missing", eq1(0.5, pull=0.0)),
            ("sign of the difference", eq1(0.5, sign=-1)),
            ("The 2 in front", eq1(0.5, inner=0.0)),
            ("averaged over the batch", lambda s, t, n: cos_nce(s, t, n)),
            (
                "compares them with the student",
                lambda s, t, n: eq1(0.5)(t, t, n) + 1.5 * (angular_distance(t, s)),
            ),
            ("still loops", with_loop_again, 1),
        ],
        "ex_01_3": [
            ("teacher's own direction", lambda t, n: t),
            ("alike", lambda t, n: unit(t) - unit(n).mean(1)),
            ("Long negatives", lambda t, n: 1.5 * unit(t) - 0.5 * n.mean(1)),
            ("pull there", lambda t, n: 1.5 * unit(t) + 0.5 * unit(n).mean(1)),
            ("teacher keeps its length", lambda t, n: 1.5 * t - 0.5 * unit(n).mean(1)),
            ("added the negatives up", lambda t, n: 1.5 * unit(t) - 0.5 * unit(n).sum(1)),
            ("how much they agree", lambda t, n: 1.5 * unit(t) - 0.5 * unit(unit(n).mean(1))),
            ("sign is turned", lambda t, n: -right["ex_01_3"][1](t, n), 1),
            ("not their mean", lambda t, n: right["ex_01_3"][1](t, n).mean(), 1),
            (
                "take the least loss off",
                lambda t, n: 2 - ((1.5 * unit(t) - 0.5 * unit(n).mean(1)) * unit(t)).sum(-1),
                1,
            ),
        ],
        "ex_01_4": [
            ("spread is 0", study(always_the_first)),
            ("you add the negatives up", study(summed)),
            ("variance", study(drawn, torch.var)),
            ("standard error", study(drawn, lambda x: x.std() / len(x) ** 0.5)),
            ("does not fall with K", study(one_each)),
            ("Your mean is", study(lambda *inputs: drawn(*inputs) + 0.5)),
            ("mean and the spread", lambda s, t, p, k, r: drawn(s, t, p, k, r)),
            ("root of 2", lambda: 30, 1),
            ("needs 4 times", lambda: 15**2, 1),
            ("spread larger", lambda: 15 / 4, 1),
        ],
        "ex_01_5": [
            ("among its own negatives: take", in_batch(lambda s, own, b: s / b)),
            ("You divide by B:", in_batch(lambda s, own, b: (s - own) / b)),
            ("all B are summed", in_batch(lambda s, own, b: s / (b - 1))),
            ("Normalise before you sum", raw_sum),
            ("wrong sign", in_batch(lambda s, own, b: (own - s) / (b - 1))),
            ("not halved", in_batch(lambda s, own, b: 2 * (s - own) / (b - 1))),
            ("averaged over the batch", in_batch_cos_nce),
            ("B x B table", with_table),
            ("still loops", with_rows),
        ],
        "ex_01_6": [
            ("cannot turn v", lambda t: -t.expand(15, -1)),
            ("lean a little towards", lambda t: beside(t).expand(15, -1)),
            ("cancel", lambda t: draws(15, len(t))),
            ("too far towards", lambda t: (unit(t) + beside(t)).expand(15, -1)),
            ("too far away from", lambda t: (beside(t) - unit(t)).expand(15, -1)),
            ("Fifteen negatives", beside),
        ],
        "ex_02_1": [
            ("changes when padding changes", lambda s, m: s.mean(1)),
            ("padded length", lambda s, m: kept(s, m).mean(1)),
            ("sum over the tokens", lambda s, m: kept(s, m).sum(1)),
            ("first token", lambda s, m: s[:, 0]),
            ("whole batch", lambda s, m: kept(s, m).sum(1) / m.sum()),
        ],
        "ex_02_2": [
            ("Your loss changes when padding changes: mask before", layer(lambda s, m: s.mean(1))),
            ("pull alone", layer(loss=lambda z, t, _: angular_distance(z, t))),
            ("BERT_M", layer(loss=lambda z, t, _: (z - t).square().mean(-1))),
            ("own negatives", layer(loss=with_itself)),
            ("averaged over the batch", layer(loss=lambda z, t, _: in_batch_cos_nce(z, t))),
            (
                "student's own outputs",
                layer(
                    loss=lambda z, t, _: (
                        1.5 * angular_distance(z, t)
                        + 0.5
                        + 0.5 * (unit(z) @ unit(z).T - torch.eye(len(z))).sum(1) / (len(z) - 1)
                    )
                ),
            ),
        ],
        "ex_02_3": [
            ("Nothing was taken off", unit),
            ("each vector's own mean", lambda v: unit(v) - unit(v).mean(1, keepdim=True)),
            ("Long vectors decide", lambda v: v - v.mean(0)),
            ("spread of each coordinate", lambda v: (unit(v) - unit(v).mean(0)) / unit(v).std(0)),
            ("more alike", lambda v: unit(v) + unit(v).mean(0)),
            (
                "along the mean direction",
                lambda v: (
                    unit(v) - (unit(v) @ unit(unit(v).mean(0)))[:, None] * unit(unit(v).mean(0))
                ),
            ),
        ],
        "ex_02_4": [
            ("pooler: not counted", counting(lambda n, d, f: d * d + d)),
            ("Positions: not counted", counting(lambda n, d, f: 512 * d)),
            ("LayerNorms, or the biases", counting(lambda n, d, f: 4 * n * d)),
            ("All biases", counting(lambda n, d, f: n * (5 * d + f))),
            ("fourth square matrix", counting(lambda n, d, f: n * (d * d + d))),
            ("pooler: counted twice", counting(lambda n, d, f: -d * d - d)),
            ("too many", counting(lambda n, d, f: -7)),
            ("One number", lambda n, d, f: [n, d, f]),
        ],
        "ex_04_1": [
            ("ordinary cross-entropy", lambda x, y, tau: F.cross_entropy(x, y, reduction="none")),
            (
                "softened the student as well",
                lambda x, y, tau: (
                    -((F.one_hot(y, 4) / tau).softmax(-1) * (x / tau).log_softmax(-1)).sum(-1)
                ),
            ),
            (
                "temperature is missing",
                lambda x, y, tau: hard_label_loss(x, y, 1.0, reduction="none"),
            ),
            ("Eq. (5) divides", lambda x, y, tau: hard_label_loss(x, y, 1 / tau, reduction="none")),
            ("sign is missing", lambda x, y, tau: -hard_label_loss(x, y, tau, reduction="none")),
            ("averaged over the batch", lambda x, y, tau: hard_label_loss(x, y, tau)),
            (
                "divided by the number of classes",
                lambda x, y, tau: hard_label_loss(x, y, tau, reduction="none") / 4,
            ),
        ],
        "ex_04_2": [
            (
                "You divided by the number of classes",
                lambda s, t, tau: F.kl_div(
                    (s / tau).log_softmax(-1), (t / tau).softmax(-1), reduction="none"
                ).mean(),
            ),
            (
                "You added up the rows",
                lambda s, t, tau: F.kl_div(
                    (s / tau).log_softmax(-1), (t / tau).softmax(-1), reduction="sum"
                ),
            ),
            ("exchanged", lambda s, t, tau: right["ex_04_2"][0](t, s, tau)),
            ("tau squared", lambda s, t, tau: tau**2 * right["ex_04_2"][0](s, t, tau)),
            ("temperature is gone", lambda s, t, tau: right["ex_04_2"][0](s, t, 1.0)),
            (
                "not one for each row",
                lambda s, t, tau: F.kl_div(
                    (s / tau).log_softmax(-1), (t / tau).softmax(-1), reduction="none"
                ).sum(-1),
            ),
        ],
        "ex_04_3": [
            ("downhill", by(lambda g: -normed(g))),
            ("whole batch", by(lambda g: g / g.norm())),
            ("each token", by(lambda g: normed(g, (2,)))),
            ("not divided", by(lambda g: g)),
            ("FGSM", by(torch.sign)),
            ("step alone", lambda emb, loss: normed(torch.autograd.grad(loss, emb)[0])),
            ("Nothing moved", lambda emb, loss: emb),
            ("cut off", cut_off),
            ("is it detached?", through),
            ("loss.backward() does not", by_backward),
            ("0 / 0", divides_by_zero),
        ],
        "ex_04_4": [
            ("first pass updates", two_pass(update="clean")),
            ("they add up", two_pass(first=True)),
            ("update after each pass", two_pass(first="and updates")),
            ("is it detached?", two_pass(move=detached_only_in_name)),
            ("embedding layer learns nothing", two_pass(cut=True)),
            ("zero_grad()", two_pass(zero=False)),
            ("downhill", two_pass(move=lambda e, loss: perturb_embeddings(e, loss, epsilon=-1.0))),
            ("did not move", two_pass(update="")),
            ("clean loss first", turned_round),
        ],
        "ex_04_5": [
            ("one-hot target asks for", lambda c, tau: 1.0),
            ("1 / C is a guess", lambda c, tau: 1 / c),
            ("temperature is missing", lambda c, tau: math.e / (math.e + c - 1)),
            ("Eq. (5) divides", lambda c, tau: math.exp(tau) / (math.exp(tau) + c - 1)),
            ("holds for two classes", lambda c, tau: 1 / (1 + math.exp(-1 / tau))),
            ("take it from 1", lambda c, tau: 1 - right["ex_04_5"][0](c, tau)),
            ("you predict 0.8000", lambda c, tau: 0.8),
        ],
        "ex_04_6": [
            ("more weight", lambda settled: 3.0),
            ("more than asked", lambda settled: 1000.0),
            ("That is a probability", lambda settled: 0.9),
            ("beta is positive", lambda settled: -5.0),
        ],
        "ex_04_7": [
            ("the inverse", lambda x, y: 1 / best_temperature(x, y)),
            ("least loss", least_loss),
            ("as it was", lambda x, y: 1.0),
            ("finer grid", lambda x, y: best_temperature(x, y, 5)),
            ("positive", lambda x, y: -1.0),
        ],
        "ex_05_1": [
            ("points are hundredths", lambda a, b, rows: a[rows].mean(1) - b[rows].mean(1)),
            ("a minus b", lambda a, b, rows: 100 * (b[rows].mean(1) - a[rows].mean(1))),
            ("averaged over the draws", lambda a, b, r: 100 * (a[r].mean(0) - b[r].mean(0))),
            ("whole dev set, not one", own_rows),
            ("index with `rows`", lambda a, b, r: np.full(len(r), own_rows(a, b, r))),
            ("an accuracy is a mean", lambda a, b, r: 1.0 * a[r].sum(1) - b[r].sum(1)),
        ],
        "ex_05_2": [
            (
                "variance: take its root",
                lambda g, s, n: 1e4 * ((g + s) / n - ((g - s) / n) ** 2) / n,
            ),
            ("is a fraction", lambda g, s, n: right["ex_05_2"][0](g, s, n) / 100),
            ("one row", lambda g, s, n: right["ex_05_2"][0](g, s, n) * n**0.5),
            ("squared mean is missing", lambda g, s, n: 100 * (g + s) ** 0.5 / n),
            ("after the root", lambda g, s, n: right["ex_05_2"][0](g, s, n) / n**0.5),
            ("difference itself", lambda g, s, n: 100 * (g - s) / n),
        ],
        "ex_05_3": [
            ("`sd` has no effect", lambda k, sd: largest(k, 1.0)),
            ("one largest value of all", lambda k, sd: largest(k, sd, np.max)),
            ("not inflated", lambda k, sd: largest(k, sd, lambda x: np.abs(x).max(1).mean())),
            ("smallest", lambda k, sd: largest(k, sd, lambda x: x.min(1).mean())),
            ("is expected", lambda k, sd: largest(k, sd, lambda x: x.max(1).mean() * 0.8)),
        ],
        "ex_05_4": [
            ("the budget is 6", grid_of(np.arange(20) / 20)),
            ("You never trained", lambda train, budget: 0.8),
            ("one boundary only", grid_of([0.8, 0.8, 0.8])),
            ("one side only", grid_of([0.7, 0.75, 0.8, 0.85, 0.9, 0.95])),
            ("not a score", best_score),
            ("do you return the worst?", grid_of([0.0, 0.2, 0.4, 0.6, 0.8, 0.95], min)),
            ("it is a share", grid_of([10, 50, 90])),
            ("Spread the trainings", grid_of([0.1, 0.9])),
        ],
        "ex_06_1": [
            ("twice the variance", lambda x: np.diff(x).std()),
            ("divided by 2", lambda x: np.diff(x).std() / 2),
            ("trend is still", np.std),
            ("variance: take its root", lambda x: np.diff(x).var() / 2),
            ("mean size", lambda x: np.abs(np.diff(x)).mean() / 2**0.5),
            ("the differences", np.diff),
        ],
        "ex_06_2": [
            ("paired bootstrap", unpaired(shared=True)),
            ("not single steps", unpaired(block_of=lambda block: 1)),
            ("All seeds", unpaired(fixed=True)),
            ("upside down", unpaired(turn=True)),
            ("too wide", unpaired(count=0.2)),
        ],
        "ex_06_3": [
            ("0.5 times its own length", noisy(length=1.0)),
            ("the same way", noisy(same=True)),
            ("normalises them again", noisy(door="inputs_embeds")),
            ("Nothing moves", noisy(door="none")),
            ("`.logits`", noisy(whole=True)),
            ("to length 1 first", noisy(normalise=False)),
        ],
        "ex_06_4": [
            ("Apples with pears", fair(first="perturbed")),
            ("stage is ignored", fair(every_stage=True)),
            ("upside down", fair(turn=True)),
            ("take the logarithm", fair(scale=np.asarray)),
            ("trend is still in it", fair(trend=True)),
            ("`stage` has no effect", only_stage_2),
            ("no accuracy is compared", lambda: {"a", "b"}, 1),
            ("no test of robustness", lambda: {"b", "c"}, 1),
            ("which of its two losses", lambda: "b, d", 1),
            ("no interval", lambda: ["b", "e"], 1),
            ("One statement does hold", set, 1),
        ],
        "ex_07_1": [
            ("Upside down", ranked(turn=True)),
            ("did not divide", ranked(pairs=1)),
            ("among themselves off", ranked(off=False)),
            ("begins at 0", ranked(first=0)),
            ("argsort of argsort", ranked(order=np.argsort)),
            ("all pairs of rows", ranked(pairs=300 * 299 / 2)),
        ],
        "ex_07_2": [
            ("bert_m is wrong", picked(bert=False)),
            ("lrc is wrong on 1", picked(both=1)),
            ("larger angles", picked(bad_of=lambda a: a)),
            ("Four different rows", lambda m, a, x, y: [3, 3, 3, 3]),
            ("row numbers", lambda m, a, x, y: [0.5, 1, 2, 3]),
        ],
        "ex_07_3": [
            ("over all rows", lambda s, w, n: auc(s, w)),
            ("not sorted", thirds(lambda s, n: np.array_split(np.arange(len(n)), 3))),
            ("You sorted by the score", thirds(lambda s, n: np.array_split(np.argsort(s), 3))),
            ("three equal parts", thirds(equal_ranges)),
            (
                "average them",
                thirds(lambda s, n: np.array_split(np.argsort(n, kind="stable"), 3), list),
            ),
            (
                "leave it out",
                thirds(lambda s, n: np.array_split(np.argsort(n, kind="stable"), 3), np.mean),
            ),
        ],
        "ex_07_4": [
            ("by position", by_rule(by_position)),
            ("nothing to chance", by_rule(by_chance)),
            ("One kind is missing", by_rule(mirror=False)),
            ("answer rightly alone", by_rule(filtered=False)),
            ("smallest MSE", by_rule(lambda chosen, by, count: cases(chosen, -by, count))),
            ("not the four rows", by_rule(swap=True)),
            ("as many of either", by_rule(fewer=False)),
            ("4 of each kind", by_rule(lambda chosen, by, count: cases(chosen, by, 2))),
        ],
        "ex_09_1": [
            ("divide the sums", right["ex_09_1"][1]),
            ("divide each first", right["ex_09_1"][0], 1),
            ("percent are asked for", lambda s, t: sum(s) / sum(t)),
            ("Upside down: the student's share of", lambda s, t: 100 * sum(t) / sum(s)),
            ("differences", lambda s, t: np.subtract(s, t).mean()),
            ("average the ratios", lambda s, t: 100 * np.divide(s, t), 1),
        ],
        "ex_09_2": [
            ("one of the words", worded(lambda low, high, margin: "same")),
            (
                "that comes first",
                worded(
                    lambda low, high, margin: (
                        "better"
                        if low > 0
                        else "worse"
                        if high < 0
                        else "equivalent"
                        if max(-low, high) < margin
                        else "undecided"
                    )
                ),
            ),
            (
                "`margin` has no effect",
                worded(lambda low, high, margin: right["ex_09_2"][0](low, high, 1.0)),
            ),
            (
                "lies below 0",
                worded(
                    lambda low, high, margin: (
                        "equivalent"
                        if max(-low, high) < margin
                        else "better"
                        if low > 0
                        else "undecided"
                    )
                ),
            ),
        ],
        "ex_09_3": [
            ("exactly so many", lambda w, n: tosses(w, n, lambda w, n: [w])),
            ("counts too", lambda w, n: tosses(w, n, lambda w, n: range(w + 1, n + 1))),
            ("turn it round", lambda w, n: tosses(w, n, lambda w, n: range(w + 1))),
            ("two-sided", lambda w, n: 2 * tosses(w, n)),
            ("number of ways", lambda w, n: 2**n * tosses(w, n)),
        ],
    }
