"""What a training on a task minimises, in micro-batches as in `corpus_objectives`.

Shapes: B sequences, T tokens, D hidden, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distilbert import losses, processes
from distilbert.batching import pad, split_by_tokens
from distilbert.config import DirectDistillationConfig
from distilbert.flops import Shape
from distilbert.model import SequenceClassifier
from distilbert.tokens import TokenShards


@dataclass(frozen=True)
class LabelledMicroBatch:
    """ids, mask, token_types: (B, T). labels: (B,). rows: (B,) of the shards. step_examples: of the whole step."""

    ids: Tensor
    mask: Tensor
    token_types: Tensor
    labels: Tensor
    rows: np.ndarray
    num_tokens: int
    step_examples: int


class ClassificationObjective:
    """Fine-tuning: cross-entropy with the labels."""

    def __init__(self, examples: TokenShards, max_tokens_per_forward: int, device: torch.device):
        self.examples, self.max_tokens, self.device = examples, max_tokens_per_forward, device

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> list[LabelledMicroBatch]:
        """Cut the step into micro-batches; nothing here is random."""
        num_shares = processes.join().count
        return list(labelled_micro_batches(self.examples, rows, self.max_tokens, self.device, num_shares=num_shares))

    def losses(self, model: SequenceClassifier, batch: LabelledMicroBatch) -> dict[str, Tensor]:
        """Return {"loss"}: the mean cross-entropy per example."""
        logits = model(batch.ids, batch.mask, batch.token_types)
        return {"loss": losses.cross_entropy(logits, batch.labels) / batch.step_examples}

    def flops(self, model: SequenceClassifier, batch: LabelledMicroBatch) -> float:
        """Return the FLOPs of a micro-batch's tokens, pads left out: only [CLS] is read, and a teacher was before."""
        read = len(batch.ids) / batch.num_tokens
        return 3 * batch.num_tokens * Shape.of(model.config).flops(batch.ids.shape[1], head=False, read=read)


class DirectDistillationObjective(ClassificationObjective):
    """Direct distillation: hard cross-entropy + soft-target KL + cosine on [CLS], each a mean per example.

    teacher_logits: (examples, C), teacher_cls: (examples, D), of the training set in its order: computed once,
    before the first epoch, because a teacher without dropout says the same every time.
    """

    def __init__(
        self,
        examples: TokenShards,
        teacher_logits: Tensor,
        teacher_cls: Tensor,
        config: DirectDistillationConfig,
        device: torch.device,
    ):
        super().__init__(examples, config.max_tokens_per_forward, device)
        self.teacher_logits, self.teacher_cls, self.config = teacher_logits, teacher_cls, config

    def losses(self, model: SequenceClassifier, batch: LabelledMicroBatch) -> dict[str, Tensor]:
        """Return {"loss", "hard", "soft", "cos"}: the weighted sum and its three parts, unweighted."""
        cls = model.encode(batch.ids, batch.mask, batch.token_types)  # (B, D)
        logits = model.classify(cls)  # (B, C)
        rows = torch.from_numpy(batch.rows)
        teacher_logits, teacher_cls = (t[rows].to(self.device) for t in (self.teacher_logits, self.teacher_cls))
        hard = losses.cross_entropy(logits, batch.labels) / batch.step_examples
        soft = losses.soft_target_kl(logits, teacher_logits, temperature=self.config.temperature)
        soft = soft / batch.step_examples
        cos = losses.cosine_distance(cls, teacher_cls) / batch.step_examples
        total = self.config.alpha_hard * hard + self.config.alpha_soft * soft + self.config.alpha_cos * cos
        return {"loss": total, "hard": hard, "soft": soft, "cos": cos}


def labelled_micro_batches(
    examples: TokenShards, rows: np.ndarray, max_tokens: int, device: torch.device, *, num_shares: int = 1
) -> Iterator[LabelledMicroBatch]:
    """Yield padded micro-batches of rows that are sorted by length."""
    for part in split_by_tokens(rows, examples.lengths, max_tokens, num_shares=num_shares):
        batch = pad(examples, part)
        tensors = (batch.ids, batch.mask, batch.token_types, batch.labels)
        yield LabelledMicroBatch(
            *(torch.from_numpy(array).to(device) for array in tensors),
            rows=part,
            num_tokens=batch.num_tokens,
            step_examples=len(rows),
        )
