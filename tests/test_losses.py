"""Eqs. (1)-(6): closed forms in float64 first, naive loops second, then edges and errors."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lrc_lib.losses import (
    REPRESENTATIONS,
    angular_distance,
    attention_loss,
    away_from,
    cos_nce,
    cos_nce_minimum,
    cos_nce_target,
    hard_label_loss,
    in_batch_cos_nce,
    layer_loss,
    reduce_states,
    scaled_soft_loss,
    soft_label_loss,
    total_loss,
    transformer_layer_loss,
)

EXACT = {"rtol": 0, "atol": 1e-12}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def literal_g(x, y):
    """Eq. (2), written out for two plain vectors."""
    dot = sum(float(a) * float(b) for a, b in zip(x, y, strict=True))
    norm_x, norm_y = (math.sqrt(sum(float(a) ** 2 for a in z)) for z in (x, y))
    return 1 - dot / (norm_x * norm_y)


def literal_cos_nce(student, teacher, negatives):
    """Eq. (1), written out for one sample."""
    positive = literal_g(teacher, student)
    away = sum(2 - (literal_g(n, student) - positive) for n in negatives)
    return away / (2 * len(negatives)) + positive


def others(teacher):
    """(B, K, D): for each row, the other B - 1."""
    index = range(len(teacher))
    return torch.stack([teacher[[j for j in index if j != i]] for i in index])


# ---- Eq. (2)


def test_angular_distance_by_hand():
    x = torch.tensor([2.0, 0.0])
    y = torch.tensor([[5.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]])
    expected = torch.tensor([0.0, 1.0, 2.0, 1 - math.sqrt(0.5)])
    torch.testing.assert_close(angular_distance(x, y), expected)


def test_angular_distance_is_the_literal_formula():
    x, y = draw(7, 5, seed=1), draw(7, 5, seed=2)
    expected = doubles([literal_g(a, b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(angular_distance(x, y), expected, **EXACT)


def test_angular_distance_broadcasts_but_not_over_the_width():
    assert angular_distance(draw(4, 1, 6), draw(3, 6)).shape == (4, 3)
    with pytest.raises(ValueError, match=r"\(4, 1\).*\(4, 6\)"):
        angular_distance(draw(4, 1), draw(4, 6))


# ---- Eq. (1): closed forms


@pytest.mark.parametrize("seed", range(5))
def test_three_forms_of_equation_1_agree(seed):
    z, t, n = draw(6, 9, seed=seed), draw(6, 9, seed=seed + 50), draw(6, 4, 9, seed=seed + 90)
    ours = cos_nce(z, t, n, reduction="none")
    literal = [literal_cos_nce(*row) for row in zip(z, t, n, strict=True)]
    torch.testing.assert_close(ours, doubles(literal), **EXACT)
    mean_g = angular_distance(n, z[:, None]).mean(1)
    torch.testing.assert_close(ours, 1 + 1.5 * angular_distance(t, z) - 0.5 * mean_g, **EXACT)
    v = 1.5 * unit(t) - 0.5 * unit(n).mean(1)
    torch.testing.assert_close(ours, 2 - (v * unit(z)).sum(-1), **EXACT)


def test_in_batch_form_is_the_double_loop():
    z, t = draw(8, 11, seed=3), draw(8, 11, seed=4)
    loop = [literal_cos_nce(z[i], t[i], others(t)[i]) for i in range(8)]
    torch.testing.assert_close(in_batch_cos_nce(z, t, "none"), doubles(loop), **EXACT)
    torch.testing.assert_close(in_batch_cos_nce(z, t), cos_nce(z, t, others(t)), **EXACT)


def test_batch_mean_needs_only_the_two_mean_directions():
    z, t = draw(16, 20, seed=5), draw(16, 20, seed=6)
    cosine = (unit(z) * unit(t)).sum(-1).mean()
    mean_product = unit(t).mean(0) @ unit(z).mean(0)
    expected = 2 - (1.5 + 0.5 / 15) * cosine + 0.5 * 16 / 15 * mean_product
    torch.testing.assert_close(in_batch_cos_nce(z, t), expected, **EXACT)


def test_half_a_triplet_loss_whose_hinge_is_always_open():
    z, t, n = draw(6, 9, seed=7), draw(6, 9, seed=8), draw(6, 5, 9, seed=9)
    positive, negative = angular_distance(t, z), angular_distance(n, z[:, None])
    hinge = F.relu(positive[:, None] - negative + 2).mean(1)
    torch.testing.assert_close(cos_nce(z, t, n, "none"), positive + hinge / 2, **EXACT)


def test_infinite_temperature_limit_of_infonce():
    """tau (InfoNCE - log(K+1)) -> K/(K+1) (mean negative cosine - positive cosine)."""
    z, t, n = draw(1, 9, seed=10), draw(1, 9, seed=11), draw(1, 7, 9, seed=12)
    cosines = 1 - angular_distance(torch.cat([t[:, None], n], 1), z[:, None])
    cosine_part = 1.5 * (1 - cosines[0, 0]) - 0.5 * (1 - cosines[0, 1:].mean())
    torch.testing.assert_close(cos_nce(z, t, n), 1 + cosine_part, **EXACT)
    temperature, k = 1e4, 7
    infonce = F.cross_entropy(cosines / temperature, torch.tensor([0]))
    limit = temperature * (infonce - math.log(k + 1)) * (k + 1) / k
    recovered = 1 + angular_distance(t, z)[0] + limit / 2
    torch.testing.assert_close(cos_nce(z, t, n), recovered, rtol=0, atol=1e-4)


# ---- Eq. (1): minimum, range, gradient


def test_gradient_descent_ends_at_the_predicted_direction_and_minimum():
    t = draw(6, 12, seed=13)
    z = draw(6, 12, seed=14).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        in_batch_cos_nce(z, t).backward()
        optimizer.step()
    best = unit(1.5 * unit(t) - 0.5 * unit(others(t)).mean(1))
    torch.testing.assert_close(unit(z.detach()), best, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        in_batch_cos_nce(z, t, "none"), cos_nce_minimum(t), rtol=0, atol=1e-9
    )
    assert (angular_distance(best, t) > 1e-3).all(), "the optimum should not be the teacher"
    assert (in_batch_cos_nce(t, t, "none") > cos_nce_minimum(t)).all()


def test_range_is_0_to_4_and_both_ends_are_attained():
    t = draw(1, 5, seed=15)
    opposite = -t[:, None].repeat(1, 3, 1)
    torch.testing.assert_close(cos_nce(t, t, opposite).item(), 0.0, **EXACT)
    torch.testing.assert_close(cos_nce(-t, t, opposite).item(), 4.0, **EXACT)
    values = cos_nce(draw(500, 3), draw(500, 3, seed=1), draw(500, 2, 3, seed=2), "none")
    assert 0 <= values.min() and values.max() <= 4


def test_the_minimum_lies_between_0_and_1():
    minima = cos_nce_minimum(torch.cat([draw(30, 4), draw(30, 4, seed=1) + 3]))
    assert 0 <= minima.min() and minima.max() <= 1
    same = draw(1, 4).repeat(5, 1)
    torch.testing.assert_close(cos_nce_minimum(same), torch.ones(5).double(), **EXACT)


def test_gradient_is_orthogonal_to_the_student_and_has_the_closed_form():
    z, t, n = draw(6, 9, seed=16).requires_grad_(), draw(6, 9, seed=17), draw(6, 4, 9, seed=18)
    (gradient,) = torch.autograd.grad(cos_nce(z, t, n, "none").sum(), z)
    torch.testing.assert_close((gradient * z).sum(-1), torch.zeros(6).double(), **EXACT)
    v = 1.5 * unit(t) - 0.5 * unit(n).mean(1)
    u = unit(z.detach())
    expected = -(v - (v * u).sum(-1, keepdim=True) * u) / z.detach().norm(dim=-1, keepdim=True)
    torch.testing.assert_close(gradient, expected, **EXACT)


@pytest.mark.parametrize("which", ["student", "teacher", "negatives"])
def test_lengths_do_not_matter(which):
    tensors = {"student": draw(6, 9), "teacher": draw(6, 9, seed=1)}
    tensors["negatives"] = draw(6, 4, 9, seed=2)
    before = cos_nce(**tensors)
    shape = tensors[which].shape[:-1]
    lengths = 10 ** draw(*shape, 1, seed=3)
    after = cos_nce(**{**tensors, which: tensors[which] * lengths})
    torch.testing.assert_close(before, after, **EXACT)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_the_scale_of_w_does_not_matter(representation):
    states, teacher, mask = draw(4, 5, 3), draw(4, 5, 6, seed=1), torch.ones(4, 5)
    w = draw(3, 6, seed=2)
    one = transformer_layer_loss(states @ w, teacher, mask, representation)
    scaled = transformer_layer_loss(states @ (37 * w), teacher, mask, representation)
    torch.testing.assert_close(one, scaled, **EXACT)


def test_the_order_of_negatives_does_not_matter():
    z, t, n = draw(6, 9), draw(6, 9, seed=1), draw(6, 5, 9, seed=2)
    for order in ([4, 2, 0, 1, 3], [1, 0, 2, 3, 4]):
        torch.testing.assert_close(cos_nce(z, t, n), cos_nce(z, t, n[:, order]), **EXACT)
    swapped = [3, 1, 0, 5, 4, 2]
    torch.testing.assert_close(
        in_batch_cos_nce(z, t, "none")[swapped],
        in_batch_cos_nce(z[swapped], t[swapped], "none"),
        **EXACT,
    )


# ---- Eq. (1): precision, zeros, cost, errors


@pytest.mark.parametrize("zero", ["student", "teacher", "both"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_zero_vectors_give_finite_losses_and_gradients(zero, dtype):
    z, t = draw(4, 6).to(dtype), draw(4, 6, seed=1).to(dtype)
    for name, tensor in (("student", z), ("teacher", t)):
        if zero in (name, "both"):
            tensor[1] = 0
    z.requires_grad_(), t.requires_grad_()
    for loss in (in_batch_cos_nce(z, t), cos_nce(z, t, others(t)), cos_nce_minimum(t).mean()):
        assert loss.isfinite()
        grads = torch.autograd.grad(loss.float(), (z, t), allow_unused=True)
        # In float16 a gradient of 1e5 cannot be written down; it must not be NaN either.
        assert not any(g.isnan().any() for g in grads if g is not None)
        assert dtype == torch.float16 or all(g.isfinite().all() for g in grads if g is not None)


def test_a_zero_vector_has_cosine_0_with_everything():
    assert angular_distance(torch.zeros(3), torch.ones(3)) == 1
    assert angular_distance(torch.zeros(3), torch.zeros(3)) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype):
    t = draw(4, 64).to(dtype)
    z = (t.double() * (1 + 0.03 * draw(4, 64, seed=1))).to(dtype)
    distance = angular_distance(z, t)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, angular_distance(z.float(), t.float()))
    assert (distance > 1e-5).all(), "one rounding to half precision would give 0 here"
    assert in_batch_cos_nce(z, t).dtype == torch.float32
    assert soft_label_loss(z, t).dtype == torch.float32


def test_autocast_does_not_reach_the_losses():
    z, t = draw(4, 64).float(), draw(4, 64, seed=1).float()
    mask, labels = torch.ones(4, 4), torch.arange(4)
    calls = [
        lambda: angular_distance(z, t),
        lambda: cos_nce(z, t, others(t)),
        lambda: in_batch_cos_nce(z, t),
        lambda: cos_nce_minimum(t),
        lambda: transformer_layer_loss(z.view(4, 4, 16), t.view(4, 4, 16), mask, "token"),
        lambda: soft_label_loss(z, t),
        lambda: hard_label_loss(z, labels),
    ]
    for call in calls:
        outside = call()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = call()
        assert inside.dtype == torch.float32
        torch.testing.assert_close(inside, outside, rtol=0, atol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor made inside it."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_in_batch_cost_is_linear_in_the_batch():
    z, t = draw(512, 4096, dtype=torch.float32), draw(512, 4096, seed=1, dtype=torch.float32)
    with LargestTensor() as seen:
        ours = in_batch_cos_nce(z, t, "none")
    assert seen.elements <= 512 * 4096
    cosines = F.normalize(z) @ F.normalize(t).T
    positive = cosines.diagonal()
    quadratic = 2 - 1.5 * positive + 0.5 * (cosines.sum(1) - positive) / 511
    torch.testing.assert_close(ours, quadratic, rtol=0, atol=1e-5)
    wide, narrow = draw(2000, 2, dtype=torch.float32), draw(2000, 2, seed=1, dtype=torch.float32)
    with LargestTensor() as seen:  # B > D: a B x B matrix would be the largest thing here
        in_batch_cos_nce(wide, narrow)
    assert seen.elements <= 2000 * 2


def test_shapes_that_cannot_be_meant_are_refused_by_name():
    z = draw(4, 6)
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(4, 5\)"):
        in_batch_cos_nce(z, draw(4, 5))
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(3, 6\)"):
        cos_nce(z, draw(3, 6), draw(4, 2, 6))
    for bad in ((4, 0, 6), (4, 2, 5), (3, 2, 6), (4, 6)):
        with pytest.raises(ValueError, match=r"K >= 1.*" + str(bad).replace("(", r"\(")[:-1]):
            cos_nce(z, z, draw(*bad))
    for small in ((1, 6), (0, 6)):
        with pytest.raises(ValueError, match=rf"B >= 2, not \({small[0]}, 6\)"):
            in_batch_cos_nce(draw(*small), draw(*small))
        with pytest.raises(ValueError, match=rf"\({small[0]}, 6\)"):
            cos_nce_minimum(draw(*small))
    for cube in ((4, 3, 3), (6,)):  # (B, L, D) has no single vector a sample: Eq. (3) decides that
        with pytest.raises(ValueError, match=r"\(B, D\)"):
            in_batch_cos_nce(draw(*cube), draw(*cube))
        with pytest.raises(ValueError, match=r"\(B, D\)"):
            cos_nce_minimum(draw(*cube))
    with pytest.raises(ValueError, match="'mean' or 'none', not 'sum'"):
        in_batch_cos_nce(z, z, "sum")


# ---- Eq. (3)

LENGTHS = (5, 2, 4, 1)


def batch_of_unequal_lengths(width=3):
    mask = torch.tensor([[1.0] * n + [0.0] * (5 - n) for n in LENGTHS])
    return draw(4, 5, width, seed=20), draw(4, 5, width, seed=21), mask


def one_vector(states, length, representation):
    """The naive reading of a representation for one sample, as a plain vector of 5 x D or D."""
    if representation == "cls":
        return states[0]
    if representation == "mean":
        return sum(states[i] for i in range(length)) / length
    kept = [states[i] if i < length else torch.zeros_like(states[i]) for i in range(len(states))]
    return torch.cat(kept)


@pytest.mark.parametrize("representation", ["flatten", "mean", "cls"])
def test_unequal_lengths_match_a_loop(representation):
    z, t, mask = batch_of_unequal_lengths()
    students = [one_vector(s, n, representation) for s, n in zip(z, LENGTHS, strict=True)]
    teachers = [one_vector(s, n, representation) for s, n in zip(t, LENGTHS, strict=True)]
    loop = []
    for i in range(4):
        negatives = [teachers[j] for j in range(4) if j != i]
        loop.append(literal_cos_nce(students[i], teachers[i], negatives))
    ours = transformer_layer_loss(z, t, mask, representation, reduction="none")
    torch.testing.assert_close(ours, doubles(loop), **EXACT)


@pytest.mark.parametrize("loss", ["cos_nce", "mse"])
@pytest.mark.parametrize("representation", ["flatten", "mean", "token"])
def test_what_stands_in_the_padding_does_not_matter(representation, loss):
    z, t, mask = batch_of_unequal_lengths()
    junk = 1e3 * draw(4, 5, 3, seed=22) * (1 - mask)[..., None]
    clean = transformer_layer_loss(z, t, mask, representation, loss, "none")
    dirty = transformer_layer_loss(z + junk, t - 2 * junk, mask, representation, loss, "none")
    torch.testing.assert_close(clean, dirty, **EXACT)
    longer = [F.pad(x, (0, 0, 0, 3), value=7.0) for x in (z, t)]
    padded = transformer_layer_loss(*longer, F.pad(mask, (0, 3)), representation, loss, "none")
    torch.testing.assert_close(clean, padded, **EXACT)
    moved = z.clone()
    moved[0, 0] += 1
    assert (transformer_layer_loss(moved, t, mask, representation, loss, "none") != clean)[0]


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_reducing_before_w_is_reducing_after_w(representation):
    z, _, mask = batch_of_unequal_lengths()
    teacher, w = draw(4, 5, 7, seed=23), draw(3, 7, seed=24)
    after = transformer_layer_loss(z @ w, teacher, mask, representation, reduction="none")
    student, kept = reduce_states(z, mask, representation)
    small, _ = reduce_states(teacher, mask, representation)
    assert student.shape[1] == (1 if representation in ("mean", "cls") else 5)
    # What is one vector already is compared as one vector.
    again = "flatten" if student.shape[1] == 1 else representation
    before = transformer_layer_loss(student @ w, small, kept, again, reduction="none")
    torch.testing.assert_close(before, after, **EXACT)


def test_the_mean_does_not_care_on_which_side_the_padding_is():
    z, t, mask = batch_of_unequal_lengths()
    right = transformer_layer_loss(z, t, mask, "mean", reduction="none")
    left = transformer_layer_loss(z.flip(1), t.flip(1), mask.flip(1), "mean", reduction="none")
    torch.testing.assert_close(left, right, **EXACT)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_mse_is_the_mean_squared_difference_over_the_same_numbers(representation):
    z, t, mask = batch_of_unequal_lengths()
    loop = []
    for i, length in enumerate(LENGTHS):
        if representation in ("mean", "cls"):
            gap = one_vector(z[i] - t[i], length, representation)
        else:
            gap = torch.cat([z[i, p] - t[i, p] for p in range(length)])
        loop.append(sum(float(x) ** 2 for x in gap) / len(gap))
    ours = transformer_layer_loss(z, t, mask, representation, "mse", "none")
    torch.testing.assert_close(ours, doubles(loop), **EXACT)


def test_mse_of_unit_vectors_is_twice_the_angular_distance():
    z, t, mask = unit(draw(4, 1, 6)), unit(draw(4, 1, 6, seed=1)), torch.ones(4, 1)
    squared = transformer_layer_loss(z, t, mask, "flatten", "mse", "none") * 6
    torch.testing.assert_close(squared, 2 * angular_distance(z[:, 0], t[:, 0]), **EXACT)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("loss", ["cos_nce", "mse"])
def test_rows_of_nothing_but_padding_stay_finite(representation, loss):
    z, t, mask = batch_of_unequal_lengths()
    mask[2] = 0
    z.requires_grad_()
    value = transformer_layer_loss(z, t, mask, representation, loss)
    (gradient,) = torch.autograd.grad(value, z)
    assert value.isfinite() and gradient.isfinite().all()


def test_equation_3_names_what_does_not_fit():
    z, t, mask = batch_of_unequal_lengths()
    with pytest.raises(ValueError, match=r"\(4, 5, 3\).*\(4, 5, 2\).*projection W"):
        transformer_layer_loss(z, t[..., :2], mask)
    with pytest.raises(ValueError, match=r"mask must be \(4, 5\), not \(4, 4\)"):
        transformer_layer_loss(z, t, mask[:, :4])
    with pytest.raises(ValueError, match="'cos_nce', 'mse', .* not 'mae'"):
        transformer_layer_loss(z, t, mask, loss="mae")
    for loss in ("cos_nce", "mse"):
        with pytest.raises(ValueError, match="flatten.*not 'pool'"):
            transformer_layer_loss(z, t, mask, "pool", loss)
        with pytest.raises(ValueError, match="flatten.*not 'pool'"):
            reduce_states(z, mask, "pool")
    for representation in REPRESENTATIONS:
        with pytest.raises(ValueError, match=r"B >= 2, not \(1,"):
            transformer_layer_loss(z[:1], t[:1], mask[:1], representation)


# ---- the layer losses of rivals and controls


def value_of(name, student, teacher, mask, representation="flatten", *mean, **options):
    loss = layer_loss(name, representation, **options)
    return loss.value(student, loss.target(teacher, mask, *mean), mask)


def rows_and_negatives(z, t, i, count, representation):
    """What the loss of row i compares: (its student, its teacher, its negatives), per position."""
    near = [(i + k) % len(t) for k in range(1, count + 1)]
    if representation == "flatten":
        rows = [F.pad(x[j, :n], (0, 0, 0, 5 - n)).flatten() for x in (z, t)
                for j, n in enumerate(LENGTHS)]  # fmt: skip
        student, teacher = rows[: len(t)], rows[len(t) :]
        return [(student[i], teacher[i], [teacher[j] for j in near])]
    return [(z[i, p], t[i, p], [t[j, p] for j in near if p < LENGTHS[j]])
            for p in range(LENGTHS[i])]  # fmt: skip


@pytest.mark.parametrize("representation", ["flatten", "token"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_k_negatives_are_the_next_rows(representation, count):
    z, t, mask = batch_of_unequal_lengths()
    loop = []
    for i in range(len(t)):
        parts = rows_and_negatives(z, t, i, count, representation)
        loop.append(sum(literal_cos_nce(*part) if part[2] else 2 - 1.5 * (1 - literal_g(*part[:2]))
                        for part in parts) / len(parts))  # fmt: skip
    ours = value_of("cos_nce", z, t, mask, representation, count=count)
    torch.testing.assert_close(ours, doubles(loop), **EXACT)
    if count == len(t) - 1:
        all_others = transformer_layer_loss(z, t, mask, representation, reduction="none")
        torch.testing.assert_close(ours, all_others, **EXACT)


@pytest.mark.parametrize("representation", ["flatten", "token"])
@pytest.mark.parametrize("count", [0, 2])
def test_info_nce_is_the_loop_and_becomes_cos_nce(representation, count):
    z, t, mask = batch_of_unequal_lengths()
    loop, tau = [], 0.1
    for i in range(len(t)):
        parts = []
        for own, right, wrong in rows_and_negatives(z, t, i, count or 3, representation):
            cosines = [1 - literal_g(own, other) for other in (right, *wrong)]
            k, contrast = len(wrong), -cosines[0]
            if k:
                info = -math.log(softmax([c / tau for c in cosines])[0])
                contrast = (k + 1) / k * tau * (info - math.log(k + 1))
            parts.append(1 + (1 - cosines[0]) + contrast / 2)
        loop.append(sum(parts) / len(parts))
    ours = value_of("info_nce", z, t, mask, representation, temperature=tau, count=count)
    torch.testing.assert_close(ours, doubles(loop), **EXACT)
    limit = value_of("info_nce", z, t, mask, representation, temperature=1e5, count=count)
    cos = value_of("cos_nce", z, t, mask, representation, count=count)
    torch.testing.assert_close(limit, cos, rtol=0, atol=1e-5)
    assert (ours - cos).abs().min() > 1e-3


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_cosine_is_the_positive_term_on_the_scale_of_cos_nce(representation):
    z, t, mask = batch_of_unequal_lengths()
    (z, kept), (t, _) = (reduce_states(x, mask, representation) for x in (z, t))
    ours = value_of("cosine", z, t, kept, representation)
    lengths = kept.sum(1).int().tolist()
    loop = []
    for i, n in enumerate(lengths):
        pairs = [(z[i, :n].flatten(), t[i, :n].flatten())]
        if representation == "token":
            pairs = zip(z[i, :n], t[i, :n], strict=True)
        loop.append([1.5 * literal_g(*pair) for pair in pairs])
    expected = doubles([sum(row) / len(row) for row in loop])
    torch.testing.assert_close(ours, expected, **EXACT)
    loss = layer_loss("cosine", representation)
    if loss.minimum:
        least = loss.minimum(loss.target(t, kept))
        torch.testing.assert_close(least, torch.zeros(4).double(), **EXACT)


def test_distilbert_and_pkd_by_hand():
    """h W = (3, 4) and (0, 2) against (4, 3) and (1, 0): cosines 0.96 and 0."""
    z, t = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]), torch.tensor([[[4.0, 3.0], [1.0, 0.0]]])
    both, first = torch.tensor([[1, 1]]), torch.tensor([[1]])
    last = value_of("distilbert", z, t, both, "token")
    assert last.item() == pytest.approx((0.04 + 1) / 2)  # the mean of 1 - cos over the tokens
    patient = value_of("pkd_skip", z[:, :1], t[:, :1], first, "cls")
    assert patient.item() == pytest.approx(0.2**2 + 0.2**2)  # |(0.6, 0.8) - (0.8, 0.6)|^2


@pytest.mark.parametrize("representation", ["flatten", "token", "mean"])
def test_centred_is_cos_nce_whose_batch_is_the_whole_training_set(representation):
    """v of COS-NCE over all n rows is v of `centred` plus (t - mu) / (2 (n - 1)): equal for n >> 1.

    With "token", n counts the rows that reach a position.
    """
    z, t, mask = batch_of_unequal_lengths()
    (z, kept), (t, _) = (reduce_states(x, mask.double(), representation) for x in (z, t))
    real, n = kept.unsqueeze(-1), len(t)
    rows = t * real
    unit_rows = unit(rows) if representation == "token" else unit(rows.flatten(1)).view_as(rows)
    unit_rows = unit_rows.nan_to_num(0)
    if representation == "token":
        n = real.sum(0)
    mean = unit_rows.sum(0) / n
    v = away_from(t, kept, mean, representation)
    rest = (unit_rows - mean * real) * 0.5 / (n - 1)
    if representation != "token":
        torch.testing.assert_close(cos_nce_target(t, kept), v + rest, **EXACT)
    whole = layer_loss("cos_nce", representation, count=len(t) - 1).target(t, kept)
    reached = real * (torch.as_tensor(n) > 1)  # where nobody else reaches, COS-NCE has no negative
    torch.testing.assert_close(whole * reached, (v + rest).nan_to_num(0) * reached, **EXACT)
    for name in ("centred", "shuffled"):
        ours = value_of(name, z, t, kept, representation, mean)
        u = (
            unit(z)
            if representation == "token"
            else z / (z * real).flatten(1).norm(dim=1)[:, None, None]
        )
        per_token = (u * v).sum(-1)
        weights = kept / kept.sum(1, keepdim=True) if representation == "token" else kept
        expected = 2 - (per_token * weights).sum(1)
        torch.testing.assert_close(ours, expected, **EXACT)


def test_the_minimiser_of_centred_is_the_teacher_less_a_third_of_the_mean():
    t, mean, mask = draw(6, 1, 8), draw(1, 8, seed=1) / 9, torch.ones(6, 1)
    loss = layer_loss("centred", "mean")
    target = loss.target(t, mask, mean)
    best = unit(unit(t) - mean / 3)
    torch.testing.assert_close(loss.value(best, target, mask), loss.minimum(target), **EXACT)


def test_attention_loss_is_the_mean_over_heads_of_the_mse_between_real_tokens():
    a, b = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    mask = (torch.arange(4) < torch.tensor([[4], [2]])).long()
    loop = [((a[i, :, :n, :n] - b[i, :, :n, :n]) ** 2).mean() for i, n in enumerate((4, 2))]
    torch.testing.assert_close(attention_loss(a, b, mask), torch.stack(loop), **EXACT)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\).*\(2, 1, 4, 4\)"):
        attention_loss(a, b[:, :1], mask)


@pytest.mark.parametrize("name", ["cosine", "info_nce", "distilbert", "pkd_skip", "centred"])
@pytest.mark.parametrize("representation", ["flatten", "token"])
def test_controls_are_finite_for_empty_and_zero_rows(name, representation):
    z, t, mask = batch_of_unequal_lengths()
    mask[2], z[1], t[3] = 0, 0, 0
    z.requires_grad_()
    mean = (t.mean(0),) if name == "centred" else ()
    value = value_of(name, z, t, mask, representation, *mean).mean()
    (gradient,) = torch.autograd.grad(value, z)
    assert value.isfinite() and gradient.isfinite().all()


# ---- Eqs. (4)-(6)


def test_the_scaled_soft_loss_has_gradients_that_keep_their_size():
    student, teacher = draw(5, 3).requires_grad_(), draw(5, 3, seed=1)
    (gradient,) = torch.autograd.grad(scaled_soft_loss(student, teacher, 2.0) * 5, student)
    expected = 2 * ((student / 2).softmax(-1) - (teacher / 2).softmax(-1))
    torch.testing.assert_close(gradient, expected.detach(), **EXACT)


def softmax(row):
    exponentials = [math.exp(float(x)) for x in row]
    return [e / sum(exponentials) for e in exponentials]


def test_soft_loss_is_equation_4():
    student, teacher, tau = draw(5, 3), draw(5, 3, seed=1), 1.1
    loop = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(t / tau), softmax(s / tau)
        loop.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    expected = doubles(loop)
    torch.testing.assert_close(soft_label_loss(student, teacher, tau, "none"), expected, **EXACT)
    torch.testing.assert_close(soft_label_loss(student, teacher), expected.mean(), **EXACT)
    torch.testing.assert_close(soft_label_loss(teacher, teacher + 4).item(), 0.0, **EXACT)


@pytest.mark.parametrize("tau", [0.5, 1.1, 4.0])
def test_soft_gradient_has_no_factor_tau_squared(tau):
    student, teacher = draw(5, 3).requires_grad_(), draw(5, 3, seed=1)
    (gradient,) = torch.autograd.grad(soft_label_loss(student, teacher, tau, "none").sum(), student)
    expected = ((student / tau).softmax(-1) - (teacher / tau).softmax(-1)) / tau
    torch.testing.assert_close(gradient, expected.detach(), **EXACT)


@pytest.mark.parametrize(("classes", "gold"), [(2, 0.7128), (3, 0.5538)])
def test_hard_target_of_equation_5(classes, gold):
    """The gradient at equal logits is 1/C - target, so it shows the target."""
    logits = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(hard_label_loss(logits, torch.tensor([1])), logits)
    target = 1 / classes - gradient[0]
    assert target[1].item() == pytest.approx(gold, abs=5e-5)
    expected = doubles(softmax([1 / 1.1 if c == 1 else 0 for c in range(classes)]))
    torch.testing.assert_close(target, expected, **EXACT)
    entropy = -sum(p * math.log(p) for p in expected.tolist())
    best = torch.zeros(1, classes, dtype=torch.float64)
    best[0, 1] = 1 / 1.1
    assert hard_label_loss(best, torch.tensor([1])).item() == pytest.approx(entropy, abs=1e-12)


def test_hard_loss_is_equation_5_and_softens_only_the_target():
    logits, labels, tau = draw(5, 3), torch.tensor([0, 2, 1, 1, 0]), 1.1
    loop = []
    for row, gold in zip(logits, labels, strict=True):
        target = softmax([1 / tau if c == gold else 0 for c in range(3)])
        loop.append(-sum(p * math.log(q) for p, q in zip(target, softmax(row), strict=True)))
    ours = hard_label_loss(logits, labels, tau, reduction="none")
    torch.testing.assert_close(ours, doubles(loop), **EXACT)
    one_hot = hard_label_loss(logits, labels, tau, target="one_hot")
    torch.testing.assert_close(one_hot, F.cross_entropy(logits, labels), **EXACT)


def test_logit_losses_name_what_does_not_fit():
    logits = draw(4, 3)
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 2\)"):
        soft_label_loss(logits, logits[:, :2])
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(3, 3\)"):
        hard_label_loss(logits, torch.tensor([0, 1, 2]))
    for temperature in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be positive"):
            soft_label_loss(logits, logits, temperature)
    with pytest.raises(ValueError, match="one_hot.*not 'soft'"):
        hard_label_loss(logits, torch.zeros(4, dtype=torch.long), target="soft")


def test_total_loss_is_equation_6():
    parts = [torch.tensor(x) for x in (2.0, 0.3, 0.05)]
    for weights in itertools.product((0, 1, 3), repeat=3):
        if any(weights):
            expected = sum(w * float(p) for w, p in zip(weights, parts, strict=True))
            assert total_loss(*parts, weights).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="nothing to train"):
        total_loss(*parts, (0, 0, 0))


def test_a_term_of_weight_0_leaves_no_gradient_and_stage_1_leaves_the_head_untouched():
    """Zeros instead of None would let decoupled weight decay shrink the head for 80 % of a run."""
    torch.manual_seed(0)
    body, head = nn.Linear(5, 6), nn.Linear(6, 2)
    before = head.weight.clone()
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.5)
    teacher, labels = draw(4, 6).float(), torch.tensor([0, 1, 1, 0])
    for _ in range(5):
        hidden = body(draw(4, 5, seed=1).float())
        soft = soft_label_loss(head(hidden), head(teacher).detach())
        hard = hard_label_loss(head(hidden), labels)
        optimizer.zero_grad(set_to_none=True)
        total_loss(in_batch_cos_nce(hidden, teacher), soft, hard, (1, 0, 0)).backward()
        assert head.weight.grad is None and head.bias.grad is None
        assert body.weight.grad is not None
        optimizer.step()
    torch.testing.assert_close(head.weight, before, rtol=0, atol=0)
