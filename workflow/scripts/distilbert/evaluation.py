"""What is made of scores: a task's predictions in another's classes, and the baseline.

Apart from `metrics`, which choose the epoch of a fine-tuning, so that nothing here ever trains anew.

Shapes: N examples, two classes.
"""

import numpy as np


def translate_logits(logits: np.ndarray, *, trained_yes: int, evaluated_yes: int) -> np.ndarray:
    """Return (N, 2) logits in the classes of another task, "yes" as its "yes" (see `tasks`).

    trained_yes, evaluated_yes: the class (0 or 1) that affirms in the task of the model and in the one it is scored on.
    """
    return logits if trained_yes == evaluated_yes else logits[:, ::-1]


def majority_accuracy(labels: np.ndarray) -> float:
    """Return the accuracy of always answering the more frequent of the two classes."""
    share = float(np.mean(labels))
    return max(share, 1 - share)
