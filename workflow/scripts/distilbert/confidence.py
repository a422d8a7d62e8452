"""How sure a score is: what it would be had other test examples been drawn (Efron's bootstrap, 1979).

In each replicate the N test examples are drawn anew, with replacement, and all models are scored on the same draw, so
that the difference of two models has an interval of its own, narrower than theirs. What another training would change
is not in it: that is what the seeds are for.

Shapes: M models, N examples, R replicates.
"""

import math

import numpy as np

# Enough that the ends of a 95 % interval hold still to a tenth of its length.
REPLICATES = 2000
# Numbers that are held at once.
CHUNK = 2**22


def resampled_figures(
    predicted: np.ndarray, labels: np.ndarray, *, seed: int | list[int], replicates: int = REPLICATES
) -> dict[str, np.ndarray]:
    """Return {accuracy, f1, mcc}, each (R, M), of predicted classes (M, N) against labels (N,) in each replicate.

    F1 and MCC are 0 where they are undefined, as in `metrics.measure`.
    """
    says_1, is_1 = predicted.T.astype(float), labels.astype(float)[:, None]  # (N, M), (N, 1)
    columns = np.hstack([says_1 * is_1, says_1, is_1])  # (N, 2 M + 1)
    generator = np.random.default_rng(seed)
    sums = []
    for start in range(0, replicates, chunk := max(1, CHUNK // len(labels))):
        draws = [_times_drawn(generator, len(labels)) for _ in range(min(chunk, replicates - start))]
        sums.append(np.array(draws, dtype=float) @ columns)  # (R, 2 M + 1), whole numbers: exact
    tp, positives, actual = np.split(np.concatenate(sums), [len(predicted), 2 * len(predicted)], axis=1)
    n = len(labels)
    tn = n - positives - actual + tp
    margins = positives * (n - positives) * actual * (n - actual)
    return {
        "accuracy": (tp + tn) / n,
        "f1": _ratio(2 * tp, positives + actual),
        "mcc": _ratio(n * tp - positives * actual, np.sqrt(margins)),
    }


def _times_drawn(generator: np.random.Generator, n: int) -> np.ndarray:
    """Return how often each of n examples comes in n draws with replacement, (n,)."""
    return np.bincount(generator.integers(n, size=n), minlength=n)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return a quotient, 0 where it is undefined."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def interval(replicates: np.ndarray) -> tuple[float, float]:
    """Return the range of the middle 95 % of (R,) replicates."""
    low, high = np.quantile(replicates, (0.025, 0.975))
    return float(low), float(high)


def accuracy_interval(replicates: np.ndarray, accuracy: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy over n examples; Wilson's where every draw gives the same."""
    return interval(replicates) if 0 < accuracy < 1 else wilson_interval(accuracy, n)


def wilson_interval(accuracy: float, n: int, *, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of an accuracy over n examples (95 % by default)."""
    centre = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return centre - half, centre + half
