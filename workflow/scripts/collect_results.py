"""Predictions to tables: the cross-evaluation matrix, and a summary per task and approach.

Reads the predictions of every model and their digests; writes cross_evaluation.csv (one row per model and test
set), summary.csv (medians over the seeds, the majority class, the published figures where the data is real GLUE),
summary.md (the same for readers) and summary.json (with the provenance).
"""

import time
from pathlib import Path

import pandas as pd
import pyarrow as pa

from distilbert import runlog
from distilbert.evaluation import majority_accuracy, percent, task_metric, wilson_interval
from distilbert.files import read_sealed_json, require_sha256, write_csv, write_json, write_text
from distilbert.metrics import measure
from distilbert.tasks import APPROACHES, METRIC_TITLES, TASKS


def main(
    *,
    predictions: list[Path],
    metrics: list[Path],
    cross_evaluation: Path,
    summary: Path,
    markdown: Path,
    record: Path,
    settings: dict,
    code: str,
) -> None:
    """Tabulate; `settings["models"]` names approach, task and seed of each predictions file, in their order.

    `settings["title"]` and `settings["metric"]` say of each task what it is called and by which figure it is judged.
    metrics: what `score_models` wrote beside each predictions file, in the same order.
    """
    started = time.time()
    cells, majority = [], {}
    for model, path, digest in zip(settings["models"], predictions, metrics, strict=True):
        require_sha256(path, read_sealed_json(digest)["sha256"], digest)
        cells += score(path, model, majority)
    is_real_glue = settings["is_real_glue"]
    rows = summarize(pd.DataFrame(cells), majority, settings["metric"], is_real_glue=is_real_glue)
    write_csv(cross_evaluation, cells)
    write_csv(summary, rows)
    write_text(markdown, to_markdown(rows, settings["title"], data=settings["data"], is_real_glue=is_real_glue))
    provenance = runlog.provenance(settings, code, started=started)
    write_json(record, {"summary": rows, "majority": majority, "provenance": provenance})


def score(path: Path, model: dict, majority: dict[str, float]) -> list[dict]:
    """Return a row per test set of one model's predictions; note each test set's majority class in `majority`."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_pandas()
    rows = []
    for name, group in table.groupby("evaluated_on", observed=True, sort=False):
        figures = measure(group[["logit_0", "logit_1"]].to_numpy(), group["label"].to_numpy())
        majority[name] = majority_accuracy(group["label"].to_numpy())
        head = {"approach": model["approach"], "trained_on": model["task"], "evaluated_on": name, "seed": model["seed"]}
        rows.append(head | figures)
    return rows


def summarize(
    cells: pd.DataFrame, majority: dict[str, float], metrics: dict[str, str], *, is_real_glue: bool
) -> list[dict]:
    """Return a row per task and approach: medians over the seeds of the diagonal, their range, an interval.

    metrics: by which figure each task is judged, its `score`. The 95 % interval is Wilson's, of the median accuracy
    over n examples.
    """
    diagonal = cells[cells["trained_on"] == cells["evaluated_on"]]
    rows = []
    for name in diagonal["evaluated_on"].unique():
        for approach in APPROACHES:
            seeds = diagonal[(diagonal["evaluated_on"] == name) & (diagonal["approach"] == approach)]
            if seeds.empty:
                continue
            scores = seeds.apply(task_metric, axis=1, metric=metrics[name])
            n, accuracy = int(seeds["n"].iloc[0]), float(seeds["accuracy"].median())
            low, high = wilson_interval(accuracy, n)
            rows.append(
                {
                    "task": name,
                    "approach": approach,
                    "seeds": len(seeds),
                    "n": n,
                    "majority": majority[name],
                    "accuracy": accuracy,
                    "accuracy_min": float(seeds["accuracy"].min()),
                    "accuracy_max": float(seeds["accuracy"].max()),
                    "interval_low": low,
                    "interval_high": high,
                    "f1": float(seeds["f1"].median()),
                    "mcc": float(seeds["mcc"].median()),
                    "metric": metrics[name],
                    "score": float(scores.median()),
                    "score_min": float(scores.min()),
                    "score_max": float(scores.max()),
                    "published": published(name, approach) if is_real_glue else None,
                    "coursework_accuracy": coursework(name, approach) if is_real_glue else None,
                }
            )
    return rows


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


def to_markdown(rows: list[dict], titles: dict[str, str], *, data: str, is_real_glue: bool) -> str:
    """Return the summary as a Markdown page."""
    lines = [
        "# Summary",
        "",
        f"Data: {data}. Medians over the seeds, in percent; in brackets the lowest and the highest seed.",
        "The interval is the 95 % Wilson interval of the median accuracy over the n test examples.",
        "",
        "| task | n | approach | seeds | accuracy | 95 % interval | majority class | F1 | MCC | paper's metric |"
        + (" published for | student project (accuracy) |" if is_real_glue else ""),
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|" + ("--:|--:|" if is_real_glue else ""),
    ]
    for row in rows:
        cells = [
            titles[row["task"]],
            f"{row['n']:,}",
            APPROACHES[row["approach"]],
            row["seeds"],
            f"{percent(row['accuracy'])} ({percent(row['accuracy_min'])} to {percent(row['accuracy_max'])})",
            f"{percent(row['interval_low'])} to {percent(row['interval_high'])}",
            percent(row["majority"]),
            percent(row["f1"]),
            percent(row["mcc"]),
            f"{percent(row['score'])} ({METRIC_TITLES[row['metric']]})",
        ]
        if is_real_glue:
            model = {"pretrained": "DistilBERT", "teacher": "BERT-base"}.get(row["approach"])
            cells.append("" if row["published"] is None else f"{model}: {row['published']}")
            cells.append("" if row["coursework_accuracy"] is None else row["coursework_accuracy"])
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", *means(rows)]
    return "\n".join(lines) + "\n"


def means(rows: list[dict]) -> list[str]:
    """Return a table of means over the tasks per approach: accuracy, points over the majority class, score."""
    table = pd.DataFrame(rows)
    lines = [
        "Means over the tasks:",
        "",
        "| approach | accuracy | above the majority class | paper's metric | of the teacher's score |",
        "|---|--:|--:|--:|--:|",
    ]
    mean = table.groupby("approach")[["accuracy", "majority", "score"]].mean()
    for approach, title in APPROACHES.items():
        if approach in mean.index:
            accuracy, majority, score_ = mean.loc[approach]
            retention = percent(score_ / mean.loc["teacher", "score"]) if "teacher" in mean.index else "-"
            lines.append(
                f"| {title} | {percent(accuracy)} | {percent(accuracy - majority)} | {percent(score_)} | {retention} |"
            )
    return lines


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
