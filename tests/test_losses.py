"""The three losses of distillation against their formulas, written out as loops."""

import math

import numpy as np
import pytest
import torch

from distilbert.losses import cosine_distance, cross_entropy, soft_target_kl


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Return (6, 11) values of a student and of a teacher; both ask for gradients."""
    generator = torch.Generator().manual_seed(0)
    return tuple((2 * torch.randn(6, 11, generator=generator)).requires_grad_() for _ in range(2))


def softmax(values: list[float]) -> list[float]:
    """Return the softmax of one row, in float64."""
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.5])
def test_kl_is_the_formula(pair, temperature):
    """The loss is T^2 times the sum over positions of sum_v p log(p / q), p the softened teacher."""
    expected = 0.0
    for student, teacher in zip(*(values.tolist() for values in pair), strict=True):
        q = softmax([value / temperature for value in student])
        p = softmax([value / temperature for value in teacher])
        expected += sum(p_v * math.log(p_v / q_v) for p_v, q_v in zip(p, q, strict=True))
    loss = soft_target_kl(*pair, temperature=temperature)
    assert loss.item() == pytest.approx(expected * temperature**2, rel=1e-5)


def test_kl_of_equal_logits_is_zero(pair):
    """The loss and its gradient vanish where student and teacher say the same; a shift of all logits says nothing."""
    student, _ = pair
    loss = soft_target_kl(student, student.detach().clone(), temperature=2.0)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.abs().max() < 1e-6
    shifted = soft_target_kl(student, student.detach() + 3, temperature=2.0)
    assert shifted.item() == pytest.approx(0, abs=1e-5)


def test_kl_gradient_keeps_its_size_at_high_temperature():
    """T^2 makes the gradient tend to (z_student - z_teacher) / V for centred logits, not to zero (Hinton 2015)."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(4, 8, generator=generator, dtype=torch.float32) for _ in range(2))
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    student.requires_grad_()
    soft_target_kl(student, teacher, temperature=300.0).backward()
    torch.testing.assert_close(student.grad, ((student - teacher) / 8).detach(), atol=5e-3, rtol=0.02)


@pytest.mark.parametrize("loss", [lambda s, t: soft_target_kl(s, t, temperature=2.0), cosine_distance])
def test_no_gradient_reaches_the_teacher(pair, loss):
    """The student learns from the teacher, never the other way."""
    student, teacher = pair
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_cross_entropy_is_the_formula(pair):
    """The loss is the sum, not the mean, over positions of -log softmax at the target."""
    logits, _ = pair
    targets = [3, 0, 10, 3, 7, 1]
    expected = -sum(math.log(softmax(row)[target]) for row, target in zip(logits.tolist(), targets, strict=True))
    assert cross_entropy(logits, torch.tensor(targets)).item() == pytest.approx(expected, rel=1e-6)


def test_cosine_is_the_formula(pair):
    """The loss is the sum over positions of 1 - s.t / |s| |t|."""
    student, teacher = (values.detach().numpy().astype(np.float64) for values in pair)
    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        expected += 1 - np.dot(s, t) / (np.sqrt(np.sum(s**2)) * np.sqrt(np.sum(t**2)))
    assert cosine_distance(*pair).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("factor", "per_position"), [(1.0, 0), (7.0, 0), (-1.0, 2), (-0.2, 2)])
def test_cosine_of_parallel_and_opposite(pair, factor, per_position):
    """Parallel states cost 0 and opposite ones 2, whatever their length."""
    student, _ = pair
    loss = cosine_distance(student, factor * student.detach())
    assert loss.item() == pytest.approx(per_position * len(student), abs=1e-5)


def test_half_precision_is_summed_in_float32(pair):
    """Logits of bfloat16 give a float32 loss: a sum over thousands of positions would lose its digits."""
    student, teacher = (values.detach().bfloat16().repeat(1000, 1) for values in pair)
    targets = torch.zeros(len(student), dtype=torch.long)
    for ours, exact in [
        (
            soft_target_kl(student, teacher, temperature=2.0),
            soft_target_kl(*pair_of(student, teacher), temperature=2.0),
        ),
        (cross_entropy(student, targets), cross_entropy(student.float(), targets)),
        (cosine_distance(student, teacher), cosine_distance(*pair_of(student, teacher))),
    ]:
        assert ours.dtype == torch.float32
        assert ours.item() == pytest.approx(exact.item(), rel=1e-6)


def pair_of(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both as float32."""
    return student.float(), teacher.float()
