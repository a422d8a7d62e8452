"""Figures from tables, made to be read by anyone: direct labels, units, colours that colour-blind readers tell apart.

Never imports torch. Colours: Okabe & Ito's palette.
"""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from distilbert.files import atomic_path  # noqa: E402
from distilbert.tasks import APPROACHES, METRIC_TITLES  # noqa: E402

APPROACH_COLOURS = {"teacher": "#0072B2", "pretrained": "#E69F00", "direct": "#009E73", "scratch": "#CC79A7"}
PUBLISHED_COLOUR = "#000000"
LOSS_TITLES = {
    "loss": "Total (weighted)",
    "ce": "KL to the teacher",
    "mlm": "Masked LM",
    "cos": "Cosine distance",
}
TRAIN_COLOUR, VALIDATION_COLOUR = "#56B4E9", "#D55E00"

plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "figure.constrained_layout.use": True,
        "svg.hashsalt": "distilbert",  # the same figure gives the same file
    }
)


def save(figure: Figure, png: Path, svg: Path) -> None:
    """Write a figure as PNG and as SVG, each whole or not at all, without a date in it."""
    for path, form, options in ((png, "png", {"dpi": 160}), (svg, "svg", {"metadata": {"Date": None}})):
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=form, **options)
    plt.close(figure)


def _wrapped(title: str, figure: Figure, font_size: float) -> str:
    """Return a title in lines that fit a figure's width."""
    return textwrap.fill(title, round(120 / font_size * figure.get_figwidth()))


