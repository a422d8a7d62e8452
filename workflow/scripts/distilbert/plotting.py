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

from distilbert import efficiency  # noqa: E402
from distilbert.files import atomic_path  # noqa: E402
from distilbert.metrics import task_metric  # noqa: E402
from distilbert.tasks import APPROACHES, METRIC_TITLES  # noqa: E402

APPROACH_COLOURS = {"teacher": "#0072B2", "pretrained": "#E69F00", "direct": "#009E73", "scratch": "#CC79A7"}
PUBLISHED_COLOUR = "#000000"
LOSS_TITLES = {
    "loss": "total (weighted)",
    "ce": "KL to the teacher",
    "mlm": "masked LM",
    "cos": "cosine distance",
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


def accuracy_bars(summary: pd.DataFrame, cells: pd.DataFrame, titles: dict[str, str], *, subtitle: str) -> Figure:
    """Return grouped bars per task: accuracy above, the task's own metric below, one bar per approach.

    summary: the rows of summary.csv. cells: those of cross_evaluation.csv. titles: what each task is
    called. Whiskers are the 95 % intervals, dots the
    seeds where there are several; a line marks the majority class; a diamond over the pretrained student the published
    DistilBERT, where the table has it.
    """
    tasks = list(summary["task"].unique())
    approaches = [name for name in APPROACHES if name in set(summary["approach"])]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(max(11, 2.2 * len(tasks)), 8.4))
    seeds = cells[cells["trained_on"] == cells["evaluated_on"]].rename(columns={"trained_on": "task"})
    metrics = dict(zip(summary["task"], summary["metric"], strict=True))
    seeds = seeds.assign(score=[task_metric(row, metrics[row["task"]]) for _, row in seeds.iterrows()])
    line = {"color": "#444444", "lw": 1.4, "ls": (0, (4, 2))}
    for axes, column, majority in ((top, "accuracy", "majority"), (bottom, "score", "majority_score")):
        _grouped_bars(axes, summary, seeds, tasks, approaches, column)
        for position, task in enumerate(tasks):
            height = 100 * summary.loc[summary["task"] == task, majority].iloc[0]
            axes.hlines(height, position - 0.45, position + 0.45, clip_on=False, **line)
    top.plot([], [], **line, label="Majority class")
    if summary["published"].notna().any():
        top.scatter([], [], marker="D", s=44, color=PUBLISHED_COLOUR, label="DistilBERT, published (dev set)")
    counts = {task: int(summary.loc[summary["task"] == task, "n"].iloc[0]) for task in tasks}
    top.set_xticks(range(len(tasks)), [f"{titles[task]}\n(n = {counts[task]:,})" for task in tasks])
    metrics = summary.groupby("task")["metric"].first()
    bottom.set_xticks(range(len(tasks)), [f"{titles[task]}\n{METRIC_TITLES[metrics[task]]}" for task in tasks])
    top.set_ylabel("Accuracy on the test set (%)")
    bottom.set_ylabel("The task's own metric (× 100)")
    top.set_ylim(0, 109)
    lowest = 100 * float(summary[["score_min", "score_low"]].min().min())
    bottom.set_ylim(lowest - 6 if lowest < 0 else 0, 109)
    if lowest < 0:  # MCC alone goes there
        bottom.axhline(0, color="#444444", lw=0.8)
    top.set_title(_wrapped(f"Accuracy by task. {subtitle}", figure, 11))
    bottom.set_title("The same models by the metric of each task (of GLUE's, the one that the paper reports)")
    handles, labels = top.get_legend_handles_labels()
    bars_first = sorted(range(len(labels)), key=lambda i: labels[i] not in APPROACHES.values())
    legend = [handles[i] for i in bars_first], [labels[i] for i in bars_first]
    columns = len(labels) if len(labels) < 6 else 3  # six in a row are wider than the figure
    figure.legend(*legend, loc="outside lower center", ncols=columns, frameon=False, columnspacing=1.4)
    return figure


