"""Binary tasks: the five of GLUE, with the paper's metric and its published scores, and the user's own.

Class 1 does not mean the same thing everywhere, so each task says what its classes mean
(`label_names`) and which of them is "yes" (`yes`):

    task   class 0          class 1           "yes" is
    sst2   negative         positive          1
    mrpc   not_equivalent   equivalent        1
    qqp    not_duplicate    duplicate         1
    cola   unacceptable     acceptable        1
    rte    entailment       not_entailment    0

A cell off the diagonal of the cross-evaluation matrix asks: does what a model learnt on one task carry
over to another? Its prediction is therefore read as yes or no through the labels of the task it was
TRAINED on and scored as yes or no in the labels of the task it is EVALUATED on. Without this, a model of
RTE would be punished for the order in which GLUE lists RTE's two labels (see `evaluation.translate_logits`).

Sources: Wang et al. 2019 (GLUE, arXiv:1804.07461); Sanh et al. 2019 (DistilBERT, arXiv:1910.01108, table 1).
"""

from dataclasses import dataclass

# Which splits a prepared task has, in the order in which they are written.
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """How the files of a binary sentence or sentence-pair classification task are read.

    `columns` are the text columns, one or two; `label_names` are the names of class 0 and class 1.
    """

    name: str
    columns: tuple[str, ...]
    label_names: tuple[str, str]
    label_column: str = "label"


@dataclass(frozen=True, kw_only=True)
class Task(TaskData):
    """One task, with what tables, figures and the cross-evaluation make of it.

    `yes` is the class (0 or 1) that affirms; `metric` names the figure by which the task is judged, for GLUE's the
    one that the paper reports ("accuracy", "mcc", or "accuracy_f1", the mean of accuracy and F1).
    The published scores, in percent, are the GLUE development-set figures of table 1 of the paper
    (None: not published); `coursework` is the accuracy of the student project this one follows.
    """

    title: str
    yes: int
    metric: str
    published_distilbert: float | None = None
    published_bert: float | None = None
    coursework: float | None = None
    coursework_direct: float | None = None


TASKS = {
    task.name: task
    for task in (
        Task(
            name="sst2",
            title="SST-2",
            columns=("sentence",),
            label_names=("negative", "positive"),
            yes=1,
            metric="accuracy",
            published_distilbert=91.3,
            published_bert=92.7,
            coursework=90.5,
            coursework_direct=90.5,
        ),
        Task(
            name="mrpc",
            title="MRPC",
            columns=("sentence1", "sentence2"),
            label_names=("not_equivalent", "equivalent"),
            yes=1,
            metric="accuracy_f1",
            published_distilbert=87.5,
            published_bert=88.6,
            coursework=74.5,
            coursework_direct=69.4,
        ),
        Task(
            name="qqp",
            title="QQP",
            columns=("question1", "question2"),
            label_names=("not_duplicate", "duplicate"),
            yes=1,
            metric="accuracy_f1",
            published_distilbert=88.5,
            published_bert=89.6,
            coursework=86.1,
            coursework_direct=79.6,
        ),
        Task(
            name="cola",
            title="CoLA",
            columns=("sentence",),
            label_names=("unacceptable", "acceptable"),
            yes=1,
            metric="mcc",
            published_distilbert=51.3,
            published_bert=56.3,
            coursework=70.2,
            coursework_direct=69.8,
        ),
        Task(
            name="rte",
            title="RTE",
            columns=("sentence1", "sentence2"),
            label_names=("entailment", "not_entailment"),
            yes=0,
            metric="accuracy",
            published_distilbert=59.9,
            published_bert=69.3,
            coursework=56.0,
            coursework_direct=47.7,
        ),
    )
}

# Rows of GLUE's own files: (train, dev). QQP is counted in its newest release, QQP-clean.zip; its first had three
# training pairs more (tensorflow/datasets#3031).
OFFICIAL_ROWS = {
    "sst2": {"train": 67_349, "validation": 872},
    "mrpc": {"train": 3_668, "validation": 408},
    "qqp": {"train": 363_846, "validation": 40_430},
    "cola": {"train": 8_551, "validation": 1_043},
    "rte": {"train": 2_490, "validation": 277},
}

# How a fine-tuned model came about, in the order in which tables and figures show it.
APPROACHES = {
    "teacher": "Teacher, fine-tuned",
    "pretrained": "Student, pretrained",
    "direct": "Student, direct distillation",
    "scratch": "Student, not pretrained",
}

METRIC_TITLES = {"accuracy": "accuracy", "mcc": "MCC", "accuracy_f1": "mean of accuracy and F1"}


def get_task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        ValueError: no such task; the message lists those that exist.
    """
    if name not in TASKS:
        raise ValueError(f"tasks: no task {name!r}; choose from {', '.join(TASKS)}")
    return TASKS[name]


def choose_tasks(names: list[str], custom: dict[str, dict]) -> dict[str, Task]:
    """Return {name: task} in the order of the names, of GLUE's tasks and the user's own.

    custom: the section `tasks.custom` of the config: the user's own tasks by name.

    Raises:
        ValueError: a name is no task's, or two; or a task's column or file is to be two things. The message names it.
    """
    own = {name: _own_task(name, description) for name, description in custom.items()}
    if taken := sorted(own.keys() & TASKS.keys()):
        raise ValueError(f"tasks.custom: {taken[0]} is a task of GLUE; give yours another name")
    tasks = TASKS | own
    if unknown := [name for name in names if name not in tasks]:
        raise ValueError(
            f"tasks.names: no task {unknown[0]!r}; choose from {', '.join(tasks)}, or describe it in tasks.custom"
        )
    return {name: tasks[name] for name in names}


def _own_task(name: str, description: dict) -> Task:
    if description["label_column"] in description["columns"]:
        raise ValueError(f"tasks.custom.{name}: {description['label_column']} is a column of text and of labels")
    if description["train"] == description["test"]:
        raise ValueError(f"tasks.custom.{name}: train and test are the same file, {description['test']}")
    return Task(
        name=name,
        title=description["title"] or name,
        columns=tuple(description["columns"]),
        label_column=description["label_column"],
        label_names=tuple(description["label_names"]),
        yes=description["yes_class"],
        metric=description["metric"],
    )
