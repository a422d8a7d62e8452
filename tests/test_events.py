"""Event files: what TensorBoard reads is the history, live, whole after any stop, and a full disk stops no training."""

import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from test_training import assert_same_run, training  # noqa: F401 (a fixture)
from torture import points

from distilbert.checkpoint import Checkpoints
from distilbert.events import EventFiles

ROWS = [
    {"step": 2, "epoch": 0.5, "split": "train", "num_tokens": 70, "loss": 1 / 3},
    {"step": 2, "epoch": 0.5, "split": "validation", "num_tokens": 70, "loss": 0.25, "accuracy": 0.5},
    {"step": 4, "epoch": 1.0, "split": "train", "num_tokens": 141, "loss": float(np.pi)},
]


def in_files(folder: Path) -> list[tuple]:
    """Return (split, step, tag, value) of all points below a folder, which has one file a split."""
    found = []
    for split in ("train", "validation"):
        (path,) = (folder / split).iterdir()
        found += [(split, *point) for point in points(path)]
    return found


def in_rows(history: list[dict]) -> list[tuple]:
    """Return (split, step, tag, value) of a history, values in float32."""
    rows = sorted(history, key=lambda row: row["split"])
    return [
        (row["split"], row["step"], tag, float(np.float32(value)))
        for row in rows
        for tag, value in row.items()
        if tag not in ("step", "split")
    ]


def test_a_row_is_there_as_soon_as_it_is_known(tmp_path):
    """After each row TensorBoard reads all rows so far, each once."""
    files = EventFiles(tmp_path)
    for count in range(len(ROWS) + 1):
        files.update(ROWS[:count])
        assert in_files(tmp_path) == in_rows(ROWS[:count])


def test_of_no_folder_nothing_is_written(tmp_path, monkeypatch):
    """As of all processes of a training but the first."""
    monkeypatch.chdir(tmp_path)
    EventFiles(None).update(ROWS)
    assert list(tmp_path.iterdir()) == []


def test_files_do_not_pile_up(tmp_path):
    """A new training removes the event files of the one before, and no other file."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "events.out.tfevents.1").touch()
    EventFiles(tmp_path).update(ROWS)
    (tmp_path / "validation" / "notes.txt").touch()
    EventFiles(tmp_path).update(ROWS[:1])
    (tmp_path / "validation" / "notes.txt").unlink()
    assert in_files(tmp_path) == in_rows(ROWS[:1])


@pytest.mark.parametrize("stops", [[1], [6], [4, 11]])
def test_no_kill_loses_or_doubles_a_point(training, tmp_path, monkeypatch, stops):  # noqa: F811
    """Killed before its first row, between two checkpoints, and twice: files and history end as without."""
    whole = training.run()
    training.steps_done = 0
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    def stop(step: int) -> None:
        if step in stops:
            stops.remove(step)
            raise RuntimeError("power cut")

    training.before_step = stop
    saved = iter([0, 10**9])  # the second life saves nothing: rows that are in its files are computed again
    while stops:
        monkeypatch.setenv("DISTILBERT_CHECKPOINT_MINUTES", str(next(saved)))
        with pytest.raises(RuntimeError, match="power cut"):
            training.run(checkpoints=checkpoints, events=tmp_path / "events")
    again = training.run(checkpoints=checkpoints, events=tmp_path / "events")
    assert_same_run(whole, again)
    assert in_files(tmp_path / "events") == in_rows(whole[0].history)


def test_a_finished_training_has_its_points(training, tmp_path, monkeypatch):  # noqa: F811
    """Stopped after its last step and started again, it writes what its checkpoint has."""
    monkeypatch.setenv("DISTILBERT_CHECKPOINT_MINUTES", "0")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    result, _ = training.run(checkpoints=checkpoints)
    training.run(checkpoints=checkpoints, events=tmp_path / "events")
    assert in_files(tmp_path / "events") == in_rows(result.history)


def test_a_full_disk_stops_no_training(tmp_path, monkeypatch, caplog):
    """One warning that names the folder; once there is space again, all rows are there."""
    is_full = True
    fsync = os.fsync

    def full(descriptor):
        if is_full:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    files = EventFiles(tmp_path)
    with caplog.at_level(logging.WARNING):
        files.update([])
        files.update(ROWS[:1])
        files.update(ROWS[:2])
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: no events for TensorBoard (the training goes on): [Errno 28] No space left on device"
    )
    is_full = False
    files.update(ROWS)
    assert in_files(tmp_path) == in_rows(ROWS)


def test_a_place_that_is_no_folder_stops_no_training(training, tmp_path, caplog):  # noqa: F811
    """A training whose event files cannot be made ends with the same bits."""
    (tmp_path / "events").touch()
    whole = training.run()
    assert_same_run(whole, training.run(events=tmp_path / "events"))
    assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == ["WARNING"]


def test_a_stopped_training_has_the_rows_that_it_logged(training, tmp_path):  # noqa: F811
    """SIGTERM after step 7 of 15: the files have the rows of before, to be looked at."""
    training.before_step = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 6 else None
    with pytest.raises(SystemExit):
        training.run(checkpoints=Checkpoints(tmp_path / "checkpoints"), events=tmp_path / "events")
    assert {(split, step) for split, step, *_ in in_files(tmp_path / "events")} == {
        ("train", 3),
        ("train", 6),
        ("validation", 3),
        ("validation", 5),
    }
