"""Size and speed of teacher and student as a table, and in words: the paper's "40 % smaller, 60 % faster".

A row is a measure: the teacher's figure, the student's, and their ratio (student / teacher). A figure that was
measured several times is the median, with the range of its middle half beside it (`_low`, `_high`).
"""

from collections.abc import Mapping

import numpy as np

# Measure -> its title, the unit in which pages and figures show it, and that unit in the table's.
MEASURES = {
    "parameters": ("Parameters", "million", 1e6),
    "parameters_without_embeddings": ("Parameters without embeddings", "million", 1e6),
    "file": ("File", "MB", 1e6),
    "latency": ("Latency, one example at a time", "ms", 1),
    "throughput": ("Throughput, in batches", "examples/s", 1),
}
DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def row(measure: str, teacher: float | np.ndarray, student: float | np.ndarray, **how) -> dict:
    """Return a row of two figures, or of what each round measured, (R,); `how`: further columns."""
    columns = {"measure": measure}
    for name, values in (("teacher", teacher), ("student", student), ("ratio", student / teacher)):
        columns |= zip((name, f"{name}_low", f"{name}_high"), _median_and_quartiles(values), strict=True)
    return columns | how


def _median_and_quartiles(values: float | np.ndarray) -> tuple[float, float | None, float | None]:
    if not isinstance(values, np.ndarray):
        return values, None, None
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(median), float(low), float(high)


def find(rows: list[dict], measure: str) -> dict:
    """Return the row of a measure: of the CPU, where there is one of a GPU too."""
    return next(row for row in rows if row["measure"] == measure and row.get("device") in (None, "cpu"))


def percent_smaller(rows: list[dict]) -> float:
    """Return how many percent of the teacher's parameters the student lacks."""
    return 100 * (1 - find(rows, "parameters")["ratio"])


def percent_faster(rows: list[dict]) -> float:
    """Return how many percent more examples the student answers, one at a time on the CPU, in the same time."""
    return 100 * (1 / find(rows, "latency")["ratio"] - 1)


def gains(rows: list[dict], means: Mapping) -> str:
    """Return both in words, and the share of the teacher's score, where `means` (the student's) has one."""
    words = []
    for percent, more, less in (
        (percent_smaller(rows), "smaller", "larger"),
        (percent_faster(rows), "faster", "slower"),
    ):
        words.append(f"{abs(percent):.0f} % {more if percent >= 0 else less}")
    kept = "" if means["retention"] is None else f" and keeps {100 * means['retention']:.1f} % of its score"
    return f"{' and '.join(words)} than its teacher{kept}"


def title(row: dict) -> str:
    """Return what a row measures, with its device and unit."""
    name, unit, _ = MEASURES[row["measure"]]
    device = f"{DEVICES[row['device']]}: " if row.get("device") else ""
    return f"{device}{name} ({unit})"


def shown(row: dict, model: str) -> tuple[float, float | None, float | None]:
    """Return a model's figure and its quartiles in the unit of `title`; of "ratio", as it is."""
    scale = 1 if model == "ratio" else MEASURES[row["measure"]][2]
    return tuple(None if row[key] is None else row[key] / scale for key in (model, f"{model}_low", f"{model}_high"))


def how_measured(rows: list[dict]) -> str:
    """Return a sentence for each device: what was timed on it, and how often."""
    sentences = []
    for latency in (row for row in rows if row["measure"] == "latency"):
        device, num_single, num_rounds = latency["device"], latency["examples"], latency["rounds"]
        batched = next(row for row in rows if row["measure"] == "throughput" and row["device"] == device)
        threads = f", {latency['threads']} thread" if device == "cpu" else ""
        sentences.append(
            f"{DEVICES[device]}: {latency['machine']}{threads}, {latency['precision']}; {num_single} examples one at a "
            f"time in {num_rounds} rounds, {batched['examples']} in batches in {batched['rounds']}; medians over the "
            "rounds, in brackets the middle half."
        )
    return " ".join(sentences)
