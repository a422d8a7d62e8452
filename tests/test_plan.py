"""Plan: a job that reads everything anew on another machine does what Snakemake had decided, or nothing."""

import os

import pytest

from distilbert import plan

JOBS = {"results/a.txt": ["corpus.txt", "seed=1", "code step=aa"], "results/b.txt": []}


@pytest.fixture(autouse=True)
def folder_without_a_run(tmp_path, monkeypatch):
    """Work in a folder of its own; a plan that is announced there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(plan.VARIABLE, "nobody")
    monkeypatch.delenv(plan.VARIABLE)


def test_a_job_as_decided_is_let_through():
    """The order of inputs and params does not matter."""
    plan.announce(JOBS)
    plan.require_present_run()
    plan.require_as_decided("results/a.txt", ["code step=aa", "seed=1", "corpus.txt"])
    plan.require_as_decided("results/b.txt", [])


@pytest.mark.parametrize(
    "lines,name",
    [
        (["corpus.txt", "seed=2", "code step=aa"], "seed"),
        (["corpus.txt", "seed=1", "code step=bb"], "code step"),
        (["corpus.txt", "more.txt", "seed=1", "code step=aa"], r"more\.txt"),
    ],
    ids=["setting", "module", "input"],
)
def test_another_job_than_decided_is_refused(lines, name):
    """What differs is named, once."""
    plan.announce(JOBS)
    with pytest.raises(RuntimeError, match=f"^{name}: edited while Snakemake was running"):
        plan.require_as_decided("results/a.txt", lines)


def test_a_job_of_an_earlier_run_is_refused(monkeypatch):
    """When another Snakemake has planned in this folder, what a former one had asked for does not begin."""
    plan.announce(JOBS)
    former = os.environ[plan.VARIABLE]
    plan.announce(JOBS)
    plan.require_present_run()
    monkeypatch.setenv(plan.VARIABLE, former)
    with pytest.raises(RuntimeError, match="is gone"):
        plan.require_present_run()


def test_without_a_plan_nothing_is_compared():
    """A step that runs by itself, or where the folder is not shared, is let through."""
    plan.require_present_run()
    plan.require_as_decided("results/a.txt", ["seed=7"])
