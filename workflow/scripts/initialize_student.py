"""Make the student that training starts from: layers of the teacher, or random values (section 3 of the paper).

Reads the teacher, unless it is trained from scratch here and a random student needs no more than its shape;
writes a DistilBERT masked LM in Hugging Face format, and ends by reloading what it wrote.
"""

from pathlib import Path

import torch

from distilbert import runlog, wordpiece
from distilbert.export import load_masked_lm, teacher_config, write_model
from distilbert.model import MaskedLM, init_from_teacher, read_config, student_config


def main(*, tokenizer: Path, weights: Path, settings: dict, teacher: Path | None = None) -> None:
    """Initialise from `settings["teacher_layers"]`, or at random where that is None."""
    vocabulary = wordpiece.vocabulary_of(wordpiece.load(tokenizer))
    config = teacher_config(settings["model"], vocabulary) if teacher is None else read_config(teacher.parent)
    torch.manual_seed(settings["seed"])
    student = MaskedLM(student_config(config, **settings["student"]))
    if settings["teacher_layers"] is not None:
        model = load_masked_lm(teacher.parent, vocabulary)
        init_from_teacher(student, model, teacher_layers=settings["teacher_layers"])
    write_model(student, weights.parent, tokenizer)

    written = load_masked_lm(weights.parent, vocabulary).state_dict()
    for name, value in student.state_dict().items():
        if not torch.equal(written[name], value):
            raise ValueError(f"{weights}: {name} does not read back as it was written")


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
