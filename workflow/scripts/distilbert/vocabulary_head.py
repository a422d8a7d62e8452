"""The two losses on the vocabulary and their gradient in one pass, without ever holding all logits.

KL on all positions and masked LM on the targets, as `losses.soft_target_kl` and `losses.cross_entropy` of all logits
at once, up to rounding. A chunk of positions at a time, logits, losses and gradient are computed while they are at
hand; the full logits (N times 30,522 words, several times over) would cost more than the rest of the step.

Between the matrix products of a chunk stand two implementations of the same sums: plain torch, and on a GPU one Triton
kernel (`vocabulary_kernel`). A test holds them together.

Shapes: N positions, V words, P words padded to a multiple of 64, D hidden units, n positions of a chunk.
"""

import logging
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits of one model that are held at once. On a CPU those of 1,000 positions, as each chunk reads and writes the whole
# gradient of the weight; on a GPU 256 MB of bfloat16, some 4,000.
CHUNK_LOGITS = {"cpu": 2**25, "cuda": 2**27}
# Logits that plain torch goes over many times: on a CPU as many as its cache holds several times in float32.
CACHED_LOGITS = {"cpu": 2**20, "cuda": 2**27}
# Rows of matrices in whole cache lines, and whole tiles of the tensor cores: 30,522 is no multiple even of 8.
WORDS_MULTIPLE = 64

log = logging.getLogger(__name__)


