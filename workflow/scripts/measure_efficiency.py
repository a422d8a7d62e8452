"""Measure size and speed of the fine-tuned teacher and of the pretrained student, side by side.

Reads a classifier of each (all of one approach have the same shape) and the test sets of all tasks; writes
efficiency.csv, a row per figure, and efficiency.json, the same with the provenance.

Speed is that of answering test examples, evenly many of each task and of all lengths: one at a time (latency; the
paper, section 4.2, times the CPU so), and in batches, as `score_models` does it (throughput). On one thread of the CPU,
so that the figure depends on no other core, and where there is a GPU on that too, as precisely as it computes fastest.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from distilbert import runlog
from distilbert.device import autocast, choose_device, resolve_precision
from distilbert.efficiency import row
from distilbert.export import load_classifier
from distilbert.files import write_csv, write_json
from distilbert.inference import MAX_TOKENS
from distilbert.model import SequenceClassifier, hold_matrices
from distilbert.task_objectives import labelled_micro_batches
from distilbert.timing import CLOCKS, spread_rows, time_in_turns
from distilbert.tokens import TokenShards

PRECISIONS = {"cpu": "float32", "cuda": "auto"}
# Examples of all tasks together, one at a time and in batches.
NUM_SINGLE, NUM_BATCHED = 32, 256
# Each of the two is timed for so long, or for so many rounds where that takes longer.
SECONDS, MIN_ROUNDS = 1.5, 5


def main(
    *, teacher: Path, student: Path, tests: list[Path], table: Path, record: Path, settings: dict, code: str
) -> None:
    """Measure the classifiers whose weights are `teacher` and `student` on examples of the test shards."""
    started = time.time()
    torch.set_num_threads(1)
    shards = [TokenShards([path]) for path in tests]
    paths = [teacher, student]
    models = [load_classifier(path.parent, shards[0].vocabulary) for path in paths]
    rows = measure_size(paths, models)
    for device in dict.fromkeys((torch.device("cpu"), choose_device())):
        rows += measure_speed([model.to(device) for model in models], shards, device)
    write_csv(table, rows)
    write_json(record, {"efficiency": rows, "provenance": runlog.provenance(settings, code, started=started)})


def measure_size(paths: list[Path], models: list[SequenceClassifier]) -> list[dict]:
    """Return the rows of parameters and file sizes."""
    parameters = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    tables = [[module for module in model.modules() if isinstance(module, nn.Embedding)] for model in models]
    embeddings = [sum(table.weight.numel() for table in of_model) for of_model in tables]
    others = [total - part for total, part in zip(parameters, embeddings, strict=True)]
    return [
        row("parameters", *parameters),
        row("parameters_without_embeddings", *others),
        row("file", *(path.stat().st_size for path in paths)),
    ]


def measure_speed(models: list[SequenceClassifier], shards: list[TokenShards], device: torch.device) -> list[dict]:
    """Return the rows of latency and throughput on a device, of teacher and student."""
    precision = resolve_precision(device, PRECISIONS[device.type])
    if precision == "bfloat16":
        for model in models:
            hold_matrices(model, torch.bfloat16)
    single, batched = [], []
    for examples in shards:
        one_by_one = spread_rows(examples, -(-NUM_SINGLE // len(shards)))
        for rows in np.split(one_by_one, len(one_by_one)):
            single += labelled_micro_batches(examples, rows, MAX_TOKENS[device.type], device)
        together = spread_rows(examples, -(-NUM_BATCHED // len(shards)))
        batched += labelled_micro_batches(examples, together, MAX_TOKENS[device.type], device)
    measured = []
    for name, batches in (("latency", single), ("throughput", batched)):
        count = sum(len(batch.rows) for batch in batches)
        with autocast(device, precision):
            seconds = time_in_turns(models, batches, seconds=SECONDS, min_rounds=MIN_ROUNDS, clock=CLOCKS[device.type])
        figures = 1000 * seconds / count if name == "latency" else count / seconds
        how = {
            "device": device.type,
            "machine": torch.cuda.get_device_name() if device.type == "cuda" else runlog.cpu_name(),
            "threads": torch.get_num_threads(),
            "precision": precision,
            "examples": count,
            "rounds": figures.shape[1],
        }
        measured.append(row(name, *figures, **how))
    return measured


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
