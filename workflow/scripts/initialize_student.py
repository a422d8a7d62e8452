"""Make the student that training starts from: layers of the teacher, or random values (section 3 of the paper).

Reads the teacher; writes a DistilBERT masked LM in Hugging Face format, and ends by reloading what it wrote.
"""

from pathlib import Path

import torch

from distilbert import runlog, wordpiece
from distilbert.export import load_masked_lm, write_model
from distilbert.model import MaskedLM, init_from_teacher, student_config


def main(*, teacher: Path, tokenizer: Path, weights: Path, settings: dict) -> None:
    """Initialise from `settings["teacher_layers"]`, or at random where that is None."""
    vocabulary = wordpiece.vocabulary_of(wordpiece.load(tokenizer))
    model = load_masked_lm(teacher.parent, vocabulary)
    torch.manual_seed(settings["seed"])
    student = MaskedLM(student_config(model.config, **settings["student"]))
    if settings["teacher_layers"] is not None:
        init_from_teacher(student, model, teacher_layers=settings["teacher_layers"])
    write_model(student, weights.parent, tokenizer)

    written = load_masked_lm(weights.parent, vocabulary).state_dict()
    for name, value in student.state_dict().items():
        if not torch.equal(written[name], value):
            raise ValueError(f"{weights}: {name} does not read back as it was written")


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
