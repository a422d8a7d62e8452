"""Run the workflow through a real SLURM, do to its jobs what clusters do to jobs, compare with an undisturbed run.

    python tests/slurm.py --report docs/results/slurm.json

A SLURM of two nodes is started on this machine (tests/slurm_cluster.sh) and `profiles/slurm` is used as it stands, but
for what `TEST_PROFILE` says. An undisturbed run is made first. Each fault then strikes the pretraining while it runs
or waits, Snakemake goes on by itself or is typed again, and all results are compared, byte for byte but for clocks.
Where SLURM or its plugin for Snakemake are not installed this says so and does nothing.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import yaml
from torture import contents

ROOT = Path(__file__).parent.parent
TARGET = "results/student/pretrained/metrics.json"
# A small cluster without accounting, and no time to lose.
TEST_PROFILE = {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 5, "jobs": 4}
# A save after every step, for faults that leave no time to save; none, where the job must save as it is told to end.
EVERY_STEP, NEVER = "0", "100000"
# A pretraining that lasts until it is struck.
LONG = {"epochs": 40, "max_steps": 1500}
# What several machines share with several GPUs of one: as in the profile's comment.
TWO_NODES = {"nodes": 2, "gpu": 2, "mpi": "srun", "tasks": 2, "tasks_per_gpu": 0}
SECONDS = 3600  # longer than anything here may take


@dataclass(frozen=True)
class Fault:
    """What is done to a pretraining.

    strike: does it, and returns when it is done. said: it in words. resources: of the pretraining, beside those of the
    profile. minutes: between two checkpoints. reaches: the step that the training has reached before it is struck, None
    if the job shall still wait then.
    """

    name: str
    said: str
    strike: Callable[["Run"], None]
    resources: dict = field(default_factory=dict)
    minutes: str = NEVER
    reaches: int | None = 30


@dataclass
class Outcome:
    """What came of a fault. resumed_after_step: the last time that the training went on, as a new try has a new log."""

    fault: str
    done: str
    slurm_said: str
    submissions: int
    saved: str
    resumed_after_step: int | None
    steps: int
    snakemake_typed: int
    differing_files: int


class Run:
    """A pretraining by Snakemake and SLURM in a folder of its own, whatever comes before it made already."""

    def __init__(self, folder: Path, *, resources: dict, minutes: str):
        self.folder, self.minutes, self.typed = folder, minutes, 0
        profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text()) | TEST_PROFILE
        profile["set-resources"]["pretrain"] |= resources
        (folder / "profile").mkdir(parents=True, exist_ok=True)
        (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
        overlay = yaml.safe_load((ROOT / "tests" / "torture.yaml").read_text())
        overlay["pretrain"] |= LONG
        self.overlay = folder / "overlay.yaml"
        self.overlay.write_text(yaml.safe_dump(overlay))

    def type(self) -> None:
        """Start Snakemake."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), TARGET]
        command += ["--directory", str(self.folder), "--workflow-profile", str(self.folder / "profile")]
        command += ["--configfile", str(self.overlay)]
        environment = os.environ | {"DISTILBERT_CHECKPOINT_MINUTES": self.minutes}
        with (self.folder / "snakemake.log").open("a") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        self.typed += 1

    def end(self) -> int:
        """Wait for Snakemake; return its exit code."""
        return self.process.wait(timeout=SECONDS)

    def jobs(self) -> dict[str, str]:
        """Return {id: state} of the SLURM jobs of this folder's pretraining, oldest first."""
        lines = slurm("squeue", "--states=all", "--noheader", "--format=%i %T %k %Z").splitlines()
        mine = [line.split() for line in lines if line.endswith(f" rule_pretrain {self.folder}")]
        return {job: state for job, state, *_ in sorted(mine, key=lambda words: int(words[0]))}

    def wait_for_job(self, state: str, *, number: int = 0) -> str:
        """Return the id of this run's SLURM job of a number, once it is in a state."""
        wait_until(lambda: list(self.jobs().values())[number : number + 1] == [state])
        return list(self.jobs())[number]

    def log(self) -> str:
        """Return the log of the training so far."""
        path = self.folder / "logs" / "pretrain.log"
        return path.read_text() if path.exists() else ""

    def steps(self) -> int:
        """Return the last step that the log names."""
        return max(map(int, re.findall(r"step (\d+)/", self.log())), default=0)

    def training(self) -> psutil.Process:
        """Return the process that trains."""
        lock = next(self.folder.glob(".checkpoints/*pretrained*/lock"))
        return psutil.Process(int(lock.read_text().split()[0]))


