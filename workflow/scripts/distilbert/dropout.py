"""Dropout (Srivastava et al. 2014) and attention, from random bits that are cheap on a CPU.

PyTorch draws one float for each element, on one core: a tenth of a fine-tuning step, and it has no fast CPU kernel for
attention with dropout. Here each element takes 16 random bits, a quarter of a draw. A GPU has its own kernels.

Shapes: B sequences, H heads, T tokens, d units of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16  # of 16 random bits


class Dropout(nn.Module):
    """`nn.Dropout` with another stream of random numbers: zeroes elements with probability p in [0, 1)."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x itself in evaluation; else with elements zeroed and the rest scaled up, so that the mean stays."""
        if not self.training or self.p == 0:
            return x
        return F.dropout(x, self.p) if x.is_cuda else x * scaled_mask(x, self.p)


def scaled_mask(x: Tensor, p: float) -> Tensor:
    """Return a tensor like x of 0 with probability p, to the nearest 2^-16, and elsewhere of 1 / (1 - p).

    PyTorch's global generator decides.
    """
    num_dropped = round(p * LEVELS)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform in [-2^15, 2^15)
    is_kept = levels >= num_dropped - LEVELS // 2
    return torch.where(is_kept, LEVELS / (LEVELS - num_dropped), 0.0).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, dropout: float) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, with dropout on the softmax (Vaswani et al. 2017, section 3.2.1).

    Args:
        q, k, v: (B, H, T, d). mask: (B, 1, 1, T) bool, False on pads, or None. dropout: a probability in [0, 1).
    """
    if dropout == 0 or q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, T, T)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)
    return (weights * scaled_mask(weights, dropout)).to(v.dtype) @ v
