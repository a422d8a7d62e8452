"""Turn a task's files into labelled token shards: train, validation and test.

Reads the task's two files (of GLUE one zip may be both) and the tokenizer; writes three Arrow files
and a manifest.
"""

import time
from collections import Counter
from pathlib import Path

from distilbert import runlog, wordpiece
from distilbert.examples import EmptySplitError, read_examples, split_examples
from distilbert.files import write_sealed_json
from distilbert.tasks import TaskData
from distilbert.tokens import write_shard


def main(
    *,
    train_source: Path,
    validation_source: Path,
    tokenizer: Path,
    train: Path,
    validation: Path,
    test: Path,
    manifest: Path,
    settings: dict,
    code: str,
) -> None:
    """Read, deal to splits (`split`: "official" or "coursework") and encode the examples of a task."""
    started = time.time()
    task = TaskData(
        name=settings["task"],
        columns=tuple(settings["columns"]),
        label_column=settings["label_column"],
        label_names=tuple(settings["label_names"]),
    )
    encoder = wordpiece.load(tokenizer)
    vocabulary = wordpiece.vocabulary_of(encoder)
    try:
        parts = split_examples(
            read_examples(train_source, task, "train"),
            read_examples(validation_source, task, "validation"),
            split=settings["split"],
            seed=settings["seed"],
            max_train_examples=settings["max_train_examples"],
        )
    except EmptySplitError as error:
        raise ValueError(f"{train_source} and {validation_source}: {error}") from error
    files = {}
    for name, path in (("train", train), ("validation", validation), ("test", test)):
        examples = parts[name]
        ids = wordpiece.encode_examples(encoder, [e.texts for e in examples], max_length=settings["max_length"])
        rows = ({"input_ids": i, "label": e.label, "idx": e.idx} for i, e in zip(ids, examples, strict=True))
        classes = Counter(task.label_names[example.label] for example in examples)
        files[name] = write_shard(path, rows, vocabulary, labelled=True) | {"classes": dict(classes)}
    write_sealed_json(manifest, {"files": files, "provenance": runlog.provenance(settings, code, started=started)})


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