def _grouped_bars(
    axes, summary: pd.DataFrame, seeds: pd.DataFrame, tasks: list[str], approaches: list[str], column: str
) -> None:
    width = 0.86 / len(approaches)
    for number, approach in enumerate(approaches):
        rows = summary[summary["approach"] == approach].set_index("task").reindex(tasks)
        x = np.arange(len(tasks)) + (number - (len(approaches) - 1) / 2) * width
        values = 100 * rows[column].to_numpy()
        low, high = (100 * rows[f"{column}_{end}"].to_numpy() for end in ("low", "high"))
        published = rows["published"].to_numpy() if approach == "pretrained" else np.full(len(tasks), np.nan)
        if column == "accuracy":
            published = np.where(rows["metric"] == "accuracy", published, np.nan)
        axes.bar(x, values, width * 0.92, color=APPROACH_COLOURS[approach], label=APPROACHES[approach])
        axes.scatter(x, published, marker="D", s=44, color=PUBLISHED_COLOUR, zorder=5)
        spread = np.clip([values - low, high - values], 0, None)
        axes.errorbar(x, values, spread, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
        tops = high.copy()
        for number_of_task, task in enumerate(tasks):
            dots = 100 * seeds.loc[(seeds["approach"] == approach) & (seeds["task"] == task), column].to_numpy()
            if len(dots) > 1:
                beside = x[number_of_task] + width * np.linspace(-0.3, 0.3, len(dots))
                axes.scatter(beside, dots, s=9, color="white", edgecolor="#333333", lw=0.6, zorder=5)
                tops[number_of_task] = max(high[number_of_task], dots.max())
        for position, value, top, diamond in zip(x, values, tops, published, strict=True):
            if np.isfinite(value):
                foot = max(top, 0)
                if foot - 2 < diamond < foot + 8:  # the figure goes above the diamond that would cover it
                    foot = diamond + 1.5
                axes.annotate(
                    f"{value:.0f}".replace("-", "−"),
                    (position, foot),
                    (0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"},
                    zorder=4,
                )


def efficiency_bars(rows: list[dict], means: list[dict], *, subtitle: str) -> Figure:
    """Return a panel per measure of efficiency.csv, and one of the mean score: teacher beside student.

    rows: see `distilbert.efficiency`; whiskers span the middle half of the rounds. The light part of the parameters
    is the embeddings. means: of summary.json; whiskers of the score are its 95 % intervals.
    """
    panels = [row for row in rows if row["measure"] != "parameters_without_embeddings"]
    num_panels = len(panels) + 1
    columns = num_panels if num_panels <= 5 else -(-num_panels // 2)
    figure, axes = plt.subplots(-(-num_panels // columns), columns, figsize=(2.3 * columns, 3.9), squeeze=False)
    figure.set_figheight(3.3 * axes.shape[0] + 0.6)
    figure.get_layout_engine().set(wspace=0.08)
    for panel, row in zip(axes.flat, panels, strict=False):
        figures = [efficiency.shown(row, model) for model in ("teacher", "student")]
        _pair_of_bars(panel, figures, change=row["ratio"])
        panel.set_title("\n".join(textwrap.wrap(efficiency.title(row), 22)), fontsize=10)
        if row["measure"] == "parameters":
            others = efficiency.find(rows, "parameters_without_embeddings")
            feet = [efficiency.shown(others, model)[0] for model in ("teacher", "student")]
            heights = [figure_[0] - foot for figure_, foot in zip(figures, feet, strict=True)]
            panel.bar((0, 1), heights, 0.7, bottom=feet, color="white", alpha=0.55)
            panel.annotate("embeddings", (0, feet[0] + heights[0] / 2), ha="center", va="center", fontsize=7)
    teacher, student = (next(row for row in means if row["approach"] == name) for name in ("teacher", "pretrained"))
    scores = [tuple(100 * row[key] for key in ("score", "score_low", "score_high")) for row in (teacher, student)]
    panel = axes.flat[num_panels - 1]
    _pair_of_bars(panel, scores, change=student["retention"])
    panel.set_title("Mean of the paper's\nmetrics (× 100)", fontsize=10)
    for panel in axes.flat[num_panels:]:
        panel.remove()
    title = f"The student is {efficiency.gains(rows, student)}. {subtitle}"
    figure.suptitle(_wrapped(title, figure, 12), x=0.02, ha="left", fontsize=12)
    return figure


def _pair_of_bars(axes, figures: list[tuple], *, change: float | None) -> None:
    """Draw (value, low, high) of teacher and student, over the student's the change (student / teacher) in percent."""
    colours = [APPROACH_COLOURS["teacher"], APPROACH_COLOURS["pretrained"]]
    for x, ((value, low, high), colour) in enumerate(zip(figures, colours, strict=True)):
        axes.bar(x, value, 0.7, color=colour)
        if low is not None:
            axes.errorbar(
                x, value, [[max(0, value - low)], [max(0, high - value)]], ecolor="#333333", elinewidth=1, capsize=3
            )
        label = f"{value:,.{max(0, 2 - int(np.floor(np.log10(value)))) if value > 0 else 0}f}"
        if x == 1 and change is not None:
            label += f"\n({100 * (change - 1):+.0f} %)".replace("-", "−")
        foot = value if high is None else max(value, high)
        axes.annotate(label, (x, foot), (0, 3), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks((0, 1), ("Teacher", "Student"))
    axes.set_yticks([])  # the bars say their values
    axes.spines.left.set_visible(False)
    ends = [end for figure in figures for end in figure if end is not None]
    axes.set_ylim(1.25 * min(0, *ends), 1.25 * max(ends) or 1)
    axes.tick_params(axis="x", length=0)


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
    width = max(4.4, 0.95 * len(tasks) + 0.65)
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
        axes.set_yticks(range(len(tasks)), [textwrap.fill(name, 14) for name in names])
        axes.set_xlabel("Evaluated on\n(its majority class below the name, %)")
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


def training_curves(
    pretraining: dict[str, pd.DataFrame], finetuning: pd.DataFrame, titles: dict[str, str], metrics: dict[str, str]
) -> Figure:
    """Return the losses of the trainings on the corpus and the scores of the fine-tunings on the validation sets.

    pretraining: {"student": curve, perhaps "teacher": curve} as the steps write them; a band over the total loss
    reaches up to its highest step. finetuning: columns approach, task, seed, epoch, score, which chooses the epoch.
    titles, metrics: what each task is called, and which figure its score is (`Task.metric`).
    """
    tasks = list(finetuning["task"].unique())
    losses = [("teacher", "loss")] if "teacher" in pretraining else []
    losses += [("student", name) for name in LOSS_TITLES if name in pretraining["student"]]
    columns = 5
    rows = -(-len(tasks) // columns)
    figure = plt.figure(figsize=(2.75 * columns, 3.5 + 2.6 * rows + 0.5))
    top, bottom = figure.subfigures(2, 1, hspace=0.06, height_ratios=(3.5, 2.6 * rows + 0.5))
    for axes, (which, name) in zip(_panels(top, 1, columns, len(losses)), losses, strict=True):
        _loss_curve(axes, pretraining[which], name)
        axes.set_title("Teacher: masked LM" if which == "teacher" else f"Student: {LOSS_TITLES[name]}")
    top.axes[0].set_ylabel("Loss (nats; cosine: 1 − cos)")
    top.legend(*_legend(top.axes), loc="outside lower center", ncols=3, frameon=False)
    top.suptitle("Training on the corpus", x=0.02, ha="left", fontsize=12)
    for axes, task in zip(_panels(bottom, rows, columns, len(tasks)), tasks, strict=True):
        _score_curves(axes, finetuning[finetuning["task"] == task])
        axes.set_title(titles[task])
        metric = METRIC_TITLES[metrics[task]]
        axes.set_ylabel(textwrap.fill(f"{metric[0].upper()}{metric[1:]} × 100", 20))
    bottom.legend(*_legend(bottom.axes), loc="outside lower center", ncols=4, frameon=False)
    title = "Training on the tasks: scores on the validation sets (median over the seeds)"
    bottom.suptitle(title, x=0.02, ha="left", fontsize=12)
    return figure


def _panels(figure, rows: int, columns: int, count: int) -> list:
    """Return the first so many panels of a grid; the others are left empty, so that all panels are of one size."""
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return list(grid.flat[:count])


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
            axes.fill_between(
                rows["num_tokens"] / 1e6, rows[name], highest, color=TRAIN_COLOUR, alpha=0.3, lw=0, label="Highest step"
            )
    axes.set_xlabel("Million tokens")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)


def _score_curves(axes, curves: pd.DataFrame) -> None:
    # Curves that coincide stay visible: the later ones have smaller markers.
    for size, (approach, label) in zip((7.5, 6, 4.5, 3), APPROACHES.items(), strict=True):
        rows = curves[curves["approach"] == approach]
        if len(rows):
            medians = rows.groupby("epoch")["score"].median()
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
