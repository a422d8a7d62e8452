"""Draw the cross-evaluation matrix: every fine-tuned model on every task.

Reads cross_evaluation.csv and summary.json; writes cross_evaluation.png and cross_evaluation.svg.
"""

from pathlib import Path

import pandas as pd

from distilbert import plotting, runlog
from distilbert.files import read_json


def main(*, cells: Path, record: Path, png: Path, svg: Path, settings: dict) -> None:
    """Draw; `settings["data"]` says in words what the data is, `settings["title"]` what each task is called."""
    figure = plotting.cross_evaluation_heat_map(
        pd.read_csv(cells), read_json(record)["majority"], settings["title"], subtitle=settings["data"]
    )
    plotting.save(figure, png, svg)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
