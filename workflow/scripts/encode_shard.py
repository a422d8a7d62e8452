"""Turn one corpus shard into three token shards (train, validation, test) and a manifest.

Reads a corpus file and the tokenizer; writes ragged uint16 ids in Arrow IPC, and the manifest: sequences (rows),
tokens and SHA-256 of each file, and how often each word piece stands in the training text, from which the
masking draws its targets (Sanh et al. 2019, section 3).
"""

import time
from pathlib import Path

import numpy as np

from distilbert import runlog, wordpiece
from distilbert.files import write_sealed_json
from distilbert.sources import read_documents, split_of
from distilbert.tokens import write_shard

# Each count goes through the whole vocabulary, and takes eight bytes for each token.
SEQUENCES_PER_COUNT = 10_000


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
    documents = wordpiece.DocumentEncoder(encoder, max_length=settings["max_length"], chunking=settings["chunking"])
    sequences: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    num_documents = 0
    for identity, text in read_documents(corpus):
        num_documents += 1
        split = split_of(identity, **settings["split"])
        sequences[split] += [ids for ids in documents.windows(text) if len(ids) >= settings["min_length"]]
    if num_documents == 0:
        raise ValueError(f"{corpus}: no document with any text")

    files = {}
    for split, path in (("train", train), ("validation", validation), ("test", test)):
        files[split] = write_shard(path, ({"input_ids": ids} for ids in sequences[split]), vocabulary)
    counts = np.zeros(vocabulary.size, dtype=np.int64)
    for start in range(0, len(sequences["train"]), SEQUENCES_PER_COUNT):
        some = np.concatenate(sequences["train"][start : start + SEQUENCES_PER_COUNT])
        counts += np.bincount(some, minlength=vocabulary.size)
    seconds = time.time() - started
    tokens = sum(file["tokens"] for file in files.values())
    record = runlog.provenance(settings, code, started=started, tokens_per_second=round(tokens / seconds))
    write_sealed_json(
        manifest,
        {"documents": num_documents, "files": files, "token_counts": counts.tolist(), "provenance": record},
    )


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
