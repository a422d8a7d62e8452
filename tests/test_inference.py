"""A classifier's outputs for a set: in the set's order, whatever shares a batch."""

from dataclasses import replace

import pytest
import torch

from distilbert.inference import predict
from distilbert.model import SequenceClassifier


@pytest.fixture
def model(bert_config) -> SequenceClassifier:
    """Return a BERT classifier in training mode, with weights large enough that examples differ."""
    torch.manual_seed(0)
    return SequenceClassifier(replace(bert_config, initializer_range=0.2)).train()


@pytest.fixture
def expected(model, make_shards) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits and [CLS] states of the examples, computed one by one without pads."""
    examples = make_shards(30, num_shards=3, labelled=True)
    model.eval()
    cls, logits = [], []
    with torch.no_grad():
        for row in range(len(examples)):
            ids = torch.from_numpy(examples[row].astype("int64"))[None]
            hidden = model.encoder(ids, torch.ones_like(ids, dtype=torch.bool))[:, 0]
            cls.append(hidden)
            logits.append(model.classify(hidden))
    model.train()
    return torch.cat(logits), torch.cat(cls)


@pytest.mark.parametrize("max_tokens", [1, 60, 10**6])
def test_outputs_are_those_of_one_by_one_in_order(model, make_shards, expected, max_tokens):
    """Each row of the outputs is that example's alone, without dropout, from one example a batch to all of them."""
    examples = make_shards(30, num_shards=3, labelled=True)
    assert (examples.lengths[1:] < examples.lengths[:-1]).any()  # the set is not sorted already
    logits, cls = predict(model, examples, max_tokens=max_tokens)
    assert torch.pdist(expected[1]).min() > 1e-2  # another order would show
    torch.testing.assert_close(logits, expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(cls, expected[1], atol=1e-5, rtol=0)


def test_outputs_are_plain_float32(model, make_shards):
    """Also under bfloat16 autocast the outputs are float32, on the CPU, and ask for no gradient."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = predict(model, make_shards(5, labelled=True))
    for value in outputs:
        assert value.dtype == torch.float32 and value.device.type == "cpu" and not value.requires_grad


def test_a_set_without_examples_has_no_outputs(model, make_shards):
    """An empty set gives empty outputs of the right width."""
    logits, cls = predict(model, make_shards(0, labelled=True))
    assert logits.shape == (0, 2) and cls.shape == (0, 32)
