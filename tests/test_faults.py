"""Faults: damaged data is refused by name before anything is trained on it, and a fault of the disk loses nothing.

Damage is tried, not imagined: bits are flipped all over a file, it is cut, swapped, removed. A disk is filled in two
ways: as a small file system of its own (tmpfs; needs root), and, anywhere, by a limit on the size of a file.
"""

import contextlib
import errno
import gzip
import json
import logging
import os
import random
import re
import resource
import shutil
import subprocess
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import vouch_for
from safetensors.torch import load_file, save_file
from snakemake.iocontainers import InputFiles, OutputFiles
from test_training import LanguageTraining, assert_same_run
from test_workflow import ROOT, snakemake

from distilbert import plotting, runlog, sources, synthetic, tokens, wordpiece
from distilbert.checkpoint import Checkpoints
from distilbert.files import read_sealed_json, sha256, write_csv, write_json, write_sealed_json, write_text
from distilbert.model import MaskedLM, SequenceClassifier, load_pretrained, read_config, save_pretrained, student_config
from distilbert.tokens import TokenShards, write_shard

FLIPS = 200
SPLITS = ("train", "validation", "test")


def flipped(content: bytes, *, flips: int = FLIPS, seed: int = 0) -> list[bytes]:
    """Return copies of a file with one bit flipped each: every bit of a byte in turn, bytes from end to end."""
    generator, copies = random.Random(seed), []
    for number in range(flips):
        place = int((number + generator.random()) / flips * len(content))
        copy = bytearray(content)
        copy[place] ^= 1 << number % 8
        copies.append(bytes(copy))
    return copies


def count_silent(path: Path, copies: list[bytes], read) -> int:
    """Put each copy in the place of a file and read it; return how many raise no one-line error that names the file."""
    whole, silent = path.read_bytes(), 0
    for copy in copies:
        path.write_bytes(copy)
        try:
            read()
            silent += 1
        except ValueError as error:
            silent += str(path) not in str(error) or "\n" in str(error)
    path.write_bytes(whole)
    read()  # what is whole is read
    return silent


# Token shards.


@pytest.fixture
def task(tmp_path, vocabulary, monkeypatch) -> Path:
    """Return a folder with the three shards of a task, of several record batches each, and their manifest."""
    monkeypatch.setattr(tokens, "ROWS_PER_BATCH", 50)
    generator, files = random.Random(0), {}
    for split, count in (("train", 220), ("validation", 60), ("test", 60)):
        rows = [
            {
                "input_ids": [2, *generator.choices(range(5, 97), k=generator.randint(3, 20)), 3],
                "label": i % 2,
                "idx": i,
            }
            for i in range(count)
        ]
        files[split] = write_shard(tmp_path / "task" / f"{split}.arrow", rows, vocabulary, labelled=True)
    write_sealed_json(tmp_path / "task" / "manifest.json", {"files": files, "token_counts": [0, 1]})
    return tmp_path / "task"


def ends_of_batches(content: bytes) -> list[int]:
    """Return where each message (the schema, then the record batches) of an Arrow file ends."""
    stream = pa.BufferReader(content[8:])  # after the magic; what follows is a stream
    reader = pa.ipc.MessageReader.open_stream(stream)
    ends = []
    for _ in range(1 + pa.ipc.open_file(content).num_record_batches):
        reader.read_next_message()
        ends.append(8 + stream.tell())
    return ends


def test_no_flipped_bit_of_a_shard_is_read(task):
    """Of 200 flips all over a shard, none goes unnoticed; Arrow alone would read most of them as if nothing was."""
    path = task / "train.arrow"
    copies = flipped(path.read_bytes())
    assert count_silent(path, copies, lambda: TokenShards([path])) == 0

    def arrow_reads(copy: bytes) -> bool:
        try:
            return pa.ipc.open_file(copy).read_all().num_rows == 220
        except (pa.ArrowInvalid, OSError):
            return False

    assert sum(map(arrow_reads, copies)) > FLIPS / 2


