"""Tables to pages: what a run comes to, for readers.

Reads summary.json and efficiency.json; writes summary.md and, the same, summary.html for the report.
"""

import math
from pathlib import Path

from distilbert import runlog
from distilbert.efficiency import gains, how_measured, shown, title
from distilbert.files import read_json, write_text
from distilbert.pages import Table, percent, percent_range, to_html, to_markdown
from distilbert.tasks import APPROACHES, METRIC_TITLES

MODEL_NAMES = {"pretrained": "DistilBERT", "teacher": "BERT-base"}


def main(*, record: Path, efficiency: Path, markdown: Path, html: Path, settings: dict) -> None:
    """Write the pages; `settings` say in words what the data is (`data`) and what each task is called (`title`)."""
    results, measured = read_json(record), read_json(efficiency)["efficiency"]
    blocks = [
        headline(results["means"], measured),
        f"Data: {settings['data']}. Accuracy and scores are medians over the seeds, in percent; in brackets the lowest "
        f"and the highest seed, where there are several. {metrics(results['summary'], settings['title'])}",
        scores(results["summary"], settings["title"]),
        "The 95 % intervals are bootstrap intervals over the n test examples (2,000 draws, the same for all models; "
        "Wilson's where all examples are right or all wrong): what other test examples would change. What other seeds "
        "would change is not in them.",
        "Size and speed, each model answering the same test examples:",
        sizes_and_speeds(measured),
        how_measured(measured),
        "Means over the tasks:",
        means(results["means"]),
    ]
    write_text(markdown, to_markdown("Summary", blocks))
    write_text(html, to_html("Summary", blocks))


def headline(means: list[dict], measured: list[dict]) -> str:
    """Return the paper's claim with the figures of this run."""
    student = next(row for row in means if row["approach"] == "pretrained")
    text = f"The pretrained student is {gains(measured, student)}"
    if student["retention"] is not None:
        text += f" (95 % interval {interval(student, 'retention')})"
    return f"{text}. DistilBERT, as published: 40 % smaller, 60 % faster, 97 % of the score."


def metrics(rows: list[dict], titles: dict[str, str]) -> str:
    """Return what the paper's metric, or that of the user's own task, is for each task."""
    tasks: dict[str, list[str]] = {}
    for task, metric in {row["task"]: row["metric"] for row in rows}.items():
        tasks.setdefault(METRIC_TITLES[metric], []).append(titles[task])
    words = [f"{metric} for {' and '.join(names)}" for metric, names in tasks.items()]
    return f"The paper's metric is {'; '.join(words)}."


def scores(rows: list[dict], titles: dict[str, str]) -> Table:
    """Return the table of tasks and approaches; the columns of published figures where there are any."""
    header = ["task", "approach", "n", "seeds", "accuracy", "95 % interval", "majority class", "F1", "MCC"]
    header += ["paper's metric", "95 % interval", "minus the teacher's, 95 % interval"]
    is_compared = any(row["published"] is not None or row["coursework_accuracy"] is not None for row in rows)
    header += ["published for", "student project (accuracy)"] * is_compared
    lines = []
    for row in rows:
        cells = [
            titles[row["task"]],
            APPROACHES[row["approach"]],
            f"{row['n']:,}",
            row["seeds"],
            with_seeds(row, "accuracy"),
            interval(row, "accuracy"),
            percent(row["majority"]),
            percent(row["f1"]),
            percent(row["mcc"]),
            with_seeds(row, "score"),
            interval(row, "score"),
            "" if row["to_teacher"] is None else f"{percent(row['to_teacher'])}, {interval(row, 'to_teacher')}",
        ]
        if is_compared:
            model = MODEL_NAMES.get(row["approach"])
            cells.append("" if row["published"] is None else f"{model}: {row['published']}")
            cells.append("" if row["coursework_accuracy"] is None else row["coursework_accuracy"])
        lines.append(cells)
    return Table(header, lines, num_left=2)


def sizes_and_speeds(rows: list[dict]) -> Table:
    """Return the table of parameters, file size, latency and throughput of teacher and student."""
    models = ("teacher", "student", "ratio")
    lines = [[title(row), *(significant(*shown(row, model)) for model in models)] for row in rows]
    return Table(["", "teacher", "student", "student / teacher"], lines)


def significant(value: float, low: float | None, high: float | None) -> str:
    """Return a figure to three digits, and in brackets the middle half of its rounds."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    middle = "" if low is None else f" ({low:,.{digits}f} to {high:,.{digits}f})"
    return f"{value:,.{digits}f}{middle}"


def means(rows: list[dict]) -> Table:
    """Return the table of means over the tasks."""
    header = ["approach", "accuracy", "95 % interval", "above the majority class", "paper's metric"]
    header += ["of the teacher's score", "95 % interval"]
    lines = []
    for row in rows:
        cells = [APPROACHES[row["approach"]], percent(row["accuracy"]), interval(row, "accuracy")]
        cells += [percent(row["above_majority"]), percent(row["score"])]
        is_known = row["retention"] is not None
        lines.append(cells + ([percent(row["retention"]), interval(row, "retention")] if is_known else ["-", "-"]))
    return Table(header, lines)


def with_seeds(row: dict, name: str) -> str:
    """Return a median in percent, and in brackets the range of the seeds where there are several."""
    spread = f" ({percent(row[f'{name}_min'])} to {percent(row[f'{name}_max'])})" if row["seeds"] > 1 else ""
    return percent(row[name]) + spread


def interval(row: dict, name: str) -> str:
    """Return an interval in percent."""
    return percent_range(row[f"{name}_low"], row[f"{name}_high"])


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
