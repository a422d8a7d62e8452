"""FLOPs: counted as by hand (test_objectives: as by PyTorch), and the bar shows their share of the device's peak."""

import io
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from test_training import CPU, Toy, train_toy

import distilbert.training
from distilbert import flops
from distilbert.device import peak_flops
from distilbert.flops import Shape, Utilization, gpu_peak

BERT_BASE = Shape(hidden=768, layers=12, intermediate=3072, vocabulary=30_522, positions=512)
DISTILBERT = Shape(hidden=768, layers=6, intermediate=3072, vocabulary=30_522, positions=512)


class Terminal(io.StringIO):
    """What stderr is for a job that was started by hand."""

    def isatty(self):
        return True


def test_a_token_costs_what_its_matrices_cost():
    """BERT-base and a student of half its layers, full windows of 128: 223 and 3 x 135 MFLOP (docs/performance.md)."""
    assert BERT_BASE.flops(128, head=True) == pytest.approx(223e6, rel=0.005)
    assert 3 * DISTILBERT.flops(128, head=True) == pytest.approx(406e6, rel=0.005)
    assert BERT_BASE.flops(128, head=False) == pytest.approx(12 * 14.5e6, rel=0.005)


def test_a_small_shape_by_hand():
    """Two layers of 4 units and 8 inner ones, 10 words, sequences of 3, of which every other token is read."""
    attention = 2 * 4 * 12 + 2 * 2 * 4 * 3  # queries, keys, values; scores and their sums
    rest = 2 * 4 * 4 + 2 * 2 * 4 * 8  # the way out of it, then in and out of the inner units
    head = 2 * 4 * 4 + 2 * 4 * 10
    shape = Shape(hidden=4, layers=2, intermediate=8, vocabulary=10, positions=5)
    assert shape.flops(3, head=True) == 2 * (attention + rest) + head
    assert shape.flops(3, head=True, read=0.5) == 2 * attention + 1.5 * rest + 0.5 * head
    assert shape.flops(3, head=False, read=0.5) == 2 * attention + 1.5 * rest


def test_models_are_as_large_as_published():
    """110 and 66 million parameters, of four bytes."""
    assert BERT_BASE.num_bytes() == pytest.approx(4 * 110e6, rel=0.01)
    assert DISTILBERT.num_bytes() == pytest.approx(4 * 66e6, rel=0.02)


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 80GB HBM3", "float32", None),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312e12),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16", None),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("Tesla T4", "float32", 8.1e12),
        ("NVIDIA T400", "float32", None),
        ("NVIDIA GeForce RTX 4070", "bfloat16", 58e12),
        ("NVIDIA GeForce RTX 4070 Ti", "bfloat16", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16", None),
    ],
)
def test_a_peak_is_that_gpu_and_that_precision_or_unknown(name, precision, peak):
    """A name that only begins alike, a part of a GPU and another precision have no peak."""
    assert gpu_peak(name, precision) == peak


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_peak_of_a_cpu_is_that_of_its_products(monkeypatch, precision):
    """A product of 2 * 1024^3 FLOP in an eighth of a CPU's second at best, by four threads."""
    seconds = iter([0, 1, 1, 1.125, 2, 4, 4, 8, 8, 16])
    monkeypatch.setattr(flops.time, "process_time", lambda: next(seconds))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert peak_flops(CPU, precision) == 4 * 8 * 2 * 1024**3


def test_the_share_of_the_peak_is_that_since_the_restart(monkeypatch):
    """20 FLOP in 4 seconds of a device that could do 50 a second: a tenth; then 10 in 2, after a pause."""
    now = iter([100.0, 104.0, 104.0, 200.0, 202.0, 202.0])
    monkeypatch.setattr(flops.time, "monotonic", lambda: next(now))
    utilization = Utilization(50.0)
    utilization.flops += 20
    assert utilization.take() == 0.1
    utilization.restart()
    utilization.flops += 10
    assert utilization.take() == 0.1


class Costly(Toy):
    """The toy objective, of which each row takes a GFLOP."""

    def flops(self, model, batch):
        return 1e9 * len(batch.rows)


def shown(monkeypatch, peak, **settings) -> tuple[str, list[dict]]:
    """Train on a terminal whose device has a peak; return the last state of the bar and the history."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(distilbert.training, "peak_flops", lambda device, precision: peak)
    result, _ = train_toy(**{"objective": Costly(), **settings})
    return sys.stderr.getvalue().split("\r")[-1], result.history


def test_the_bar_shows_the_share_of_the_peak(monkeypatch):
    """Micro-batches of a GFLOP that take a second each, of a device that could do ten; validations do not count."""
    seconds = 0.0

    def wait(more: float) -> None:
        nonlocal seconds
        seconds += more

    class Slow(Costly):
        def losses(self, model, batch):
            wait(1)
            return super().losses(model, batch)

    def validate(model):
        wait(100)
        return {"x": 0.0}

    monkeypatch.setattr(flops, "time", SimpleNamespace(monotonic=lambda: seconds))
    bar, _ = shown(monkeypatch, 10e9, objective=Slow(), validate=validate, log_every=4)  # validated between two entries
    assert re.search(r"30/30 .*loss=[\d.]+, tokens/s=[\d,]+, MFU=10\.0%", bar), bar


def test_no_peak_no_share(monkeypatch):
    """A device of which nothing is known: loss and tokens a second alone."""
    bar, _ = shown(monkeypatch, None)
    assert "tokens/s=" in bar
    assert "MFU" not in bar


def test_without_a_terminal_nothing_is_measured(monkeypatch):
    """No bar, no peak; the history is the same with and without, so nothing of it is kept."""

    def must_not(*args):
        raise AssertionError("measured for nobody")

    _, watched = shown(monkeypatch, 1e12)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(distilbert.training, "peak_flops", must_not)
    result, _ = train_toy(objective=Costly())
    assert result.history == watched
    assert sys.stderr.getvalue() == ""
