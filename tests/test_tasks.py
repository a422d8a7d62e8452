"""Tasks: GLUE's own columns and labels, the user's own beside them, and a message for a name that does not exist."""

import pytest

from distilbert.tasks import METRIC_TITLES, TASKS, Task, choose_tasks, get_task

# As the GLUE data set defines them: text columns, names of class 0 and class 1, the class that affirms.
GLUE = {
    "sst2": (("sentence",), ("negative", "positive"), 1),
    "mrpc": (("sentence1", "sentence2"), ("not_equivalent", "equivalent"), 1),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), 1),
    "cola": (("sentence",), ("unacceptable", "acceptable"), 1),
    "rte": (("sentence1", "sentence2"), ("entailment", "not_entailment"), 0),
}


def test_the_tasks_are_the_five():
    """SST-2, MRPC, QQP, CoLA and RTE, in the order of the tables."""
    assert list(TASKS) == list(GLUE)


@pytest.mark.parametrize("name", GLUE)
def test_columns_labels_and_yes_are_those_of_glue(name):
    """Each task has GLUE's columns, GLUE's order of labels, and the class that affirms."""
    task = get_task(name)
    assert (task.columns, task.label_names, task.yes) == GLUE[name]
    assert task.name == name
    assert task.metric in METRIC_TITLES


def test_an_unknown_task_lists_the_choices():
    """The message names what was asked for and all that exists."""
    with pytest.raises(ValueError, match="no task 'mnli'; choose from sst2, mrpc, qqp, cola, rte"):
        get_task("mnli")


# The section of one task in tasks.custom, as the schema lets it pass.
REVIEWS = {
    "title": None,
    "columns": ["text"],
    "label_column": "stars",
    "label_names": ["bad", "good"],
    "yes_class": 0,
    "metric": "mcc",
    "train": "a.csv",
    "test": "b.csv",
}


def test_own_tasks_stand_beside_those_of_glue():
    """The tasks come in the order of the names; an own one says what its section says, and has no published score."""
    chosen = choose_tasks(["reviews", "sst2"], {"reviews": REVIEWS, "unused": REVIEWS | {"title": "Unused"}})
    assert list(chosen) == ["reviews", "sst2"]
    assert chosen["sst2"] is TASKS["sst2"]
    assert chosen["reviews"] == Task(
        name="reviews",
        title="reviews",
        columns=("text",),
        label_column="stars",
        label_names=("bad", "good"),
        yes=0,
        metric="mcc",
    )
    assert chosen["reviews"].published_distilbert is None
    assert choose_tasks(["unused"], {"unused": REVIEWS | {"title": "Unused"}})["unused"].title == "Unused"


@pytest.mark.parametrize(
    "names,custom,message",
    [
        (["mnli"], {}, "tasks.names: no task 'mnli'; choose from sst2, mrpc, qqp, cola, rte, or describe it in"),
        (["sst2", "review"], {"reviews": REVIEWS}, "no task 'review'; choose from sst2, mrpc, qqp, cola, rte, reviews"),
        (["sst2"], {"sst2": REVIEWS}, "tasks.custom: sst2 is a task of GLUE; give yours another name"),
        (["a"], {"a": REVIEWS | {"label_column": "text"}}, "tasks.custom.a: text is a column of text and of labels"),
        (["a"], {"a": REVIEWS | {"test": "a.csv"}}, "tasks.custom.a: train and test are the same file, a.csv"),
    ],
)
def test_a_task_that_cannot_be_is_refused_by_its_key(names, custom, message):
    """An unknown name, one of GLUE's, a column or a file that is to be two things: the message names key and value."""
    with pytest.raises(ValueError) as caught:
        choose_tasks(names, custom)
    assert message in str(caught.value)
