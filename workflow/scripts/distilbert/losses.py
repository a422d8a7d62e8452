"""The losses of distillation (Sanh et al. 2019, sections 2 and 3), as sums over positions.

Each returns a SUM, and the caller divides by the number of positions of the whole optimizer step: only so
is a step that is cut into micro-batches the same as one that is not.

Shapes: N positions (tokens, or examples of a task), V words (or classes), D hidden units.
"""

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
