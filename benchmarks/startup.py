"""What a step costs before it does anything: the seconds until its imports are done and its models are built.

    PYTHONPATH=workflow/scripts python benchmarks/startup.py --size demo --json FILE

Each start is a process of its own, with the environment that Snakemake gives to a step; Snakemake's own start (of the
run and of each job) is not in it. CPU seconds are what a run of many jobs pays. Models are read as the steps read them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import torch
import workload
from ways import EVERYONES_ENVIRONMENT, OUR_ENVIRONMENT

from distilbert.model import MaskedLM, SequenceClassifier, save_pretrained

SCRIPTS = workload.ROOT / "workflow" / "scripts"
# What a step builds before its work begins, as its own source does it.
BUILDS = {
    "train_teacher": "train_teacher.MaskedLM({teacher_config})",
    "initialize_student": "initialize_student.load_masked_lm(Path('teacher'), {vocabulary})",
    "pretrain": "pretrain.load_masked_lm(Path('teacher'), {vocabulary}); "
    "pretrain.load_masked_lm(Path('student'), {vocabulary})",
    "finetune": "finetune.load_classifier(Path('student'), {vocabulary}, seed=1)",
    "distill_task": "distill_task.load_classifier(Path('teacher'), {vocabulary}, seed=1); "
    "distill_task.load_classifier(Path('student'), {vocabulary}, seed=1)",
    "score_models": "score_models.load_classifier(Path('classifier'), {vocabulary})",
}


def main() -> None:
    """Print a table, and write it with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("full", "demo"), default="demo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    steps = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    size = workload.size_of(arguments.size)
    starts = {step: [] for step in steps}
    with tempfile.TemporaryDirectory() as folder:
        write_models(size, Path(folder))
        for _ in range(arguments.repeats):
            for step in steps:
                starts[step].append(start(sources(step, size), Path(folder)))
    rows = []
    for step, repeats in starts.items():
        wall, processor = (round(statistics.median(figures), 2) for figures in zip(*repeats, strict=True))
        rows.append(
            {"step": step, "models": "yes" if step in BUILDS else "none", "seconds": wall, "cpu_seconds": processor}
        )
    rows.sort(key=lambda row: -row["cpu_seconds"])
    measure.print_table(rows)
    measure.write(arguments.json, measure.record(size=arguments.size, repeats=arguments.repeats, rows=rows))


def write_models(size: workload.Size, folder: Path) -> None:
    """Write a teacher, a student and a fine-tuned student."""
    save_pretrained(MaskedLM(size.teacher), folder / "teacher")
    save_pretrained(MaskedLM(size.student), folder / "student")
    save_pretrained(SequenceClassifier(size.student), folder / "classifier")


def sources(step: str, size: workload.Size) -> str:
    """Return the source of a program that imports a step and builds what it builds."""
    build = BUILDS.get(step, "").format(teacher_config=size.teacher, vocabulary=size.vocabulary)
    if not build:
        return f"import {step}"
    imports = ("pathlib import Path", "distilbert.config import EncoderConfig", "distilbert.tokens import Vocabulary")
    return "\n".join([*(f"from {name}" for name in imports), f"import {step}", build])


def start(source: str, folder: Path) -> tuple[float, float]:
    """Return the wall and the CPU seconds of a Python program, from its start to its end."""
    environment = os.environ | EVERYONES_ENVIRONMENT | OUR_ENVIRONMENT | {"PYTHONPATH": str(SCRIPTS)}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", source], cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode} of:\n{source}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    torch.manual_seed(workload.SEED)
    main()
