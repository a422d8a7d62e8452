"""Predictions to figures: loss, accuracy, F1, Matthews correlation, and of these the one that judges a task.

Written out in NumPy because scikit-learn takes two seconds to import, several dozen jobs pay for that, and the
tests compare each figure with scikit-learn's.
"""

import math

import numpy as np


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """Return {n, loss, accuracy, f1, mcc} of (N, 2) logits against (N,) labels in {0, 1}.

    loss: mean cross-entropy in nats. accuracy in [0, 1]. f1: of class 1, in [0, 1], as GLUE scores it.
    mcc: Matthews correlation in [-1, 1]. F1 and MCC are 0 where they are undefined (as in scikit-learn).

    Raises:
        ValueError: there is no example, or the shapes do not fit.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if logits.shape != (len(labels), 2) or len(labels) == 0:
        raise ValueError(f"metrics: logits {logits.shape} against labels {labels.shape}")
    loss = np.logaddexp(logits[:, 0], logits[:, 1]) - logits[np.arange(len(labels)), labels]
    predicted = logits.argmax(axis=1)
    tp, tn, fp, fn = (float(np.sum((predicted == p) & (labels == a))) for p, a in ((1, 1), (0, 0), (1, 0), (0, 1)))
    f1_denominator = 2 * tp + fp + fn
    mcc_denominator = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "n": len(labels),
        "loss": float(loss.mean()),
        "accuracy": (tp + tn) / len(labels),
        "f1": 2 * tp / f1_denominator if f1_denominator else 0.0,
        "mcc": (tp * tn - fp * fn) / mcc_denominator if mcc_denominator else 0.0,
    }


def task_metric(figures: dict[str, float], metric: str) -> float:
    """Return the figure by which a task is judged (`Task.metric`), in [-1, 1] (the paper's tables: times 100)."""
    if metric == "accuracy_f1":
        return (figures["accuracy"] + figures["f1"]) / 2
    return figures[metric]
