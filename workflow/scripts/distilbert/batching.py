"""Which sequences make up which optimizer step, and how they are padded.

The order of the data is a pure function of (seed, epoch): nothing of it has to be saved in a checkpoint.
Sequences of like length are put into one step, so that little is padded: an epoch is shuffled, cut into
pools of many steps, each pool is sorted by length and cut into steps, and the steps are shuffled.

Shapes: B sequences, T tokens of the longest of them.
"""

from dataclasses import dataclass

import numpy as np

from distilbert.tokens import TokenShards

# Steps whose sequences are sorted together. More steps pad less and mix less.
STEPS_PER_POOL = 50


@dataclass(frozen=True)
class Batch:
    """Padded sequences, as NumPy arrays.

    ids: (B, T) int64. mask: (B, T) bool, False on pads. token_types: (B, T) int64, 1 from the second
    sentence on. rows: (B,) int64, which sequences of the shards these are. labels: (B,) int64 or None.
    """

    ids: np.ndarray
    mask: np.ndarray
    token_types: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None

    @property
    def num_tokens(self) -> int:
        """Tokens of the batch, pads not counted."""
        return int(self.mask.sum())


def random_generator(*key: int) -> np.random.Generator:
    """Return a generator that depends on the key alone, such as (seed, epoch, step)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class BatchPlan:
    """The steps of each epoch: every sequence exactly once an epoch, the last step possibly smaller."""

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int):
        if len(lengths) == 0:
            raise ValueError("batching: no sequence to train on")
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self.steps_per_epoch = -(-len(lengths) // batch_size)
        self._epoch, self._steps = None, []

    def rows(self, epoch: int, step: int) -> np.ndarray:
        """Return the rows of one step of one epoch (both from 0), sorted by length."""
        if epoch != self._epoch:
            self._epoch, self._steps = epoch, self._plan(epoch)
        return self._steps[step]

    def _plan(self, epoch: int) -> list[np.ndarray]:
        generator = random_generator(self._seed, epoch)
        order = generator.permutation(len(self._lengths))
        pool = STEPS_PER_POOL * self._batch_size
        steps = []
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            steps += [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]
        return [steps[i] for i in generator.permutation(len(steps))]


def split_by_tokens(rows: np.ndarray, lengths: np.ndarray, max_tokens: int, *, num_shares: int = 1) -> list[np.ndarray]:
    """Cut rows that are sorted by length into runs of at most `max_tokens` padded tokens (or one row).

    num_shares: processes that share the runs; a run then holds at most such a part of all padded tokens.
    """
    padded = len(rows) * int(lengths[rows].max(initial=0))
    max_tokens = min(max_tokens, -(-padded // num_shares))
    runs, start = [], 0
    for end in range(1, len(rows) + 1):
        is_last = end == len(rows)
        if is_last or (end + 1 - start) * lengths[rows[end]] > max_tokens:
            runs.append(rows[start:end])
            start = end
    return runs


def pad(shards: TokenShards, rows: np.ndarray) -> Batch:
    """Read rows of the shards and pad them to the longest of them."""
    lengths = shards.lengths[rows]
    mask = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
    ids = np.full(mask.shape, shards.vocabulary.pad, dtype=np.int64)
    ids[mask] = np.concatenate([shards[row] for row in rows])
    is_separator = ids == shards.vocabulary.sep
    after_first = np.cumsum(is_separator, axis=1) - is_separator > 0
    labels = None if shards.labels is None else shards.labels[rows].astype(np.int64)
    return Batch(ids, mask, (after_first & mask).astype(np.int64), rows, labels)
