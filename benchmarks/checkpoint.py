"""What a checkpoint costs: saving and reading the state of a training of DistilBERT's full size.

    PYTHONPATH=workflow/scripts python benchmarks/checkpoint.py --json docs/results/checkpoint.json

The state is that of a pretraining: the weights of a student of 6 layers x 768 with 30,522 words, and AdamW's moments.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from distilbert.checkpoint import Checkpoints
from distilbert.config import EncoderConfig
from distilbert.model import MaskedLM
from distilbert.optimizer import AdamW
from distilbert.runlog import machine
from distilbert.training import CHECKPOINT_MINUTES

DISTILBERT = EncoderConfig(
    family="distilbert",
    vocab_size=30_522,
    hidden_size=768,
    num_layers=6,
    num_heads=12,
    intermediate_size=3072,
    max_positions=512,
    type_vocab_size=0,
)


def main() -> None:
    """Save and load some times; print medians and the share of a training that saves at the default interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = MaskedLM(DISTILBERT)
    optimizer = AdamW(model, betas=(0.9, 0.98), epsilon=1e-6, weight_decay=0.0)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer.state_dict().items()}
    saves, loads = [], []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        checkpoints = Checkpoints(Path(folder))
        for step in range(arguments.repeats):
            saves.append(seconds_of(lambda step=step: checkpoints.save(tensors, {"history": []}, step=step)))
            loads.append(seconds_of(checkpoints.load))
    figures = {
        "million_parameters": round(sum(value.numel() for value in model.parameters()) / 1e6, 1),
        "megabytes": round(sum(value.numel() * value.element_size() for value in tensors.values()) / 1e6),
        "save_seconds": round(statistics.median(saves), 2),
        "load_seconds": round(statistics.median(loads), 2),
        "percent_of_training": round(100 * statistics.median(saves) / (60 * CHECKPOINT_MINUTES), 2),
        "repeats": arguments.repeats,
        "machine": machine(),
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def seconds_of(action) -> float:
    """Return how long an action takes; what the disk has not yet taken is waited for first."""
    os.sync()
    started = time.monotonic()
    action()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
