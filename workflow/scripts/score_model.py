"""Score one fine-tuned model on the test sets of all tasks: one row of the cross-evaluation matrix.

Reads a classifier and the test shards; writes every prediction (Arrow), so that a metric can be added later
without the model, and beside it their digest and how long it took. The logits are written in the classes of the
task that is scored (see `distilbert.tasks`).
"""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from distilbert import runlog
from distilbert.evaluation import translate_logits
from distilbert.export import load_classifier
from distilbert.files import atomic_path, sha256, write_sealed_json
from distilbert.inference import predict
from distilbert.tokens import TokenShards
from distilbert.training import autocast, choose_device


def main(*, model: Path, tests: list[Path], predictions: Path, metrics: Path, settings: dict, code: str) -> None:
    """Score the model trained on `settings["task"]` on `settings["tasks"]`, whose test shards come in that order.

    `settings["yes"]` says of each task which class affirms.
    """
    started = time.time()
    yes = settings["yes"]
    shards = [TokenShards([path]) for path in tests]
    device = choose_device()
    classifier = load_classifier(model.parent, shards[0].vocabulary).to(device)
    tables, num_tokens, predict_seconds = [], 0, 0.0
    for name, examples in zip(settings["tasks"], shards, strict=True):
        before = time.monotonic()
        with autocast(device, settings["precision"]):
            logits, _ = predict(classifier, examples)
        predict_seconds += time.monotonic() - before
        num_tokens += int(examples.lengths.sum())
        logits = translate_logits(logits.numpy(), trained_yes=yes[settings["task"]], evaluated_yes=yes[name])
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
