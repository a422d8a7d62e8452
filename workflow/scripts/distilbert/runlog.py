"""How a step runs: its log file, its errors in one line, and the provenance of what it writes.

`run` is the only place that knows Snakemake. It calls a step's `main` with plain values: each input and
output by its name as a `Path` (or a list of them), and the settings from the rule's params.
"""

import gc
import inspect
import json
import logging
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from distilbert.digest import code_digest, is_as_announced
from distilbert.parent import announce_too, end_with_parent
from distilbert.plan import require_as_decided

# Packages whose versions can change a result.
RECORDED_PACKAGES = (
    "torch",
    "numpy",
    "tokenizers",
    "pyarrow",
    "pandas",
    "transformers",
    "snakemake",
)
# Where the step scripts lie; a script is named as its rule.
STEPS = Path(__file__).parents[1]

log = logging.getLogger("distilbert")


def run(main: Callable, snakemake) -> None:
    """Call a step's `main` for a Snakemake job; on an error log the traceback, print one line, exit with 1.

    `main` is given what its signature asks for: inputs and outputs by name, `settings` (dict) and `code`
    (the digest of the step's source). A training that is given several GPUs (resource `gpu`, in all) runs once for
    each, under torchrun; they may stand in several machines of one SLURM job (resource `nodes`).
    """
    is_training = "distilbert.steps" in sys.modules
    num_nodes = snakemake.resources.get("nodes", 1) if is_training else 1
    num_processes = snakemake.resources.get("gpu", 0) // num_nodes if is_training else 1  # on each of them
    if num_processes * num_nodes > 1 and "WORLD_SIZE" not in os.environ:
        launch(num_processes, num_nodes, num_threads=snakemake.threads)
    end_with_parent()
    gc.freeze()  # what was imported stays: looking through it for garbage took half a second of every job's end
    path = Path(snakemake.log[0]) if snakemake.log else None
    start_logging(path)
    os.environ["RAYON_NUM_THREADS"] = str(snakemake.threads)  # of tokenizers
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(max(1, snakemake.threads // max(1, num_processes)))
    named = {name: _paths(value) for files in (snakemake.input, snakemake.output) for name, value in files.items()}
    settings, code = read_params(snakemake.params)
    values = {**named, "settings": settings, "code": code}
    wanted = inspect.signature(main).parameters
    try:
        require_as_decided(snakemake.output[0], [*snakemake.input, *snakemake.params])
        require_same_code(snakemake.rule, code)
        main(**{name: value for name, value in values.items() if name in wanted})
    except Exception as error:
        log.debug("traceback", exc_info=True)
        message = " ".join(str(error).split()) or type(error).__name__
        log.error("%s: %s%s", snakemake.rule, message, f" (more in {path})" if path else "")
        sys.exit(1)


def launch(num_processes: int, num_nodes: int, *, num_threads: int) -> None:
    """Become torchrun, which starts this very script so many times on each of so many machines; does not return.

    On several machines srun starts one torchrun on each, and they meet on this one, the first of the SLURM job.
    num_threads: on each machine.
    """
    announce_too()
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={num_processes}"]
    if num_nodes == 1:
        os.execv(sys.executable, [*torchrun, "--standalone", sys.argv[0]])
    job = os.environ["SLURM_JOB_ID"]
    port = 20000 + int(job) % 10000  # two jobs may share a machine
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={socket.gethostname()}:{port}", f"--rdzv-id={job}"]
    srun = ["srun", f"--nodes={num_nodes}", f"--ntasks={num_nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    srun += [f"--cpus-per-task={num_threads}", "--cpu-bind=none"]
    os.execvp("srun", [*srun, *torchrun, f"--nnodes={num_nodes}", *meeting, sys.argv[0]])


def read_params(params: Iterable[str]) -> tuple[dict, str]:
    """Return the nested settings and the code digest of a rule's params (see `settings` and `code` of its rules).

    params: `key=JSON`, nested keys joined by dots, and `code module=digest`.
    """
    settings, code = {}, []
    for line in params:
        if line.startswith("code "):
            code.append(line.removeprefix("code "))
            continue
        key, _, value = line.partition("=")
        *sections, name = key.split(".")
        section = settings
        for outer in sections:
            section = section.setdefault(outer, {})
        section[name] = json.loads(value)
    return settings, "\n".join(sorted(code))


def require_same_code(rule: str, code: str) -> None:
    """Refuse to run a step whose source was edited after Snakemake had read it: its record would name other code.

    code: the digest that Snakemake will record.

    Raises:
        RuntimeError: the message names the modules.
    """
    if is_as_announced(STEPS):
        return
    now = code_digest(STEPS / f"{rule}.py")
    changed = {line.split("=")[0] for line in {*now.splitlines()} ^ {*code.splitlines()}}
    if changed:
        raise RuntimeError(f"{', '.join(sorted(changed))}: edited while Snakemake was running; run it again")


def _paths(value) -> Path | list[Path]:
    return Path(value) if isinstance(value, str) else [Path(item) for item in value]


def start_logging(path: Path | None) -> None:
    """Send everything to the log file, and warnings and errors to the terminal too.

    Of several processes of one training the first tells everything, the others their warnings.
    """
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    handlers: list[logging.Handler] = [terminal]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="a", encoding="utf-8"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, format="%(asctime)s  %(message)s", force=True)
    log.setLevel(logging.DEBUG if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log on a full disk must not bury the one line in tracebacks


def provenance(settings: dict, code: str, *, started: float, **figures) -> dict:
    """Return what a result came from: settings, code digest, git commit, versions, device, seconds.

    started: `time.time()` at the start of the step. figures: the step's own, such as tokens_per_second.
    """
    return {
        "settings": settings,
        "code": dict(line.split("=") for line in code.splitlines()),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "device": machine(),
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 2),
        **figures,
    }


def git_commit() -> str | None:
    """Return the commit of the source, "+" appended where the work tree differs from it; None outside git."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty=+",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Return what computes: the GPU, or the CPU and its cores."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{cpu_name()}, {os.cpu_count()} cores"


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
