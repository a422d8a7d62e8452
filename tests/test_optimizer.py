"""Our AdamW against PyTorch's, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from distilbert.model import MaskedLM
from distilbert.optimizer import AdamW

SETTINGS = {"betas": (0.9, 0.98), "epsilon": 1e-6, "weight_decay": 0.1}


def set_gradients(*models: nn.Module, step: int) -> None:
    """Give the models the same random gradients, of a size that differs between parameters and steps."""
    generator = torch.Generator().manual_seed(step)
    for same in zip(*(model.parameters() for model in models), strict=True):
        gradient = torch.randn(same[0].shape, generator=generator) * 10.0 ** torch.randint(
            -4, 2, (), generator=generator
        )
        for parameter in same:
            parameter.grad = gradient.clone()


def learning_rate(step: int) -> float:
    """Return a rate that rises and falls, as a schedule does."""
    return 1e-3 * (1 + step % 7)


def test_equals_torch_bit_for_bit(bert_config):
    """20 steps leave the weights and moments of torch.optim.AdamW(fused=True) with decay on matrices alone."""
    ours = MaskedLM(bert_config)
    theirs = copy.deepcopy(ours)
    parameters = list(theirs.parameters())
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        betas=SETTINGS["betas"],
        eps=SETTINGS["epsilon"],
        fused=True,
    )
    optimizer = AdamW(ours, **SETTINGS)
    for step in range(20):
        set_gradients(ours, theirs, step=step)
        for group in reference.param_groups:
            group["lr"] = learning_rate(step)
        reference.step()
        optimizer.step(learning_rate(step))
        for (name, mine), other in zip(ours.named_parameters(), parameters, strict=True):
            assert torch.equal(mine, other), (step, name)
    state = optimizer.state_dict()
    for (name, _), other in zip(ours.named_parameters(), parameters, strict=True):
        assert torch.equal(state[f"first_moment.{name}"], reference.state[other]["exp_avg"]), name
        assert torch.equal(state[f"second_moment.{name}"], reference.state[other]["exp_avg_sq"]), name


def test_state_read_back_continues_identically(bert_config):
    """An optimizer that took over another's state and step count goes on exactly as that one does."""
    model = MaskedLM(bert_config)
    optimizer = AdamW(model, **SETTINGS)
    for step in range(5):
        set_gradients(model, step=step)
        optimizer.step(learning_rate(step))
    resumed_model = copy.deepcopy(model)
    resumed = AdamW(resumed_model, **SETTINGS)
    saved = {name: value.clone() for name, value in optimizer.state_dict().items()}
    resumed.load_state_dict(saved, num_steps=optimizer.num_steps)
    for step in range(5, 10):
        set_gradients(model, resumed_model, step=step)
        optimizer.step(learning_rate(step))
        resumed.step(learning_rate(step))
    assert resumed.num_steps == 10
    for (name, value), other in zip(model.named_parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(value, other), name
    for name, value in optimizer.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_incomplete_state_is_refused():
    """A state that lacks a moment raises and names it."""
    optimizer = AdamW(nn.Linear(2, 3), **SETTINGS)
    state = optimizer.state_dict()
    del state["second_moment.bias"]
    with pytest.raises(KeyError, match="second_moment.bias"):
        optimizer.load_state_dict(state, num_steps=1)


def test_vectors_are_not_decayed():
    """With gradient 0 a step shrinks the matrices by rate x decay and leaves biases and LayerNorms alone."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    AdamW(model, **SETTINGS).step(0.5)
    for name, value in model.state_dict().items():
        factor = 1 - 0.5 * 0.1 if value.ndim > 1 else 1
        torch.testing.assert_close(value, before[name] * factor, rtol=1e-6, atol=0)
    assert torch.equal(model[1].bias, before["1.bias"])


def test_frozen_parameters_are_left_alone():
    """A parameter that asks for no gradient has no state and never moves."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    model(torch.ones(2, 3)).sum().backward()
    optimizer = AdamW(model, **SETTINGS)
    optimizer.step(0.1)
    assert not any(".0." in name for name in optimizer.state_dict())
    assert torch.equal(model[0].weight, frozen)
