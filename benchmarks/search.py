"""What other settings do for the scores of `make minilm-long`, by the validation sets of its tasks.

    PYTHONPATH=workflow/scripts:benchmarks python benchmarks/search.py --json FILE

For each approach one setting after another is tried, the others as found best so far. The best has the highest mean of
the paper's metrics on the validation sets; the test sets are not looked at. It works on a copy of runs/minilm-long,
which must be there, so that a trial makes only what its settings touch. A search that was stopped goes on when the
command is typed again.
"""

import argparse
import json
import os
import shutil
import statistics
from pathlib import Path

import ablations
import measure
import torch  # noqa: F401  its threads stand in the record
import workload

from distilbert.files import read_json, write_json
from distilbert.metrics import task_metric
from distilbert.tasks import TASKS

# Approach: {setting: the values that are tried, the preset's first}, in the order of the search.
FINETUNING = {"finetune.learning_rate": (1e-4, 3e-5, 3e-4), "finetune.epochs": (3, 6)}
TRIED = {
    "pretrained": FINETUNING
    | {"student.teacher_layers": ([0, 2, 5], [1, 3, 5], [0, 1, 2]), "pretrain.max_steps": (800, 1500)},
    "teacher": FINETUNING,
    "direct": {
        "direct_distillation.initialization": ("random", "teacher", "pretrained"),
        "direct_distillation.learning_rate": (1e-4, 3e-4, 1e-3),
        "direct_distillation.temperature": (2.0, 1.0, 4.0),
        "direct_distillation.epochs": (3, 10),
    },
    "scratch": {"finetune.learning_rate": (1e-4, 3e-4, 1e-3), "finetune.epochs": (3, 10)},
}
FOLDER = workload.ROOT / "runs" / "search"


def main() -> None:
    """Try what was not tried yet, print the table, and write it with what it was made on."""
    every = sorted({setting for settings in TRIED.values() for setting in settings})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc", "cola"], choices=sorted(TASKS))
    parser.add_argument("--approaches", nargs="+", default=list(TRIED), choices=list(TRIED))
    parser.add_argument("--settings", nargs="+", default=every, choices=every, help="the others stay the preset's")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    copy_run()
    rows = []
    for approach in arguments.approaches:
        rows += search(approach, arguments.settings, arguments.tasks, cores=arguments.cores)
    measure.print_table(rows)
    measure.write(arguments.json, measure.record(rows=rows))


def copy_run() -> None:
    """Copy the run with all its results, unless it was."""
    if not FOLDER.exists():
        unfinished = FOLDER.with_name("search.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(ablations.WHOLE, unfinished)
        unfinished.rename(FOLDER)


def search(approach: str, settings: list[str], tasks: list[str], *, cores: int) -> list[dict]:
    """Return a row per trial of an approach, those of one of the settings together, the best of each marked."""
    # Every trial names all settings, so that the best one so far is known by its name and not made again.
    best = {setting: values[0] for setting, values in TRIED[approach].items()}
    tried = {setting: values for setting, values in TRIED[approach].items() if setting in settings}
    rows = []
    for setting, values in tried.items():
        trials = [best | {setting: value} for value in values]
        scores = [scores_of(approach, trial, tasks, cores=cores) for trial in trials]
        means = [statistics.mean(score.values()) for score in scores]
        chosen = means.index(max(means))
        for i, value in enumerate(values):
            row = {"approach": approach, "setting": f"`{setting}`", "value": json.dumps(value)}
            row |= {TASKS[task].title: f"{100 * score:.1f}" for task, score in scores[i].items()}
            rows.append(row | {"mean": f"{100 * means[i]:.1f}", "best": "yes" if i == chosen else ""})
        best = trials[chosen]
    return rows


def scores_of(approach: str, trial: dict, tasks: list[str], *, cores: int) -> dict[str, float]:
    """Return the paper's metric of each task on its validation set, of the epoch that is kept there.

    Raises:
        subprocess.CalledProcessError: the workflow failed, and has said why.
    """
    record = FOLDER / "tried.json"
    known = read_json(record) if record.exists() else {}
    missing = [task for task in tasks if name_of(approach, trial, task) not in known]
    if missing:
        folders = {task: Path("results", "models", approach, task, f"seed{ablations.SEED}") for task in missing}
        made = {task: folder / "metrics.json" for task, folder in folders.items()}
        ablations.run_workflow(FOLDER, list(made.values()), overlay_of(trial), cores=cores)
        for task, path in made.items():
            figures = read_json(FOLDER / path)["best"]
            known[name_of(approach, trial, task)] = task_metric(figures, TASKS[task].metric)
        write_json(record, known)
    return {task: known[name_of(approach, trial, task)] for task in tasks}


def name_of(approach: str, trial: dict, task: str) -> str:
    """Return what a trial is kept under."""
    return f"{approach} {task} {json.dumps(trial, sort_keys=True)}"


def overlay_of(trial: dict) -> dict:
    """Return what a trial sets, {"section.key": value}, as a config file has it."""
    overlay: dict[str, dict] = {}
    for setting, value in trial.items():
        section, key = setting.split(".")
        overlay.setdefault(section, {})[key] = value
    return overlay


if __name__ == "__main__":
    main()
