"""A step of the distillation pretraining, ours and the two peers' in turn.

    PYTHONPATH=workflow/scripts python benchmarks/pretraining.py --size full --json FILE

Sizes: "full" is bert-base-uncased (12 layers x 768, 30,522 words) into 6 layers, 32 windows of up to 128 tokens a
step; "demo" is that of config.yaml. The windows have the lengths of the first windows of Wikipedia's articles, or are
those of `--tokens`, a folder of token shards. Seconds are those of a step, as an average over an epoch: ours does short
and long steps in their proportion; peer (a)'s steps are all alike, and so are nearly all of (b)'s.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import measure
import numpy as np
import torch
import workload
from ways import OURS, compare, take_turns

from distilbert.batching import STEPS_PER_POOL, BatchPlan
from distilbert.config import PretrainConfig, build
from distilbert.corpus_objectives import DistillationObjective
from distilbert.device import choose_device, resolve_precision
from distilbert.model import MaskedLM, hold_matrices
from distilbert.tokens import TokenShards
from distilbert.training import train

# Steps of each way in one turn.
NUM_STEPS = {
    "full": {OURS: 2, "coursework": 1, "huggingface": 2},
    "demo": {OURS: 25, "coursework": 5, "huggingface": 5},
}


def main() -> None:
    """Print a table, and write it with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(NUM_STEPS), default="full")
    parser.add_argument("--tokens", type=Path, help="folder with train.arrow of each shard, such as results/tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=["coursework", "huggingface", OURS])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    num_steps = NUM_STEPS[arguments.size]
    builds = {way: (BUILDS[way], arguments.size, arguments.tokens) for way in arguments.ways}
    turns = [(way, num_steps[way]) for way in arguments.ways]
    done, megabytes, peak = take_turns(builds, turns, repeats=arguments.repeats, warmup=(1,))
    size = workload.size_of(arguments.size)
    lengths = np.array([len(window) for window in windows(arguments.size, arguments.tokens)])
    tokens = lengths.mean()
    flops = 3 * workload.flops(size.student, lengths, vocabulary_head=True)
    flops = (flops + workload.flops(size.teacher, lengths, vocabulary_head=True)) / len(lengths)
    rows = compare(
        {way: done[way, steps] for way, steps in turns},
        work=size.settings["pretrain"]["batch_size"],
        unit="windows",
        tokens=tokens,
        flops=flops,
        peak=peak,
    )
    for row in rows:
        row["peak_megabytes"] = round(megabytes[row["way"]])
    measure.print_table(rows)
    figures = measure.record(
        size=arguments.size,
        tokens_per_window=round(tokens, 1),
        megaflops_per_token=round(flops / tokens / 1e6, 1),
        peak_gigaflops=round(peak / 1e9),
        repeats=arguments.repeats,
        rows=rows,
    )
    measure.write(arguments.json, figures)


def windows(size_name: str, tokens: Path | None) -> list[np.ndarray]:
    """Return the windows of the steps that ours does: some of `STEPS_PER_POOL` steps, as `choose_steps` says."""
    size = workload.size_of(size_name)
    batch_size = size.settings["pretrain"]["batch_size"]
    num_windows, max_length = STEPS_PER_POOL * batch_size, size.settings["corpus"]["max_length"]
    if tokens:
        shards = TokenShards(sorted(tokens.rglob("train.arrow")))
        pool = [shards[row][:max_length] for row in range(num_windows)]
    else:
        pool = workload.draw_sequences("wikipedia", size, num_windows, max_length=max_length)
    return workload.choose_steps(pool, batch_size=batch_size, num_steps=NUM_STEPS[size_name][OURS])


def settings(size: workload.Size) -> PretrainConfig:
    """Return the settings of one epoch."""
    return build(PretrainConfig, {**size.settings["pretrain"], "epochs": 1})


def build_ours(size_name: str, tokens: Path | None) -> Callable[[int], int]:
    """Return what trains on all windows with the project's own loop, or on one step of them."""
    size, device = workload.size_of(size_name), choose_device()
    config = settings(size)
    shards = workload.as_shards(windows(size_name, tokens), size, labelled=False)
    teacher, student = MaskedLM(size.teacher).to(device), MaskedLM(size.student).to(device)
    hold_matrices(teacher, getattr(torch, resolve_precision(device, config.precision)))
    objective = DistillationObjective(teacher, shards, torch.ones(size.vocabulary.size), config, device)
    plan = BatchPlan(shards.lengths, batch_size=config.batch_size, seed=workload.SEED)

    def action(num_steps: int) -> int:
        result = train(
            student,
            objective,
            plan,
            build(PretrainConfig, {**vars(config), "max_steps": num_steps}),
            seed=workload.SEED,
        )
        return result.steps * config.batch_size

    return action


def build_coursework(size_name: str, tokens: Path | None) -> Callable[[int], int]:
    """Return what does some steps of peer (a)."""
    import peers

    size, device = workload.size_of(size_name), choose_device()
    config = settings(size)
    step = peers.coursework_pretraining(size.teacher, size.student, config, device)
    batches = peers.forever(
        peers.coursework_windows(
            windows(size_name, tokens),
            size.vocabulary,
            batch_size=config.batch_size,
            max_length=size.settings["corpus"]["max_length"],
        )
    )
    return lambda num_steps: peers.take_steps(step, batches, num_steps, device)


def build_huggingface(size_name: str, tokens: Path | None) -> Callable[[int], int]:
    """Return what does some steps of peer (b)."""
    import peers

    size, device = workload.size_of(size_name), choose_device()
    config = settings(size)
    step = peers.huggingface_pretraining(size.teacher, size.student, config, device)
    batches = peers.forever(
        peers.huggingface_windows(
            windows(size_name, tokens),
            size.vocabulary,
            batch_size=config.batch_size,
            mlm_probability=config.mlm_probability,
        )
    )
    return lambda num_steps: peers.take_steps(step, batches, num_steps, device)


BUILDS = {OURS: build_ours, "coursework": build_coursework, "huggingface": build_huggingface}


if __name__ == "__main__":
    main()
