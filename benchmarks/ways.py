"""Ways to do a piece of work that take turns, each in a process of its own.

So no way pays for the memory, the threads or the settings of another, and each has its own peak of memory. A process
that waits for its turn sleeps.
"""

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import measure

# What workflow/rules/common.smk sets for every step. The peers' memory is managed as their users have it; their threads
# wait without spinning too, or whatever else this machine does would slow them and not us.
EVERYONES_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
OUR_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
OURS, PEERS = "ours", ("coursework", "huggingface")


class Way:
    """A process that builds what it needs, and then runs it when it is its turn.

    build: called there with `arguments`; returns an action that is called with the arguments of each turn and returns
        how much work it did. Both must be importable from a module.
    """

    def __init__(self, build: Callable, *arguments, environment: Mapping[str, str] | None = None):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        before = dict(os.environ)
        os.environ.update({**EVERYONES_ENVIRONMENT, **(environment or {})})
        try:
            self._process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()  # so that the end of the process is seen here
        self._is_ready = False

    def wait_until_ready(self) -> None:
        """Return when what the way needs is built."""
        if not self._is_ready:
            self._receive()
            self._is_ready = True

    def run(self, *arguments) -> "Turn":
        """Do the work once."""
        self.wait_until_ready()
        self._connection.send(arguments)
        return Turn(*self._receive())

    def end(self) -> float:
        """End the process and return its peak memory in MB (of 10^6 bytes): of the GPU, where it used one."""
        self._connection.send(None)
        megabytes = self._receive()
        self._process.join()
        return megabytes

    def _receive(self):
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"a way ended with exit status {self._process.exitcode}; its error stands above"
            ) from None


@dataclass(frozen=True)
class Turn:
    """What one turn took and did: seconds by the clock and of all its threads, and work in the unit of the way."""

    seconds: float
    cpu_seconds: float
    work: float


def _serve(connection, build: Callable, arguments: tuple) -> None:
    """Build, then run each turn that is asked for; the life of the process of a way."""
    action = build(*arguments)
    connection.send("ready")
    while (turn := connection.recv()) is not None:
        started, cpu_started = time.perf_counter(), time.process_time()
        work = action(*turn)
        _synchronize()
        connection.send((time.perf_counter() - started, time.process_time() - cpu_started, work))
    connection.send(_peak_megabytes())


def _synchronize() -> None:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_megabytes() -> float:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def build_matmul() -> Callable[[], float]:
    """Return what measures the FLOP/s of a large product of matrices in the precision that this device trains in."""
    from distilbert.device import choose_device, resolve_precision

    device = choose_device()
    return lambda: measure.matmul_peak(device.type, resolve_precision(device, "auto"), repeats=5)


def take_turns(
    builds: dict[str, tuple], turns: list[tuple], *, repeats: int, warmup: tuple | None = None
) -> tuple[dict[Hashable, list[Turn]], dict[str, float], float]:
    """Run ways in turn.

    Args:
        builds: name of a way -> its build function and the arguments of that.
        turns: what one repeat runs: (name of a way, arguments of its turn...).
        warmup: the arguments of a first turn of each way, which does not count.
    Returns:
        {turn: its repeats}, {way: peak memory in MB}, and the FLOP/s of the fastest product of matrices.
    """
    ways = {
        name: Way(build, *arguments, environment=OUR_ENVIRONMENT if name == OURS else None)
        for name, (build, *arguments) in builds.items()
    }
    matmul = Way(build_matmul)
    for way in (*ways.values(), matmul):
        way.wait_until_ready()
    if warmup is not None:
        for way in ways.values():
            way.run(*warmup)
    done: dict[Hashable, list[Turn]] = {turn: [] for turn in turns}
    peaks = []
    for _ in range(repeats):
        peaks.append(matmul.run().work)
        for turn in turns:
            name, *arguments = turn
            done[turn].append(ways[name].run(*arguments))
    matmul.end()
    return done, {name: way.end() for name, way in ways.items()}, max(peaks)


def compare(
    turns: dict[str, list[Turn]], *, work: float, unit: str, tokens: float, flops: float, peak: float
) -> list[dict]:
    """Return a row of a table for each way, scaled to the same work.

    Args:
        turns: the turns of each way; ways may have done different amounts, in the same unit.
        work: units that the seconds of the table are for. tokens, flops: of one unit, without pads (`workload.flops`).
        peak: FLOP/s of this machine.
    """
    seconds = {name: [turn.seconds * work / turn.work for turn in done] for name, done in turns.items()}
    peers = tuple(peer for peer in PEERS if peer in turns)
    rows = measure.rows_of(seconds, work=work, unit=unit, peers=peers)
    for row in rows:
        median = statistics.median(seconds[row["way"]])
        # On a machine that others use too, this is the steadier of the two clocks.
        cpu_seconds = [turn.cpu_seconds * work / turn.work for turn in turns[row["way"]]]
        row["cpu_seconds"] = measure.significant(statistics.median(cpu_seconds))
        row["tokens_per_second"] = round(work * tokens / median)
        row["percent_of_peak"] = round(100 * work * flops / median / peak, 1)
    return rows
