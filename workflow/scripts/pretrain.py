"""Distillation pretraining of the student (Sanh et al. 2019, sections 2 and 3).

Reads the teacher, the initial student, token shards, their manifests and the tokenizer; writes the student as
a DistilBERT masked LM in Hugging Face format, its training curve (all four losses) and metrics.
"""

from pathlib import Path

import torch

from distilbert import runlog
from distilbert.config import PretrainConfig, build
from distilbert.corpus_objectives import DistillationObjective
from distilbert.corpus_training import open_corpus, train_on_corpus
from distilbert.device import choose_device, resolve_precision
from distilbert.export import load_masked_lm
from distilbert.model import hold_matrices
from distilbert.steps import TrainingStep


def main(
    *,
    teacher: Path,
    student: Path,
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
) -> None:
    """Distil with `settings["training"]`."""
    step = TrainingStep(
        tokenizer=tokenizer,
        weights=weights,
        curve=curve,
        metrics=metrics,
        settings=settings,
        code=code,
        inputs=[teacher, student, *train, *validation, tokenizer],
    )
    config = build(PretrainConfig, settings["training"])
    device = choose_device()
    corpus = open_corpus(train, validation, test, manifests)
    teacher_model = load_masked_lm(teacher.parent, corpus.vocabulary).to(device)
    student_model = load_masked_lm(student.parent, corpus.vocabulary).to(device)
    hold_matrices(teacher_model, getattr(torch, resolve_precision(device, config.precision)))
    objectives = {
        split: DistillationObjective(teacher_model, shards, corpus.counts, config, device)
        for split, shards in corpus.shards.items()
    }
    train_on_corpus(step, student_model, objectives, config)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
