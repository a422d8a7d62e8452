"""Kill a run of the workflow again and again, start it again each time, and compare its end with an undisturbed run.

    python tests/torture.py --kills 200 --report docs/results/torture.json

Each life of the workflow is a fresh `snakemake`, as a user would type it. While it runs, a victim is killed with
SIGKILL (or stopped by SIGTERM or SIGINT): a job at any moment, a training inside a save (its checkpoint is half
written), Snakemake itself, or, where pretraining runs in two processes under torchrun, the agent or one rank. When a
run has finished, every result is compared, byte for byte but for clocks, with that of a run that nobody killed.
After a kill of Snakemake or torchrun, the processes that they left are watched: how long does an orphan live?
"""

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
TARGETS = ["results/cross_evaluation.csv", "results/student/pretrained/metrics.json"]
# Keys of JSON results that hold a clock, or a digest over one.
CLOCKS = {"provenance", "train_seconds", "predict_seconds", "content_sha256"}
# How often each way of killing is chosen; the ones for two processes only where there are two.
WEIGHTS = {"job": 5, "save": 6, "snakemake": 3, "terminate job": 1, "interrupt all": 1, "terminate all": 1}
WEIGHTS_OF_TWO = {"torchrun": 3, "rank": 3, "rank in save": 2, "snakemake": 2}
ORPHAN_SECONDS = 5.0
POLL_SECONDS = 0.002


class Life:
    """One `snakemake` and what it started."""

    def __init__(self, folder: Path, targets: list[str], log: Path, *, num_processes: int = 1):
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(ROOT / "Snakefile"),
            "--directory",
            str(folder),
        ]
        command += ["--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", "2", *targets]
        command += ["--configfile", str(ROOT / "tests" / "torture.yaml")]
        if num_processes > 1:
            command += ["--resources", f"gpu={num_processes}", "--set-resources", f"pretrain:gpu={num_processes}"]
        environment = os.environ | {"DISTILBERT_CHECKPOINT_MINUTES": "0"}  # a save after every step
        with log.open("a") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        self.snakemake = psutil.Process(self.process.pid)

    def is_over(self) -> bool:
        """Tell whether Snakemake has ended."""
        return self.process.poll() is not None

    def jobs(self) -> list[psutil.Process]:
        """Return the processes that Snakemake started."""
        return children(self.snakemake)

    def everything(self) -> list[psutil.Process]:
        """Return all processes below Snakemake."""
        return children(self.snakemake, recursive=True)


def children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    """Return the processes that a process started, none if it is gone by now."""
    try:
        return process.children(recursive=recursive)
    except psutil.Error:
        return []


def half_written(folder: Path) -> list[Path]:
    """Return the checkpoints that are being written at this moment."""
    return list(folder.glob(".checkpoints/*/checkpoint.tmp"))


