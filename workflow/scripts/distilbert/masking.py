"""Masked-LM corruption: which tokens are predicted, and what stands in their place.

Sanh et al. 2019 (section 3) follow Devlin et al. 2019: 15 % of the tokens are targets; of these 80 % become
[MASK], 10 % a random word and 10 % stay. The targets are drawn over the whole step in proportion to
count(token)^-smoothing, so that rare words are learnt too (Lample & Conneau 2019; the authors' code uses 0.7).

Shapes: B sequences, T tokens, V words.
"""

import math

import torch
from torch import Tensor

# What becomes of a target: [MASK], a random word, or (the rest) itself.
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1


def target_weights(counts: Tensor, special_ids: tuple[int, ...], *, smoothing: float) -> Tensor:
    """Return how likely each word is to be a target, (V,) float64: max(count, 1)^-smoothing, specials 0."""
    weights = counts.double().clamp(min=1) ** -smoothing
    weights[list(special_ids)] = 0
    return weights


def mask_tokens(
    ids: Tensor,
    mask: Tensor,
    weights: Tensor,
    *,
    mask_id: int,
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Corrupt a step's sequences for masked-LM training.

    Args:
        ids: (B, T) token ids. mask: (B, T), False on pads. weights: (V,) from `target_weights`; a word of
            weight 0 is never a target and never drawn as a random word.
        probability: share of the non-pad tokens that become targets, in (0, 1).
    Returns:
        the corrupted ids (B, T) and the targets (B, T) bool. A pure function of its arguments and the
        generator's state.

    Differs from the paper: a random word is never a special token (the authors draw from all ids).
    """
    weight_of_token = weights[ids] * mask  # (B, T)
    num_targets = min(math.ceil(probability * int(mask.sum())), int((weight_of_token > 0).sum()))
    targets = torch.zeros_like(mask)
    corrupted = ids.clone()
    if num_targets == 0:
        return corrupted, targets
    chosen = torch.multinomial(weight_of_token.flatten(), num_targets, generator=generator)
    targets.view(-1)[chosen] = True

    fate = torch.rand(num_targets, generator=generator)
    words = (weights > 0).nonzero().squeeze(1)
    random_words = words[torch.randint(len(words), (num_targets,), generator=generator)]
    replacement = torch.where(fate < MASK_SHARE, mask_id, random_words)
    replacement = torch.where(fate < MASK_SHARE + RANDOM_SHARE, replacement, ids.flatten()[chosen])
    corrupted.view(-1)[chosen] = replacement
    return corrupted, targets
