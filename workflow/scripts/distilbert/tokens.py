"""Token shards: ragged sequences of token ids in Arrow IPC files, memory-mapped when read.

A shard is one Arrow IPC *file* (not a stream: a stream that was cut at a batch boundary loads silently
short) with a column `input_ids: list<uint16>`, unpadded, one sequence a row, [CLS] and [SEP] included;
shards of a task also have `label` (uint8) and `idx` (int32, the row in the source file). The ids of the
special tokens and the size of the vocabulary stand in the schema's metadata. uint16 holds vocabularies of
up to 65,536 words in half of int32's bytes. `pyarrow` and `datasets` open a shard as it is.

Beside the shards of a folder stands a manifest, a sealed JSON whose `files` hold rows and SHA-256 of each by the
file's stem: Arrow notices a cut file but no flipped bit, so nothing is read from a shard that is not the one in it.

Shapes: N sequences, T tokens of one sequence.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from distilbert.files import atomic_path, read_sealed_json, require_sha256, sha256

MANIFEST_FILE = "manifest.json"
MAX_VOCAB_SIZE = 2**16
# Rows that are gathered before they are written as one Arrow record batch.
ROWS_PER_BATCH = 16_384


@dataclass(frozen=True)
class Vocabulary:
    """The size of a vocabulary and the ids of its special tokens."""

    size: int
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int

    def __post_init__(self):
        if self.size > MAX_VOCAB_SIZE:
            raise ValueError(f"a vocabulary of {self.size} words does not fit uint16 ids (at most {MAX_VOCAB_SIZE})")

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The ids that are never masked and never drawn as a random word."""
        return (self.pad, self.unk, self.cls, self.sep, self.mask)


def write_shard(path: Path, rows: Iterable[dict], vocabulary: Vocabulary, *, labelled: bool = False) -> dict:
    """Write rows {"input_ids": (T,) ids, ...} as one shard, whole or not at all.

    Returns:
        What its manifest says of it: {"rows", "tokens", "sha256"}.
    Raises:
        ValueError: an id does not fit the vocabulary.
    """
    fields = [pa.field("input_ids", pa.list_(pa.uint16()), nullable=False)]
    if labelled:
        fields += [pa.field("label", pa.uint8(), nullable=False), pa.field("idx", pa.int32(), nullable=False)]
    schema = pa.schema(fields, metadata={"vocabulary": json.dumps(asdict(vocabulary))})
    num_rows = num_tokens = 0
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
        rows = iter(rows)
        while batch := list(islice(rows, ROWS_PER_BATCH)):
            writer.write_batch(_to_batch(path, batch, schema, vocabulary))
            num_rows += len(batch)
            num_tokens += sum(len(row["input_ids"]) for row in batch)
    return {"rows": num_rows, "tokens": num_tokens, "sha256": sha256(path)}


def _to_batch(path: Path, rows: list[dict], schema: pa.Schema, vocabulary: Vocabulary) -> pa.RecordBatch:
    lengths = np.fromiter((len(row["input_ids"]) for row in rows), dtype=np.int32, count=len(rows))
    ids = np.concatenate([row["input_ids"] for row in rows], dtype=np.int64, casting="unsafe")  # [] counts as floats
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary.size):
        culprit = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f"{path}: token id {culprit} outside the vocabulary of {vocabulary.size} words")
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    columns = [pa.ListArray.from_arrays(offsets, pa.array(ids.astype(np.uint16)))]
    for name in schema.names[1:]:
        columns.append(pa.array([row[name] for row in rows], schema.field(name).type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class TokenShards:
    """One or more shards read as one list of sequences, in the order of the paths, without copying.

    Each is first checked against the manifest beside it: raises FileNotFoundError or ValueError, naming the file.

    `lengths`: (N,) int32, tokens of each sequence. `labels`: (N,) uint8 or None; `indices`: (N,) int32 or None.
    """

    def __init__(self, paths: Iterable[Path]):
        paths = [Path(path) for path in paths]
        if not paths:
            raise ValueError("tokens: no shard was given")
        self._offsets, self._ids, rows_of_batch, labels, indices = [], [], [], [], []
        self.vocabulary = None
        for path in paths:
            table = _open(path)
            self._check_vocabulary(path, table.schema)
            for column in table.column("input_ids").chunks:
                self._offsets.append(_view(column.offsets))
                self._ids.append(_view(column.values))
                rows_of_batch.append(len(column))
            if "label" in table.column_names:
                labels += map(_view, table.column("label").chunks)
                indices += map(_view, table.column("idx").chunks)
        self._first_row = np.concatenate(([0], np.cumsum(rows_of_batch, dtype=np.int64)))
        self.lengths = np.concatenate([np.diff(offsets) for offsets in self._offsets] or [np.empty(0, np.int32)])
        is_labelled = "label" in table.column_names
        self.labels = np.concatenate([np.empty(0, np.uint8), *labels]) if is_labelled else None
        self.indices = np.concatenate([np.empty(0, np.int32), *indices]) if is_labelled else None

    def _check_vocabulary(self, path: Path, schema: pa.Schema) -> None:
        vocabulary = Vocabulary(**json.loads(schema.metadata[b"vocabulary"]))
        if self.vocabulary not in (None, vocabulary):
            raise ValueError(f"{path}: written with another vocabulary than the shards before it")
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the ids of one sequence, (T,) uint16, a view of the mapped file."""
        batch = int(np.searchsorted(self._first_row, row, side="right")) - 1
        offsets = self._offsets[batch]
        row -= self._first_row[batch]
        return self._ids[batch][offsets[row] : offsets[row + 1]]


def _view(array: pa.Array) -> np.ndarray:
    """Return an Arrow array of numbers as NumPy sees it, without a copy (`to_numpy` would import pandas)."""
    return np.from_dlpack(array)


def _open(path: Path) -> pa.Table:
    """Check one shard against the manifest beside it, and map it.

    Raises:
        FileNotFoundError, ValueError: it or the manifest is absent, or not what was written; the message names it.
    """
    manifest = path.with_name(MANIFEST_FILE)
    try:
        entry = read_sealed_json(manifest)["files"][path.stem]
        num_rows, digest = entry["rows"], entry["sha256"]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no {MANIFEST_FILE} beside it, so nothing says that it is whole") from error
    except KeyError as error:
        raise ValueError(f"{path}: {manifest} does not say what it holds (no {error})") from error
    require_sha256(path, digest, manifest)
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a whole Arrow IPC file: {error}") from error
    if "input_ids" not in table.column_names or b"vocabulary" not in (table.schema.metadata or {}):
        raise ValueError(f"{path}: not a token shard")
    if len(table) != num_rows:
        raise ValueError(f"{path}: {len(table)} rows, but {manifest} says {num_rows}")
    return table
