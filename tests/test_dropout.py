"""Dropout: the right share, the right scale, repeatable, and attention as PyTorch has it."""

import pytest
import torch
import torch.nn.functional as F

from distilbert.dropout import Dropout, attention, scaled_mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_scale(p):
    """A share p is zeroed (a million draws: within five standard deviations), the rest scaled so the mean stays 1."""
    values = scaled_mask(torch.empty(1001, 1003), p)
    share = (values == 0).double().mean().item()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / values.numel()) ** 0.5)
    kept = values[values > 0].unique()
    assert len(kept) == 1 and kept.item() == pytest.approx(1 / (1 - p), rel=1e-3)


def test_neighbours_are_independent():
    """Elements that share a draw of 64 bits do not go together: no two places of four agree more than chance."""
    zeros = (scaled_mask(torch.empty(400_000), 0.5) == 0).double().view(-1, 4)
    correlations = torch.corrcoef(zeros.T) - torch.eye(4)
    assert correlations.abs().max() < 5 / 100_000**0.5


def test_dropout_is_a_function_of_the_seed():
    """The same seed drops the same elements, another one others; the shape need not be a multiple of four."""
    x, layer = torch.ones(7, 3), Dropout(0.5)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(layer(x))
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_nothing_is_dropped_in_evaluation_or_at_zero():
    """In evaluation, and with p = 0, the very input comes back, and no random number is drawn."""
    x, state = torch.ones(4, 4), torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x and Dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gradient_is_dropped_alike():
    """What was zeroed gets no gradient, the rest its scale."""
    x = torch.ones(50, 50, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_without_effect_of_dropout_is_pytorchs(dtype, monkeypatch):
    """With a mask of ones in place of dropout's, attention equals PyTorch's own, pads left out, in its type."""
    monkeypatch.setattr("distilbert.dropout.scaled_mask", lambda x, p: torch.ones_like(x))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 7, 8, generator=generator).to(dtype) for _ in range(3))
    mask = (torch.arange(7) < torch.tensor([7, 4, 1])[:, None])[:, None, None]
    for some_mask in (None, mask):
        ours = attention(q, k, v, some_mask, dropout=0.1)
        theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=some_mask)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, atol=1e-6 if dtype == torch.float32 else 2e-2, rtol=0)


def test_attention_drops_weights():
    """With dropout the mean over many draws is the output without it."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 5, 4) for _ in range(3))
    many = attention(*(t.expand(20_000, -1, -1, -1) for t in (q, k, v)), None, dropout=0.2)
    torch.testing.assert_close(many.mean(0), attention(q, k, v, None, dropout=0.0)[0], atol=0.03, rtol=0)
