"""Efficiency: ratios are taken within a round, words say what the figures say, examples stand for their set."""

import itertools
import time

import numpy as np
import pytest
import torch

from distilbert import efficiency, timing
from distilbert.efficiency import gains, how_measured, row, shown, title
from distilbert.model import SequenceClassifier, student_config
from distilbert.task_objectives import labelled_micro_batches


def rows(*, latency: tuple[list, list], parameters: tuple[int, int] = (100, 60)) -> list[dict]:
    """Return a table of parameters and of the latency on a CPU and a GPU."""
    how = {"threads": 1, "precision": "float32", "examples": 4, "rounds": 3}
    on_gpu, on_cpu = ({"device": device, "machine": f"some {device}", **how} for device in ("cuda", "cpu"))
    times = [np.array(values) for values in latency]
    return [
        row("parameters", *parameters),
        row("latency", *times[::-1], **on_gpu),
        row("throughput", *times[::-1], **on_gpu),
        row("latency", *times, **on_cpu),
        row("throughput", *times, **on_cpu),
    ]


def test_a_ratio_is_of_the_same_round():
    """A round that was slow for both leaves the ratio as it is."""
    measured = row("latency", np.array([2.0, 200.0, 2.0, 4.0]), np.array([1.0, 100.0, 1.0, 2.0]))
    assert (measured["ratio_low"], measured["ratio"], measured["ratio_high"]) == (0.5, 0.5, 0.5)
    assert (measured["teacher"], measured["teacher_low"]) == (3.0, 2.0)


def test_a_figure_that_is_always_the_same_has_no_spread():
    """Sizes are counted once."""
    measured = row("parameters", 110, 66)
    assert (measured["ratio"], measured["ratio_low"], measured["teacher_high"]) == (pytest.approx(0.6), None, None)


@pytest.mark.parametrize(
    "latency,parameters,words",
    [
        (([1.6, 1.6], [1.0, 1.0]), (110, 66), "40 % smaller and 60 % faster"),
        (([1.0, 1.0], [1.25, 1.25]), (100, 150), "50 % larger and 20 % slower"),
    ],
)
def test_the_gains_are_the_papers_way_of_saying_it(latency, parameters, words):
    """Fewer parameters of the teacher's, and more examples in the same time on the CPU, whatever the GPU did."""
    kept = {"retention": 0.9712}
    assert gains(rows(latency=latency, parameters=parameters), {"retention": None}) == f"{words} than its teacher"
    assert gains(rows(latency=latency, parameters=parameters), kept).endswith("teacher and keeps 97.1 % of its score")


def test_figures_are_shown_in_the_unit_of_their_title():
    """Parameters in millions; a ratio as it is."""
    counted = row("parameters", 110_000_000, 66_000_000)
    assert title(counted) == "Parameters (million)"
    assert shown(counted, "teacher") == (110.0, None, None)
    assert shown(counted, "ratio") == (pytest.approx(0.6), None, None)
    assert title(rows(latency=([1.0], [1.0]))[1]) == "GPU: Latency, one example at a time (ms)"


def test_it_is_said_how_it_was_measured():
    """A sentence for each device."""
    text = how_measured(rows(latency=([1.0], [1.0])))
    assert "GPU: some cuda, float32; 4 examples one at a time in 3 rounds" in text
    assert "CPU: some cpu, 1 thread, float32" in text


@pytest.mark.parametrize("count", [1, 7, 60, 100])
def test_chosen_examples_have_the_lengths_of_their_set(make_shards, count):
    """So many, each once, sorted by length, their mean length near that of all; one alone is of middling length."""
    examples = make_shards(60, labelled=True)
    chosen = timing.spread_rows(examples, count)
    assert len(set(chosen)) == len(chosen) == min(count, 60)
    lengths = examples.lengths[chosen]
    assert (np.diff(lengths) >= 0).all()
    assert abs(lengths.mean() - examples.lengths.mean()) < 2.5


def test_models_take_turns(make_shards, bert_config):
    """Each batch goes through both models, every other round in reverse order; the first round is not counted."""
    examples = make_shards(4, labelled=True)
    models = [SequenceClassifier(student_config(bert_config, num_layers=layers)) for layers in (1, 2)]
    calls = []
    for model in models:
        model.register_forward_hook(lambda module, *_: calls.append(module.config.num_layers))
    batches = [
        batch
        for row in range(2)
        for batch in labelled_micro_batches(examples, np.array([row]), 1000, torch.device("cpu"))
    ]
    times = timing.time_in_turns(models, batches, seconds=0, min_rounds=2, clock=time.process_time)
    assert calls == [1, 2, 1, 2, 2, 1, 2, 1, 1, 2, 1, 2]
    assert times.shape == (2, 2)
    assert (times > 0).all()
    assert not models[0].training


def test_rounds_go_on_until_the_time_is_up(make_shards, bert_config):
    """With a clock that takes a second a look, more rounds than the least that are asked for, each of its batches."""
    clock = itertools.count()
    batches = list(labelled_micro_batches(make_shards(2, labelled=True), np.arange(2), 1000, torch.device("cpu")))
    models = [SequenceClassifier(student_config(bert_config, num_layers=1))]
    times = timing.time_in_turns(models, batches * 3, seconds=50, min_rounds=2, clock=lambda: float(next(clock)))
    assert 2 < times.shape[1] < 20
    assert set(times[0]) == {3.0}


def test_every_measure_has_a_title():
    """What `measure_efficiency` writes can be shown."""
    assert set(efficiency.MEASURES) == {"parameters", "parameters_without_embeddings", "file", "latency", "throughput"}
