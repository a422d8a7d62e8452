"""Token shards: what is written is read back, and what is no shard is refused (damage: test_faults.py)."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from conftest import vouch_for

from distilbert.files import sha256
from distilbert.tokens import MAX_VOCAB_SIZE, ROWS_PER_BATCH, TokenShards, write_shard

ROWS = [{"input_ids": [2, *range(5, 5 + n), 3], "label": n % 2, "idx": 100 + n} for n in range(40)]


def content(shards: TokenShards) -> list[list[int]]:
    return [shards[row].tolist() for row in range(len(shards))]


def read(*paths) -> TokenShards:
    """Open shards whose manifests are written now."""
    for folder in {path.parent for path in paths}:
        vouch_for(folder)
    return TokenShards(paths)


def test_rows_read_back_as_they_were_written(tmp_path, vocabulary):
    """Ids, lengths, labels, row numbers and the vocabulary survive the file."""
    path = tmp_path / "task.arrow"
    written = write_shard(path, iter(ROWS), vocabulary, labelled=True)
    assert written == {"rows": 40, "tokens": sum(len(row["input_ids"]) for row in ROWS), "sha256": sha256(path)}
    shards = read(path)
    assert content(shards) == [row["input_ids"] for row in ROWS]
    assert shards.lengths.tolist() == [len(row["input_ids"]) for row in ROWS]
    assert shards.labels.tolist() == [row["label"] for row in ROWS]
    assert shards.indices.tolist() == [row["idx"] for row in ROWS]
    assert shards.vocabulary == vocabulary
    assert shards[0].dtype == np.uint16


def test_unlabelled_shards_have_no_labels(tmp_path, vocabulary):
    """Shards of the corpus carry neither labels nor row numbers."""
    path = tmp_path / "corpus.arrow"
    write_shard(path, ROWS, vocabulary)
    assert read(path).labels is None
    assert read(path).indices is None


@pytest.mark.parametrize("num_shards", [1, 2, 5])
def test_the_cut_into_shards_changes_nothing(tmp_path, vocabulary, num_shards):
    """The same rows in 1, 2 or 5 files (the first perhaps empty) read as the same list of sequences."""
    bounds = np.linspace(0, len(ROWS), num_shards + 1).astype(int)
    parts = [[], *(ROWS[start:end] for start, end in zip(bounds, bounds[1:], strict=False))]
    paths = [tmp_path / f"{number}.arrow" for number in range(len(parts))]
    for path, rows in zip(paths, parts, strict=True):
        write_shard(path, rows, vocabulary, labelled=True)
    shards = read(*paths)
    assert content(shards) == [row["input_ids"] for row in ROWS]
    assert shards.labels.tolist() == [row["label"] for row in ROWS]
    assert shards.indices.tolist() == [row["idx"] for row in ROWS]


def test_rows_of_several_record_batches_are_found(tmp_path, vocabulary):
    """A shard of more rows than one record batch holds gives every row at its place."""
    path = tmp_path / "long.arrow"
    count = ROWS_PER_BATCH + 3
    write_shard(path, ({"input_ids": [2, 5 + i % 90, 3]} for i in range(count)), vocabulary)
    shards = read(path)
    assert len(shards) == count
    for row in (0, ROWS_PER_BATCH - 1, ROWS_PER_BATCH, count - 1):
        assert shards[row].tolist() == [2, 5 + row % 90, 3]
    with pytest.raises(IndexError):
        shards[count]


def test_pyarrow_opens_a_shard(tmp_path, vocabulary):
    """A shard is an ordinary Arrow IPC file with the documented column types."""
    path = tmp_path / "task.arrow"
    write_shard(path, ROWS, vocabulary, labelled=True)
    table = pa.ipc.open_file(path).read_all()
    assert table.schema.field("input_ids").type == pa.list_(pa.uint16())
    assert table.schema.field("label").type == pa.uint8()
    assert table.schema.field("idx").type == pa.int32()
    assert table.column("input_ids").to_pylist() == [row["input_ids"] for row in ROWS]


def test_datasets_opens_a_shard(tmp_path, vocabulary):
    """`datasets.load_dataset("arrow")` reads the same rows."""
    from datasets import load_dataset

    path = tmp_path / "task.arrow"
    write_shard(path, ROWS, vocabulary, labelled=True)
    dataset = load_dataset("arrow", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset["input_ids"][:] == [row["input_ids"] for row in ROWS]
    assert dataset["label"][:] == [row["label"] for row in ROWS]


@pytest.mark.parametrize("bad_id", [-1, 97, 70_000])
def test_ids_outside_the_vocabulary_are_refused(tmp_path, vocabulary, bad_id):
    """A negative id, the first id past the end and one that uint16 would wrap are refused; no file is left."""
    path = tmp_path / "bad.arrow"
    with pytest.raises(ValueError, match="outside the vocabulary of 97 words") as caught:
        write_shard(path, [{"input_ids": [2, bad_id, 3]}], vocabulary)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_last_id_of_the_largest_vocabulary_is_kept(tmp_path, vocabulary):
    """A vocabulary of 65,536 words fits; its last id reads back."""
    path = tmp_path / "large.arrow"
    write_shard(path, [{"input_ids": [65_535]}], dataclasses.replace(vocabulary, size=MAX_VOCAB_SIZE))
    assert read(path)[0].tolist() == [65_535]


def test_a_vocabulary_beyond_uint16_is_refused(tmp_path, vocabulary):
    """65,537 words do not fit uint16: refused before anything is written."""
    with pytest.raises(ValueError, match="65537 words does not fit uint16"):
        write_shard(tmp_path / "large.arrow", ROWS, dataclasses.replace(vocabulary, size=MAX_VOCAB_SIZE + 1))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_no_file(tmp_path, vocabulary):
    """Rows that fail after the first record batch was written leave neither the shard nor a temporary file."""

    def rows():
        for _ in range(ROWS_PER_BATCH + 1):
            yield {"input_ids": [2, 3]}
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_shard(tmp_path / "half.arrow", rows(), vocabulary)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_file_before_it(tmp_path, vocabulary):
    """A failed rewrite leaves the shard as it was."""
    path = tmp_path / "shard.arrow"
    write_shard(path, ROWS, vocabulary)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_shard(path, [{"input_ids": [1000]}], vocabulary)
    assert path.read_bytes() == before


def test_a_shard_without_rows_is_a_shard(tmp_path, vocabulary):
    """A split into which no document fell is an empty, readable shard."""
    path = tmp_path / "empty.arrow"
    assert write_shard(path, [], vocabulary)["rows"] == 0
    shards = read(path)
    assert len(shards) == 0
    assert shards.lengths.shape == (0,)
    assert shards.vocabulary == vocabulary


def test_no_shard_is_refused():
    """An empty list of paths is an error, not an empty data set."""
    with pytest.raises(ValueError, match="no shard"):
        TokenShards([])


def test_shards_of_different_vocabularies_are_refused(tmp_path, vocabulary):
    """Shards encoded with two tokenizers are never mixed; the message names the second."""
    paths = [tmp_path / "a.arrow", tmp_path / "b.arrow"]
    write_shard(paths[0], ROWS, vocabulary)
    write_shard(paths[1], ROWS, dataclasses.replace(vocabulary, size=98))
    with pytest.raises(ValueError, match="another vocabulary") as caught:
        read(*paths)
    assert str(paths[1]) in str(caught.value)


def test_another_arrow_file_is_refused(tmp_path):
    """An Arrow file that is no token shard is refused by name."""
    path = tmp_path / "other.arrow"
    table = pa.table({"x": [1]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match="not a token shard") as caught:
        read(path)
    assert str(path) in str(caught.value)
