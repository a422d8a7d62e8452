"""Take over the tokenizer.json of a model on the Hugging Face Hub or in a folder, after checking it."""

import tempfile
from pathlib import Path

from distilbert import hub, runlog, wordpiece
from distilbert.files import write_text


def main(*, tokenizer: Path, settings: dict, source: Path | None = None) -> None:
    """Check and copy `source`, or where there is none fetch it as `settings` say (repository, revision)."""
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            source = Path(folder) / wordpiece.TOKENIZER_FILE
            hub.fetch(settings["repository"], settings["revision"], source.name, source, kind="model")
        write_text(tokenizer, wordpiece.load(source).to_str(pretty=True))


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
