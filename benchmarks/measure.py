"""What the benchmarks share: interleaved repeats, medians, ratios, the machine's own limit, a table and a JSON.

Machines are shared and noisy. So ways are compared within one run: every repeat runs each way once, in turn, and a
ratio of two ways is the median of the ratios within the repeats.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from distilbert.runlog import git_commit, machine

ROOT = Path(__file__).resolve().parent.parent


def interleave(
    ways: dict[str, Callable[[], object]],
    *,
    repeats: int,
    warmups: int = 1,
    synchronize: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Return the seconds of each way in each repeat; the ways take turns.

    synchronize: waits for a device, such as `torch.cuda.synchronize`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-warmups, repeats):
        for name, way in ways.items():
            synchronize()
            started = time.perf_counter()
            way()
            synchronize()
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def rows_of(seconds: dict[str, list[float]], *, work: float, unit: str, peers: tuple[str, ...]) -> list[dict]:
    """Return one row of a table for each way: median seconds, work per second, and how many times faster than peers.

    work: how much each way does, in `unit`, such as tokens without pads. peers: ways that the others are compared to.
    """
    rows = []
    for name, times in seconds.items():
        row = {"way": name, "seconds": significant(statistics.median(times))}
        row[f"{unit}_per_second"] = significant(work / statistics.median(times))
        for peer in peers:
            ratios = [theirs / ours for ours, theirs in zip(times, seconds[peer], strict=True)]
            row[f"times_{peer}"] = round(statistics.median(ratios), 2)
        row["slowest_to_fastest"] = round(max(times) / min(times), 2)
        rows.append(row)
    return rows


def significant(value: float) -> float | int:
    """Return a figure with four digits, a whole number where it has as many before the point."""
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")


def matmul_peak(device: str = "cpu", dtype: str = "float32", *, size: int = 2048, repeats: int = 10) -> float:
    """Return the FLOP/s of the fastest of some products of two square matrices: what this machine can reach."""
    import torch

    left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds = interleave({"matmul": lambda: left @ right}, repeats=repeats, warmups=3, synchronize=synchronize)
    return 2 * size**3 / min(seconds["matmul"])


def peak_megabytes(arguments: list[str]) -> float:
    """Return the peak resident memory of `python arguments...` and what it starts, in MB (of 10^6 bytes)."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(arguments)}: exit status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024 / 1e6


def record(**figures) -> dict:
    """Return figures with what they were measured on: machine, threads, versions, commit, command."""
    torch = sys.modules.get("torch")
    return {
        **figures,
        "machine": machine(),
        "threads": torch.get_num_threads() if torch else 1,
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers", "datasets")},
        "git_commit": git_commit(),
        "command": " ".join(["python", *sys.argv]).replace(f"{ROOT}{os.sep}", ""),
    }


def print_table(rows: list[dict]) -> None:
    """Print rows that share their keys as an aligned table."""
    keys = list(rows[0])
    cells = [keys] + [[f"{row[key]:,}" if not isinstance(row[key], str) else row[key] for key in keys] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def write(path: Path | None, figures: dict) -> None:
    """Write figures as JSON, if there is a path."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n")
