"""A classifier's outputs for every example of a set, in the set's order.

Examples of like length share a batch, so that little is padded; the order of the outputs is restored.
"""

import math

import numpy as np
import torch

from distilbert.model import SequenceClassifier
from distilbert.task_objectives import labelled_micro_batches
from distilbert.tokens import TokenShards

# Padded tokens of one forward pass. More of them mix lengths: of the 872 sentences of SST-2, 8,192 at once are a third
# pads, 1,024 a tenth, and a CPU computes those as fast.
MAX_TOKENS = {"cpu": 1024, "cuda": 8192}


@torch.inference_mode()
def predict(
    model: SequenceClassifier, examples: TokenShards, *, max_tokens: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (N, C) and the last hidden states of [CLS] (N, D) of N examples, float32 on the CPU.

    max_tokens: padded tokens of one forward pass that memory has room for; None: enough for `MAX_TOKENS`.
    """
    model.eval()
    device = next(model.parameters()).device
    max_tokens = min(MAX_TOKENS[device.type], max_tokens or math.inf)
    logits = torch.empty(len(examples), model.num_classes)
    cls = torch.empty(len(examples), model.config.hidden_size)
    order = np.argsort(examples.lengths, kind="stable")
    for batch in labelled_micro_batches(examples, order, max_tokens, device):
        hidden = model.encode(batch.ids, batch.mask, batch.token_types)
        logits[batch.rows] = model.classify(hidden).float().cpu()
        cls[batch.rows] = hidden.float().cpu()
    return logits, cls
