"""Event files of a training for TensorBoard: the rows of its training.csv as soon as they are there.

A training's folder holds two runs, `train` and `validation`, so that TensorBoard draws both in one chart: a tag is a
column of the CSV, the x axis is the step. Values are float32, as everything in such a file.

They are no outputs that Snakemake knows. It would delete them when a job fails, which is when one wants to see them;
they hold clocks, so that no two runs write the same bytes; and nothing here reads them, so that none is worth a rerun.
What is left of a former training is removed when one starts, and the rows of its checkpoint are written anew: no kill
loses a point or doubles one. (So restored rows have the time of the restart, if "wall" is chosen for the x axis.)
"""

import logging
import time
from contextlib import suppress
from pathlib import Path

from tensorboardX import RecordWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

FOLDER = "tensorboard"
SPLITS = ("train", "validation")
# TensorBoard reads the files of a folder in the order of their names, which end with the time at which they were begun.
PREFIX = "events.out.tfevents."

log = logging.getLogger(__name__)


class EventFiles:
    """The event files of one training; of a folder None, nothing is written."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.writers: dict[str, RecordWriter] = {}
        self.num_rows, self.has_failed = 0, False

    def update(self, history: list[dict]) -> None:
        """Write the rows of a training's history that are not there yet, the first time all.

        A full disk or a folder that may not be written to stops no training: it is warned of, once, and with the next
        row all are written anew.
        """
        if self.folder is None:
            return
        try:
            if not self.writers:
                self.begin()
            for row in history[self.num_rows :]:
                figures = {tag: value for tag, value in row.items() if tag not in ("step", "split")}
                values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
                self.write(row["split"], step=row["step"], summary=Summary(value=values))
            for writer in self.writers.values():
                writer.flush()
            self.num_rows, self.has_failed = len(history), False
        except OSError as error:
            self.close()
            if not self.has_failed:
                log.warning("%s: no events for TensorBoard (the training goes on): %s", self.folder, error)
            self.has_failed = True

    def begin(self) -> None:
        """Remove the files of before and begin new ones, which tell a TensorBoard that is watching to forget those."""
        for split in SPLITS:
            folder = self.folder / split
            folder.mkdir(parents=True, exist_ok=True)
            for former in folder.glob(f"{PREFIX}*"):
                former.unlink()
            self.writers[split] = RecordWriter(str(folder / f"{PREFIX}{time.time():.0f}"))
            self.write(split, file_version="brain.Event:2")
            self.write(split, step=0, session_log=SessionLog(status=SessionLog.START))

    def write(self, split: str, **content) -> None:
        """Write one event, with the time of now."""
        self.writers[split].write(Event(wall_time=time.time(), **content).SerializeToString())

    def close(self) -> None:
        """Close the files; what comes next begins new ones."""
        for writer in self.writers.values():
            with suppress(OSError):  # all was flushed, or has been warned of
                writer.close()
        self.writers, self.num_rows = {}, 0