def vocabulary_losses(
    student: tuple[Tensor, Tensor, Tensor],
    teacher: tuple[Tensor, Tensor, Tensor],
    targets: Tensor,
    *,
    temperature: float,
    kl_weight: float,
    mlm_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return kl_weight * KL + mlm_weight * MLM, and the two sums over positions, float32.

    Args:
        student, teacher: hidden states (N, D) as they enter the vocabulary, its weight (V, D) and bias (V,).
            Only the student gets a gradient, and only through the first of the results.
        targets: (N,) ids at the positions that masked LM predicts, -1 at all others.
    """
    constants = (temperature, kl_weight, mlm_weight, torch.is_grad_enabled())
    total, kl, mlm = _VocabularyLosses.apply(*student, *teacher, targets, *constants)
    return total, kl.detach(), mlm.detach()


class _VocabularyLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias, targets, *constants):
        *constants, is_grad_enabled = constants
        # `needs_input_grad` is true of a parameter under `no_grad` too.
        needs_gradient = is_grad_enabled and any(ctx.needs_input_grad)
        student, teacher = (hidden, weight, bias), (teacher_hidden, teacher_weight, teacher_bias)
        kl, mlm, gradients = _losses_and_gradients(student, teacher, targets, *constants, needs_gradient)
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(kl, mlm)
        _, kl_weight, mlm_weight = constants
        return kl_weight * kl + mlm_weight * mlm, kl, mlm

    @staticmethod
    def backward(ctx, upstream, *_):
        gradients = ctx.saved_tensors
        return *(gradient.mul_(upstream) for gradient in gradients), *[None] * 8


def _losses_and_gradients(
    student, teacher, targets, T, kl_weight, mlm_weight, needs_gradient
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return KL, MLM and the gradients of hidden states, weight and bias (none unless needed).

    Matrix products take and give the precision of autocast, or else that of the hidden states; all else is float32.
    The gradients of weight and bias add up over the chunks in float32; that of the hidden states is of the products'
    precision. Nothing here waits for a GPU that has the kernel.
    """
    device, num_words = student[0].device, len(student[1])
    kl_and_mlm_, words_multiple = _implementation(device)
    precision = _precision_of_products(student[0])
    with torch.autocast(device.type, enabled=False):
        hidden, weight, bias = _padded(*student, precision, words_multiple)  # (N, D), (P, D), (P,)
        teacher_hidden, *teacher_head = _padded(*teacher, precision, words_multiple)
        kl, mlm = torch.zeros((), device=device), torch.zeros((), device=device)
        if needs_gradient:
            hidden_gradient = torch.empty_like(hidden)
            weight_gradient, bias_gradient = (torch.zeros_like(t, dtype=torch.float32) for t in (weight, bias))
        rows = max(1, CHUNK_LOGITS[device.type] // len(weight))
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = F.linear(hidden[part], weight, bias)  # (n, P)
            kl_of_part, mlm_of_part = kl_and_mlm_(
                logits,
                F.linear(teacher_hidden[part], *teacher_head),
                targets[part],
                num_words=num_words,
                temperature=T,
                kl_weight=kl_weight,
                mlm_weight=mlm_weight,
                needs_gradient=needs_gradient,
            )
            kl += kl_of_part
            mlm += mlm_of_part
            if needs_gradient:
                gradient = logits  # was left there
                torch.mm(gradient, weight, out=hidden_gradient[part])
                _add_product_(weight_gradient, gradient.T, hidden[part])
                _add_sum_(bias_gradient, gradient)
    if not needs_gradient:
        return kl, mlm, []
    return kl, mlm, [hidden_gradient, weight_gradient[:num_words], bias_gradient[:num_words]]


def _implementation(device: torch.device) -> tuple[Callable, int]:
    """Return what computes losses and gradient of a chunk's logits, and of what number its words must be a multiple."""
    if device.type == "cuda" and _has_kernel():
        from distilbert.vocabulary_kernel import kl_and_mlm_  # here because only a GPU's installation has Triton

        return kl_and_mlm_, WORDS_MULTIPLE
    return _kl_and_mlm_, 1


def _kl_and_mlm_(
    logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    *,
    num_words: int,
    temperature: float,
    kl_weight: float,
    mlm_weight: float,
    needs_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Do what the kernel does, in plain torch; logits must be those of the words alone."""
    T = temperature
    kl, mlm = logits.new_zeros((2,), dtype=torch.float32)
    rows = max(1, CACHED_LOGITS[logits.device.type] // num_words)
    for part, teacher_part, words in zip(*(t.split(rows) for t in (logits, teacher_logits, targets)), strict=True):
        student = part.float()
        log_p = (teacher_part.float() / T).log_softmax(1)
        log_q = (student / T).log_softmax(1)
        p = log_p.exp()
        kl += log_p.sub_(log_q).mul_(p).sum() * T**2
        chosen = (words >= 0).nonzero().squeeze(1)
        words = words[chosen, None]
        log_hard = student[chosen].log_softmax(1)
        mlm -= log_hard.gather(1, words).sum()
        if needs_gradient:
            gradient = log_q.exp_().sub_(p).mul_(kl_weight * T)
            hard = log_hard.exp_()
            hard.scatter_add_(1, words, hard.new_full(words.shape, -1.0))
            part.copy_(gradient.index_add_(0, chosen, hard, alpha=mlm_weight))
    return kl, mlm


def _precision_of_products(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _padded(
    hidden: Tensor, weight: Tensor, bias: Tensor, precision: torch.dtype, words_multiple: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all three in a precision, with words of weight and bias 0 up to a multiple of a number."""
    hidden, weight, bias = (tensor.detach().to(precision) for tensor in (hidden, weight, bias))
    if num_added := -len(weight) % words_multiple:
        weight, bias = F.pad(weight, (0, 0, 0, num_added)), F.pad(bias, (0, num_added))
    return hidden, weight, bias


def _add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of two matrices to a float32 matrix, without rounding in between where PyTorch can."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif total.is_cuda:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += left @ right


def _add_sum_(total: Tensor, rows: Tensor) -> None:
    """Add the sum of a matrix's rows to a float32 vector."""
    if rows.dtype == total.dtype or total.is_cuda:
        total += rows.sum(0, dtype=total.dtype)
    else:  # a CPU's sum would first make a float32 copy of the matrix, and take seven times as long
        total += rows.new_ones(len(rows)) @ rows


@cache
def _has_kernel() -> bool:
    """Return whether the kernel runs here; Triton may be absent, lack a C compiler, or not know the GPU."""
    try:
        from distilbert.vocabulary_kernel import kl_and_mlm_

        logits, target = torch.zeros(1, WORDS_MULTIPLE, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda")
        weights = {"temperature": 1.0, "kl_weight": 1.0, "mlm_weight": 1.0}
        kl_and_mlm_(logits, logits.clone(), target, num_words=2, **weights, needs_gradient=True)
    except Exception as error:  # whatever it is, the other implementation computes the same
        log.warning("the Triton kernel does not run here, so the vocabulary losses take longer: %s", error)
        return False
    return True
