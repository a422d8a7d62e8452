"""A model card for every trained model: README.md in its folder, as the Hugging Face Hub shows it.

Reads what the trainings recorded, the models' configs and headers, and the tables of scores; writes the cards.
"""

import csv
from pathlib import Path

from distilbert import runlog
from distilbert.cards import Sources, TrainedModel, model_card
from distilbert.files import read_json, write_text

COUNTS, FIGURES = ("seed", "n"), ("loss", "accuracy", "f1", "mcc")


def main(*, weights: list[Path], cross_evaluation: Path, summary: Path, cards: list[Path], settings: dict) -> None:
    """Write the cards; `settings["models"]` has path, approach, task and seed of each, `settings["sources"]` the data.

    weights: of each model, in the order of the cards; metrics.json and config.json lie beside them.
    """
    cells, rows = read_cells(cross_evaluation), read_json(summary)["summary"]
    sources = Sources(**settings["sources"])
    for names, path, card in zip(settings["models"], weights, cards, strict=True):
        model = TrainedModel(path.parent, **names)
        write_text(card, model_card(model, cells, rows, sources))


def read_cells(path: Path) -> list[dict]:
    """Return the rows of cross_evaluation.csv, its numbers as numbers."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds = dict.fromkeys(COUNTS, int) | dict.fromkeys(FIGURES, float)
    return [{name: kinds.get(name, str)(value) for name, value in row.items()} for row in rows]


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
