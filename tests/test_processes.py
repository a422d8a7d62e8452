"""Processes: two that share a training compute what one computes, and no sequence is lost or done twice."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from conftest import original_ids, vouch_for
from safetensors.torch import load_file, save_file
from test_training import CPU, LOOP

from distilbert.batching import BatchPlan
from distilbert.config import EncoderConfig, MaskedLMConfig
from distilbert.corpus_objectives import MaskedLMObjective, mean_losses
from distilbert.model import MaskedLM, student_config
from distilbert.processes import join
from distilbert.tokens import TokenShards, write_shard
from distilbert.training import train

SETTINGS = LOOP | {
    "max_tokens_per_forward": 25,  # cuts a step alike for one process and for two, so dropout is alike
    "epochs": 2,
    "log_every": 1,
    "validations_per_epoch": 1,
    "mlm_probability": 0.15,
    "mlm_smoothing": 0.7,
}


def run_training(shard: str, shape: dict, output: str) -> None:
    """Train a small masked LM with dropout; every process notes its sequences, the first also the result.

    The plan has 41 sequences, so the last step of an epoch has one, which one process alone can compute.
    """
    seen = []

    class Objective(MaskedLMObjective):
        def losses(self, model, batch):
            if model.training:
                seen.append(original_ids(batch).tolist())
            return super().losses(model, batch)

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shards = TokenShards([Path(shard)])
    model = MaskedLM(student_config(EncoderConfig(**shape), num_layers=1))
    config = MaskedLMConfig(**SETTINGS)
    objective = Objective(shards, torch.ones(97), config, CPU)

    def validate(model):
        return mean_losses(model, objective, seed=0)

    plan = BatchPlan(shards.lengths, batch_size=config.batch_size, seed=3)
    result = train(model, objective, plan, config, seed=3, validate=validate)
    rank = join().rank
    Path(f"{output}-{rank}.json").write_text(json.dumps(seen))
    if rank == 0:
        save_file(model.state_dict(), f"{output}.safetensors")
        Path(f"{output}.json").write_text(json.dumps([result.history, result.num_tokens]))


def torchrun(*arguments: str, count: int = 2) -> subprocess.CompletedProcess:
    """Run this file as a program in so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", __file__]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent / "workflow" / "scripts")}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory, bert_config, vocabulary):
    """Train with one process and with two; return {1: ..., 2: ...} of (history, tokens, weights, sequences by rank)."""
    folder = tmp_path_factory.mktemp("processes")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(41):
        length = 5 + number % 13
        rows.append({"input_ids": [2, 5 + number, *torch.randint(5, 97, (length,), generator=generator).tolist(), 3]})
    write_shard(folder / "train.arrow", rows, vocabulary)
    vouch_for(folder)
    runs = {}
    for count in (1, 2):
        output = folder / f"run{count}"
        done = torchrun(json.dumps([str(folder / "train.arrow"), asdict(bert_config), str(output)]), count=count)
        assert done.returncode == 0, done.stderr
        history, num_tokens = json.loads((folder / f"run{count}.json").read_text())
        seen = [json.loads(Path(f"{output}-{rank}.json").read_text()) for rank in range(count)]
        runs[count] = history, num_tokens, load_file(f"{output}.safetensors"), seen
    return runs


def test_two_processes_compute_the_losses_of_one(one_and_two):
    """Every training and validation loss of a run of 12 steps with dropout is the same but for rounding."""
    (one, tokens, *_), (two, other_tokens, *_) = one_and_two[1], one_and_two[2]
    assert tokens == other_tokens
    assert len(one) == len(two) == 14  # 12 steps and 2 validations
    for row, other in zip(one, two, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            assert value == other[name] if isinstance(value, str) else value == pytest.approx(other[name], rel=2e-5), (
                name
            )


def test_two_processes_end_with_the_weights_of_one(one_and_two):
    """The weights differ by rounding alone."""
    weights, others = one_and_two[1][2], one_and_two[2][2]
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-3, atol=2e-5)


def test_no_sequence_is_lost_or_done_twice(one_and_two):
    """Two processes together see exactly the sequences of one, but for the spare share of a step of one sequence."""

    def sequences(batches):
        return sorted(tuple(filter(None, row)) for batch in batches for row in batch)

    alone = sequences(one_and_two[1][3][0])
    first, second = (sequences(seen) for seen in one_and_two[2][3])
    spare = [row for row in second if row in first and alone.count(row) < first.count(row) + second.count(row)]
    assert len(alone) == 82  # 41 sequences, 2 epochs
    assert len(spare) == 2  # the last step of each epoch has one sequence
    for row in spare:
        second.remove(row)
    assert sorted(first + second) == alone
    assert min(len(first), len(second)) > 25  # the work is shared


if __name__ == "__main__":
    run_training(*json.loads(sys.argv[1]))
