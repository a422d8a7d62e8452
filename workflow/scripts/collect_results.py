"""Predictions to tables: the cross-evaluation matrix, a summary per task and approach, and means over the tasks.

Reads the predictions of every model and their digests; writes cross_evaluation.csv (one row per model and test
set), summary.csv (medians over the seeds, 95 % intervals, the majority class, the published figures where the data is
real GLUE) and summary.json (the same and the means, with the provenance).
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from distilbert import runlog
from distilbert.confidence import accuracy_interval, interval, resampled_figures
from distilbert.evaluation import majority_accuracy
from distilbert.files import read_sealed_json, require_sha256, write_csv, write_json
from distilbert.metrics import measure, task_metric
from distilbert.tasks import APPROACHES, TASKS

# Of the bootstrap.
SEED = 1


def main(
    *,
    predictions: list[Path],
    metrics: list[Path],
    cross_evaluation: Path,
    summary: Path,
    record: Path,
    settings: dict,
    code: str,
) -> None:
    """Tabulate; `settings["models"]` names approach, task and seed of each predictions file, in their order.

    `settings["title"]` and `settings["metric"]` say of each task what it is called and by which figure it is judged.
    metrics: what `score_models` wrote beside each predictions file, in the same order.
    """
    started = time.time()
    cells, labels, predicted = [], {}, {}
    for model, path, digest in zip(settings["models"], predictions, metrics, strict=True):
        require_sha256(path, read_sealed_json(digest)["sha256"], digest)
        for name, logits, truth in read_predictions(path):
            head = {"approach": model["approach"], "trained_on": model["task"], "evaluated_on": name}
            cells.append(head | {"seed": model["seed"]} | measure(logits, truth))
            if not np.array_equal(labels.setdefault(name, truth), truth):
                raise ValueError(f"{path}: other test examples of {name} than in the files before it")
            if name == model["task"]:
                predicted.setdefault(name, {}).setdefault(model["approach"], []).append(logits.argmax(axis=1))
    replicates = {
        name: resample(predicted[name], labels[name], metric=settings["metric"][name], seed=[SEED, *name.encode()])
        for name in predicted
    }
    rows = summarize(pd.DataFrame(cells), labels, replicates, settings)
    write_csv(cross_evaluation, cells)
    write_csv(summary, rows)
    majority = {name: majority_accuracy(truth) for name, truth in labels.items()}
    tables = {"summary": rows, "means": means(rows, replicates), "majority": majority}
    write_json(record, tables | {"provenance": runlog.provenance(settings, code, started=started)})


def read_predictions(path: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return the name, logits (N, 2) and labels (N,) of each test set that a model was scored on."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_pandas()
    groups = table.groupby("evaluated_on", observed=True, sort=False)
    return [(name, group[["logit_0", "logit_1"]].to_numpy(), group["label"].to_numpy()) for name, group in groups]


def resample(
    predicted: dict[str, list[np.ndarray]], labels: np.ndarray, *, metric: str, seed: list[int]
) -> dict[str, dict[str, np.ndarray]]:
    """Return {approach: {"accuracy", "score"}} of a task, the median over the seeds in each bootstrap replicate, (R,).

    predicted: the classes (N,) that each seed of each approach says. All are scored on the same drawn examples.
    """
    figures = resampled_figures(np.array([one for seeds in predicted.values() for one in seeds]), labels, seed=seed)
    figures["score"] = task_metric(figures, metric)
    ends = np.cumsum([len(seeds) for seeds in predicted.values()])
    return {
        approach: {key: np.median(figures[key][:, end - len(seeds) : end], axis=1) for key in ("accuracy", "score")}
        for end, (approach, seeds) in zip(ends, predicted.items(), strict=True)
    }


def summarize(
    cells: pd.DataFrame, labels: dict[str, np.ndarray], replicates: dict[str, dict], settings: dict
) -> list[dict]:
    """Return a row per task and approach: medians over the seeds of the diagonal, their range, 95 % intervals.

    `score` is the figure by which the task is judged, `to_teacher` its distance to the teacher's on the same examples.
    """
    diagonal = cells[cells["trained_on"] == cells["evaluated_on"]]
    rows = []
    for name in diagonal["evaluated_on"].unique():
        metric, is_real_glue = settings["metric"][name], settings["is_real_glue"]
        teacher_score = None
        for approach in APPROACHES:
            seeds = diagonal[(diagonal["evaluated_on"] == name) & (diagonal["approach"] == approach)]
            if seeds.empty:
                continue
            drawn, n = replicates[name][approach], len(labels[name])
            scores = seeds.apply(task_metric, axis=1, metric=metric)
            accuracy, score = float(seeds["accuracy"].median()), float(scores.median())
            if approach == "teacher":
                teacher_score = score
            row = {
                "task": name,
                "approach": approach,
                "seeds": len(seeds),
                "n": n,
                "majority": majority_accuracy(labels[name]),
                "accuracy": accuracy,
                "accuracy_min": float(seeds["accuracy"].min()),
                "accuracy_max": float(seeds["accuracy"].max()),
                **bounds("accuracy", accuracy_interval(drawn["accuracy"], accuracy, n)),
                "f1": float(seeds["f1"].median()),
                "mcc": float(seeds["mcc"].median()),
                "metric": metric,
                "majority_score": majority_score(labels[name], metric),
                "score": score,
                "score_min": float(scores.min()),
                "score_max": float(scores.max()),
                **bounds("score", interval(drawn["score"])),
            }
            if metric == "accuracy":
                row |= bounds("score", (row["accuracy_low"], row["accuracy_high"]))
            row |= {"to_teacher": None, **bounds("to_teacher", (None, None))}
            if teacher_score is not None and approach != "teacher":
                difference = interval(drawn["score"] - replicates[name]["teacher"]["score"])
                row |= {"to_teacher": score - teacher_score, **bounds("to_teacher", difference)}
            row["published"] = published(name, approach) if is_real_glue else None
            row["coursework_accuracy"] = coursework(name, approach) if is_real_glue else None
            rows.append(row)
    return rows


def bounds(name: str, ends: tuple[float | None, float | None]) -> dict[str, float | None]:
    """Return the ends of an interval as two columns."""
    return {f"{name}_low": ends[0], f"{name}_high": ends[1]}


def majority_score(labels: np.ndarray, metric: str) -> float:
    """Return what always answering the more frequent class scores by a metric."""
    always = np.eye(2)[int(np.mean(labels) > 0.5)]
    return task_metric(measure(np.tile(always, (len(labels), 1)), labels), metric)


def means(rows: list[dict], replicates: dict[str, dict]) -> list[dict]:
    """Return a row per approach: means over the tasks, with 95 % intervals, and the share of the teacher's score."""
    mean = pd.DataFrame(rows).groupby("approach")[["accuracy", "majority", "score"]].mean()
    drawn = {
        approach: {
            key: np.mean([task[approach][key] for task in replicates.values()], axis=0) for key in ("accuracy", "score")
        }
        for approach in mean.index
    }
    found = []
    for approach in (name for name in APPROACHES if name in mean.index):
        accuracy, majority, score = map(float, mean.loc[approach])
        row = {"approach": approach, "accuracy": accuracy, **bounds("accuracy", interval(drawn[approach]["accuracy"]))}
        row |= {"above_majority": accuracy - majority, "score": score}
        row |= bounds("score", interval(drawn[approach]["score"]))
        row |= {"retention": None, **bounds("retention", (None, None))}
        if "teacher" in drawn and (teacher := drawn["teacher"]["score"]).min() > 0:
            row["retention"] = score / float(mean.loc["teacher", "score"])
            row |= bounds("retention", interval(drawn[approach]["score"] / teacher))
        found.append(row)
    return found


def published(name: str, approach: str) -> float | None:
    """Return the paper's figure that stands beside an approach on a task of GLUE, in percent of the task's metric."""
    if name not in TASKS:
        return None
    return {"pretrained": TASKS[name].published_distilbert, "teacher": TASKS[name].published_bert}.get(approach)


def coursework(name: str, approach: str) -> float | None:
    """Return the student project's accuracy that stands beside an approach on a task of GLUE, in percent."""
    if name not in TASKS:
        return None
    return {"pretrained": TASKS[name].coursework, "direct": TASKS[name].coursework_direct}.get(approach)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
