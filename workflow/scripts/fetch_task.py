"""Download a task's two parquet files from a GLUE repository of the Hugging Face Hub, at a pinned commit."""

from pathlib import Path

from distilbert import hub, runlog


def main(*, train: Path, validation: Path, settings: dict) -> None:
    """Fetch the files of `settings["task"]` from `settings["repository"]` at `settings["revision"]`."""
    for output in (train, validation):
        filename = f"{settings['task']}/{output.name}"
        hub.fetch(settings["repository"], settings["revision"], filename, output, kind="dataset")


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
