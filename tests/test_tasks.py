"""Tasks: GLUE's own columns and labels, and a message for a name that does not exist."""

import pytest

from distilbert.tasks import METRIC_TITLES, TASKS, get_task

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
