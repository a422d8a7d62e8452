"""Runlog: a step is called with what its rule says, and only with the source that its record names."""

import pytest

from distilbert import digest, runlog


def test_params_become_nested_settings_and_a_code_digest():
    """Dotted keys become sections, values are JSON that may hold "=" and braces, code lines come out sorted."""
    params = [
        "seed=1",
        "training.learning_rate=0.0005",
        "training.betas.second=0.98",
        'data="a = {b}"',
        "layers=[0, 2]",
        "model=null",
        "code pretrain=bb",
        "code distilbert.losses=aa",
    ]
    settings, code = runlog.read_params(params)
    assert settings == {
        "seed": 1,
        "training": {"learning_rate": 0.0005, "betas": {"second": 0.98}},
        "data": "a = {b}",
        "layers": [0, 2],
        "model": None,
    }
    assert code == "distilbert.losses=aa\npretrain=bb"


def test_an_edited_module_is_refused_by_name():
    """A step whose source is no longer what Snakemake read does not run; the module is named."""
    code = runlog.code_digest(runlog.STEPS / "plot_accuracy.py")
    runlog.require_same_code("plot_accuracy", code)
    before = "\n".join("distilbert.plotting=0123456789ab" if "plotting" in line else line for line in code.splitlines())
    with pytest.raises(RuntimeError, match=r"^distilbert\.plotting: edited while Snakemake was running"):
        runlog.require_same_code("plot_accuracy", before)


def test_announced_sources_are_not_parsed_again(monkeypatch):
    """Where not a byte has changed since Snakemake read the sources, a job starts without reading their syntax."""
    monkeypatch.setenv(digest.VARIABLE, "")  # restored at the end
    digest.announce(runlog.STEPS)
    monkeypatch.setattr(runlog, "code_digest", None)
    runlog.require_same_code("plot_accuracy", "any")
    monkeypatch.setenv(digest.VARIABLE, "of other bytes")
    with pytest.raises(TypeError):
        runlog.require_same_code("plot_accuracy", "any")
