"""Parent: what a killed process started is gone within five seconds, however busy or deaf it is."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from distilbert import parent

SCRIPTS = Path(__file__).parent.parent / "workflow" / "scripts"
# A job that does nothing, one that will not hear SIGTERM, and one whose parent dies before it has begun to watch.
JOBS = {
    "idle": "parent.end_with_parent(); print('ready', flush=True); time.sleep(60)",
    "deaf": "signal.signal(15, signal.SIG_IGN); parent.end_with_parent(); print('ready', flush=True); time.sleep(60)",
    "late": "print('ready', flush=True); time.sleep(1.5); parent.end_with_parent(); time.sleep(60)",
}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_soon_after_its_parent_was_killed(job, tmp_path):
    """SIGKILL of the process that announced itself ends its job within 5 seconds."""
    program = f"import signal, time; from distilbert import parent; {JOBS[job]}"
    starter = (
        "import subprocess, sys; from distilbert import parent; parent.announce();"
        f"child = subprocess.Popen([sys.executable, '-c', {program!r}]); print(child.pid, flush=True); child.wait()"
    )
    above = subprocess.Popen([sys.executable, "-c", starter], cwd=SCRIPTS, stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(above.stdout.readline()))
    assert above.stdout.readline() == "ready\n"
    above.kill()
    above.wait()
    killed_at = time.monotonic()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - killed_at < 5 + (1.5 if job == "late" else 0)
        time.sleep(0.05)


def test_a_job_lives_on_while_its_parent_does():
    """Nothing ends a job whose parent and announced processes live; those of another place are not looked for."""
    here = parent._where_pids_count()
    for announced in (
        f"{here} {os.getpid()}",
        f"another-machine/{here.partition('/')[2]} 999999",
        f"{here.partition('/')[0]}/pid:[1] 999999",
        "",
    ):
        assert run_for_a_second(announced) == (0, b"done\n")
    assert run_for_a_second(f"{here} {os.getpid()} 999999")[0] == -signal.SIGTERM  # one is gone already


def test_sigterm_is_passed_on_to_children():
    """A process that handles SIGTERM by going on, as Snakemake does, has its children told all the same."""
    child = "import signal, time; signal.signal(15, lambda *_: (print('told', flush=True), exit(3))); "
    child += "print('ready', flush=True); time.sleep(60)"
    program = (
        "import signal, subprocess, sys; from distilbert import parent; parent.pass_on_sigterm();"
        "signal.signal(15, lambda *_: None);"
        f"sys.exit(subprocess.Popen([sys.executable, '-c', {child!r}]).wait())"
    )
    above = subprocess.Popen([sys.executable, "-c", program], cwd=SCRIPTS, stdout=subprocess.PIPE, text=True)
    assert above.stdout.readline() == "ready\n"
    above.terminate()
    assert above.communicate(timeout=30)[0] == "told\n"
    assert above.returncode == 3


def test_a_handler_of_sigterm_waits_for_no_lock_of_the_thread_that_it_interrupts():
    """A handler that takes a lock, as Snakemake's, runs once the interrupted thread has given the lock back."""
    lock, handled = threading.Lock(), threading.Event()

    def handle(number, _frame):
        if number == signal.SIGTERM and lock.acquire(timeout=5):  # a lock of its own thread it would never get
            handled.set()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        parent.handle_sigterm_in_a_thread()
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not handled.wait(0.2)
        assert handled.wait(5)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        parent.handle_sigterm_in_a_thread()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "without a handler all stays as it was"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_snakemake_that_is_told_to_end_amid_the_ends_of_its_jobs_ends(tmp_path):
    """Snakemake's own handler, told while the lock that it takes is held, as is likely when its jobs were told too."""
    (tmp_path / "Snakefile").write_text(
        f"""
import os, signal, sys, time
sys.path.insert(0, {str(SCRIPTS)!r})
from distilbert import parent

onstart:
    parent.handle_sigterm_in_a_thread()
    take_note_of_errors = workflow.scheduler._error_jobs  # is called with the lock held

    def and_be_told_to_end():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        take_note_of_errors()

    workflow.scheduler._error_jobs = and_be_told_to_end

rule fails:
    output: "never"
    shell: "exit 1"
"""
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Will exit after finishing currently running jobs" in done.stdout + done.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: a zombie looks alive here")
def test_a_dead_process_that_nobody_waited_for_is_dead():
    """A zombie still has its pid; a job that was told of it ends all the same."""
    zombie = subprocess.Popen(["true"])
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert run_for_a_second(f"{parent._where_pids_count()} {zombie.pid}")[0] == -signal.SIGTERM
    zombie.wait()


def test_announced_processes_add_up():
    """`announce` names one process alone; a process that it started adds itself."""
    program = "import os; from distilbert import parent; parent.announce_too(); print(os.environ[parent.VARIABLE])"
    environment = os.environ | {"DISTILBERT_PARENTS": f"{parent._where_pids_count()} 17"}
    below = subprocess.Popen([sys.executable, "-c", program], cwd=SCRIPTS, stdout=subprocess.PIPE, env=environment)
    assert below.communicate()[0].decode().split() == [parent._where_pids_count(), "17", str(below.pid)]


def run_for_a_second(announced: str) -> tuple[int, bytes]:
    """Return exit code and output of a job of one second that these processes are named to."""
    program = "import time; from distilbert import parent; parent.end_with_parent(); time.sleep(1); print('done')"
    environment = os.environ | {"DISTILBERT_PARENTS": announced}
    done = subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, env=environment)
    return done.returncode, done.stdout
