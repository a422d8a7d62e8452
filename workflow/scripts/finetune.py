"""Fine-tune an encoder on one task: the pretrained student, the student without pretraining, or the teacher.

Reads an encoder, the task's token shards and the tokenizer; writes a classifier in Hugging Face format with
the weights of the best epoch by validation, its training curve and metrics.
"""

from pathlib import Path

from distilbert import runlog
from distilbert.config import TrainingConfig, build
from distilbert.device import choose_device
from distilbert.export import load_classifier
from distilbert.steps import TrainingStep
from distilbert.task_objectives import ClassificationObjective
from distilbert.task_training import train_on_task
from distilbert.tokens import TokenShards


def main(
    *,
    encoder: Path,
    train: Path,
    validation: Path,
    tokenizer: Path,
    weights: Path,
    curve: Path,
    metrics: Path,
    settings: dict,
    code: str,
) -> None:
    """Fine-tune with `settings["training"]` and `settings["seed"]`, which also draws the classifier."""
    step = TrainingStep(
        tokenizer=tokenizer,
        weights=weights,
        curve=curve,
        metrics=metrics,
        settings=settings,
        code=code,
        inputs=[encoder, train, validation, tokenizer],
    )
    config = build(TrainingConfig, settings["training"])
    device = choose_device()
    examples = TokenShards([train])
    model = load_classifier(encoder.parent, examples.vocabulary, seed=settings["seed"]).to(device)
    train_on_task(
        step,
        model,
        ClassificationObjective(examples, config.max_tokens_per_forward, device),
        config,
        validation=validation,
    )


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
