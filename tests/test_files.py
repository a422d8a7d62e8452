"""Files: whole or not at all, nothing left behind, and one holder at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distilbert.files import atomic_path, hold, write_text

SCRIPTS = Path(__file__).parent.parent / "workflow" / "scripts"


def test_a_failed_writer_leaves_what_was_there(tmp_path):
    """An error while writing keeps the old content and leaves no temporary file."""
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    """A temporary file of a process that was killed while writing goes when its file is written again; others stay."""
    program = (
        "import os, sys; from distilbert.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    for name in ("a.txt", "b.txt"):
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], cwd=SCRIPTS)
        assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "a.txt", "whole")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 2
    assert left[0].startswith(".b.txt.")
    assert left[1] == "a.txt"


def test_the_mode_is_that_of_any_new_file(tmp_path):
    """Whatever mode the writer gave, the file ends with that of a file that is opened for writing."""
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "a.bin") as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_held_file_is_refused_by_the_pid_of_its_holder(tmp_path):
    """A second holder is refused in one line; once the first lets go, it is welcome."""
    first = hold(tmp_path / "folder" / "lock", "another run")
    with pytest.raises(RuntimeError, match=rf"folder: another run \(pid {os.getpid()} on \S+\) is at work here$"):
        hold(tmp_path / "folder" / "lock", "another run", patience=0.3)
    first.close()
    hold(tmp_path / "folder" / "lock", "another run").close()
