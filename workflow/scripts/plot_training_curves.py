"""Draw the losses of teacher training and pretraining, and the validation scores of the fine-tunings.

Reads the training curves that the training steps wrote; writes training_curves.png and training_curves.svg.
"""

from pathlib import Path

import pandas as pd

from distilbert import plotting, runlog


def main(
    *, pretraining: Path, finetuning: list[Path], png: Path, svg: Path, settings: dict, teacher: Path | None = None
) -> None:
    """Draw; `settings["models"]` names approach, task and seed of each fine-tuning curve, in their order.

    `settings["title"]` says what each task is called, `settings["metric"]` by which figure it is judged.
    """
    curves = {"student": pd.read_csv(pretraining)}
    if teacher:
        curves["teacher"] = pd.read_csv(teacher)
    tables = []
    for model, path in zip(settings["models"], finetuning, strict=True):
        table = pd.read_csv(path)
        tables.append(table[table["split"] == "validation"].assign(**model))
    figure = plotting.training_curves(curves, pd.concat(tables), settings["title"], settings["metric"])
    plotting.save(figure, png, svg)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
