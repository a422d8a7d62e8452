"""The whole demo in a copy of this repository: how long it takes, and how much of that is computing.

    PYTHONPATH=workflow/scripts python benchmarks/pipeline.py --json FILE

Computing is what happens inside the loops of training and scoring, by the clocks of the steps themselves: seconds times
threads of the job. The share of it is that of all core-seconds, the run's seconds times its cores. The rest is start-up
of Snakemake, jobs and interpreters, data, files, figures, and cores without a job.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import torch  # noqa: F401  its threads stand in the record
import workload

from distilbert.files import read_json


def main() -> None:
    """Run the demo, print where its core-seconds went, and write that with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "repository"
        copy_repository(folder)
        seconds, cpu_seconds = run([sys.executable, "-m", "snakemake", "--cores", str(arguments.cores)], folder)
        rows = core_seconds_of_loops(folder / "results")
    in_all = seconds * arguments.cores
    rows.append({"loop": "in all", "models": sum(row["models"] for row in rows)})
    rows[-1]["core_seconds"] = round(sum(row["core_seconds"] for row in rows[:-1]), 1)
    for row in rows:
        row["percent_of_core_seconds"] = round(100 * row["core_seconds"] / in_all, 1)
    measure.print_table(rows)
    print(f"{seconds:.0f} seconds on {arguments.cores} cores, {cpu_seconds:.0f} CPU seconds")
    figures = measure.record(
        cores=arguments.cores,
        seconds=round(seconds, 1),
        cpu_seconds=round(cpu_seconds, 1),
        percent_computing=rows[-1]["percent_of_core_seconds"],
        rows=rows,
    )
    measure.write(arguments.json, figures)


def copy_repository(folder: Path) -> None:
    """Copy every file that git tracks, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=workload.ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.rstrip("\0").split("\0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(workload.ROOT / name, folder / name)


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Return the wall seconds of a command, and the CPU seconds of all that it started; what it says goes to a file.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    said = folder.parent / "said.txt"
    started = time.perf_counter()
    with said.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{said.read_text()[-3000:]}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def core_seconds_of_loops(results: Path) -> list[dict]:
    """Return for each kind of loop how many models went through it, and seconds times threads inside it."""
    loops = {
        "train the teacher": ("teacher/metrics.json", "train_seconds"),
        "pretrain the student": ("student/pretrained/metrics.json", "train_seconds"),
        "fine-tune, distill directly": ("models/*/*/seed*/metrics.json", "train_seconds"),
        "score": ("predictions/*/*/seed*.json", "predict_seconds"),
    }
    rows = []
    for loop, (pattern, key) in loops.items():
        records = [read_json(path) for path in results.glob(pattern)]
        spent = [(record | record["provenance"])[key] * record["provenance"]["threads"] for record in records]
        rows.append({"loop": loop, "models": len(records), "core_seconds": round(sum(spent), 1)})
    return rows


if __name__ == "__main__":
    main()