def test_no_cut_shard_is_read(task):
    """Cut at each record batch's end, at every 8 bytes of the last 200, and to nothing: refused by name."""
    path = task / "train.arrow"
    whole = path.read_bytes()
    ends = ends_of_batches(whole)
    assert len(ends) == 6
    cuts = [0, *ends, *range(len(whole) - 200, len(whole), 8), len(whole) - 1]
    assert count_silent(path, [whole[:cut] for cut in cuts], lambda: TokenShards([path])) == 0


def test_no_flipped_bit_of_a_manifest_is_read(task):
    """A flip in a digest, in a number of rows, in a word's count, in the layout even: refused by name."""
    path = task / "manifest.json"
    assert count_silent(path, flipped(path.read_bytes()), lambda: TokenShards([task / "train.arrow"])) == 0


@pytest.mark.parametrize("other", ["validation.arrow", "elsewhere"])
def test_another_shard_is_refused(task, vocabulary, other):
    """A valid shard in the place of another, of the same task or of none, is refused by name."""
    path = task / "train.arrow"
    if other == "elsewhere":
        write_shard(path, [{"input_ids": [2, 5, 3], "label": 0, "idx": 0}], vocabulary, labelled=True)
    else:
        shutil.copyfile(task / other, path)
    with pytest.raises(ValueError, match="damaged or replaced") as caught:
        TokenShards([path])
    assert str(path) in str(caught.value) and "manifest.json" in str(caught.value)


