"""What a whole pretraining costs: hours on several machines, with more processes, and with larger models.

    PYTHONPATH=workflow/scripts python benchmarks/cost.py --measured pretraining.json --json FILE

Nothing is run. Each figure says whether it was computed, from a device's published peak and an assumed share of it, or
measured, from the tokens per second of `--measured`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import measure
import numpy as np
import workload

from distilbert.costs import ASSUMED_SHARE
from distilbert.flops import gpu_peak
from distilbert.model import student_config

GPUS = {"H100 SXM": "H100", "A100": "A100", "RTX 4070, 12 GB": "RTX 4070"}
PEAKS = {title: gpu_peak(name, "bfloat16") for title, name in GPUS.items()}
# The student project: 5.17 million first windows of 128 slots, some of them pads.
SLOTS, WINDOW = 661e6, 128
# All of English Wikipedia in 6.46 million articles; those at hand have 17 million word pieces in 51,485.
WIKIPEDIA_TOKENS = 6.46e6 * 17e6 / 51_485
# Bytes per second that each GPU sends in an all-reduce.
LINKS = {"NVLink of an H100": 450e9, "PCIe 4.0 x16": 25e9, "100 Gbit/s Ethernet": 12e9}
# Sequences of a step: the paper's and the student project's.
STEPS = (4000, 32)


def main() -> None:
    """Print three tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measured", type=Path, required=True, help="what benchmarks/pretraining.py wrote at full size"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured = json.loads(arguments.measured.read_text(encoding="utf-8"))
    tables = {"hours": hours(measured), "processes": processes(), "models": models()}
    for rows in tables.values():
        measure.print_table(rows)
        print()
    measure.write(arguments.json, {"assumed_percent_of_peak": 100 * ASSUMED_SHARE, **tables})


def hours(measured: dict) -> list[dict]:
    """Return what two runs take on each machine; pads are not computed, so that they cost nothing."""
    counts = np.array(workload.LENGTHS["wikipedia"])
    fill = np.average(np.arange(len(counts)), weights=counts) / WINDOW
    runs = {"the student project's epoch": SLOTS * fill, "3 epochs of all of Wikipedia": 3 * WIKIPEDIA_TOKENS}
    flops = pretraining_flops(workload.size_of("full"))
    rates = {name: (peak * ASSUMED_SHARE / flops, "computed") for name, peak in PEAKS.items()}
    [ours] = [row for row in measured["rows"] if row["way"] == "ours"]
    rates[measured["machine"]] = (ours["tokens_per_second"], "measured")
    return [
        {
            "run": run,
            "million_tokens": round(tokens / 1e6),
            "machine": machine,
            "tokens_per_second": round(rate),
            "hours": round(tokens / rate / 3600, 1),
            "rate_is": basis,
        }
        for run, tokens in runs.items()
        for machine, (rate, basis) in rates.items()
    ]


def processes() -> list[dict]:
    """Return the speed-up by more GPUs: a step is shared, then all gradients are summed, nothing overlapping.

    A ring all-reduce of G bytes among n sends 2 (n - 1) / n G from each (Patarasuk & Yuan 2009).
    """
    size = workload.size_of("full")
    gradient_bytes = 4 * num_parameters(size)
    rows = []
    for sequences in STEPS:
        alone = sequences * WINDOW * pretraining_flops(size) / (PEAKS["H100 SXM"] * ASSUMED_SHARE)
        for link, bytes_per_second in LINKS.items():
            row = {"sequences_per_step": sequences, "link": link, "step_milliseconds_on_1": round(1000 * alone, 1)}
            for count in (2, 4, 8):
                exchange = 2 * (count - 1) / count * gradient_bytes / bytes_per_second
                row[f"speedup_on_{count}"] = round(alone / (alone / count + exchange), 2)
            rows.append({**row, "rate_is": "computed"})
    return rows


def models() -> list[dict]:
    """Return the FLOPs of a token for other teachers, each with a student of half its layers."""
    base = workload.BERT_BASE
    shapes = {
        "MiniLM's encoder": replace(base, hidden_size=384, num_layers=6, intermediate_size=1536),
        "BERT-base": base,
        "BERT-large": replace(base, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096),
    }
    rows = []
    for name, teacher in shapes.items():
        student = student_config(teacher, num_layers=teacher.num_layers // 2)
        flops = pretraining_flops(workload.Size(name, teacher, student, workload.BERT_VOCABULARY, {}))
        row = {"teacher": name, "layers": teacher.num_layers, "hidden": teacher.hidden_size}
        rows.append({**row, "megaflops_per_token": round(flops / 1e6), "rate_is": "computed"})
    return rows


def pretraining_flops(size: workload.Size) -> float:
    """Return the FLOPs of a token of a full window: the student's three times, for its gradient too."""
    window = np.array([WINDOW])
    student = 3 * workload.flops(size.student, window, vocabulary_head=True)
    return (student + workload.flops(size.teacher, window, vocabulary_head=True)) / WINDOW


def num_parameters(size: workload.Size) -> int:
    """Return how many parameters the student has."""
    import torch

    from distilbert.model import MaskedLM

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in MaskedLM(size.student).parameters())


if __name__ == "__main__":
    main()
