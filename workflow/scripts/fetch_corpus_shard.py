"""Download one parquet file of a Wikipedia repository of the Hugging Face Hub, at a pinned commit."""

from pathlib import Path

from distilbert import hub, runlog


def main(*, corpus: Path, settings: dict) -> None:
    """Fetch `settings["filename"]` of `settings["repository"]` at `settings["revision"]`."""
    hub.fetch(settings["repository"], settings["revision"], settings["filename"], corpus, kind="dataset")


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
