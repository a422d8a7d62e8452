"""The two implementations of the vocabulary head against the losses of all logits at once, in float64.

The Triton kernel runs on a GPU, or else in Triton's interpreter:
pip install triton && TRITON_INTERPRET=1 pytest tests/test_vocabulary_head.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from distilbert import vocabulary_head
from distilbert.losses import cross_entropy, soft_target_kl
from distilbert.vocabulary_head import vocabulary_losses

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WEIGHTS = {"temperature": 3.0, "kl_weight": 0.5, "mlm_weight": 2.0}
SCRIPTS = Path(__file__).parent.parent / "workflow" / "scripts"


def use_plain(monkeypatch) -> None:
    monkeypatch.setattr(vocabulary_head, "_has_kernel", lambda: False)


def use_kernel(monkeypatch) -> None:
    """Let the kernel compute, on the CPU in Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    if DEVICE == "cpu":
        if os.environ.get("TRITON_INTERPRET") != "1":
            pytest.skip("no GPU, and TRITON_INTERPRET=1 is not set")
        from distilbert.vocabulary_kernel import kl_and_mlm_

        monkeypatch.setattr(vocabulary_head, "_implementation", lambda device: (kl_and_mlm_, 64))
    else:
        assert vocabulary_head._has_kernel()


@pytest.fixture(params=[use_plain, use_kernel], ids=["plain", "kernel"])
def implementation(request, monkeypatch) -> str:
    """Let one of the two implementations compute; return its name."""
    request.param(monkeypatch)
    return request.param.__name__


def heads(num_positions=23, num_words=37, *, width=8, teacher_width=12, scale=1.0, dtype=torch.float32):
    """Return hidden states, weight and bias of a student that asks for gradients, and of a teacher."""
    generator = torch.Generator().manual_seed(1)

    def head(width: int) -> tuple[torch.Tensor, ...]:
        shapes = ((num_positions, width), (num_words, width), (num_words,))
        return tuple((scale * torch.randn(*shape, generator=generator)).to(DEVICE, dtype) for shape in shapes)

    return tuple(tensor.requires_grad_() for tensor in head(width)), head(teacher_width)


def some_targets(num_targets: int, num_positions: int = 23, num_words: int = 37) -> torch.Tensor:
    """Return (N,) ids, the last word among them, at positions drawn at random, and -1 elsewhere."""
    generator = torch.Generator().manual_seed(2)
    targets = torch.full((num_positions,), -1)
    chosen = torch.randperm(num_positions, generator=generator)[:num_targets]
    targets[chosen] = torch.randint(num_words, (num_targets,), generator=generator)
    targets[chosen[:1]] = num_words - 1
    return targets.to(DEVICE)


def of_all_logits(student, teacher, targets, *, temperature, kl_weight, mlm_weight):
    """Return weighted sum, KL, MLM and the sum's gradients through all logits at once, in float64."""
    student = [tensor.detach().double().requires_grad_() for tensor in student]
    s, t = F.linear(*student), F.linear(*(tensor.double() for tensor in teacher))
    p = F.softmax(t / temperature, 1)
    kl = (p * (F.log_softmax(t / temperature, 1) - F.log_softmax(s / temperature, 1))).sum() * temperature**2
    mlm = F.cross_entropy(s[targets >= 0], targets[targets >= 0], reduction="sum")
    total = kl_weight * kl + mlm_weight * mlm
    return total.detach(), kl.detach(), mlm.detach(), torch.autograd.grad(total, student)


def assert_same(student, teacher, targets, *, rtol=1e-4, atol=1e-5, **weights) -> None:
    """Compare losses and gradients of `vocabulary_losses` with those of all logits at once.

    atol of a gradient is relative to its largest value.
    """
    *expected_losses, expected_gradients = of_all_logits(student, teacher, targets, **weights)
    total, kl, mlm = vocabulary_losses(student, teacher, targets, **weights)
    for value, expected in zip((total, kl, mlm), expected_losses, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.detach().double(), expected, rtol=rtol, atol=atol)
    gradients = torch.autograd.grad(total, student)
    for gradient, expected, tensor in zip(gradients, expected_gradients, student, strict=True):
        assert gradient.shape == tensor.shape and gradient.dtype == tensor.dtype
        scale = atol * max(1.0, expected.abs().max().item())
        torch.testing.assert_close(gradient.double(), expected, rtol=rtol, atol=scale)


@pytest.mark.parametrize("chunk_logits", [1, 300, 10**6])
@pytest.mark.parametrize("num_targets", [0, 5, 23])
def test_it_is_the_losses_of_all_logits(monkeypatch, implementation, chunk_logits, num_targets):
    """Losses and gradients are those of all logits, however it is chunked and however many targets there are."""
    monkeypatch.setitem(vocabulary_head.CHUNK_LOGITS, DEVICE, chunk_logits)
    monkeypatch.setitem(vocabulary_head.CACHED_LOGITS, DEVICE, chunk_logits // 2)
    assert_same(*heads(), some_targets(num_targets), **WEIGHTS)


@pytest.mark.parametrize("num_words", [1, 5, 63, 64, 65, 130, 1000, 4999])
def test_any_vocabulary(implementation, num_words):
    """Words to the next multiple of 64 and of the kernel's block count for nothing."""
    assert_same(*heads(7, num_words), some_targets(3, 7, num_words), **WEIGHTS)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("kl_weight", "mlm_weight"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (5e-5, 2e-4)])
