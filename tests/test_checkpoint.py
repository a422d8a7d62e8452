"""Checkpoints: what is read is what was written, damage falls back, and one process at a time writes."""

import logging
import os
from pathlib import Path

import pytest
import torch

from distilbert.checkpoint import FOLDER, Checkpoints, fingerprint, remove_finished


def tensors_at(step: int) -> dict[str, torch.Tensor]:
    """Return tensors that differ from step to step."""
    generator = torch.Generator().manual_seed(step)
    return {
        "model.weight": torch.randn(20, 30, generator=generator),
        "model.bias": torch.randn(7, generator=generator),
        "count": torch.tensor(step),
    }


def state_at(step: int) -> dict:
    """Return a state as a training has it: nested, with floats that need all their digits, and None."""
    return {"step": step, "seconds": 0.1 + 0.2 * step, "history": [{"loss": 1 / 3, "split": "träin"}], "best": None}


def save(checkpoints: Checkpoints, *steps: int) -> None:
    """Save some steps in order."""
    for step in steps:
        checkpoints.save(tensors_at(step), state_at(step), step=step)


def assert_loads(checkpoints: Checkpoints, step: int) -> None:
    """Check that exactly the tensors and the state of a step are read."""
    tensors, state = checkpoints.load()
    assert state == state_at(step)
    assert tensors.keys() == tensors_at(step).keys()
    for name, value in tensors_at(step).items():
        assert torch.equal(tensors[name], value), name


def files(folder) -> list:
    """Return the checkpoint files, oldest first."""
    return sorted(folder.glob("step-*"))


def test_reads_what_was_written(tmp_path):
    """Tensors come back bit for bit and the state with every digit."""
    save(Checkpoints(tmp_path / "new" / "folder"), 12)
    assert_loads(Checkpoints(tmp_path / "new" / "folder"), 12)


def test_no_checkpoint_is_none(tmp_path):
    """Where nothing was saved, or the folder does not exist, there is nothing to resume."""
    assert Checkpoints(tmp_path).load() is None
    assert Checkpoints(tmp_path / "absent").load() is None


def test_views_and_parameters_are_saved(tmp_path):
    """Tensors that ask for gradients, or are not contiguous, are saved by value."""
    matrix = torch.arange(6.0).view(2, 3).requires_grad_()
    Checkpoints(tmp_path).save({"turned": matrix.T}, {}, step=1)
    tensors, _ = Checkpoints(tmp_path).load()
    assert torch.equal(tensors["turned"], matrix.detach().T)


def test_two_generations_are_kept(tmp_path):
    """The newest two stay, by step and not by time or text, and nothing temporary is left."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 9, 10, 100)
    assert [int(path.name.split("-")[1]) for path in files(tmp_path)] == [10, 100]
    assert len(list(tmp_path.iterdir())) == 2
    os.utime(files(tmp_path)[0])
    assert_loads(checkpoints, 100)


@pytest.mark.parametrize("position", [0.0, 0.002, 0.1, 0.5, 0.9, 1.0])
def test_a_flipped_bit_falls_back(tmp_path, caplog, position):
    """One flipped bit anywhere in the newest file makes the one before it be read, with a warning that names it."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, 2)
    newest = files(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    content[round(position * (len(content) - 1))] ^= 1
    newest.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert_loads(checkpoints, 1)
    assert str(newest) in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file_falls_back(tmp_path, caplog, share):
    """A newest file that was cut short, to nothing even, makes the one before it be read, with a warning."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, 2)
    newest = files(tmp_path)[-1]
    os.truncate(newest, int(share * newest.stat().st_size))
    with caplog.at_level(logging.WARNING):
        assert_loads(checkpoints, 1)
    assert str(newest) in caplog.text


def test_all_damaged_is_none(tmp_path):
    """Where every generation is damaged the training starts anew rather than from bad weights."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, 2)
    for path in files(tmp_path):
        os.truncate(path, 100)
    assert checkpoints.load() is None


def test_a_kill_while_saving_leaves_the_one_before(tmp_path, monkeypatch):
    """A save that dies before its rename leaves the last checkpoint valid; the next owner clears what it left."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(checkpoints, 2)
    assert (tmp_path / "checkpoint.tmp").exists()
    assert_loads(checkpoints, 1)
    checkpoints.lock()
    assert not (tmp_path / "checkpoint.tmp").exists()
    assert_loads(checkpoints, 1)


def test_a_second_owner_is_refused(tmp_path):
    """A folder that is locked is refused in one line that names the owner's pid, and its files are left alone."""
    owner, second = Checkpoints(tmp_path), Checkpoints(tmp_path)
    owner.lock()
    (tmp_path / "checkpoint.tmp").touch()
    for _ in range(2):  # a refusal must not wipe the pid
        with pytest.raises(RuntimeError, match=rf"pid {os.getpid()} on ") as error:
            second.lock()
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "checkpoint.tmp").exists()


