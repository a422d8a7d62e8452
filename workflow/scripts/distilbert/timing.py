"""The time that models take, side by side.

The models take turns, batch by batch in one process, and each round has a ratio of its own. So whatever else the
machine does meanwhile slows all of them, and moves the median of the ratios hardly at all. On the CPU the clock is the
processor's: what it does for others does not count.

Shapes: R rounds.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from distilbert.model import SequenceClassifier
from distilbert.task_objectives import LabelledMicroBatch
from distilbert.tokens import TokenShards

CLOCKS = {"cpu": time.process_time, "cuda": time.perf_counter}


def spread_rows(examples: TokenShards, count: int) -> np.ndarray:
    """Return so many rows (all, if there are fewer), with the lengths of the whole set, the shortest first."""
    order = np.argsort(examples.lengths, kind="stable")
    count = min(count, len(order))
    return order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]


@torch.inference_mode()
def time_in_turns(
    models: list[SequenceClassifier],
    batches: list[LabelledMicroBatch],
    *,
    seconds: float,
    min_rounds: int,
    clock: Callable[[], float],
) -> np.ndarray:
    """Return what each model took for all batches in each round, (len(models), R) seconds.

    seconds: rounds begin until so many have passed and there are `min_rounds` of them. The first round is not counted.
    Every other round has the models in reverse order, so that none always comes first.
    """
    for model in models:
        model.eval()
    rounds: list[np.ndarray] = []
    end = clock() + seconds
    while len(rounds) <= min_rounds or clock() < end:
        turns = list(enumerate(models))[:: -1 if len(rounds) % 2 else 1]
        times = np.zeros(len(models))
        for batch in batches:
            for number, model in turns:
                started = clock()
                model(batch.ids, batch.mask, batch.token_types).cpu()  # an answer counts once it can be read
                times[number] += clock() - started
        rounds.append(times)
    return np.array(rounds[1:]).T
