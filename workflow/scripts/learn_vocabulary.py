"""Learn a WordPiece vocabulary from the corpus (Devlin et al. 2019, section 3).

Reads the corpus shards; writes tokenizer.json. Only training documents are read: a word that stands in the
test text alone must stay unknown.
"""

from collections.abc import Iterator
from pathlib import Path

from distilbert import runlog, wordpiece
from distilbert.files import write_text
from distilbert.sources import read_documents, split_of


def main(*, corpus: list[Path], tokenizer: Path, settings: dict) -> None:
    """Learn `settings["vocab_size"]` word pieces, in lower case if `settings["lowercase"]`."""
    learnt = wordpiece.learn(
        lambda: training_texts(corpus, settings["split"]),
        vocab_size=settings["vocab_size"],
        lowercase=settings["lowercase"],
    )
    write_text(tokenizer, learnt.to_str(pretty=True))


def training_texts(paths: list[Path], fractions: dict[str, float]) -> Iterator[str]:
    """Yield the texts of the documents that fall into the training split."""
    for path in paths:
        for identity, text in read_documents(path):
            if split_of(identity, **fractions) == "train":
                yield text


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
