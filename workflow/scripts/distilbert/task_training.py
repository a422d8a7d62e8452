"""Training steps on a task: fine-tuning and direct distillation."""

from pathlib import Path

from distilbert.batching import BatchPlan
from distilbert.config import TrainingConfig
from distilbert.inference import predict
from distilbert.metrics import measure, task_metric
from distilbert.model import SequenceClassifier
from distilbert.steps import TrainingStep, require_positions
from distilbert.task_objectives import ClassificationObjective
from distilbert.tokens import TokenShards
from distilbert.training import train


def train_on_task(
    step: TrainingStep,
    model: SequenceClassifier,
    objective: ClassificationObjective,
    config: TrainingConfig,
    *,
    validation: Path,
) -> None:
    """Train a classifier, keep the weights of the best validation score, write it.

    The score is the task's own metric: by accuracy CoLA's best epoch may be the one that calls every sentence
    acceptable, which MCC gives nothing for. The step's settings name the `task`, its `label_names` and `metric`, and
    the `seed`.
    """
    held_out = TokenShards([validation])
    for examples in (objective.examples, held_out):
        require_positions(model.config, examples, f"task {step.settings['task']} (tasks.max_length)")
    seed = step.settings["seed"]

    def validate(model: SequenceClassifier) -> dict[str, float]:
        logits, _ = predict(model, held_out, max_tokens=config.max_tokens_per_forward)
        figures = measure(logits, held_out.labels)
        del figures["n"]
        return figures | {"score": task_metric(figures, step.settings["metric"])}

    result = train(
        model,
        objective,
        BatchPlan(objective.examples.lengths, batch_size=config.batch_size, seed=seed),
        config,
        seed=seed,
        validate=validate,
        select_by="score",
        checkpoints=step.checkpoints,
        events=step.events,
    )
    step.write(model, result, {"best": result.best}, label_names=step.settings["label_names"])
