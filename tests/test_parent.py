"""Parent: what a killed process started is gone within five seconds, however busy or deaf it is."""

import os
import signal
import subprocess
import sys
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
    """Nothing ends a job whose parent and announced Snakemake live; one in another pid namespace is not looked for."""
    program = "import os, time; from distilbert import parent; parent.end_with_parent(); time.sleep(1); print('done')"
    for announced in (f"{os.getpid()} {parent._pid_namespace()}", "999999 pid:[1]", ""):
        environment = os.environ | {"DISTILBERT_SNAKEMAKE": announced}
        done = subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, env=environment)
        assert (done.returncode, done.stdout) == (0, b"done\n")
    environment = os.environ | {"DISTILBERT_SNAKEMAKE": f"999999 {parent._pid_namespace()}"}
    done = subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, env=environment)
    assert done.returncode == -signal.SIGTERM  # that Snakemake is gone already
