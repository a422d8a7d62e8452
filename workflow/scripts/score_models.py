"""Score the fine-tuned models of one approach and seed on the test sets of all tasks.

Reads a classifier for each task and the test shards; writes every prediction (Arrow), so that a metric can be added
later without the model, and beside it their digest and how long it took. The logits are written in the classes of
the task that is scored (see `distilbert.tasks`).

One job for the models of all tasks: each scores in a second or two, and starting PyTorch takes three.
"""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from distilbert import runlog
from distilbert.device import autocast, choose_device
from distilbert.evaluation import translate_logits
from distilbert.export import load_classifier
from distilbert.files import atomic_path, sha256, write_sealed_json
from distilbert.inference import predict
from distilbert.model import SequenceClassifier
from distilbert.tokens import TokenShards


def main(
    *,
    models: list[Path],
    tests: list[Path],
    predictions: list[Path],
    metrics: list[Path],
    settings: dict,
    code: str,
) -> None:
    """Score models on test shards; the files of each list come in the order of `settings["tasks"]`.

    `settings["yes"]` says of each task which class affirms.
    """
    tasks, shards = settings["tasks"], [TokenShards([path]) for path in tests]
    device = choose_device()
    for trained_on, model, table, record in zip(tasks, models, predictions, metrics, strict=True):
        classifier = load_classifier(model.parent, shards[0].vocabulary).to(device)
        with autocast(device, settings["precision"]):
            score(classifier, trained_on, dict(zip(tasks, shards, strict=True)), table, record, settings, code)


def score(
    classifier: SequenceClassifier,
    trained_on: str,
    tests: dict[str, TokenShards],
    predictions: Path,
    metrics: Path,
    settings: dict,
    code: str,
) -> None:
    """Score one model on the test set of each task: one row of the cross-evaluation matrix."""
    started, yes = time.time(), settings["yes"]
    tables, num_tokens, predict_seconds = [], 0, 0.0
    for name, examples in tests.items():
        before = time.monotonic()
        logits, _ = predict(classifier, examples)
        predict_seconds += time.monotonic() - before
        num_tokens += int(examples.lengths.sum())
        logits = translate_logits(logits.numpy(), trained_yes=yes[trained_on], evaluated_yes=yes[name])
        columns = {
            "evaluated_on": pa.array([name] * len(examples)).dictionary_encode(),
            "idx": examples.indices,
            "label": examples.labels,
            "logit_0": np.ascontiguousarray(logits[:, 0]),
            "logit_1": np.ascontiguousarray(logits[:, 1]),
        }
        tables.append(pa.table(columns))
    table = pa.concat_tables(tables).unify_dictionaries()
    with atomic_path(predictions) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)
    speed = round(num_tokens / predict_seconds)
    record = runlog.provenance(settings, code, started=started, tokens_per_second=speed)
    figures = {"num_tokens": num_tokens, "predict_seconds": round(predict_seconds, 3)}
    write_sealed_json(metrics, {"sha256": sha256(predictions), **figures, "provenance": record})


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
