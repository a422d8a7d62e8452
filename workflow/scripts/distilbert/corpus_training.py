"""Training steps on the corpus: the teacher's masked LM and the pretraining of the student."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from distilbert.batching import BatchPlan
from distilbert.config import MaskedLMConfig
from distilbert.corpus_objectives import MaskedLMObjective, mean_losses
from distilbert.device import autocast
from distilbert.files import read_sealed_json
from distilbert.model import MaskedLM
from distilbert.steps import TrainingStep, require_positions
from distilbert.tokens import TokenShards, Vocabulary
from distilbert.training import train

# Sequences of the validation set that are scored during a run; the test set is scored whole at its end.
VALIDATION_SEQUENCES = 1000


@dataclass(frozen=True)
class Corpus:
    """The token shards of each split, and how often each word piece stands in the training text, (V,)."""

    shards: dict[str, TokenShards]
    counts: torch.Tensor

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that all shards share."""
        return self.shards["train"].vocabulary


def open_corpus(train: list[Path], validation: list[Path], test: list[Path], manifests: list[Path]) -> Corpus:
    """Open the token shards of a corpus.

    Raises:
        FileNotFoundError, ValueError: a shard or its manifest is absent or damaged, or a split has no sequence.
    """
    shards = {"train": TokenShards(train), "validation": TokenShards(validation), "test": TokenShards(test)}
    for split, opened in shards.items():
        if len(opened) == 0:
            raise ValueError(f"the {split} split of the corpus has no sequence; give it more documents")
    counts = np.sum([read_sealed_json(path)["token_counts"] for path in manifests], axis=0)
    return Corpus(shards, torch.from_numpy(counts))


def train_on_corpus(
    step: TrainingStep, model: MaskedLM, objectives: dict[str, MaskedLMObjective], config: MaskedLMConfig
) -> None:
    """Train a masked LM on the corpus, score it on the whole test text, write it."""
    for split, objective in objectives.items():
        require_positions(model.config, objective.shards, f"the {split} split of the corpus (corpus.max_length)")
    seed = step.settings["seed"]
    result = train(
        model,
        objectives["train"],
        BatchPlan(objectives["train"].shards.lengths, batch_size=config.batch_size, seed=seed),
        config,
        seed=seed,
        validate=lambda model: mean_losses(
            model, objectives["validation"], seed=seed, max_sequences=VALIDATION_SEQUENCES
        ),
        checkpoints=step.checkpoints,
        events=step.events,
    )
    with torch.inference_mode(), autocast(next(model.parameters()).device, config.precision):
        test = mean_losses(model, objectives["test"], seed=seed)
    step.write(model, result, {"test": test})
