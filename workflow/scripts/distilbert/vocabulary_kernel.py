"""KL at T, masked LM and their gradient from a chunk of logits, in one Triton kernel.

Each program has one position: it reads the logits of student and teacher once for their log-sum-exps (with running
maxima, as Milakov & Gimelshein 2018, arXiv:1805.02867), and again, from the cache, to write the gradient over the
student's. All arithmetic is float32, whatever the precision of the logits. Nothing is shared between programs, so the
results do not depend on their order. `vocabulary_head._kl_and_mlm_` computes the same in plain torch.

To run it without a GPU: pip install triton && TRITON_INTERPRET=1 pytest tests/test_vocabulary_head.py

Shapes: n positions, V words, P words padded to a multiple of 16 or more.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Words that a program has in its registers at once, and the warps that share them: 16 bytes a load of bfloat16.
BLOCK, NUM_WARPS = 2048, 8


def kl_and_mlm_(
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
    """Return the sums over positions of KL(teacher || student) at T, times T^2, and of the targets' cross-entropy.

    Args:
        logits: (n, P), contiguous; where a gradient is needed, that of kl_weight * KL + mlm_weight * MLM takes their
            place, 0 beyond the words.
        teacher_logits: (n, P), contiguous. targets: (n,) int64, contiguous, negative where there is none.
        num_words: V; columns beyond it must be finite and count for nothing.
    """
    num_rows, width = logits.shape
    kl, mlm = torch.empty((2, num_rows), dtype=torch.float32, device=logits.device)
    with torch.cuda.device_of(logits):  # Triton launches on the current GPU
        _losses_and_gradient[(num_rows,)](
            logits,
            teacher_logits,
            targets,
            kl,
            mlm,
            num_words,
            width,
            temperature,
            kl_weight,
            mlm_weight,
            NEEDS_GRADIENT=needs_gradient,
            BLOCK=min(BLOCK, triton.next_power_of_2(width)),
            num_warps=NUM_WARPS,
        )
    return kl.sum(), mlm.sum()


@triton.jit
def _losses_and_gradient(
    logits_pointer,
    teacher_pointer,
    targets_pointer,
    kl_pointer,
    mlm_pointer,
    num_words,
    width,
    T,
    kl_weight,
    mlm_weight,
    NEEDS_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)  # row * width may pass 2^31
    logits_pointer += row * width
    teacher_pointer += row * width
    target = tl.load(targets_pointer + row)
    # Read here, many barriers before another warp of this program writes the gradient there.
    target_logit = tl.load(logits_pointer + tl.maximum(target, 0)).to(tl.float32)

    beta = 1 / T
    # The sums are kept for each lane and added up at the end; the maxima are of all lanes.
    student_max, teacher_max = float("-inf"), float("-inf")
    student_sum = tl.zeros((BLOCK,), tl.float32)  # of exp((s - max) / T)
    teacher_sum = tl.zeros((BLOCK,), tl.float32)  # of exp((t - max) / T)
    product_sum = tl.zeros((BLOCK,), tl.float32)  # of exp((t - max) / T) (t - s)
    hard_sum = tl.zeros((BLOCK,), tl.float32)  # of exp(s - max)
    for start in range(0, width, BLOCK):
        columns, student, teacher = _load(logits_pointer, teacher_pointer, start, width, BLOCK)
        difference = teacher - student
        student = tl.where(columns < num_words, student, float("-inf"))
        teacher = tl.where(columns < num_words, teacher, float("-inf"))
        new_student_max = tl.maximum(student_max, tl.max(student, 0))
        new_teacher_max = tl.maximum(teacher_max, tl.max(teacher, 0))
        shrink = tl.exp((teacher_max - new_teacher_max) * beta)
        soft_target = tl.exp((teacher - new_teacher_max) * beta)
        teacher_sum = teacher_sum * shrink + soft_target
        product_sum = product_sum * shrink + soft_target * difference
        student_sum = student_sum * tl.exp((student_max - new_student_max) * beta)
        student_sum += tl.exp((student - new_student_max) * beta)
        if target >= 0:
            hard_sum = hard_sum * tl.exp(student_max - new_student_max) + tl.exp(student - new_student_max)
        student_max, teacher_max = new_student_max, new_teacher_max

    student_lse = student_max * beta + tl.log(tl.sum(student_sum, 0))
    teacher_total = tl.sum(teacher_sum, 0)
    teacher_lse = teacher_max * beta + tl.log(teacher_total)
    kl = beta * tl.sum(product_sum, 0) / teacher_total - teacher_lse + student_lse
    tl.store(kl_pointer + row, kl * T * T)
    hard_lse = student_max
    mlm = 0.0
    if target >= 0:
        hard_lse += tl.log(tl.sum(hard_sum, 0))
        mlm = hard_lse - target_logit
    tl.store(mlm_pointer + row, mlm)

    if NEEDS_GRADIENT:
        for start in range(0, width, BLOCK):
            columns, student, teacher = _load(logits_pointer, teacher_pointer, start, width, BLOCK)
            gradient = tl.exp(student * beta - student_lse) - tl.exp(teacher * beta - teacher_lse)
            gradient *= kl_weight * T
            if target >= 0:
                hard = tl.exp(student - hard_lse) - tl.where(columns == target, 1.0, 0.0)
                gradient += mlm_weight * hard
            gradient = tl.where(columns < num_words, gradient, 0.0)  # a logit of 0 may be far above the words'
            gradient = gradient.to(logits_pointer.dtype.element_ty)
            tl.store(logits_pointer + columns, gradient, mask=columns < width)


@triton.jit
def _load(logits_pointer, teacher_pointer, start, width, BLOCK: tl.constexpr):
    # The mask is that of the padded width: one of the number of words, no multiple of 16, would split the loads.
    columns = start + tl.arange(0, BLOCK)
    student = tl.load(logits_pointer + columns, mask=columns < width, other=0.0).to(tl.float32)
    teacher = tl.load(teacher_pointer + columns, mask=columns < width, other=0.0).to(tl.float32)
    return columns, student, teacher
