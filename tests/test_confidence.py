"""Confidence: the bootstrap's figures are those of the drawn examples, and its intervals hold what they promise."""

import numpy as np
import pytest

from distilbert import confidence
from distilbert.confidence import accuracy_interval, interval, resampled_figures, wilson_interval
from distilbert.metrics import measure


def random_case(n: int, *, models: int = 3, accuracy: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    return np.where(generator.random((models, n)) < accuracy, labels, 1 - labels), labels


def test_each_replicate_has_the_figures_of_its_drawn_examples():
    """Accuracy, F1 and MCC of every model and replicate are those that `metrics` finds on the same draw."""
    predicted, labels = random_case(40)
    predicted[2] = 1  # a model that always says the same: its MCC is undefined, and 0
    found = resampled_figures(predicted, labels, seed=7, replicates=25)
    generator = np.random.default_rng(7)
    for replicate in range(25):
        rows = generator.integers(40, size=40)
        for model, classes in enumerate(predicted):
            expected = measure(np.eye(2)[classes[rows]], labels[rows])
            for name, values in found.items():
                assert values.shape == (25, 3)
                assert values[replicate, model] == pytest.approx(expected[name]), name


def test_chunks_change_nothing(monkeypatch):
    """The replicates are the same whether they are drawn all at once or a few at a time."""
    predicted, labels = random_case(30)
    whole = resampled_figures(predicted, labels, seed=[1, 2], replicates=20)
    monkeypatch.setattr(confidence, "CHUNK", 90)
    parts = resampled_figures(predicted, labels, seed=[1, 2], replicates=20)
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_the_interval_of_an_accuracy_is_about_wilsons():
    """Over 600 examples the bootstrap's ends lie within a point of the formula's."""
    predicted, labels = random_case(600, models=1)
    accuracy = float((predicted[0] == labels).mean())
    found = accuracy_interval(resampled_figures(predicted, labels, seed=1)["accuracy"][:, 0], accuracy, 600)
    assert found == pytest.approx(wilson_interval(accuracy, 600), abs=0.01)


def test_nine_in_ten_intervals_hold_the_truth():
    """Of 200 test sets, the 95 % interval of the MCC covers its true value about as often as it says."""
    truth = 0.6  # of a model that is right on 80 % of either class, the classes being as frequent
    covered = 0
    for seed in range(200):
        predicted, labels = random_case(200, models=1, seed=seed)
        low, high = interval(resampled_figures(predicted, labels, seed=seed, replicates=200)["mcc"][:, 0])
        covered += low <= truth <= high
    assert 178 <= covered <= 198


def test_models_are_compared_on_the_same_draws():
    """Two models that always agree differ by nothing in every replicate, though each has an interval."""
    predicted, labels = random_case(100, models=1)
    figures = resampled_figures(np.vstack([predicted, predicted]), labels, seed=1)["accuracy"]
    assert np.array_equal(figures[:, 0], figures[:, 1])
    low, high = interval(figures[:, 0])
    assert low < high


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_where_every_answer_is_alike_the_interval_is_wilsons(accuracy):
    """All right or all wrong: every draw gives the same, and ten examples are no proof."""
    low, high = accuracy_interval(np.full(50, accuracy), accuracy, 10)
    assert (low, high) == wilson_interval(accuracy, 10)
    assert high - low > 0.2


def test_the_wilson_interval_has_its_known_values():
    """50 of 100 right: 0.4038 to 0.5962; 10 of 10: 0.7225 to 1, never beyond 1."""
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = wilson_interval(1.0, 10)
    assert low == pytest.approx(0.7225, abs=1e-4)
    assert high == pytest.approx(1.0)
    assert high <= 1 + 1e-12