def slurm(*command: str) -> str:
    """Return what a command of SLURM prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def command_lines() -> list[list[str]]:
    """Return the command line of every process of this machine."""
    return [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return when something is so.

    Raises:
        TimeoutError: it is not, after very long.
    """
    deadline = time.monotonic() + SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happens")
        time.sleep(0.2)


def scancel(run: Run) -> None:
    """Cancel the job."""
    slurm("scancel", run.wait_for_job("RUNNING"))


def let_the_time_run_out(run: Run) -> None:
    """Slow the training down until its SLURM job is over, as if it were a long one."""
    job, training = run.wait_for_job("RUNNING"), run.training()
    with contextlib.suppress(psutil.Error):
        while run.jobs()[job] == "RUNNING":
            training.suspend()
            time.sleep(1)
            training.resume()
            time.sleep(0.05)


def requeue(run: Run) -> None:
    """Have SLURM start the job again; at once, not after its two minutes."""
    job = run.wait_for_job("RUNNING")
    slurm("scontrol", "requeue", job)
    run.wait_for_job("PENDING")
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")


def take_memory(run: Run) -> None:
    """Lower the memory limit of the job to what it uses, again and again, until the kernel kills."""
    job, training = run.wait_for_job("RUNNING"), run.training()
    limits = list(Path("/sys/fs/cgroup/memory").glob(f"slurm_*/uid_*/job_{job}/memory.limit_in_bytes"))
    if not limits:  # no limits here: what the kernel would do
        training.kill()
        return
    with contextlib.suppress(OSError):  # the group is gone with the job
        while training.is_running():
            with contextlib.suppress(BlockingIOError, PermissionError):
                limits[0].write_text(limits[0].with_name("memory.usage_in_bytes").read_text())
            time.sleep(0.01)


def fail_node(run: Run) -> None:
    """Take the node down; let the job begin anew when nothing of it runs any more.

    Not sooner: this node did not really fail, comes back by itself, and would begin the job that it is still ending.
    """
    job = run.wait_for_job("RUNNING")
    node = slurm("squeue", "--noheader", "--format=%N", f"--jobs={job}").strip()
    slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    wait_until(lambda: run.jobs()[job] != "RUNNING")
    wait_until(lambda: not any(f"slurmstepd: [{job}." in " ".join(line) for line in command_lines()))
    if run.jobs()[job] == "PENDING":
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now")


def kill_snakemake(run: Run) -> None:
    """Kill Snakemake; type it again at once, while its job goes on."""
    run.wait_for_job("RUNNING")
    run.process.kill()
    run.process.wait()
    run.type()


def kill_snakemake_early(run: Run) -> None:
    """Kill Snakemake while its job waits, type it again, and let both jobs begin."""
    run.wait_for_job("PENDING")
    run.process.kill()
    run.process.wait()
    run.type()
    run.wait_for_job("PENDING", number=1)
    open_partition(True)


def edit_setting(run: Run) -> None:
    """Edit a setting while the job waits; take the edit back and type again when Snakemake has given up."""
    run.wait_for_job("PENDING")
    before = run.overlay.read_text()
    edited = yaml.safe_load(before)
    edited["pretrain"]["learning_rate"] = 1.0e-3
    run.overlay.write_text(yaml.safe_dump(edited))
    open_partition(True)
    if run.end() == 0:
        raise AssertionError("a job ran with a setting that was edited after Snakemake had read it")
    run.overlay.write_text(before)
    run.type()


def open_partition(is_open: bool) -> None:
    """Let the jobs that need a GPU begin, or not."""
    slurm("scontrol", "update", "PartitionName=gpu", f"State={'UP' if is_open else 'DOWN'}")


FAULTS = [
    Fault("cancelled", "`scancel`", scancel),
    Fault(
        "time limit, announced",
        "`runtime: 3`, `--signal=TERM@60`",
        let_the_time_run_out,
        resources={"runtime": 3, "slurm_extra": "--signal=TERM@60"},
    ),
    Fault(
        "time limit",
        "`runtime: 1`, no `--signal`",
        let_the_time_run_out,
        resources={"runtime": 1, "slurm_extra": ""},
    ),
    Fault("requeued", "`scontrol requeue`", requeue),
    Fault("out of memory", "the memory limit of its cgroup lowered to what it uses", take_memory, minutes=EVERY_STEP),
    Fault("node failure", "`scontrol update State=DOWN`", fail_node, minutes=EVERY_STEP),
    Fault("Snakemake killed, job running", "`kill -9` on the login node, typed again at once", kill_snakemake),
    Fault(
        "Snakemake killed, job waiting", "`kill -9` on the login node, typed again", kill_snakemake_early, reaches=None
    ),
    Fault("setting edited, job waiting", "learning rate edited, later taken back", edit_setting, reaches=None),
    Fault("two nodes, cancelled", "`scancel`; srun + torchrun", scancel, resources=TWO_NODES),
]


