"""Checkpoints that survive a kill at any moment, and are resumed only by the step that wrote them.

A step's checkpoints lie in a folder of their own, outside the declared outputs (Snakemake empties those
before a job and deletes them when it fails), named by a fingerprint of everything that decides the result:
settings, code and inputs. An edit of any of them gives another folder, so a stale checkpoint is never resumed.

Each checkpoint is one safetensors file, never a pickle: the tensors, and the training's state as JSON in the
metadata. It is written under a temporary name, flushed, and renamed to a name that holds its step and its
SHA-256, so that one rename makes it valid and a damaged one is known by its name. The one before it is kept.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from distilbert.files import hold, sha256, sync, write_text

# The Snakefile imports this module to tidy up; it must not wait for torch.
if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(".checkpoints")

# Checkpoints that are kept: the newest, and one to fall back on.
GENERATIONS = 2

# Seconds to wait for another process that holds the folder: more than one takes to end without its Snakemake.
PATIENCE = 10.0

FINISHED = "finished"

log = logging.getLogger(__name__)


def fingerprint(settings: dict, code: str, inputs: Iterable[Path]) -> str:
    """Return 16 hexadecimal digits over a step's settings, its code digest and the content of its inputs."""
    parts = [json.dumps(settings, sort_keys=True), code, *(sha256(path) for path in inputs)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def remove_finished(recorded: set[str]) -> None:
    """Delete the checkpoints of the trainings that have finished and whose outputs are recorded.

    recorded: the outputs of a workflow that has succeeded. A training that was killed between its last output and
    Snakemake's record of it is none of another target's; Snakemake will run it again, and it goes on from its end.
    """
    for mark in FOLDER.glob(f"*/{FINISHED}"):
        if mark.read_text(encoding="utf-8") in recorded:
            shutil.rmtree(mark.parent, ignore_errors=True)


class Checkpoints:
    """The checkpoints of one training, in a folder that one process at a time may write."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._lock = None

    def lock(self) -> None:
        """Take the folder until this process ends.

        Raises:
            RuntimeError: another training has it, and has not ended after some seconds (one whose Snakemake was
                killed is about to end); the message names its pid.
        """
        if self._lock:
            self._lock.close()
        self._lock = hold(self.folder / "lock", "another training", patience=PATIENCE)
        (self.folder / FINISHED).unlink(missing_ok=True)
        for unfinished in self.folder.glob("*.tmp"):
            unfinished.unlink()

    def save(self, tensors: dict[str, "Tensor"], state: dict, *, step: int) -> None:
        """Write tensors and a JSON-able state as they are after `step` optimizer steps; keep two generations.

        Raises:
            OSError: of the disk (full, perhaps); the generations before are as they were. The message names the folder.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "checkpoint.tmp"
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(tensors, temporary, metadata={"state": json.dumps(state)})
            sync(temporary)
            os.replace(temporary, self.folder / f"step-{step:010d}-{sha256(temporary)}.safetensors")
            sync(self.folder)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise OSError(f"{self.folder}: cannot save a checkpoint (the last one is kept): {error}") from error
        for outdated in self._newest_first()[GENERATIONS:]:
            outdated.unlink()

    def load(self) -> tuple[dict[str, "Tensor"], dict] | None:
        """Return (tensors, state) of the newest undamaged checkpoint, or None where there is none.

        A damaged one is deleted, lest it count as one of the generations that are kept.
        """
        from safetensors import safe_open

        for path in self._newest_first():
            if sha256(path) != path.stem.rsplit("-", 1)[1]:
                log.warning("%s: damaged checkpoint, deleted; falling back on an earlier one if there is any", path)
                path.unlink()
                continue
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                return {key: file.get_tensor(key) for key in file.keys()}, state
        return None

    def finish(self, output: Path) -> None:
        """Say that the outputs, `output` among them, are written. What was saved stays until they are recorded."""
        if self._newest_first():
            write_text(self.folder / FINISHED, str(output))
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)
