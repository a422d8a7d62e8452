"""A step ends when its Snakemake ends, however that ended: nothing goes on training that nobody waits for.

Linux sends SIGTERM to a process whose parent dies; a training saves itself then. A thread sees to it that the
process is gone a few seconds later even where one training step takes longer (nothing is lost but the steps since
the last checkpoint), that a Snakemake killed before this module was imported is noticed, and that the same holds
for the processes that torchrun starts and outside Linux.
"""

import ctypes
import os
import platform
import signal
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
# Names Snakemake's process to its jobs: "<pid> <namespace that the pid belongs to>".
VARIABLE = "DISTILBERT_SNAKEMAKE"
# A killed Snakemake's jobs are gone within 5 seconds: SECONDS_TO_SAVE and a little.
SECONDS_TO_SAVE = 4.0
SECONDS_BETWEEN_LOOKS = 0.25


def announce() -> None:
    """Name this process to those that it starts as the one without which they shall not go on."""
    os.environ[VARIABLE] = f"{os.getpid()} {_pid_namespace()}"


def end_with_parent() -> None:
    """See to it that this process ends soon after its parent, and after the process that called `announce`."""
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    announced, _, namespace = os.environ.get(VARIABLE, "").partition(" ")
    is_visible = bool(announced) and namespace == _pid_namespace()
    watch = threading.Thread(target=_watch, args=(os.getppid(), int(announced) if is_visible else None), daemon=True)
    watch.start()


def _watch(parent: int, announced: int | None) -> None:
    never = threading.Event()
    while os.getppid() == parent and (announced is None or _is_alive(announced)):
        never.wait(SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
    never.wait(SECONDS_TO_SAVE)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _pid_namespace() -> str:
    """Return the namespace in which this process's pids count; a container may have its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
