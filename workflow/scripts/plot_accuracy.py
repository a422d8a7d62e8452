"""Draw the accuracy of each approach on each task, and the paper's own metric below it.

Reads summary.csv and cross_evaluation.csv; writes accuracy.png and accuracy.svg.
"""

from pathlib import Path

import pandas as pd

from distilbert import plotting, runlog


def main(*, summary: Path, cells: Path, png: Path, svg: Path, settings: dict) -> None:
    """Draw; `settings["data"]` says in words what the data is, `settings["title"]` what each task is called."""
    table = pd.read_csv(summary)
    fewest, most = table["seeds"].min(), table["seeds"].max()
    seeds = f"{fewest} to {most}" if fewest < most else most
    spread = "one seed" if most == 1 else f"medians of {seeds} seeds (dots)"
    subtitle = f"{settings['data']}; {spread}; whiskers: 95 % intervals over the test examples"
    figure = plotting.accuracy_bars(table, pd.read_csv(cells), settings["title"], subtitle=subtitle)
    plotting.save(figure, png, svg)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