def wait_for_save(life: Life, folder: Path, seconds: float) -> psutil.Process | None:
    """Return a training, stopped while its checkpoint is half written, or None after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not life.is_over():
        for file in half_written(folder):
            if victim := stop_inside_save(life, file):
                return victim
        time.sleep(POLL_SECONDS)
    return None


def stop_inside_save(life: Life, file: Path) -> psutil.Process | None:
    """Stop whoever writes this file; return it if the file is still half written and its own, else let it go on."""
    try:
        writer = psutil.Process(int((file.parent / "lock").read_text().partition(" ")[0]))
        writer.suspend()
    except (OSError, ValueError, psutil.Error):
        return None
    try:
        if file.stat().st_mtime > writer.create_time() and writer in life.everything():
            return writer
    except (OSError, psutil.Error):
        pass
    send(writer, signal.SIGCONT)
    return None


def kill(life: Life, way: str, folder: Path, chance: random.Random) -> str | None:
    """Kill in one way; return the way that it came to be, or None if there was nothing to kill."""
    if way == "snakemake":
        return way if not life.is_over() and send(life.snakemake, signal.SIGKILL) else None
    if way == "interrupt all":  # what Ctrl-C in a terminal does
        for process in [life.snakemake, *life.everything()]:
            send(process, signal.SIGINT)
        return way
    if way == "terminate all":  # what a batch system does; Snakemake last, when it is busy with the ends of its jobs
        for process in [*life.everything(), life.snakemake]:
            send(process, signal.SIGTERM)
            time.sleep(chance.uniform(0, 1))
        return way
    if way.endswith("save"):
        victim = wait_for_save(life, folder, seconds=30)
        return way if victim and send(victim, signal.SIGKILL) else None
    victims = life.jobs()
    if way == "rank":
        victims = [child for job in victims for child in children(job)]
    elif way == "torchrun":
        victims = [job for job in victims if children(job)]
    if not victims:
        return None
    number = signal.SIGTERM if way == "terminate job" else signal.SIGKILL
    return way if send(chance.choice(victims), number) else None


def send(process: psutil.Process, number: int) -> bool:
    """Send a signal; tell whether the process was there to take it."""
    try:
        process.send_signal(number)
    except psutil.Error:
        return False
    return True


def watch_orphans(processes: list[psutil.Process]) -> float:
    """Return how many seconds the last of these processes lives on."""
    started = time.monotonic()
    while any(map(is_alive, processes)) and time.monotonic() - started < 60:
        time.sleep(0.02)
    return time.monotonic() - started


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process is there and does something."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def contents(folder: Path) -> dict[str, str]:
    """Return {result file: digest of its content without clocks}; of event files {their folder: digest}."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        if not path.is_file():
            continue
        data, name = path.read_bytes(), path.relative_to(folder)
        if path.suffix == ".json":
            data = json.dumps(without_clocks(json.loads(data)), sort_keys=True).encode()
        elif "tfevents" in path.name:  # which ends with a clock
            data, name = json.dumps(points(path)).encode(), name.parent
        found[str(name)] = hashlib.sha256(data).hexdigest()
    return found


