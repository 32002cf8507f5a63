"""Eqs. (7)-(8): the size, the direction and the side effects of one perturbation step."""

import pytest
import torch
from torch import nn

from lrc_lib.perturbation import NORMS, perturb_embeddings

AXES = {"sample": (1, 2), "tensor": (0, 1, 2), "token": (2,)}


class Tiny(nn.Module):
    """An embedding layer, and above it a smooth network to one number."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(20, 6)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
        self.double().eval()

    def loss(self, embeddings):
        return self.body(embeddings).square().mean()


@pytest.fixture
def tiny():
    return Tiny()


def embed(model, batch=4, length=5):
    tokens = torch.randint(0, 20, (batch, length), generator=torch.Generator().manual_seed(1))
    return model.words(tokens)


def step_of(model, **options):
    embeddings = embed(model)
    moved = perturb_embeddings(embeddings, model.loss(embeddings), **options)
    return (moved - embeddings).detach()


@pytest.mark.parametrize("norm", NORMS)
def test_small_steps_raise_the_loss_by_what_the_gradient_predicts(tiny, norm):
    embeddings = embed(tiny)
    before = tiny.loss(embeddings)
    (gradient,) = torch.autograd.grad(before, embeddings, retain_graph=True)
    epsilon = 1e-4
    up = tiny.loss(perturb_embeddings(embeddings, before, norm, epsilon)) - before
    predicted = epsilon * gradient.pow(2).sum(AXES[norm]).sqrt().sum()
    assert up > 0
    assert up.item() == pytest.approx(predicted.item(), rel=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_a_negative_epsilon_lowers_the_loss(tiny, norm):
    embeddings = embed(tiny)
    before = tiny.loss(embeddings)
    moved = perturb_embeddings(embeddings, before, norm, epsilon=-0.01)
    assert tiny.loss(moved) < before


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [1.0, 0.25])
def test_the_step_has_length_epsilon_over_its_axes(tiny, norm, epsilon):
    lengths = step_of(tiny, norm=norm, epsilon=epsilon).pow(2).sum(AXES[norm]).sqrt()
    torch.testing.assert_close(lengths, torch.full_like(lengths, epsilon), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_the_step_is_parallel_to_the_gradient(tiny, norm):
    embeddings = embed(tiny)
    loss = tiny.loss(embeddings)
    (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    step = (perturb_embeddings(embeddings, loss, norm) - embeddings).detach()
    length = gradient.pow(2).sum(AXES[norm], keepdim=True).sqrt()
    torch.testing.assert_close(step, gradient / length, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_padding_is_neither_moved_nor_counted(tiny, norm):
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    step = step_of(tiny, norm=norm, mask=mask)
    assert (step[mask == 0] == 0).all()
    assert (step[mask == 1].abs().sum(-1) > 0).all()
    lengths = step.pow(2).sum(AXES[norm]).sqrt()
    real = {"sample": mask.any(1), "token": mask.bool(), "tensor": torch.tensor(True)}[norm]
    torch.testing.assert_close(lengths, real.double(), rtol=0, atol=1e-12)


def test_the_step_is_a_constant_in_the_second_backward_pass(tiny):
    embeddings = embed(tiny)
    moved = perturb_embeddings(embeddings, tiny.loss(embeddings))
    (reached,) = torch.autograd.grad(moved.sum(), embeddings, retain_graph=True)
    assert (reached == 1).all(), "d(emb + r)/d(emb) must be 1: r is detached"
    (ours,) = torch.autograd.grad(tiny.loss(moved), tiny.words.weight)
    fixed = (moved - embeddings).detach()
    (expected,) = torch.autograd.grad(tiny.loss(embed(tiny) + fixed), tiny.words.weight)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_only_the_second_pass_reaches_the_parameters(tiny):
    embeddings = embed(tiny)
    moved = perturb_embeddings(embeddings, tiny.loss(embeddings))
    assert all(p.grad is None for p in tiny.parameters())
    tiny.loss(moved).backward()
    ours = [p.grad.clone() for p in tiny.parameters()]
    clean = torch.autograd.grad(tiny.loss(embed(tiny)), list(tiny.parameters()))
    at_moved = torch.autograd.grad(
        tiny.loss(embed(tiny) + (moved - embeddings).detach()), list(tiny.parameters())
    )
    for got, wanted, discarded in zip(ours, at_moved, clean, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
        assert not torch.allclose(got, discarded)


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_gives_a_zero_step(norm):
    embeddings = torch.ones(2, 3, 4, requires_grad=True)
    moved = perturb_embeddings(embeddings, (embeddings * 0).sum(), norm)
    assert torch.equal(moved, embeddings)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_tiny_and_huge_gradients_still_give_length_epsilon(norm, dtype, size):
    embeddings = torch.zeros(2, 3, 4, dtype=dtype, requires_grad=True)
    moved = perturb_embeddings(embeddings, (embeddings * size).sum(), norm)
    assert moved.dtype == dtype
    lengths = moved.detach().double().pow(2).sum(AXES[norm]).sqrt()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=tolerance)


def test_one_sample_s_gradient_does_not_shrink_another_s_step():
    """Per sample and per token the step is blind to the rest of the batch; per tensor it is not."""
    scale = torch.tensor([1.0, 1e-6]).view(2, 1, 1)
    for norm, small in (("sample", 1.0), ("token", 3**0.5), ("tensor", 1e-6)):
        embeddings = torch.zeros(2, 3, 4, requires_grad=True)
        moved = perturb_embeddings(embeddings, (embeddings * scale).sum(), norm)
        assert moved[1].detach().norm().item() == pytest.approx(small, rel=1e-3)


def test_what_cannot_be_meant_is_refused(tiny):
    embeddings = embed(tiny)
    loss = tiny.loss(embeddings)
    with pytest.raises(ValueError, match="sample.*not 'row'"):
        perturb_embeddings(embeddings, loss, norm="row")
    with pytest.raises(ValueError, match=r"mask must be \(4, 5\), not \(5, 4\)"):
        perturb_embeddings(embeddings, loss, mask=torch.ones(5, 4))
    with pytest.raises(ValueError, match="one autograd graph"):
        perturb_embeddings(embeddings.detach(), loss)
    with pytest.raises(ValueError, match="one autograd graph"):
        perturb_embeddings(embeddings, loss.detach())
    with pytest.raises(ValueError, match="does not depend"):
        perturb_embeddings(embeddings, tiny.body[0].weight.sum())
