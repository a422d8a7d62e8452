"""Take over a BERT masked-LM checkpoint of the Hugging Face Hub or of a folder as the teacher, after checking it.

Reads config.json and model.safetensors; writes them unchanged, with the tokenizer beside them.
"""

import shutil
import tempfile
from pathlib import Path

from distilbert import hub, runlog, wordpiece
from distilbert.export import load_masked_lm
from distilbert.files import atomic_path
from distilbert.model import CONFIG_FILE, WEIGHTS_FILE


def main(*, tokenizer: Path, weights: Path, settings: dict, source: Path | None = None) -> None:
    """Check and copy the checkpoint beside `source`, or fetch it as `settings` say (repository, revision)."""
    encoder = wordpiece.load(tokenizer)
    with tempfile.TemporaryDirectory() as fetched:
        folder = Path(fetched) if source is None else source.parent
        if source is None:
            for name in (CONFIG_FILE, WEIGHTS_FILE, wordpiece.TOKENIZER_FILE):
                hub.fetch(settings["repository"], settings["revision"], name, folder / name, kind="model")
        wordpiece.require_same_words(encoder, folder)
        model = load_masked_lm(folder, wordpiece.vocabulary_of(encoder))
        wordpiece.save(
            encoder, weights.parent, max_length=model.config.max_positions, token_types=model.config.type_vocab_size > 0
        )
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            with atomic_path(weights.parent / name) as temporary:
                shutil.copyfile(folder / name, temporary)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
