"""What every training step shares around the one loop: checkpoints, writing model, curve and metrics.

There are two kinds of training steps: on the corpus (`corpus_training`: teacher, pretraining) and on a task
(`task_training`: fine-tuning, direct distillation).
"""

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from distilbert import processes, runlog
from distilbert.checkpoint import FOLDER, Checkpoints, fingerprint
from distilbert.config import EncoderConfig
from distilbert.events import FOLDER as EVENTS_FOLDER
from distilbert.export import write_model
from distilbert.files import write_csv, write_json
from distilbert.model import CONFIG_FILE, WEIGHTS_FILE, MaskedLM, SequenceClassifier
from distilbert.tokens import TokenShards
from distilbert.training import TrainingResult


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

    @property
    def events(self) -> Path:
        """The folder of the event files, beside the training curve, whose rows they hold."""
        return self.curve.parent / EVENTS_FOLDER

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
            processes=processes.join().count,
        )
        figures = {"steps": result.steps, "num_tokens": result.num_tokens, **figures}
        write_model(model, self.weights.parent, self.tokenizer, **labels)
        write_csv(self.curve, result.history)
        write_json(self.metrics, {**figures, "provenance": record})
        self.checkpoints.finish(self.weights)


def require_positions(config: EncoderConfig, shards: TokenShards, what: str) -> None:
    """Refuse sequences that are longer than a model has positions for.

    Raises:
        ValueError: the message says how long and for how many.
    """
    longest = int(shards.lengths.max(initial=0))
    if longest > config.max_positions:
        raise ValueError(f"{what} has sequences of {longest} tokens, the model positions for {config.max_positions}")
