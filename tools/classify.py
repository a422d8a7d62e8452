"""Classify a sentence, or a pair of texts, of your own: `python tools/classify.py "A fine film."`.

It uses nothing of this project: these lines work wherever `transformers` is, with the folder or once it was pushed.
"""

import argparse
import sys
from pathlib import Path

DEFAULT = "results/models/pretrained/sst2/seed1"


def classify(model: Path, texts: list[str]) -> dict[str, float]:
    """Return {class: probability} of a sentence or a pair, the most probable first; what is too long is cut.

    model: a folder of a fine-tuned classifier.
    """
    from transformers import pipeline  # takes seconds
    from transformers.utils import logging

    logging.disable_progress_bar()
    ask = pipeline("text-classification", model=str(model))
    answers = ask(dict(zip(("text", "text_pair"), texts, strict=False)), top_k=None, truncation=True)
    return {answer["label"]: answer["score"] for answer in answers}


def main(arguments: list[str]) -> None:
    """Print the classes with their probabilities in percent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="+", help="a sentence; or two texts, for a task of pairs (mrpc, qqp, rte)")
    parser.add_argument("--model", type=Path, default=DEFAULT, help=f"folder of a classifier; {DEFAULT}")
    given = parser.parse_args(arguments)
    if len(given.text) > 2 or not all(text.strip() for text in given.text):
        parser.error("give one text or two, each in quotes")
    if not (given.model / "config.json").exists():
        parser.error(f"{given.model}: no model there; `snakemake --cores all` makes those of results/models")
    for name, probability in classify(given.model, given.text).items():
        print(f"{100 * probability:5.1f} %  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
