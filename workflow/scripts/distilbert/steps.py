"""What the training steps share around the one loop: opening data, checkpoints, writing model, curve, metrics.

There are two kinds of training steps: on the corpus (teacher, pretraining) and on a task (fine-tuning, direct
distillation). Each kind has one function here.
"""

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from distilbert import processes, runlog
from distilbert.batching import BatchPlan
from distilbert.checkpoint import FOLDER, Checkpoints, fingerprint
from distilbert.config import EncoderConfig, MaskedLMConfig, TrainingConfig
from distilbert.evaluation import measure
from distilbert.export import write_model
from distilbert.files import read_sealed_json, write_csv, write_json
from distilbert.inference import predict
from distilbert.model import CONFIG_FILE, WEIGHTS_FILE, MaskedLM, SequenceClassifier
from distilbert.objectives import ClassificationObjective, MaskedLMObjective, mean_losses
from distilbert.tasks import get_task
from distilbert.tokens import TokenShards, Vocabulary
from distilbert.training import TrainingResult, autocast, train

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


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """What every training step reads and writes besides its data.

    tokenizer: the tokenizer.json that goes with the model. weights, curve, metrics: the outputs. settings, code:
    the rule's params. inputs: the files that decide the result. started: `time.time()`.
    """

    tokenizer: Path
    weights: Path
    curve: Path
    metrics: Path
    settings: dict
    code: str
    inputs: list[Path]
    started: float = field(default_factory=time.time)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """The checkpoint folder of these outputs for these settings, code and inputs."""
        name = "--".join(self.weights.parent.parts)
        configs = [path.with_name(CONFIG_FILE) for path in self.inputs if path.name == WEIGHTS_FILE]
        digits = fingerprint(self.settings, self.code, [*self.inputs, *configs])
        return Checkpoints(FOLDER / f"{name}--{digits}")

    def write(self, model: MaskedLM | SequenceClassifier, result: TrainingResult, figures: dict, **labels) -> None:
        """Write the model, its training curve and its metrics with their provenance; one process does it for all."""
        if processes.join().rank:
            return
        speed = round(result.num_tokens / result.train_seconds) if result.train_seconds else 0
        record = runlog.provenance(
            self.settings,
            self.code,
            started=self.started,
            train_seconds=round(result.train_seconds, 2),
            tokens_per_second=speed,
            precision=result.precision,
        )
        figures = {"steps": result.steps, "num_tokens": result.num_tokens, **figures}
        write_model(model, self.weights.parent, self.tokenizer, **labels)
        write_csv(self.curve, result.history)
        write_json(self.metrics, {**figures, "provenance": record})
        self.checkpoints.finish()


def require_positions(config: EncoderConfig, shards: TokenShards, what: str) -> None:
    """Refuse sequences that are longer than a model has positions for.

    Raises:
        ValueError: the message says how long and for how many.
    """
    longest = int(shards.lengths.max(initial=0))
    if longest > config.max_positions:
        raise ValueError(f"{what} has sequences of {longest} tokens, the model positions for {config.max_positions}")


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
    )
    with torch.inference_mode(), autocast(next(model.parameters()).device, config.precision):
        test = mean_losses(model, objectives["test"], seed=seed)
    step.write(model, result, {"test": test})


def train_on_task(
    step: TrainingStep,
    model: SequenceClassifier,
    objective: ClassificationObjective,
    config: TrainingConfig,
    *,
    validation: Path,
) -> None:
    """Train a classifier, keep the weights of the best validation accuracy, write it."""
    held_out = TokenShards([validation])
    for examples in (objective.examples, held_out):
        require_positions(model.config, examples, f"task {step.settings['task']} (tasks.max_length)")
    seed = step.settings["seed"]

    def validate(model: SequenceClassifier) -> dict[str, float]:
        logits, _ = predict(model, held_out, max_tokens=config.max_tokens_per_forward)
        return {name: value for name, value in measure(logits, held_out.labels).items() if name != "n"}

    result = train(
        model,
        objective,
        BatchPlan(objective.examples.lengths, batch_size=config.batch_size, seed=seed),
        config,
        seed=seed,
        validate=validate,
        select_by="accuracy",
        checkpoints=step.checkpoints,
    )
    label_names = get_task(step.settings["task"]).label_names
    step.write(model, result, {"best": result.best}, label_names=label_names)