def strike(fault: Fault, folder: Path, prepared: Path, reference: dict) -> Outcome:
    """Run a pretraining, strike it once, let it go to its end and compare."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder, symlinks=True)
    run = Run(folder, resources=fault.resources, minutes=fault.minutes)
    open_partition(fault.reaches is not None)
    run.type()
    if fault.reaches is not None:
        wait_until(lambda: run.steps() >= fault.reaches)
    fault.strike(run)
    if run.end() != 0:
        sys.exit(f"{fault.name}: not finished; see {folder / 'snakemake.log'}")
    resumed = re.findall(r"resumed after step (\d+)", run.log())
    now = contents(folder)
    jobs = run.jobs()
    return Outcome(
        fault=fault.name,
        done=fault.said,
        slurm_said=", ".join(jobs.values()),
        submissions=len(jobs),
        saved="when told to end" if fault.minutes == NEVER else "after every step",
        resumed_after_step=int(resumed[-1]) if resumed else None,
        steps=run.steps(),
        snakemake_typed=run.typed,
        differing_files=sum(reference.get(name) != now.get(name) for name in reference.keys() | now.keys()),
    )


def prepare(folder: Path) -> None:
    """Make everything that a pretraining needs, and it, by SLURM."""
    run = Run(folder, resources={}, minutes=NEVER)
    run.type()
    if run.end() != 0:
        sys.exit(f"the undisturbed run failed: see {folder / 'snakemake.log'}")


def without_pretraining(folder: Path, copy: Path) -> None:
    """Copy a run, its pretraining taken away."""
    shutil.copytree(folder, copy, symlinks=True)
    shutil.rmtree(copy / "results" / "student" / "pretrained")
    shutil.rmtree(copy / "logs")
    (copy / "snakemake.log").unlink()


def undisturbed(prepared: Path, folder: Path, resources: dict) -> dict[str, str]:
    """Return what a pretraining leaves that nothing strikes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder, symlinks=True)
    run = Run(folder, resources=resources, minutes=NEVER)
    run.type()
    if run.end() != 0:
        sys.exit(f"the undisturbed run failed: see {folder / 'snakemake.log'}")
    return contents(folder)


@contextlib.contextmanager
def cluster(script: Path, folder: Path) -> Iterator[None]:
    """Start a SLURM and stop it in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    os.environ["PATH"] += ":/usr/sbin"
    subprocess.run([script, "start", folder], check=True)
    try:
        yield
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            slurm("scancel", "--user=root")
        subprocess.run([script, "stop", folder], check=True)


def missing() -> list[str]:
    """Return what this needs and is not here."""
    path = os.environ["PATH"] + ":/usr/sbin"
    found = [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if not shutil.which(name, path=path)]
    if not importlib.util.find_spec("snakemake_executor_plugin_slurm"):
        found.append("snakemake-executor-plugin-slurm")
    return found + ["root"] * (os.geteuid() != 0)


def main() -> None:
    """Run undisturbed, strike with each fault, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="a regular expression: the faults to try")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--folder", type=Path, help="where to run, and to go on; else a temporary one")
    parser.add_argument("--cluster", type=Path, default=ROOT / "tests" / "slurm_cluster.sh", help="start|stop FOLDER")
    arguments = parser.parse_args()
    if lacking := missing():
        print(f"skipped, as these are not here: {', '.join(lacking)}")
        return
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="slurm-"))).resolve()
    outcomes = []
    with cluster(arguments.cluster, folder / "cluster"):
        version = slurm("sinfo", "--version").split()[-1]
        prepare(folder / "reference")
        if not (folder / "prepared").exists():
            without_pretraining(folder / "reference", folder / "prepared")
        references = {1: contents(folder / "reference")}
        for number, fault in enumerate(FAULTS):
            if arguments.only and not re.search(arguments.only, fault.name):
                continue
            nodes = fault.resources.get("nodes", 1)
            if nodes not in references:
                place = folder / f"reference-{nodes}"
                references[nodes] = undisturbed(folder / "prepared", place, fault.resources)
            outcomes.append(strike(fault, folder / f"fault-{number}", folder / "prepared", references[nodes]))
            print(outcomes[-1], flush=True)
    plugin = importlib.metadata.version("snakemake-executor-plugin-slurm")
    report = {
        "faults": [asdict(outcome) for outcome in outcomes],
        "slurm": version,
        "plugin": plugin,
        "snakemake": importlib.metadata.version("snakemake"),
    }
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")
    if any(outcome.differing_files for outcome in outcomes):
        sys.exit(f"files differ: see {folder}")
    if not arguments.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
