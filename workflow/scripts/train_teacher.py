"""Train the teacher by masked LM: from scratch, or from an encoder that has no masked-LM head.

Reads token shards, their manifests, the tokenizer and perhaps a checkpoint (`init`); writes a BERT masked LM
in Hugging Face format, its training curve and metrics.
"""

from pathlib import Path

import torch

from distilbert import runlog, wordpiece
from distilbert.config import MaskedLMConfig, build
from distilbert.corpus_objectives import MaskedLMObjective
from distilbert.corpus_training import open_corpus, train_on_corpus
from distilbert.device import choose_device
from distilbert.export import load_masked_lm, teacher_config
from distilbert.model import MaskedLM
from distilbert.steps import TrainingStep


def main(
    *,
    train: list[Path],
    validation: list[Path],
    test: list[Path],
    manifests: list[Path],
    tokenizer: Path,
    weights: Path,
    curve: Path,
    metrics: Path,
    settings: dict,
    code: str,
    init: Path | None = None,
) -> None:
    """Train with `settings["training"]`; without `init` the shape is `settings["model"]`."""
    step = TrainingStep(
        tokenizer=tokenizer,
        weights=weights,
        curve=curve,
        metrics=metrics,
        settings=settings,
        code=code,
        inputs=[*train, *validation, tokenizer, *([init] if init else [])],
    )
    config = build(MaskedLMConfig, settings["training"])
    device = choose_device()
    encoder = wordpiece.load(tokenizer)
    vocabulary = wordpiece.vocabulary_of(encoder)
    torch.manual_seed(settings["seed"])
    if init is None:
        model = MaskedLM(teacher_config(settings["model"], vocabulary))
    else:
        wordpiece.require_same_words(encoder, init.parent)
        model = load_masked_lm(init.parent, vocabulary, headless_ok=True)
    model.to(device)
    corpus = open_corpus(train, validation, test, manifests)
    objectives = {
        split: MaskedLMObjective(shards, corpus.counts, config, device) for split, shards in corpus.shards.items()
    }
    train_on_corpus(step, model, objectives, config)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
