"""Evaluation: every figure is scikit-learn's, and classes are translated between tasks by what they say."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef

from distilbert.evaluation import majority_accuracy, translate_logits
from distilbert.metrics import measure, task_metric
from distilbert.tasks import TASKS


def random_case(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return 4 * generator.standard_normal((n, 2)), generator.integers(0, 2, n)


ALWAYS_0, ALWAYS_1 = np.tile([3.0, -2.0], (10, 1)), np.tile([-1.0, 0.5], (10, 1))
HALF = np.arange(10) % 2
CASES = {
    "random 1": random_case(1),
    "random 2": random_case(2, 1000),
    "one example": (np.array([[0.2, 0.1]]), np.array([1])),
    "always 0": (ALWAYS_0, HALF),
    "always 1": (ALWAYS_1, HALF),
    "all wrong": (ALWAYS_0, np.ones(10, int)),
    "all right, one class": (ALWAYS_0, np.zeros(10, int)),
    "all right, two classes": (np.where(HALF[:, None] == [0, 1], 5.0, -5.0), HALF),
    "large logits": (np.array([[80.0, -80.0], [-80.0, 80.0]]), np.array([1, 1])),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_the_figures_are_those_of_scikit_learn(case):
    """n, accuracy, F1, MCC and loss agree with scikit-learn, degenerate predictions included."""
    logits, labels = CASES[case]
    figures = measure(logits, labels)
    predicted = logits.argmax(axis=1)
    assert figures["n"] == len(labels)
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert figures["f1"] == pytest.approx(f1_score(labels, predicted, zero_division=0))
    assert figures["mcc"] == pytest.approx(matthews_corrcoef(labels, predicted))
    if case == "large logits":  # scikit-learn clips what the logarithm of a probability cannot hold
        assert figures["loss"] == pytest.approx(80.0)
    else:
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert figures["loss"] == pytest.approx(log_loss(labels, probabilities, labels=[0, 1]))


def test_unsigned_labels_are_measured_as_integers():
    """Labels as shards hold them (uint8) give the same figures as int64."""
    logits, labels = random_case(3)
    assert measure(logits.astype(np.float32), labels.astype(np.uint8)) == pytest.approx(measure(logits, labels))


@pytest.mark.parametrize("logits,labels", [((0, 2), 0), ((3, 2), 4), ((3, 3), 3)])
def test_wrong_shapes_are_refused(logits, labels):
    """No example, another number of labels, or a third class: an error, never a figure."""
    with pytest.raises(ValueError, match="metrics"):
        measure(np.zeros(logits), np.zeros(labels, int))


def test_majority_accuracy_is_the_share_of_the_larger_class():
    """Either class may be the larger one."""
    assert majority_accuracy(np.array([1, 1, 1, 0], np.uint8)) == 0.75
    assert majority_accuracy(np.array([0, 0, 0, 0, 1], np.uint8)) == pytest.approx(0.8)
    assert majority_accuracy(np.zeros(3, np.uint8)) == 1.0


@pytest.mark.parametrize("name,expected", [("sst2", 0.8), ("rte", 0.8), ("cola", 0.3), ("mrpc", 0.85), ("qqp", 0.85)])
def test_each_task_is_scored_by_the_papers_metric(name, expected):
    """Accuracy for SST-2 and RTE, MCC for CoLA, the mean of accuracy and F1 for MRPC and QQP."""
    assert task_metric({"accuracy": 0.8, "f1": 0.9, "mcc": 0.3}, TASKS[name].metric) == pytest.approx(expected)


def test_equivalent_is_read_as_entailment_and_back():
    """A model that always says "equivalent" (MRPC 1) always says "entailment" (RTE 0), and the other way round."""
    mrpc, rte = TASKS["mrpc"].yes, TASKS["rte"].yes
    says_equivalent = np.tile([-1.0, 2.0], (4, 1))
    on_rte = translate_logits(says_equivalent, trained_yes=mrpc, evaluated_yes=rte)
    assert measure(on_rte, np.zeros(4))["accuracy"] == 1.0
    says_entailment = np.tile([2.0, -1.0], (4, 1))
    on_mrpc = translate_logits(says_entailment, trained_yes=rte, evaluated_yes=mrpc)
    assert measure(on_mrpc, np.ones(4))["accuracy"] == 1.0


def test_tasks_with_the_same_yes_need_no_translation():
    """Between tasks whose yes is class 1, and of a task on itself, logits stay as they are."""
    logits, _ = random_case(1)
    for trained_on, evaluated_on in (("sst2", "cola"), ("mrpc", "qqp"), ("rte", "rte")):
        translated = translate_logits(logits, trained_yes=TASKS[trained_on].yes, evaluated_yes=TASKS[evaluated_on].yes)
        assert np.array_equal(translated, logits)


@pytest.mark.parametrize("trained_on", TASKS)
@pytest.mark.parametrize("evaluated_on", TASKS)
def test_yes_stays_yes(trained_on, evaluated_on):
    """What says yes in the classes of one task says yes in those of every other."""
    tasks = {"trained_yes": TASKS[trained_on].yes, "evaluated_yes": TASKS[evaluated_on].yes}
    logits, _ = random_case(4, 20)
    says_yes = logits.argmax(axis=1) == TASKS[trained_on].yes
    translated = translate_logits(logits, **tasks).argmax(axis=1)
    assert np.array_equal(translated == TASKS[evaluated_on].yes, says_yes)


def test_the_loss_is_finite_where_a_probability_underflows():
    """A confident wrong answer costs its margin, not infinity."""
    assert math.isclose(measure(np.array([[2000.0, 0.0]]), np.array([1]))["loss"], 2000.0)
