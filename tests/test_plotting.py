"""Figures: nothing of them is cut off."""

from pathlib import Path

import pandas as pd
import pytest

from distilbert import plotting
from distilbert.tasks import TASKS

RESULTS = Path(__file__).parent.parent / "docs" / "results"


@pytest.mark.parametrize("run", ["demo", "minilm-long"])
@pytest.mark.parametrize("tasks", [["cola"], list(TASKS)], ids=["one task", "all tasks"])
def test_the_legend_of_the_accuracies_is_within_the_figure(run, tasks):
    """With the published scores beside it (minilm-long) or without (demo), of one task or of five."""
    summary, cells = (pd.read_csv(RESULTS / run / name) for name in ("summary.csv", "cross_evaluation.csv"))
    summary, cells = summary[summary["task"].isin(tasks)], cells[cells["trained_on"].isin(tasks)]
    titles = {name: TASKS[name].title for name in tasks}
    figure = plotting.accuracy_bars(summary, cells, titles, subtitle="GLUE; one seed")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
