"""The losses of distillation (Sanh et al. 2019, sections 2 and 3), as sums over positions, and the fused head.

Each returns a SUM, and the caller divides by the number of positions of the whole optimizer step: only so
is a step that is cut into micro-batches the same as one that is not.

Shapes: N positions (tokens, or examples of a task), V words (or classes), D hidden units.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_target_kl(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return the sum over positions of KL(teacher || student) of the softened distributions, times T^2.

    T^2 keeps the gradient's size independent of T (Hinton et al. 2015, section 2).

    Args:
        student, teacher: (N, V) logits; no gradient reaches the teacher. temperature: T > 0.
    """
    student = F.log_softmax(student.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher.detach().float() / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) * temperature**2


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over positions of the cross-entropy: (N, V) logits against (N,) ids."""
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the sum over positions of 1 - cos(student, teacher), (N, D) hidden states, each in [0, 2]."""
    return (1 - F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)).sum()


# Logits that are held at once: what fits the CPU's cache, and enough to keep a GPU busy.
CHUNK_LOGITS = {"cpu": 2**22, "cuda": 2**27}


def vocabulary_losses(
    student: tuple[Tensor, Tensor, Tensor],
    teacher: tuple[Tensor, Tensor, Tensor],
    targets: Tensor,
    *,
    temperature: float,
    kl_weight: float,
    mlm_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return kl_weight * KL + mlm_weight * MLM, and the two sums, without ever holding all logits.

    The same as `soft_target_kl` on all positions and `cross_entropy` on the targets, up to rounding. A chunk of
    positions at a time, logits, losses and gradient are computed while they are in the cache; the full logits
    (N times 30,522 words, several times over) would cost more than the rest of the step.

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
    def forward(ctx, hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias, targets, T, *constants):
        kl_weight, mlm_weight, is_grad_enabled = constants
        # `needs_input_grad` is true of a parameter under `no_grad` too.
        needs_gradient = is_grad_enabled and any(ctx.needs_input_grad)
        kl, mlm = hidden.new_zeros((), dtype=torch.float32), hidden.new_zeros((), dtype=torch.float32)
        if needs_gradient:
            gradients = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in (hidden, weight, bias)]
        rows = max(1, CHUNK_LOGITS[hidden.device.type] // weight.shape[0])
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = F.linear(hidden[part], weight, bias).float()  # (n, V)
            soft_targets = F.linear(teacher_hidden[part], teacher_weight, teacher_bias).float().div_(T)
            # KL = sum_v p_v (t_v - s_v) - lse(t) + lse(s), with t and s the softened logits and p = softmax(t).
            teacher_lse = soft_targets.logsumexp(1, keepdim=True)
            difference = soft_targets - logits / T
            soft_targets.sub_(teacher_lse).exp_()
            difference.mul_(soft_targets)
            student_lse = (logits / T).logsumexp(1, keepdim=True)
            kl += (difference.sum(1) - teacher_lse.squeeze(1) + student_lse.squeeze(1)).sum() * T**2
            chosen = (targets[part] >= 0).nonzero().squeeze(1)
            words, target_logits = targets[part][chosen], logits[chosen]
            log_probabilities = target_logits.log_softmax(1)  # (m, V)
            mlm -= log_probabilities.gather(1, words[:, None]).sum()
            if needs_gradient:
                gradient = logits.div_(T).sub_(student_lse).exp_().sub_(soft_targets).mul_(kl_weight * T)
                hard = log_probabilities.exp_()
                hard.scatter_add_(1, words[:, None], hard.new_full((len(words), 1), -1.0))
                gradient.index_add_(0, chosen, hard, alpha=mlm_weight)
                gradients[0][part] = gradient @ weight
                gradients[1].addmm_(gradient.T, hidden[part].float())
                gradients[2] += gradient.sum(0)
        if needs_gradient:
            ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(kl, mlm)
        return kl_weight * kl + mlm_weight * mlm, kl, mlm

    @staticmethod
    def backward(ctx, upstream, *_):
        gradients = ctx.saved_tensors
        return *(gradient.mul_(upstream) for gradient in gradients), *[None] * 8
