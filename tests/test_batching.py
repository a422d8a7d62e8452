"""Batching: every sequence once an epoch, an order that (seed, epoch) decides, bounded and well filled batches."""

import numpy as np
import pytest
from conftest import vouch_for

from distilbert.batching import BatchPlan, pad, random_generator, split_by_tokens
from distilbert.tokens import TokenShards, write_shard


def skewed_lengths(count: int = 3000) -> np.ndarray:
    """Return lengths as texts have them: many short ones, a few long ones."""
    return np.clip(np.random.default_rng(0).geometric(0.05, count) + 2, 3, 128).astype(np.int32)


def epoch_of(plan: BatchPlan, epoch: int) -> list[np.ndarray]:
    return [plan.rows(epoch, step) for step in range(plan.steps_per_epoch)]


def padding(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    """Return the share of the padded positions that are pads."""
    slots = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1 - sum(int(lengths[rows].sum()) for rows in batches) / slots


@pytest.mark.parametrize("count,batch_size", [(3000, 32), (3000, 7), (5, 32), (1, 1)])
def test_every_row_comes_exactly_once_an_epoch(count, batch_size):
    """No sequence is left out or repeated, and only one step is smaller than the batch size."""
    plan = BatchPlan(skewed_lengths(count), batch_size=batch_size, seed=1)
    for epoch in (0, 1):
        batches = epoch_of(plan, epoch)
        assert sorted(np.concatenate(batches).tolist()) == list(range(count))
        sizes = sorted(map(len, batches))
        assert sizes[1:] == [batch_size] * (len(batches) - 1)
        assert 1 <= sizes[0] <= batch_size


def test_steps_past_the_epoch_do_not_exist():
    """`steps_per_epoch` is the number of steps, no fewer and no more."""
    plan = BatchPlan(skewed_lengths(100), batch_size=32, seed=1)
    assert plan.steps_per_epoch == 4
    with pytest.raises(IndexError):
        plan.rows(0, 4)


def test_another_epoch_and_another_seed_give_another_order():
    """Steps differ in their members, not only in their order, from epoch to epoch and from seed to seed."""
    lengths = skewed_lengths()
    first = {tuple(rows) for rows in epoch_of(BatchPlan(lengths, batch_size=32, seed=1), 0)}
    other_epoch = {tuple(rows) for rows in epoch_of(BatchPlan(lengths, batch_size=32, seed=1), 1)}
    other_seed = {tuple(rows) for rows in epoch_of(BatchPlan(lengths, batch_size=32, seed=2), 0)}
    assert not first & other_epoch
    assert not first & other_seed


def test_the_order_depends_on_seed_and_epoch_alone():
    """A fresh plan asked for one step in the middle of epoch 2 gives what a plan that ran there gives."""
    lengths = skewed_lengths()
    ran = BatchPlan(lengths, batch_size=32, seed=5)
    walked = [epoch_of(ran, epoch) for epoch in range(3)]
    assert BatchPlan(lengths, batch_size=32, seed=5).rows(2, 17).tolist() == walked[2][17].tolist()
    assert [rows.tolist() for rows in epoch_of(ran, 0)] == [rows.tolist() for rows in walked[0]]


def test_a_plan_without_sequences_is_refused():
    """An empty training set is an error at once."""
    with pytest.raises(ValueError, match="no sequence"):
        BatchPlan(np.empty(0, np.int32), batch_size=4, seed=1)


def test_generators_differ_by_each_part_of_their_key():
    """(1, 2), (2, 1), (1,) and (1, 2, 0) are four different streams, each of them repeatable."""
    draws = [random_generator(*key).integers(2**62) for key in ((1, 2), (2, 1), (1,), (1, 2, 1))]
    assert len(set(draws)) == 4
    assert random_generator(1, 2).integers(2**62) == draws[0]


@pytest.mark.parametrize("max_tokens", [1, 64, 128, 500, 10**9])
def test_split_by_tokens_keeps_the_budget_and_all_rows(max_tokens):
    """No run is larger than the budget unless it is a single row; the rows stay in order."""
    lengths = skewed_lengths(200)
    rows = np.argsort(lengths, kind="stable")
    runs = split_by_tokens(rows, lengths, max_tokens)
    assert np.concatenate(runs).tolist() == rows.tolist()
    for run in runs:
        assert len(run) == 1 or len(run) * lengths[run].max() <= max_tokens


def test_split_by_tokens_fills_the_budget():
    """No two neighbouring runs would fit the budget together, and an exact fit is one run."""
    lengths = skewed_lengths(200)
    runs = split_by_tokens(np.argsort(lengths, kind="stable"), lengths, 500)
    for left, right in zip(runs, runs[1:], strict=False):
        assert (len(left) + 1) * lengths[right[0]] > 500
    assert len(split_by_tokens(np.arange(4), np.full(4, 25), 100)) == 1


def test_pad_gives_ids_mask_and_token_types(tmp_path, vocabulary):
    """The second sentence, its [SEP] included, has type 1; pads have the pad id, mask False and type 0."""
    path = tmp_path / "pairs.arrow"
    single, pair = [2, 10, 11, 3], [2, 10, 3, 20, 21, 3]
    rows = [{"input_ids": single, "label": 1, "idx": 0}, {"input_ids": pair, "label": 0, "idx": 1}]
    write_shard(path, rows, vocabulary, labelled=True)
    vouch_for(tmp_path)
    batch = pad(TokenShards([path]), np.array([1, 0]))
    assert batch.ids.tolist() == [pair, [*single, 0, 0]]
    assert batch.mask.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert batch.token_types.tolist() == [[0, 0, 0, 1, 1, 1], [0] * 6]
    assert batch.labels.tolist() == [0, 1]
    assert batch.rows.tolist() == [1, 0]
    assert batch.num_tokens == 10
    assert batch.ids.dtype == batch.token_types.dtype == batch.labels.dtype == np.int64


def test_pad_of_unlabelled_shards_has_no_labels(make_shards):
    """Batches of the corpus carry no labels, and each row's ids are those of its sequence."""
    shards = make_shards(20, num_shards=3)
    rows = np.array([19, 0, 7])
    batch = pad(shards, rows)
    assert batch.labels is None
    for position, row in enumerate(rows):
        assert batch.ids[position][batch.mask[position]].tolist() == shards[row].tolist()


def test_sequences_of_like_length_share_a_batch():
    """On skewed lengths less than a twelfth of the positions is padding, where random batches pad more than half."""
    lengths = skewed_lengths()
    ours = padding(epoch_of(BatchPlan(lengths, batch_size=32, seed=1), 0), lengths)
    order = np.random.default_rng(0).permutation(len(lengths))
    at_random = padding([order[i : i + 32] for i in range(0, len(order), 32)], lengths)
    assert at_random > 0.5
    assert ours < 1 / 12
