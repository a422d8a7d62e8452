"""Turn one corpus shard into three token shards (train, validation, test) and a manifest.

Reads a corpus file and the tokenizer; writes ragged uint16 ids in Arrow IPC, and the manifest: sequences (rows),
tokens and SHA-256 of each file, and how often each word piece stands in the training text, from which the
masking draws its targets (Sanh et al. 2019, section 3).
"""

import time
from itertools import islice
from pathlib import Path

import numpy as np

from distilbert import runlog, wordpiece
from distilbert.files import write_sealed_json
from distilbert.sources import read_documents, split_of
from distilbert.tokens import write_shard

DOCUMENTS_PER_CALL = 1000


def main(
    *,
    corpus: Path,
    tokenizer: Path,
    train: Path,
    validation: Path,
    test: Path,
    manifest: Path,
    settings: dict,
    code: str,
) -> None:
    """Cut each document into windows of `max_length` tokens as `chunking` says; drop those under `min_length`."""
    started = time.time()
    encoder = wordpiece.load(tokenizer)
    vocabulary = wordpiece.vocabulary_of(encoder)
    sequences: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    num_documents = 0
    stream = read_documents(corpus)
    while documents := list(islice(stream, DOCUMENTS_PER_CALL)):
        num_documents += len(documents)
        texts = [text for _, text in documents]
        encoded = wordpiece.encode_documents(
            encoder, texts, max_length=settings["max_length"], chunking=settings["chunking"]
        )
        for (identity, _), windows in zip(documents, encoded, strict=True):
            split = split_of(identity, **settings["split"])
            sequences[split] += [np.array(ids, np.uint16) for ids in windows if len(ids) >= settings["min_length"]]
    if num_documents == 0:
        raise ValueError(f"{corpus}: no document with any text")

    files = {}
    for split, path in (("train", train), ("validation", validation), ("test", test)):
        files[split] = write_shard(path, ({"input_ids": ids} for ids in sequences[split]), vocabulary)
    counts = np.zeros(vocabulary.size, dtype=np.int64)
    for ids in sequences["train"]:
        counts += np.bincount(ids, minlength=vocabulary.size)
    seconds = time.time() - started
    tokens = sum(file["tokens"] for file in files.values())
    record = runlog.provenance(settings, code, started=started, tokens_per_second=round(tokens / seconds))
    write_sealed_json(
        manifest,
        {"documents": num_documents, "files": files, "token_counts": counts.tolist(), "provenance": record},
    )


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
