"""Masked-LM corruption: its ratios on 100,000 tokens, and what it never touches."""

import numpy as np
import pytest
import torch

from distilbert.masking import mask_tokens, target_weights

V = 1000
SPECIALS = (0, 1, 2, 3, 4)  # pad, unk, cls, sep, mask
MASK_ID = 4


def make_step(num_sequences: int = 1000, length: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of sequences [CLS] words [SEP] of 60 to `length` tokens, with some [UNK], padded."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(60, length + 1, (num_sequences, 1), generator=generator)
    mask = torch.arange(length) < lengths
    ids = torch.randint(len(SPECIALS), V, mask.shape, generator=generator)
    ids[:, 7] = 1
    ids[:, 0] = 2
    ids.scatter_(1, lengths - 1, 3)
    return ids * mask, mask


def corrupt(ids, mask, *, smoothing=0.0, counts=None, probability=0.15, seed=1):
    """Mask a step; all words equally frequent unless `counts` says otherwise."""
    counts = torch.ones(V) if counts is None else counts
    weights = target_weights(counts, SPECIALS, smoothing=smoothing)
    generator = torch.Generator().manual_seed(seed)
    return mask_tokens(ids, mask, weights, mask_id=MASK_ID, probability=probability, generator=generator)


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_share_of_targets(probability):
    """15 % (or what is asked for) of the non-pad tokens of about 80,000 are targets, the specials in the count."""
    ids, mask = make_step()
    _, targets = corrupt(ids, mask, probability=probability)
    assert targets.sum().item() / mask.sum().item() == pytest.approx(probability, abs=0.0001)


def test_fates_of_targets():
    """Of the targets among 100,000 tokens 80 % become [MASK], 10 % another word and 10 % stay, within a point."""
    ids, mask = make_step(1250)
    assert mask.sum() > 95_000
    corrupted, targets = corrupt(ids, mask)
    became, was = corrupted[targets], ids[targets]
    is_mask, stayed = became == MASK_ID, became == was
    assert is_mask.float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert stayed.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (~is_mask & ~stayed).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_only_targets_change():
    """A token that is no target stands as it stood, and the caller's ids are untouched."""
    ids, mask = make_step()
    before = ids.clone()
    corrupted, targets = corrupt(ids, mask)
    assert torch.equal(ids, before)
    assert torch.equal(corrupted[~targets], ids[~targets])
    assert not torch.equal(corrupted, ids)


@pytest.mark.parametrize("probability", [0.15, 1.0])
def test_specials_and_pads_are_never_targets(probability):
    """[CLS], [SEP], [UNK] and pads are never targets, even where everything else is."""
    ids, mask = make_step(200)
    _, targets = corrupt(ids, mask, probability=probability)
    is_word = ~torch.isin(ids, torch.tensor(SPECIALS))
    assert not (targets & ~is_word).any()
    assert not (targets & ~mask).any()
    if probability == 1.0:
        assert torch.equal(targets, is_word & mask)


def test_pads_with_the_id_of_a_word_are_never_targets():
    """The mask decides what a pad is, not its id."""
    ids, mask = make_step(200)
    _, targets = corrupt(torch.where(mask, ids, 500), mask, probability=0.9)
    assert targets.any() and not (targets & ~mask).any()


def test_random_words_are_words_and_all_of_them():
    """A random word is never a special token, and each word of the vocabulary comes up about as often."""
    ids, mask = make_step(1250)
    seen = torch.zeros(V)
    for seed in range(5):
        corrupted, targets = corrupt(ids, mask, probability=0.9, seed=seed)
        became = corrupted[targets & (corrupted != ids) & (corrupted != MASK_ID)]
        seen += torch.bincount(became, minlength=V)
    assert seen[list(SPECIALS)].sum() == 0
    words = seen[len(SPECIALS) :]
    assert words.sum() > 30_000
    assert words.min() > 0.3 * words.mean() and words.max() < 2 * words.mean()


def test_weights_are_the_formula():
    """A word weighs max(count, 1)^-smoothing, a special token nothing."""
    counts = torch.tensor([50, 3, 9, 9, 0, 0, 1, 100, 10_000])
    weights = target_weights(counts, SPECIALS, smoothing=0.7)
    expected = [0, 0, 0, 0, 0, 1, 1, 100**-0.7, 10_000**-0.7]
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-12)


def test_rarer_words_are_targeted_more():
    """With smoothing 0.7 a word 100 times rarer is 100^0.7 = 25 times as likely a target, token for token."""
    generator = torch.Generator().manual_seed(2)
    is_rare = torch.rand(500, 200, generator=generator) < 0.3
    ids = torch.where(is_rare, 10, 20)
    counts = torch.ones(V)
    counts[10], counts[20] = 50, 5000
    _, targets = corrupt(ids, torch.ones_like(ids, dtype=torch.bool), counts=counts, smoothing=0.7, probability=0.01)
    rates = [targets[ids == word].float().mean().item() for word in (10, 20)]
    assert rates[0] / rates[1] == pytest.approx(100**0.7, rel=0.3)
    _, targets = corrupt(ids, torch.ones_like(ids, dtype=torch.bool), counts=counts, smoothing=0.0, probability=0.15)
    rates = [targets[ids == word].float().mean().item() for word in (10, 20)]
    assert rates[0] / rates[1] == pytest.approx(1, rel=0.05)


def test_the_generator_alone_decides():
    """The same seed gives the same masks whatever the global generator; another seed gives others."""
    ids, mask = make_step(100)
    torch.manual_seed(1)
    first = corrupt(ids, mask, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, other = corrupt(ids, mask, seed=5), corrupt(ids, mask, seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


def test_a_step_without_words_has_no_targets():
    """Sequences of special tokens alone pass unchanged."""
    ids = torch.tensor([[2, 1, 3, 0]])
    corrupted, targets = corrupt(ids, ids != 0)
    assert torch.equal(corrupted, ids) and not targets.any()
