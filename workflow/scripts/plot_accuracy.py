"""Draw the accuracy of each approach on each task, and the paper's own metric below it.

Reads summary.csv; writes accuracy.png and accuracy.svg.
"""

from pathlib import Path

import pandas as pd

from distilbert import plotting, runlog


def main(*, summary: Path, png: Path, svg: Path, settings: dict) -> None:
    """Draw; `settings["data"]` says in words what the data is."""
    table = pd.read_csv(summary)
    seeds = (
        f"{table['seeds'].min()} to {table['seeds'].max()}" if table["seeds"].nunique() > 1 else table["seeds"].max()
    )
    subtitle = f"{settings['data']}; median of {seeds} seeds, whiskers: lowest and highest"
    plotting.save(plotting.accuracy_bars(table, subtitle=subtitle), png, svg)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