def points(path: Path) -> list[tuple[int, str, float]]:
    """Return (step, tag, value) of all points of an event file, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    events = LegacyEventFileLoader(str(path)).Load()
    return [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]


def without_clocks(value):
    """Return a JSON value without the keys that hold clocks."""
    if isinstance(value, dict):
        return {key: without_clocks(item) for key, item in value.items() if key not in CLOCKS}
    return [without_clocks(item) for item in value] if isinstance(value, list) else value


def run_to_the_end(folder: Path, targets: list[str], *, num_processes: int = 1) -> dict[str, str]:
    """Run undisturbed; return the contents of the results."""
    folder.mkdir(parents=True, exist_ok=True)
    life = Life(folder, targets, folder / "reference.log", num_processes=num_processes)
    if life.process.wait() != 0:
        sys.exit(f"the undisturbed run failed: see {folder / 'reference.log'}")
    return contents(folder)


class Torture:
    """The counts of all rounds; `report` is what is written."""

    def __init__(self, seed: int, report: Path | None):
        self.chance, self.path = random.Random(seed), report
        self.kills, self.rounds, self.differing, self.orphans = Counter(), Counter(), [], []
        self.by_rule, self.lives, self.started = Counter(), 0, time.time()

    def round(self, folder: Path, targets: list[str], reference: dict, *, num_processes: int, kills: int) -> None:
        """Run to the end under kills, as long as any are left; compare."""
        weights = WEIGHTS_OF_TWO if num_processes > 1 else WEIGHTS
        goal = self.kills.total() + kills
        while True:
            life = Life(folder, targets, folder / "torture.log", num_processes=num_processes)
            self.lives += 1
            kills_before = self.kills.total()
            while not life.is_over() and self.kills.total() < goal:
                way = self.chance.choices([*weights], [*weights.values()])[0]
                self.wait(life, self.chance.uniform(0, 8))
                self.strike(life, way, folder)
            is_done = life.process.wait() == 0
            if is_done:
                break
            if self.kills.total() == kills_before:
                sys.exit(f"a run that nobody touched failed: see {folder / 'torture.log'}")
        self.rounds[num_processes] += 1
        now = contents(folder)
        self.differing += sorted(name for name in reference.keys() | now.keys() if reference.get(name) != now.get(name))
        self.write()

    def wait(self, life: Life, seconds: float) -> None:
        """Let a life go on for some seconds after its first job has begun."""
        while not life.jobs() and not life.is_over():
            time.sleep(0.05)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not life.is_over():
            time.sleep(0.02)

    def strike(self, life: Life, way: str, folder: Path) -> None:
        """Kill once, count it, and watch what is left."""
        below = life.everything()
        ranks = [rank for job in life.jobs() for rank in children(job)]
        running = [rule_of(process) for process in below]
        if not (done := kill(life, way, folder, self.chance)):
            return
        self.kills[done] += 1
        self.by_rule.update(running)
        if done.endswith(" all"):
            life.process.wait(timeout=60)  # or it hangs
        elif done == "snakemake":
            self.orphans.append(watch_orphans(below))
        elif done == "torchrun":
            self.orphans.append(watch_orphans(ranks))
        print(f"{self.kills.total():4d}  {done}  ({', '.join(filter(None, running))})", flush=True)

    def write(self) -> None:
        """Write the report."""
        report = {
            "kills": dict(sorted(self.kills.items())),
            "kills_in_all": self.kills.total(),
            "running_when_killed": {rule: count for rule, count in sorted(self.by_rule.items()) if rule},
            "lives_of_snakemake": self.lives,
            "finished_runs": {f"{count} processes": rounds for count, rounds in sorted(self.rounds.items())},
            "differing_files": self.differing,
            "longest_orphan_seconds": round(max(self.orphans, default=0.0), 2),
            "minutes": round((time.time() - self.started) / 60, 1),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        }
        text = json.dumps(report, indent=2) + "\n"
        print(text)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text)


def rule_of(process: psutil.Process) -> str:
    """Return the rule of a job by its script's name, or nothing."""
    try:
        scripts = [word for word in process.cmdline() if ".snakemake/scripts/" in word]
    except psutil.Error:
        return ""
    return scripts[0].rsplit(".", 2)[-2] if scripts else ""


def main() -> None:
    """Prepare the undisturbed runs, then kill in rounds until the number of kills is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--per-round", type=int, default=25, help="kills of one run, after which it may finish")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="no further than pretraining")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--folder", type=Path, help="where to run; a temporary folder if it is not given")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    torture = Torture(arguments.seed, arguments.report)
    targets = TARGETS[1:] if arguments.small else TARGETS
    whole = run_to_the_end(folder / "reference", targets)
    shared = None
    number = 0
    while (left := arguments.kills - torture.kills.total()) > 0:
        kills = min(left, arguments.per_round)
        place = folder / f"round-{number}"
        if number % 3 == 1:  # pretraining in two processes; what it starts from is made
            shutil.copytree(folder / "reference", place, symlinks=True)
            shutil.rmtree(place / "results" / "student" / "pretrained")
            shared = shared or two_processes(folder)
            torture.round(place, TARGETS[1:], shared, num_processes=2, kills=kills)
        else:
            place.mkdir(parents=True)
            torture.round(place, targets, whole, num_processes=1, kills=kills)
        if not torture.differing:
            shutil.rmtree(place)
        number += 1
    orphans = max(torture.orphans, default=0.0)
    if torture.differing or orphans > ORPHAN_SECONDS:
        sys.exit(f"{len(torture.differing)} files differ, an orphan lived {orphans:.1f} s: see {folder}")
    if not arguments.folder:
        shutil.rmtree(folder)


def two_processes(folder: Path) -> dict[str, str]:
    """Return what an undisturbed pretraining in two processes leaves."""
    place = folder / "reference-2"
    shutil.copytree(folder / "reference", place, symlinks=True)
    shutil.rmtree(place / "results" / "student" / "pretrained")
    return run_to_the_end(place, TARGETS[1:], num_processes=2)


if __name__ == "__main__":
    main()