def accuracy_bars(summary: pd.DataFrame, titles: dict[str, str], *, subtitle: str) -> Figure:
    """Return grouped bars per task: accuracy above, the task's own metric below, one bar per approach.

    summary: the rows of summary.csv. titles: what each task is called. Whiskers span the seeds; a line marks the
    majority class; a diamond over the pretrained student the published DistilBERT, where the table has it.
    """
    tasks = list(summary["task"].unique())
    approaches = [name for name in APPROACHES if name in set(summary["approach"])]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(max(11, 2.2 * len(tasks)), 8.4))
    for axes, column in ((top, "accuracy"), (bottom, "score")):
        _grouped_bars(axes, summary, tasks, approaches, column)
    for position, task in enumerate(tasks):
        rows = summary[summary["task"] == task]
        majority = 100 * rows["majority"].iloc[0]
        top.hlines(majority, position - 0.45, position + 0.45, color="#444444", lw=1.4, ls=(0, (4, 2)))
    top.plot([], [], color="#444444", lw=1.4, ls=(0, (4, 2)), label="Majority class")
    if summary["published"].notna().any():
        top.scatter([], [], marker="D", s=44, color=PUBLISHED_COLOUR, label="DistilBERT, published (dev set)")
    counts = {task: int(summary.loc[summary["task"] == task, "n"].iloc[0]) for task in tasks}
    top.set_xticks(range(len(tasks)), [f"{titles[task]}\n(n = {counts[task]:,})" for task in tasks])
    metrics = summary.groupby("task")["metric"].first()
    bottom.set_xticks(range(len(tasks)), [f"{titles[task]}\n{METRIC_TITLES[metrics[task]]}" for task in tasks])
    top.set_ylabel("Accuracy on the test set (%)")
    bottom.set_ylabel("The paper's own metric (× 100)")
    top.set_ylim(0, 109)
    low = min(0, 100 * float(summary["score_min"].min()) - 6)
    bottom.set_ylim(low, 109)
    bottom.axhline(0, color="#444444", lw=0.8)
    top.set_title(_wrapped(f"Accuracy by task. {subtitle}", figure, 11))
    bottom.set_title("The same models by the metric that the paper reports for each task")
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _grouped_bars(axes, summary: pd.DataFrame, tasks: list[str], approaches: list[str], column: str) -> None:
    width = 0.86 / len(approaches)
    for number, approach in enumerate(approaches):
        rows = summary[summary["approach"] == approach].set_index("task").reindex(tasks)
        x = np.arange(len(tasks)) + (number - (len(approaches) - 1) / 2) * width
        values = 100 * rows[column].to_numpy()
        low, high = (100 * rows[f"{column}_{end}"].to_numpy() for end in ("min", "max"))
        published = rows["published"].to_numpy() if approach == "pretrained" else np.full(len(tasks), np.nan)
        if column == "accuracy":
            published = np.where(rows["metric"] == "accuracy", published, np.nan)
        axes.bar(x, values, width * 0.92, color=APPROACH_COLOURS[approach], label=APPROACHES[approach])
        axes.scatter(x, published, marker="D", s=44, color=PUBLISHED_COLOUR, zorder=5)
        spread = np.clip([values - low, high - values], 0, None)
        axes.errorbar(x, values, spread, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
        for position, value, top, diamond in zip(x, values, high, published, strict=True):
            if np.isfinite(value):
                foot = max(top, 0)
                if foot - 2 < diamond < foot + 8:  # the figure goes above the diamond that would cover it
                    foot = diamond + 1.5
                axes.annotate(
                    f"{value:.0f}",
                    (position, foot),
                    (0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"},
                    zorder=4,
                )


def cross_evaluation_heat_map(
    cells: pd.DataFrame, majority: dict[str, float], titles: dict[str, str], *, subtitle: str
) -> Figure:
    """Return one heat map per approach: trained on (rows) against evaluated on (columns).

    cells: the rows of cross_evaluation.csv; a cell shows the median accuracy over the seeds, its colour how far
    that is above or below the majority class of the task that is evaluated. majority: accuracy in [0, 1] by task.
    titles: what each task is called.
    """
    tasks = list(cells["evaluated_on"].unique())
    approaches = [name for name in ("pretrained", "direct", "teacher", "scratch") if name in set(cells["approach"])]
    names = [titles[task] for task in tasks]
    columns = min(2, len(approaches))
    rows = -(-len(approaches) // columns)
    width = max(5.4, 0.95 * len(tasks))
    figure, panels = plt.subplots(rows, columns, figsize=(width * columns, (width - 0.7) * rows + 0.5), squeeze=False)
    base = np.array([majority[task] for task in tasks])
    medians = cells.groupby(["approach", "trained_on", "evaluated_on"])["accuracy"].median()
    limit = 100 * max(0.05, float(np.abs(medians - medians.index.get_level_values(2).map(majority).to_numpy()).max()))
    image = None
    for axes, approach in zip(panels.flat, approaches, strict=False):
        matrix = medians[approach].unstack().reindex(index=tasks, columns=tasks).to_numpy()
        above = 100 * (matrix - base)
        image = axes.imshow(above, cmap="PuOr_r", vmin=-limit, vmax=limit)
        for row, column in np.ndindex(matrix.shape):
            dark = abs(above[row, column]) > 0.6 * limit
            axes.text(
                column,
                row,
                f"{100 * matrix[row, column]:.0f}",
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontweight="bold" if row == column else "normal",
            )
        # The names of GLUE's tasks are short, a user's own may be longer than a cell.
        named = [f"{textwrap.fill(name, 9)}\n{100 * share:.0f}" for name, share in zip(names, base, strict=True)]
        axes.set_xticks(range(len(tasks)), named)
        axes.set_yticks(range(len(tasks)), names)
        axes.set_xlabel("Evaluated on (its majority class below the name, %)")
        axes.set_ylabel("Trained on")
        axes.set_title(APPROACHES[approach])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    for axes in panels.flat[len(approaches) :]:
        axes.remove()
    figure.colorbar(
        image, ax=list(panels.flat[: len(approaches)]), label="Points above or below the majority class", shrink=0.7
    )
    title = _wrapped(f"Accuracy (%) of every model on every task. {subtitle}", figure, 12)
    figure.suptitle(title, x=0.02, ha="left", fontsize=12)
    return figure


def training_curves(pretraining: dict[str, pd.DataFrame], finetuning: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """Return the losses of the trainings on the corpus and the validation accuracy of the fine-tunings.

    pretraining: {"student": curve, perhaps "teacher": curve} as the steps write them; a band over the total loss
    reaches up to its highest step. finetuning: columns approach,
    task, seed, epoch, accuracy. titles: what each task is called.
    """
    tasks = list(finetuning["task"].unique())
    losses = [("teacher", "loss")] if "teacher" in pretraining else []
    losses += [("student", name) for name in LOSS_TITLES if name in pretraining["student"]]
    columns = max(len(losses), len(tasks))
    figure = plt.figure(figsize=(2.75 * columns, 6.6))
    top, bottom = figure.subfigures(2, 1, hspace=0.06)
    for axes, (which, name) in zip(top.subplots(1, len(losses), squeeze=False)[0], losses, strict=True):
        _loss_curve(axes, pretraining[which], name)
        axes.set_title("Teacher: masked LM" if which == "teacher" else LOSS_TITLES[name])
    top.axes[0].set_ylabel("Loss (nats; cosine: 1 − cos)")
    top.legend(*top.axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    top.suptitle("Training on the corpus", x=0.02, ha="left", fontsize=12)
    for axes, task in zip(bottom.subplots(1, len(tasks), squeeze=False, sharey=True)[0], tasks, strict=True):
        _accuracy_curves(axes, finetuning[finetuning["task"] == task])
        axes.set_title(titles[task])
    bottom.axes[0].set_ylabel("Validation accuracy (%)")
    bottom.legend(*_legend(bottom.axes), loc="outside lower center", ncols=4, frameon=False)
    bottom.suptitle("Training on the tasks (median over the seeds)", x=0.02, ha="left", fontsize=12)
    return figure


def _loss_curve(axes, curve: pd.DataFrame, name: str) -> None:
    styles = {
        "train": {"color": TRAIN_COLOUR, "lw": 1.2, "label": "Training"},
        "validation": {"color": VALIDATION_COLOUR, "lw": 1.4, "marker": "o", "ms": 3.5, "label": "Validation"},
    }
    for split, style in styles.items():
        rows = curve[curve["split"] == split]
        axes.plot(rows["num_tokens"] / 1e6, rows[name], **style)
        if name == "loss" and split == "train":  # a spike of one step is lost in a mean of many
            highest = rows["max_loss"]
            axes.fill_between(rows["num_tokens"] / 1e6, rows[name], highest, color=TRAIN_COLOUR, alpha=0.3, lw=0)
    axes.set_xlabel("Million tokens")
    axes.set_ylim(bottom=0)


def _accuracy_curves(axes, curves: pd.DataFrame) -> None:
    # Curves that coincide stay visible: the later ones have smaller markers.
    for size, (approach, label) in zip((7.5, 6, 4.5, 3), APPROACHES.items(), strict=True):
        rows = curves[curves["approach"] == approach]
        if len(rows):
            medians = rows.groupby("epoch")["accuracy"].median()
            axes.plot(
                medians.index, 100 * medians, color=APPROACH_COLOURS[approach], marker="o", ms=size, lw=1.4, label=label
            )
    axes.set_xlabel("Epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _legend(panels) -> tuple[list, list]:
    """Return the handles and labels that stand in any of the panels, each once."""
    found = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
