"""What each part of the recipe is worth: the paper's table 4, and what else one would ask of the students' beginnings.

    PYTHONPATH=workflow/scripts:benchmarks python benchmarks/ablations.py --json FILE

The students of `make minilm-long`, each without one part and pretrained for fewer steps, as all of them together are to
take two cores two hours. Each is a run of the workflow in a folder of its own (runs/ablation-*), asked for the
predictions alone, with the teacher of runs/minilm-long, which must be there; that run's own models stand below them,
and last its teacher without the masked-LM training that gave it a head. A run that was stopped goes on when the command
is typed again. All models are scored on the same test examples, so that the difference to the student with everything
has an interval of its own (`distilbert.confidence`).
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import measure
import numpy as np
import torch  # noqa: F401  its threads stand in the record
import workload
import yaml

import collect_results
from distilbert.confidence import interval
from distilbert.files import read_json
from distilbert.metrics import measure as figures_of
from distilbert.metrics import task_metric
from distilbert.tasks import TASKS

WHOLE_RUN = "minilm-long"
WHOLE = workload.ROOT / "runs" / WHOLE_RUN
PRESET = workload.ROOT / "workflow" / "presets" / f"{WHOLE_RUN}.yaml"
IDLE = {"max_steps": 1, "learning_rate": 1e-12}  # one step that changes nothing
# Student: (the run that has it, the approach there, what that run sets beside the preset).
STUDENTS = {
    "all three losses": ("ablation-none", "pretrained", {}),
    "without KL": ("ablation-kl", "pretrained", {"pretrain": {"alpha_ce": 0.0}}),
    "without masked LM": ("ablation-mlm", "pretrained", {"pretrain": {"alpha_mlm": 0.0}}),
    "without cosine": ("ablation-cosine", "pretrained", {"pretrain": {"alpha_cos": 0.0}}),
    "from random weights": ("ablation-layers", "pretrained", {"student": {"initialization": "random"}}),
    "the copied layers alone": ("ablation-text", "pretrained", {"pretrain": IDLE}),
    "direct, by the raw teacher": ("ablation-raw", "direct", {"direct_distillation": {"teacher": "raw"}}),
    "direct, by the fine-tuned teacher": (WHOLE_RUN, "direct", {}),
    "direct, from the copied layers": (
        "ablation-direct",
        "direct",
        {"direct_distillation": {"initialization": "teacher"}},
    ),
    "random weights, only fine-tuned": (WHOLE_RUN, "scratch", {}),
    "all three losses, all steps": (WHOLE_RUN, "pretrained", {}),
    "the teacher": (WHOLE_RUN, "teacher", {}),
    "the teacher as it came": ("ablation-encoder", "teacher", {"teacher": {"source": "train", "train": IDLE}}),
}
SEED = 1


def main() -> None:
    """Run what is not there yet, print the table, and write it with what it was made on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=150, help="of the distillation pretraining")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "cola", "mrpc", "rte"], choices=sorted(TASKS))
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=list(STUDENTS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    for student in arguments.students:
        if STUDENTS[student][0] != WHOLE_RUN:
            make(student, steps=arguments.steps, tasks=arguments.tasks, cores=arguments.cores)
    rows = table(arguments.students, arguments.tasks)
    measure.print_table(rows)
    measure.write(arguments.json, measure.record(steps=arguments.steps, rows=rows))


def folder_of(student: str) -> Path:
    """Return the folder of the run that has a student."""
    return workload.ROOT / "runs" / STUDENTS[student][0]


def predictions(student: str, task: str) -> Path:
    """Return where a run writes what a student says of the test sets, below its folder."""
    return Path("results", "predictions", STUDENTS[student][1], task, f"seed{SEED}.arrow")


def make(student: str, *, steps: int, tasks: list[str], cores: int) -> None:
    """Run the workflow as far as a student's predictions."""
    targets = [predictions(student, task) for task in tasks]
    run_workflow(folder_of(student), targets, settings(student, steps=steps, tasks=tasks), cores=cores)


def run_workflow(folder: Path, targets: list[Path], overlay: dict, *, cores: int) -> None:
    """Run the workflow in a folder as far as some results, with an overlay on the preset.

    Raises:
        subprocess.CalledProcessError: it failed, and has said why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--directory", str(folder), *map(str, targets)]
    subprocess.run([*command, "--configfile", str(PRESET), str(folder / "overlay.yaml")], cwd=workload.ROOT, check=True)


def settings(student: str, *, steps: int, tasks: list[str]) -> dict:
    """Return what a student's run sets beside the preset."""
    overlay = {
        "teacher": {"source": "folder", "folder": f"../{WHOLE_RUN}/results/teacher"},
        "pretrain": {"max_steps": steps},
        "tasks": {"names": tasks},
        "finetune": {"seeds": [SEED]},
    }
    for section, values in STUDENTS[student][2].items():
        overlay[section] = overlay.get(section, {}) | values
    return overlay


def table(students: list[str], tasks: list[str]) -> list[dict]:
    """Return a row per student: losses of its pretraining, scores, their mean, and that minus the first one's."""
    rows = [{"student": student} | losses(student) for student in students]
    scores, replicates = [], []
    for task in tasks:
        metric = TASKS[task].metric
        logits, labels = zip(*(answers(student, task) for student in students), strict=True)
        found = [task_metric(figures_of(one, labels[0]), metric) for one in logits]
        said = {student: [one.argmax(axis=1)] for student, one in zip(students, logits, strict=True)}
        drawn = collect_results.resample(said, labels[0], metric=metric, seed=[collect_results.SEED, *task.encode()])
        for row, score in zip(rows, found, strict=True):
            row[TASKS[task].title] = f"{100 * score:.1f}"
        scores.append(found)
        replicates.append([drawn[student]["score"] for student in students])
    means, drawn_means = np.mean(scores, axis=0), np.mean(replicates, axis=0)  # (S,), (S, R) of S students
    for row, mean, drawn_mean in zip(rows, means, drawn_means, strict=True):
        row["mean"] = f"{100 * mean:.1f}"
        difference, (low, high) = 100 * (mean - means[0]), interval(100 * (drawn_mean - drawn_means[0]))
        is_first = row is rows[0]
        row[f"minus {students[0]}, 95 % interval"] = "" if is_first else f"{difference:+.1f}, {low:+.1f} to {high:+.1f}"
    return rows


def losses(student: str) -> dict[str, str]:
    """Return the test losses of a student's pretraining, empty where it had none."""
    names = {"ce": "KL", "mlm": "masked LM", "cos": "cosine"}
    if STUDENTS[student][1] != "pretrained":
        return dict.fromkeys(names.values(), "")
    test = read_json(folder_of(student) / "results" / "student" / "pretrained" / "metrics.json")["test"]
    return {title: f"{test[name]:.3f}" for name, title in names.items()}


def answers(student: str, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits (N, 2) of a student that was trained on a task on its test set, and the labels (N,)."""
    found = collect_results.read_predictions(folder_of(student) / predictions(student, task))
    return next((logits, labels) for name, logits, labels in found if name == task)


if __name__ == "__main__":
    main()