def test_the_lock_ends_with_its_owner(tmp_path):
    """A lock file that a dead process left behind stops nobody."""
    (tmp_path / "lock").write_text("999999\n")
    owner = Checkpoints(tmp_path)
    owner.lock()
    assert (tmp_path / "lock").read_text().split()[0] == str(os.getpid())
    del owner
    Checkpoints(tmp_path).lock()


def test_fingerprint_knows_what_decides_the_result(tmp_path):
    """Settings, code and content of the inputs each change the fingerprint; order of keys, names and times do not."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("a")
    second.write_text("b")
    settings = {"alpha_ce": 5.0, "alpha_mlm": 2.0}
    base = fingerprint(settings, "code", [first, second])
    swapped = {"alpha_ce": 2.0, "alpha_mlm": 5.0}
    others = {
        fingerprint(swapped, "code", [first, second]),
        fingerprint(settings, "edited", [first, second]),
        fingerprint(settings, "code", [first]),
        fingerprint(settings, "code", [second, first]),
    }
    assert len(others) == 4 and base not in others
    assert len(base) == 16
    assert fingerprint(dict(reversed(settings.items())), "code", [first, second]) == base
    os.utime(first, (0, 0))
    renamed = second.rename(tmp_path / "renamed")
    assert fingerprint(settings, "code", [first, renamed]) == base
    first.write_text("c")
    assert fingerprint(settings, "code", [first, renamed]) != base


def test_a_damaged_checkpoint_does_not_push_out_good_ones(tmp_path):
    """After damaged checkpoints were passed over, those that are saved at earlier steps are kept."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 10, 20)
    for path in files(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    assert checkpoints.load() is None
    save(checkpoints, 3)
    assert_loads(checkpoints, 3)


def test_finished_checkpoints_are_marked_and_empty_folders_removed(tmp_path):
    """`finish` leaves a mark beside saved checkpoints, which stay, and removes a folder that holds none."""
    saved, short = Checkpoints(tmp_path / "saved"), Checkpoints(tmp_path / "short")
    save(saved, 5)
    short.lock()
    saved.finish(Path("results/a"))
    short.finish(Path("results/b"))
    assert (tmp_path / "saved" / "finished").exists()
    assert_loads(saved, 5)
    assert not (tmp_path / "short").exists()


def test_only_recorded_outputs_let_checkpoints_go(tmp_path, monkeypatch):
    """Those of a training whose outputs the workflow that succeeded does not have stay, and so do unfinished ones."""
    monkeypatch.chdir(tmp_path)
    for name in ("done", "of_another_target", "unfinished"):
        save(Checkpoints(FOLDER / name), 5)
    for name in ("done", "of_another_target"):
        Checkpoints(FOLDER / name).finish(Path("results") / name)
    remove_finished({"results/done", "results/unfinished"})
    assert sorted(path.name for path in FOLDER.iterdir()) == ["of_another_target", "unfinished"]
