"""What Snakemake decided that each job reads and is told, for jobs that read Snakefile and settings anew elsewhere.

A cluster's job waits, and when its turn comes reads everything again on its own machine. What is recorded of it,
though, is what the Snakemake that asked for it had read. So that Snakemake writes its plan down, and a job that would
do anything else refuses: an edit made meanwhile cannot get into results that are recorded as made without it.
"""

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from distilbert.files import read_json, write_json

FILE = Path(".snakemake/distilbert-plan.json")
# Tells a job which run of Snakemake asked for it.
VARIABLE = "DISTILBERT_RUN"


def announce(jobs: Mapping[str, Iterable[str]]) -> None:
    """Write down, for each job by its first output, its inputs and params; name this run to its jobs."""
    os.environ[VARIABLE] = secrets.token_hex(8)
    write_json(FILE, {"run": os.environ[VARIABLE], "jobs": {output: sorted(lines) for output, lines in jobs.items()}})


def require_present_run() -> None:
    """Refuse to begin a job that a killed Snakemake had asked for, and that waited until another took over the folder.

    To be called before Snakemake deletes the job's outputs, which may be the other's by now.

    Raises:
        RuntimeError: it is such a job.
    """
    plan = _read()
    if plan and plan["run"] != os.environ[VARIABLE]:
        raise RuntimeError("the Snakemake that asked for this job is gone, and another has worked here since")


def require_as_decided(output: str, lines: Iterable[str]) -> None:
    """Refuse a job whose inputs and params (`lines`) are not those that were decided.

    Raises:
        RuntimeError: the message names the settings, modules or files.
    """
    plan = _read()
    if not plan:
        return
    differing = {*lines} ^ {*plan["jobs"].get(output, [])}
    if differing:
        names = sorted({line.split("=")[0] for line in differing})
        raise RuntimeError(f"{', '.join(names)}: edited while Snakemake was running; run it again")


def _read() -> dict | None:
    """Return the plan of this folder, None where there is none (pods share no folder) or no Snakemake asked."""
    if VARIABLE not in os.environ or not FILE.exists():
        return None
    return read_json(FILE)
