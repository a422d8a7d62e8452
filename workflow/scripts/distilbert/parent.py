"""A step ends when its Snakemake ends, however that ended: nothing goes on training that nobody waits for.

Linux sends SIGTERM to a process whose parent dies; a training saves itself then. A thread sees to it that the
process is gone a few seconds later even where one training step takes longer (nothing is lost but the steps since
the last checkpoint), that a Snakemake killed before this module was imported is noticed, and that the same holds
for the processes that torchrun starts and outside Linux.
"""

import contextlib
import ctypes
import os
import platform
import signal
import socket
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
# Names to a job the processes without which it shall not go on: "<where the pids count> <pid> <pid>...".
VARIABLE = "DISTILBERT_PARENTS"
# A killed Snakemake's jobs are gone within 5 seconds: SECONDS_TO_SAVE and a little.
SECONDS_TO_SAVE = 4.0
SECONDS_BETWEEN_LOOKS = 0.25


def announce() -> None:
    """Name this process, and it alone, to those that it starts as one without which they shall not go on."""
    os.environ[VARIABLE] = f"{_where_pids_count()} {os.getpid()}"


def announce_too() -> None:
    """Name this process beside those that were named to it."""
    os.environ[VARIABLE] = " ".join([_where_pids_count(), *map(str, _announced()), str(os.getpid())])


def end_with_parent() -> None:
    """See to it that this process ends soon after its parent, and after any of those that were named to it."""
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    threading.Thread(target=_watch, args=(os.getppid(), _announced()), daemon=True).start()


def pass_on_sigterm() -> None:
    """Have a SIGTERM of this process, which has a handler for it, reach the processes that it started too.

    SLURM (proctrack/cgroup) sends it only to the process that it started itself: in a job, to a Snakemake that waits
    for its step and tells it nothing. srun is left out, as it would take it for an order to kill at once.
    """
    read_end, write_end = socket.socketpair()
    write_end.setblocking(False)
    signal.set_wakeup_fd(write_end.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_pass_on, args=(read_end,), daemon=True).start()


def handle_sigterm_in_a_thread() -> None:
    """Have the handler that this process has for SIGTERM run beside its main thread, not inside it.

    Snakemake's handler takes a lock that its main thread may hold, most likely just after its jobs got a SIGTERM too,
    as from a batch system: inside the main thread it waits for it for ever (Snakemake 9.27, `JobScheduler.schedule`).
    """
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler):
        signal.signal(signal.SIGTERM, lambda *arguments: threading.Thread(target=handler, args=arguments).start())


def _pass_on(read_end: socket.socket) -> None:
    import psutil  # of Snakemake; no step needs it

    while number := read_end.recv(1):
        if number[0] == signal.SIGTERM:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if child.name() != "srun":
                        child.terminate()


def _announced() -> list[int]:
    """Return the pids that were named to this process, none where it cannot see them."""
    place, *pids = os.environ.get(VARIABLE, "").split() or [""]
    return [int(pid) for pid in pids] if place == _where_pids_count() else []


def _watch(parent: int, announced: list[int]) -> None:
    never = threading.Event()
    while os.getppid() == parent and all(map(_is_alive, announced)):
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
    try:  # a dead process that nobody has waited for is still listed
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return True


def _where_pids_count() -> str:
    """Return this machine, since it was started, and the namespace in it in which this process's pids count.

    A scheduler hands the environment on to other machines, and there a pid is another process's. The namespace alone
    does not tell them apart: the first one has the same name on every machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()