def test_a_shard_without_a_manifest_is_refused(task):
    """No manifest beside it, or one that does not know it: one line with the shard's name."""
    path, unknown = task / "train.arrow", task / "extra.arrow"
    shutil.copyfile(path, unknown)
    with pytest.raises(ValueError, match=re.escape(f"{unknown}: ") + ".*manifest.json does not say"):
        TokenShards([unknown])
    (task / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{path}: no manifest.json beside it")):
        TokenShards([path])


def test_a_wrong_number_of_rows_is_refused(task):
    """A manifest that is whole but says another number of rows: refused with both numbers."""
    record = read_sealed_json(task / "manifest.json")
    record["files"]["train"]["rows"] += 1
    write_sealed_json(task / "manifest.json", record)
    with pytest.raises(ValueError, match=r"train.arrow: 220 rows, but .*manifest.json says 221"):
        TokenShards([task / "train.arrow"])


def test_a_shard_is_refused_before_any_is_read(task, monkeypatch):
    """The last of several shards is damaged: nothing was mapped of it when it is refused."""
    mapped = []
    memory_map = pa.memory_map
    monkeypatch.setattr(pa, "memory_map", lambda path: mapped.append(Path(path).name) or memory_map(path))
    (task / "test.arrow").write_bytes(flipped((task / "test.arrow").read_bytes())[100])
    with pytest.raises(ValueError, match="test.arrow"):
        TokenShards([task / "train.arrow", task / "test.arrow"])
    assert mapped == ["train.arrow"]


def test_every_rule_that_reads_shards_declares_their_manifest():
    """In the rules, an input that is a token shard comes with the manifest that it is checked against."""
    readers = []
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for block in re.split(r"^ *rule (?=\w+:)", path.read_text(), flags=re.MULTILINE)[1:]:
            inputs = block.partition("output:")[0]
            if re.search(r"\.arrow|token_shards\(", inputs) and "predictions=" not in inputs:
                readers.append(block.partition(":")[0])
                assert "manifest.json" in inputs, readers[-1]
    trainings = ["distill_task", "finetune", "pretrain", "train_teacher"]
    assert sorted(readers) == sorted([*trainings, "score_models", "measure_efficiency", "export_onnx"])


# Models.


@pytest.fixture
def model(tmp_path, bert_config) -> Path:
    """Return a folder with a small masked LM."""
    torch.manual_seed(0)
    save_pretrained(MaskedLM(replace(bert_config, num_layers=1)), tmp_path / "model")
    return tmp_path / "model"


def read_model(folder: Path) -> MaskedLM:
    """Read a masked LM as the steps do: its config, then its weights."""
    model = MaskedLM(read_config(folder))
    load_pretrained(model, folder)
    return model


@pytest.mark.parametrize("part", ["metadata", "header", "tensors"])
def test_no_flipped_bit_of_a_model_is_read(model, part):
    """Every bit of the length and the metadata of model.safetensors, 200 of its header, 200 of its tensors: refused."""
    path = model / "model.safetensors"
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    if part == "metadata":
        size = whole.index(b"}")
        copies = [head + whole[size:] for head in flipped(whole[:size], flips=8 * size)]
        assert len(set(copies)) == 8 * size
    elif part == "header":
        copies = [head + whole[end:] for head in flipped(whole[:end])]
    else:
        copies = [whole[:end] + tail for tail in flipped(whole[end:])]
    assert count_silent(path, copies, lambda: read_model(model)) == 0


def test_no_cut_model_is_read(model):
    """Cut anywhere, to nothing even: refused by name."""
    path = model / "model.safetensors"
    whole = path.read_bytes()
    cuts = [0, 4, 8, 100, *range(len(whole) - 200, len(whole), 8), len(whole) - 1]
    assert count_silent(path, [whole[:cut] for cut in cuts], lambda: read_model(model)) == 0


def test_no_flipped_bit_of_a_config_is_read(model):
    """Of 200 flips in config.json, each is refused or leaves every value as it was."""
    path = model / "config.json"
    values = json.loads(path.read_text())
    copies = flipped(path.read_bytes())
    changed = [copy for copy in copies if not same_json(copy, values)]
    assert len(changed) > FLIPS * 0.9
    assert count_silent(path, changed, lambda: read_model(model)) == 0


def same_json(content: bytes, values: dict) -> bool:
    try:
        return json.loads(content) == values
    except ValueError:
        return False


def test_the_weights_of_another_model_are_refused(model, bert_config):
    """Valid weights beside a config that they were not written with: refused, and the config named."""
    save_pretrained(MaskedLM(replace(bert_config, num_layers=1, dropout=0.3)), model.parent / "other")
    shutil.copyfile(model.parent / "other" / "model.safetensors", model / "model.safetensors")
    with pytest.raises(ValueError, match="damaged or edited") as caught:
        read_model(model)
    assert str(model / "config.json") in str(caught.value)


@pytest.mark.parametrize("key", ["tensors_sha256", "config_sha256"])
def test_one_digest_without_the_other_is_refused(model, key):
    """The metadata lost one of its two digests: it is not a foreign checkpoint, it is a damaged one."""
    path = model / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", key: "0" * 64})
    with pytest.raises(ValueError, match="damaged: its metadata") as caught:
        read_model(model)
    assert str(path) in str(caught.value)


def test_a_foreign_checkpoint_is_read_as_it_is(model):
    """Without digests, as `transformers` saves it, weights and config may be edited and are read."""
    path = model / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt"})
    write_json(model / "config.json", json.loads((model / "config.json").read_text()) | {"hidden_dropout_prob": 0.3})
    assert read_model(model).config.dropout == 0.3


# Predictions.


def score(folder: Path, model: Path, shard: Path) -> dict[str, Path]:
    """Score a classifier on a shard; return the paths of predictions and metrics."""
    paths = {"predictions": folder / "scored.arrow", "metrics": folder / "scored.json"}
    settings = {"tasks": ["rte"], "yes": {"rte": 0}, "precision": "float32"}
    lists = {name: [path] for name, path in paths.items()}
    import_module("score_models").main(
        models=[model / "model.safetensors"], tests=[shard], settings=settings, code="a=b", **lists
    )
    return paths


def test_no_flipped_bit_of_predictions_is_tabulated(tmp_path, task, bert_config):
    """Of 200 flips in the predictions, 200 in the metrics beside them and 28 cuts, none reaches a table."""
    save_pretrained(SequenceClassifier(student_config(bert_config, num_layers=1)), tmp_path / "model")
    paths = score(tmp_path, tmp_path / "model", task / "test.arrow")
    tables = {name: tmp_path / name for name in ("cross_evaluation", "summary", "record")}
    models = [{"approach": "pretrained", "task": "rte", "seed": 1}]
    settings = {"models": models, "metric": {"rte": "accuracy"}, "is_real_glue": False}

    def collect() -> None:
        lists = {name: [path] for name, path in paths.items()}
        import_module("collect_results").main(**lists, **tables, settings=settings, code="a=b")

    for path in paths.values():
        whole = path.read_bytes()
        cuts = [whole[:cut] for cut in (0, 8, 100, *range(len(whole) - 200, len(whole), 8))]
        assert count_silent(path, flipped(whole) + cuts, collect) == 0


# Checkpoints.


def test_a_damaged_checkpoint_changes_no_number(make_shards, bert_config, tmp_path, monkeypatch, caplog):
    """200 flips and 28 cuts of the newest checkpoint: each falls back, whole, on the one before, and says so.

    Every 20th is also trained on, and ends on the same bits as a run that nothing stopped.
    """
    training, crash = LanguageTraining(make_shards, bert_config), RuntimeError("power cut")

    def stop(step: int) -> None:
        if step == 14:
            raise crash

    whole_run = training.run()
    training.steps_done, training.before_step = 0, stop
    monkeypatch.setenv("DISTILBERT_CHECKPOINT_MINUTES", "0")
    with pytest.raises(RuntimeError, match="power cut"):
        training.run(checkpoints=Checkpoints(tmp_path / "saved"))
    training.before_step = lambda step: None
    monkeypatch.setenv("DISTILBERT_CHECKPOINT_MINUTES", "100")
    before, newest = sorted((tmp_path / "saved").glob("step-*"))
    assert [path.name[:15] for path in (before, newest)] == ["step-0000000013", "step-0000000014"]
    (tmp_path / "whole").mkdir()
    shutil.copyfile(before, tmp_path / "whole" / before.name)
    expected, expected_state = Checkpoints(tmp_path / "whole").load()
    content = newest.read_bytes()
    cuts = [content[:cut] for cut in (0, 8, 100, *range(len(content) - 200, len(content), 8))]
    for number, copy in enumerate(flipped(content) + cuts):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copyfile(before, folder / before.name)
        (folder / newest.name).write_bytes(copy)
        caplog.clear()
        if number % 20:
            tensors, state = Checkpoints(folder).load()
            assert state == expected_state
            assert all(torch.equal(tensors[name], value) for name, value in expected.items())
        else:
            training.steps_done = 0
            assert_same_run(whole_run, training.run(checkpoints=Checkpoints(folder), model_seed=1))
            assert training.steps_done == 2
        assert f"{folder / newest.name}: damaged checkpoint" in caplog.text
        shutil.rmtree(folder)


# Disks.


class SmallFileSystem:
    """A file system of 8 MiB that a filler can leave with little room."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fill(self, room: int) -> None:
        status = os.statvfs(self.folder)
        (self.folder / "filler").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - room)))

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)


class FileSizeLimit:
    """A limit of this process on the size of a file that it writes."""

    def __init__(self, folder: Path):
        self.folder, self.before = folder, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, room: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, self.before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def mount(folder: Path, *options: str) -> None:
    """Mount a tmpfs, or skip the test where that is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")


@pytest.fixture(params=["small file system", "file size limit"])
def disk(request, tmp_path):
    """Return a disk that can be filled and freed."""
    folder = tmp_path / "disk"
    if request.param == "file size limit":
        folder.mkdir()
        disk = FileSizeLimit(folder)
        yield disk
        disk.free()
    else:
        mount(folder, "size=8m")
        yield SmallFileSystem(folder)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a lock in it may still be open


@pytest.fixture
def run_step(tmp_path, monkeypatch, capfd):
    """Return a function that runs a `main` as Snakemake would; it returns exit code and lines on the terminal."""
    monkeypatch.setattr(runlog, "end_with_parent", lambda: None)
    monkeypatch.setattr(runlog, "require_same_code", lambda rule, code: None)  # the step is no script
    monkeypatch.setattr(logging, "raiseExceptions", True)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(main) -> tuple[int, list[str]]:
        log = [str(tmp_path / "step.log")]
        files = {"input": InputFiles(), "output": OutputFiles(["out"])}
        job = SimpleNamespace(rule="step", log=log, threads=1, resources={}, params=["code a=b"], **files)
        capfd.readouterr()
        try:
            runlog.run(main, job)
            code = 0
        except SystemExit as exit_:
            code = exit_.code
        finally:
            for handler in root.handlers:
                if handler not in handlers:
                    with contextlib.suppress(OSError):  # as at the end of a process
                        handler.close()
            root.handlers[:] = handlers
            root.setLevel(level)
            logging.captureWarnings(False)
        return code, capfd.readouterr().err.splitlines()

    return run


def arrow_rows(size: int) -> list[dict]:
    return [{"input_ids": [2, *[5 + i % 90] * 10, 3], "label": 0, "idx": i} for i in range(size // 10)]


@dataclass
class Place:
    """Where a writer writes, and what it needs."""

    folder: Path
    scratch: Path
    vocabulary: tokens.Vocabulary
    config: object


def write_predictions(place: Place, size: int) -> None:
    shard = place.scratch / str(size) / "test.arrow"
    if not shard.exists():
        with_labels = {"vocabulary": place.vocabulary, "labelled": True}
        write_shard(shard, arrow_rows(size // 4), **with_labels)
        vouch_for(shard.parent)
        save_pretrained(SequenceClassifier(place.config), place.scratch / "classifier")
    score(place.folder, place.scratch / "classifier", shard)


def save_model(place: Place, size: int) -> None:
    save_pretrained(MaskedLM(replace(place.config, vocab_size=size // 100)), place.folder)


def save_checkpoint(place: Place, size: int) -> None:
    Checkpoints(place.folder).save({"weight": torch.arange(size // 4)}, {"step": size}, step=size)


def draw(place: Place, size: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), dpi=50 + size / 1000)
    figure.add_subplot().plot(torch.rand(size // 40), lw=0.1)
    plotting.save(figure, place.folder / "figure.png", place.folder / "figure.svg")


def generate_corpus(place: Place, size: int) -> None:
    settings = {"seed": 1, "shard": 0, "num_documents": size // 400}
    import_module("generate_corpus_shard").main(corpus=place.folder / "shard.parquet", settings=settings)


def save_tokenizer(place: Place, size: int) -> None:
    learnt = wordpiece.learn(lambda: [f"word{i}" for i in range(size // 80)] * 2, vocab_size=60_000, lowercase=True)
    wordpiece.save(learnt, place.folder, max_length=10, token_types=True)


WRITERS = {
    "write_text": lambda place, size: write_text(place.folder / "a.txt", "x" * size),
    "write_json": lambda place, size: write_json(place.folder / "a.json", ["x" * size]),
    "write_sealed_json": lambda place, size: write_sealed_json(place.folder / "a.json", {"x": "x" * size}),
    "write_csv": lambda place, size: write_csv(place.folder / "a.csv", [{"x": i} for i in range(size // 5)]),
    "write_shard": lambda place, size: write_shard(
        place.folder / "a.arrow", arrow_rows(size), place.vocabulary, labelled=True
    ),
    "save_pretrained": save_model,
    "Checkpoints.save": save_checkpoint,
    "score_models": write_predictions,
    "plotting.save": draw,
    "generate_corpus_shard": generate_corpus,
    "wordpiece.save": save_tokenizer,
}
SMALL, LARGE, ROOM = 4_000, 400_000, 40_000


def content(folder: Path) -> dict[str, str]:
    """Return {name: digest} of every file of a folder but the filler."""
    return {path.name: sha256(path) for path in folder.iterdir() if path.name != "filler"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there(name, disk, run_step, tmp_path, vocabulary, bert_config):
    """Every writer, on a disk with no room: one line, exit code 1, the files before it intact, nothing half-written.

    With room again it succeeds, so it was the disk that stopped it.
    """
    place = Place(disk.folder / "out", tmp_path / "scratch", vocabulary, student_config(bert_config, num_layers=1))
    write = WRITERS[name]
    if name == "score_models":  # its inputs are there before the disk is full
        write_predictions(replace(place, folder=tmp_path), LARGE)
    write(place, SMALL)
    before = content(place.folder)
    assert before
    disk.fill(ROOM)
    code, lines = run_step(lambda: write(place, LARGE))
    assert content(place.folder) == before
    disk.free()
    assert code == 1
    assert len(lines) == 1, lines
    assert re.search("No space left on device|File too large", lines[0])
    assert str(place.folder) in lines[0]
    assert run_step(lambda: write(place, LARGE)) == (0, [])
    assert content(place.folder) != before


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_full_disk_ends_an_unpacking(disk, run_step, tmp_path, monkeypatch, suffix):
    """A packed corpus that does not fit the temporary folder: one line with the corpus's name, and no leftover."""
    lines = "".join(json.dumps({"text": f"{i} " * 300}) + "\n" for i in range(5000)).encode()
    path = tmp_path / f"corpus.jsonl{suffix}"
    path.write_bytes(compress(lines, suffix))
    monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
    disk.fill(ROOM)
    code, shown = run_step(lambda: list(sources.read_documents(path)))
    left = content(disk.folder)
    disk.free()
    assert code == 1 and left == {}
    assert len(shown) == 1 and str(path) in shown[0]
    assert re.search("No space left on device|File too large", shown[0])


def compress(text: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(text)
    if suffix == ".xz":
        import lzma

        return lzma.compress(text)
    import zstandard

    return zstandard.compress(text)


def test_a_training_on_a_full_disk_stops_and_resumes(disk, make_shards, bert_config, monkeypatch):
    """No room for the next checkpoint: the training stops, naming the folder; with room it ends on the same bits."""
    monkeypatch.setenv("DISTILBERT_CHECKPOINT_MINUTES", "0")
    training = LanguageTraining(make_shards, bert_config)
    whole_run, training.steps_done = training.run(), 0
    checkpoints = Checkpoints(disk.folder / "saved")
    training.before_step = lambda step: disk.fill(ROOM) if step == 6 else None
    with pytest.raises(OSError, match="cannot save a checkpoint") as caught:
        training.run(checkpoints=checkpoints)
    saved = sorted(path.name[:15] for path in checkpoints.folder.iterdir())
    disk.free()
    assert str(checkpoints.folder) in str(caught.value) and "\n" not in str(caught.value)
    assert saved == ["lock", "step-0000000005", "step-0000000006"]
    training.before_step = lambda step: None
    training.steps_done = 0
    assert_same_run(whole_run, training.run(checkpoints=checkpoints, model_seed=1))
    assert training.steps_done == 9


@pytest.mark.parametrize("write", [write_text, lambda path, text: save_checkpoint(Place(path.parent, *[None] * 3), 9)])
def test_a_disk_that_fails_late_leaves_nothing(tmp_path, monkeypatch, write):
    """A disk that takes the data and fails when it is flushed (a network's): no temporary file, no new one."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        write(tmp_path / "a.txt", "text")
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("disk", ["small file system"], indirect=True)  # the limit would stop the terminal's lines too
def test_a_full_disk_under_the_log_is_no_traceback(disk, run_step, tmp_path):
    """Where the log itself cannot be written, the terminal shows the step's one line and nothing else."""
    (tmp_path / "step.log").symlink_to(disk.folder / "step.log")
    disk.fill(0)

    def main() -> None:
        logging.getLogger("distilbert").info("a line that does not fit")
        raise ValueError("what went wrong")

    code, lines = run_step(main)
    disk.free()
    assert (code, len(lines)) == (1, 1)
    assert "what went wrong" in lines[0]


def test_no_memory_is_one_line(run_step):
    """An allocation that fails for real, of Python, of NumPy and of PyTorch: one line, exit code 1."""
    for allocate in (lambda: bytearray(2**62), lambda: torch.empty(2**58), lambda: torch.empty(2**50).numpy() + 1):
        code, lines = run_step(allocate)
        assert code == 1
        assert len(lines) == 1, lines
        assert re.search("memory|MemoryError", lines[0])


@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_folder_is_one_line(name, tmp_path, run_step, vocabulary, bert_config):
    """Every writer, in a folder that may only be read: one line with its name, exit code 1."""
    folder = tmp_path / "results"
    mount(folder, "ro", "size=1m")
    place = Place(folder / "out", tmp_path / "scratch", vocabulary, student_config(bert_config, num_layers=1))
    try:
        code, lines = run_step(lambda: WRITERS[name](place, SMALL))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert code == 1
    assert len(lines) == 1, lines
    assert "Read-only file system" in lines[0] and str(folder) in lines[0]


@pytest.mark.parametrize("name", ["train.arrow", "manifest.json", "model.safetensors", "config.json"])
def test_a_vanished_input_is_one_line(name, task, model, run_step):
    """An input that was deleted after Snakemake had looked: one line with its name."""
    for folder in (task, model):
        (folder / name).unlink(missing_ok=True)
    code, lines = run_step(lambda: (TokenShards([task / "train.arrow"]), read_model(model)))
    assert (code, len(lines)) == (1, 1)
    assert name in lines[0]


# The workflow.


def test_a_job_that_fails_stops_no_other(tmp_path):
    """Of three tasks the first that is prepared has a broken file: the run goes on with the two others, and fails."""
    learnt = wordpiece.learn(lambda: ["a sentence of the river"] * 9, vocab_size=100, lowercase=True)
    for name in ("model/tokenizer.json", "results/tokenizer/tokenizer.json"):  # as if it had been imported
        write_text(tmp_path / name, learnt.to_str())
    names = ["mrpc", "cola", "rte"]
    for task in names:
        rows = synthetic.generate_task(task, seed=1, num_train=60, num_validation=40)
        for split in ("train", "validation"):
            path = tmp_path / "glue" / task / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows[split]), path)
    broken = tmp_path / "glue" / "cola" / "train-00000-of-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-100])
    overlay = {
        "tokenizer": {"source": "folder", "folder": "model"},
        "tasks": {"names": names, "source": "folder", "folder": "glue"},
    }
    manifests = [f"results/tasks/{name}/manifest.json" for name in names]
    order = ["--cores", "1", "--prioritize", manifests[1]]
    done = snakemake(tmp_path, *manifests, *order, overlays=[overlay])
    assert done.returncode != 0
    assert done.stdout.index("Error in rule prepare_task") < done.stdout.index("Finished jobid")
    assert "prepare_task: glue/cola/train-00000-of-00001.parquet" in done.stdout
    for name in names:
        whole = [(tmp_path / "results" / "tasks" / name / f"{split}.arrow").exists() for split in SPLITS]
        assert whole == [name != "cola"] * 3
