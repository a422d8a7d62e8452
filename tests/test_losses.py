"""The three losses of distillation against their formulas, written out as loops."""

import math

import numpy as np
import pytest
import torch

from distilbert import losses
from distilbert.losses import cosine_distance, cross_entropy, soft_target_kl, vocabulary_losses


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


@pytest.mark.parametrize("chunk_logits", [1, 100, 10**6])
@pytest.mark.parametrize("num_targets", [0, 5, 23])
def test_the_fused_head_is_the_plain_losses(monkeypatch, chunk_logits, num_targets):
    """Losses and gradients of the fused head equal those through all logits at once, however it is chunked."""
    monkeypatch.setitem(losses.CHUNK_LOGITS, "cpu", chunk_logits)
    generator = torch.Generator().manual_seed(1)

    def head(width: int) -> list[torch.Tensor]:
        return [torch.randn(*shape, generator=generator) for shape in ((23, width), (37, width), (37,))]

    student, teacher = [tensor.requires_grad_() for tensor in head(8)], [tensor.requires_grad_() for tensor in head(12)]
    targets = torch.full((23,), -1)
    targets[:num_targets] = torch.randint(37, (num_targets,), generator=generator)
    logits, teacher_logits = (torch.nn.functional.linear(*tensors) for tensors in (student, teacher))
    kl = soft_target_kl(logits, teacher_logits, temperature=3.0)
    mlm = cross_entropy(logits[:num_targets], targets[:num_targets])
    expected = torch.autograd.grad(7 * (0.5 * kl + 2.0 * mlm), student)

    total, fused_kl, fused_mlm = vocabulary_losses(
        tuple(student), tuple(teacher), targets, temperature=3.0, kl_weight=0.5, mlm_weight=2.0
    )
    torch.testing.assert_close(fused_kl, kl.detach())
    torch.testing.assert_close(fused_mlm, mlm.detach())
    torch.testing.assert_close(total, 0.5 * kl + 2.0 * mlm)
    assert not fused_kl.requires_grad
    gradients = torch.autograd.grad(7 * total, [*student, *teacher], allow_unused=True)
    for gradient, plain in zip(gradients, expected, strict=False):
        torch.testing.assert_close(gradient, plain, rtol=1e-4, atol=1e-5)
    assert gradients[3:] == (None, None, None)


def test_the_fused_head_keeps_no_gradient_in_validation(monkeypatch):
    """Under `inference_mode` nothing is computed for a gradient, though the weights ask for one."""
    student = [torch.randn(4, 3), torch.randn(5, 3, requires_grad=True), torch.zeros(5)]
    teacher = [torch.randn(4, 3), torch.randn(5, 3), torch.zeros(5)]
    monkeypatch.setattr(torch, "zeros_like", lambda *args, **kwargs: pytest.fail("a gradient was allocated"))
    weights = {"temperature": 2.0, "kl_weight": 1.0, "mlm_weight": 1.0}
    with torch.inference_mode():
        total, kl, mlm = vocabulary_losses(tuple(student), tuple(teacher), torch.tensor([1, -1, 2, -1]), **weights)
    assert total.item() == pytest.approx((kl + mlm).item())
