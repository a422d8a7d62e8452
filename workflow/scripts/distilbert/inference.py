"""A classifier's outputs for every example of a set, in the set's order.

Examples of like length share a batch, so that little is padded; the order of the outputs is restored.
"""

import numpy as np
import torch

from distilbert.model import SequenceClassifier
from distilbert.task_objectives import labelled_micro_batches
from distilbert.tokens import TokenShards


@torch.inference_mode()
def predict(
    model: SequenceClassifier, examples: TokenShards, *, max_tokens: int = 8192
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (N, C) and the last hidden states of [CLS] (N, D) of N examples, float32 on the CPU.

    max_tokens: padded tokens of one forward pass.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = torch.empty(len(examples), model.num_classes)
    cls = torch.empty(len(examples), model.config.hidden_size)
    order = np.argsort(examples.lengths, kind="stable")
    for batch in labelled_micro_batches(examples, order, max_tokens, device):
        hidden = model.encode(batch.ids, batch.mask, batch.token_types)
        logits[batch.rows] = model.classify(hidden).float().cpu()
        cls[batch.rows] = hidden.float().cpu()
    return logits, cls
