"""Direct distillation: a teacher's knowledge of one task straight into a student.

Reads a teacher (fine-tuned on the task, or raw with a random classifier as the student project had it), the initial
student (random, as the student project had it, or with layers of the teacher) or the pretrained one (the second step
of distillation in section 4.1 of Sanh et al. 2019), the task's token shards and the tokenizer; writes a classifier in
Hugging Face format, its training curve and metrics.
"""

from pathlib import Path

from distilbert import runlog
from distilbert.config import DirectDistillationConfig, build
from distilbert.device import autocast, choose_device
from distilbert.export import load_classifier
from distilbert.inference import predict
from distilbert.steps import TrainingStep
from distilbert.task_objectives import DirectDistillationObjective
from distilbert.task_training import train_on_task
from distilbert.tokens import TokenShards


def main(
    *,
    teacher: Path,
    student: Path,
    train: Path,
    validation: Path,
    tokenizer: Path,
    weights: Path,
    curve: Path,
    metrics: Path,
    settings: dict,
    code: str,
) -> None:
    """Distil with `settings["training"]`; `settings["teacher"]` is "finetuned" or "raw"."""
    step = TrainingStep(
        tokenizer=tokenizer,
        weights=weights,
        curve=curve,
        metrics=metrics,
        settings=settings,
        code=code,
        inputs=[teacher, student, train, validation, tokenizer],
    )
    config = build(DirectDistillationConfig, settings["training"])
    device = choose_device()
    examples = TokenShards([train])
    seed = settings["seed"]
    teacher_seed = seed if settings["teacher"] == "raw" else None
    teacher_model = load_classifier(teacher.parent, examples.vocabulary, seed=teacher_seed).to(device)
    with autocast(device, config.precision):
        teacher_logits, teacher_cls = predict(teacher_model, examples, max_tokens=config.max_tokens_per_forward)
    del teacher_model
    model = load_classifier(student.parent, examples.vocabulary, seed=seed).to(device)
    train_on_task(
        step,
        model,
        DirectDistillationObjective(examples, teacher_logits, teacher_cls, config, device),
        config,
        validation=validation,
    )


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
