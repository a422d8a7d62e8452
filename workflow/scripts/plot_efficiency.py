"""Draw size, speed and score of the pretrained student beside its teacher's.

Reads efficiency.json and summary.json; writes efficiency.png and efficiency.svg.
"""

from pathlib import Path

from distilbert import plotting, runlog
from distilbert.files import read_json


def main(*, efficiency: Path, record: Path, png: Path, svg: Path, settings: dict) -> None:
    """Draw; `settings["data"]` says in words what the data is."""
    rows, means = read_json(efficiency)["efficiency"], read_json(record)["means"]
    figure = plotting.efficiency_bars(rows, means, subtitle=settings["data"])
    plotting.save(figure, png, svg)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
