"""Check what the demo promises, on the results of a finished run: `python tests/check_demo.py results`.

Mean over the five tasks of the pretrained student's accuracy: at least 15 points above the majority class and at
least 5 above the same student without pretraining; the diagonal of the cross-evaluation at least 15 points, over the
majority class, above the cells off it.
Prints the figures; exits with 1 and says what fell short.
"""

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

POINTS_OVER_MAJORITY, POINTS_OVER_SCRATCH = 15, 5


def main(results: Path) -> None:
    """Read summary.csv and cross_evaluation.csv of a results folder and hold them to the promises."""
    summary = read(results / "summary.csv")
    means = {
        approach: statistics.mean(100 * float(row["accuracy"]) for row in summary if row["approach"] == approach)
        for approach in ("teacher", "pretrained", "direct", "scratch")
    }
    majority = statistics.mean(100 * float(row["majority"]) for row in summary if row["approach"] == "pretrained")
    print("mean accuracy over the tasks, in percent:")
    for name, value in {**means, "majority class": majority}.items():
        print(f"  {name:<15} {value:5.1f}")
    majority_of = {row["task"]: float(row["majority"]) for row in summary}
    diagonal, off_diagonal = diagonal_margins(read(results / "cross_evaluation.csv"), majority_of)
    print(f"points over the majority class: diagonal {diagonal:.1f}, off the diagonal {off_diagonal:.1f}")

    promises = {
        f"at least {POINTS_OVER_MAJORITY} points above the majority class": means["pretrained"] - majority
        >= POINTS_OVER_MAJORITY,
        f"at least {POINTS_OVER_SCRATCH} points above scratch": means["pretrained"] - means["scratch"]
        >= POINTS_OVER_SCRATCH,
        "the diagonal stands out": diagonal >= off_diagonal + POINTS_OVER_MAJORITY,
    }
    if broken := [promise for promise, kept in promises.items() if not kept]:
        sys.exit(f"the demo falls short: {'; '.join(broken)}")
    print("the demo keeps its promises")


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def diagonal_margins(cells: list[dict[str, str]], majority: dict[str, float]) -> tuple[float, float]:
    """Return the pretrained student's mean margin over the majority class on and off the diagonal, in points."""
    margins = defaultdict(list)
    for row in cells:
        if row["approach"] == "pretrained":
            is_diagonal = row["trained_on"] == row["evaluated_on"]
            margins[is_diagonal].append(100 * (float(row["accuracy"]) - majority[row["evaluated_on"]]))
    return statistics.mean(margins[True]), statistics.mean(margins[False])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