def test_temperature_and_weights(implementation, temperature, kl_weight, mlm_weight):
    """Each loss has its own weight; 0 leaves nothing of its gradient, and the sums are reported all the same."""
    weights = {"temperature": temperature, "kl_weight": kl_weight, "mlm_weight": mlm_weight}
    assert_same(*heads(), some_targets(9), **weights, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_extreme_logits_stay_finite(implementation, temperature):
    """Logits of +-80 and beyond, where exp overflows and the wanted word has probability 0, are computed right."""
    student, teacher = heads(num_words=200, scale=5.0)
    assert F.linear(*student).abs().max() > 150
    assert_same(student, teacher, some_targets(23, num_words=200), **{**WEIGHTS, "temperature": temperature})


def test_all_logits_far_below_zero(implementation):
    """A shift of all logits changes nothing: the words of the padding, whose logits are 0, do not overflow."""
    student, teacher = heads()
    shifted = (*student[:2], (student[2].detach() - 300).requires_grad_())
    assert_same(shifted, teacher, some_targets(9), **WEIGHTS, atol=1e-4)


def test_no_loss_where_student_and_teacher_agree(implementation):
    """The KL and its gradient vanish, also where all of the probability is on one word."""
    student, _ = heads(scale=3.0)
    teacher = tuple(tensor.detach() for tensor in student)
    total, kl, _ = vocabulary_losses(student, teacher, some_targets(0), **WEIGHTS)
    assert kl.item() == pytest.approx(0, abs=1e-3)
    for gradient in torch.autograd.grad(total, student):
        assert gradient.abs().max() < 1e-4


def test_the_losses_module_says_the_same(implementation):
    """The KL and the MLM are those of `losses`, which other objectives use."""
    student, teacher = heads()
    targets = some_targets(6)
    logits, teacher_logits = F.linear(*student), F.linear(*teacher)
    _, kl, mlm = vocabulary_losses(student, teacher, targets, **WEIGHTS)
    torch.testing.assert_close(kl, soft_target_kl(logits, teacher_logits, temperature=3.0).detach())
    torch.testing.assert_close(mlm, cross_entropy(logits[targets >= 0], targets[targets >= 0]).detach())


def test_only_the_total_and_only_the_student_have_gradients(implementation):
    """The gradient is scaled by what comes from above; the teacher has none; the two sums are for reading."""
    student, teacher = heads()
    teacher = tuple(tensor.requires_grad_() for tensor in teacher)
    once, _, _ = vocabulary_losses(student, teacher, some_targets(5), **WEIGHTS)
    expected = torch.autograd.grad(once, student)
    total, kl, mlm = vocabulary_losses(student, teacher, some_targets(5), **WEIGHTS)
    assert not kl.requires_grad and not mlm.requires_grad
    gradients = torch.autograd.grad(7 * total, [*student, *teacher], allow_unused=True)
    for gradient, single in zip(gradients, expected, strict=False):
        torch.testing.assert_close(gradient, 7 * single)
    assert gradients[3:] == (None, None, None)


def test_no_gradient_is_computed_in_validation(implementation, monkeypatch):
    """Under `inference_mode` nothing is computed for a gradient, though the weights ask for one."""
    student, teacher = heads()
    expected, *_ = of_all_logits(student, teacher, some_targets(5), **WEIGHTS)
    monkeypatch.setattr(torch, "zeros_like", lambda *args, **kwargs: pytest.fail("a gradient was allocated"))
    with torch.inference_mode():
        total, kl, mlm = vocabulary_losses(student, teacher, some_targets(5), **WEIGHTS)
    assert total.item() == pytest.approx((0.5 * kl + 2.0 * mlm).item())
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_under_autocast_only_bfloat16_rounds(implementation, monkeypatch):
    """In bfloat16 losses and gradients are near those of float32, and gradients of float32 parameters are float32."""
    if implementation == "use_kernel" and DEVICE == "cpu":  # PyTorch's CPU has no product of bfloat16 into float32
        monkeypatch.setattr(vocabulary_head, "_add_product_", lambda total, a, b: total.addmm_(a.float(), b.float()))
    student, teacher = heads(64, 300, width=64, teacher_width=128, scale=0.3)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        assert_same(student, teacher, some_targets(20, 64, 300), **WEIGHTS, rtol=0.02, atol=0.02)


def test_a_nan_is_not_hidden(implementation):
    """A NaN among the hidden states makes the loss NaN, which stops the training."""
    student, teacher = heads()
    with torch.no_grad():
        student[0][3, 2] = float("nan")
    total, _, _ = vocabulary_losses(student, teacher, some_targets(5), **WEIGHTS)
    assert total.isnan()


def test_a_gpu_without_triton_computes_in_plain_torch(monkeypatch, caplog):
    """Where the kernel cannot be imported or compiled, a warning says so."""
    monkeypatch.setitem(sys.modules, "distilbert.vocabulary_kernel", None)
    assert not vocabulary_head._has_kernel.__wrapped__()
    assert "the Triton kernel does not run here" in caplog.text


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from distilbert.vocabulary_kernel import BLOCK, NUM_WARPS, _losses_and_gradient as kernel

types = ["*bf16", "*bf16", "*i64", "*fp32", "*fp32", "i32", "i32", "fp32", "fp32", "fp32"]
constants = {"NEEDS_GRADIENT": True, "BLOCK": BLOCK}
signature = dict(zip(kernel.arg_names, types)) | dict.fromkeys(constants, "constexpr")
aligned = {(i,): [["tt.divisibility", 16]] for i in (0, 1, 2, 3, 4, 6)}  # the pointers and the padded width
source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
print(compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": NUM_WARPS}).asm["ptx"])
"""


def test_the_kernel_compiles_to_wide_loads():
    """For an H100, without one: each pass reads, and the second writes, 16 bytes at a time, though V is no multiple."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    paths = os.pathsep.join([str(SCRIPTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("ld.global.v4.b32") == 4 and done.stdout.count("st.global.v4.b32") == 1
