"""Reading text as it comes: Wikipedia-like corpora and GLUE tables, from a folder or from the Hub's layout.

`datasets` reads every format (parquet, JSON lines, plain text), in streaming mode, so nothing is copied into a
cache. Files packed with gzip, xz or zstd are unpacked first, because `datasets` reads a zstd file that was cut
silently short. What cannot be read right is refused in one line.
"""

import gzip
import hashlib
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# The suffix that decides how a file is read -> builder and its options.
FORMATS = {
    ".parquet": ("parquet", {}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".txt": ("text", {"sample_by": "paragraph"}),  # a blank line ends a document
}
COMPRESSIONS = (".gz", ".xz", ".zst")


def format_suffix(path: Path) -> str | None:
    """Return the suffix of a corpus file's format, compression aside, or None if it is none that we read."""
    name = _without_compression(path)
    suffix = next((suffix for suffix in FORMATS if name.endswith(suffix)), None)
    is_packed_parquet = suffix == ".parquet" and name != Path(path).name  # parquet packs its columns itself
    return None if is_packed_parquet else suffix


def _without_compression(path: Path) -> str:
    name = Path(path).name
    return name.removesuffix(Path(name).suffix) if Path(name).suffix in COMPRESSIONS else name


def corpus_files(folder: Path) -> dict[str, Path]:
    """Return {shard name: file} of every readable file below a corpus folder, sorted by name.

    A shard is named by the file's path in the folder, without its suffixes and with "--" for "/".

    Raises:
        ValueError: the folder has none, or two files would share a name; the message says which.
    """
    shards: dict[str, Path] = {}
    for path in sorted(Path(folder).rglob("*")):
        inside = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in inside.parts)
        if is_hidden or not path.is_file() or format_suffix(path) is None:
            continue
        stem = str(inside)[: str(inside).rindex(format_suffix(path))]
        name = re.sub(r"[^A-Za-z0-9_.-]+", "--", stem)
        if name in shards:
            raise ValueError(f"corpus.folder: {shards[name]} and {path} would share the shard name {name}")
        shards[name] = path
    if not shards:
        endings = ", ".join(FORMATS)
        raise ValueError(f"corpus.folder: no document in {folder}; looked for files ending in {endings}")
    return shards


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict]:
    """Yield the rows of a file as dicts that have at least these columns.

    Raises:
        ValueError: the file's format is unknown, it cannot be read, or a column is missing; the message
            names the file, and the row (from 1) where it is known.
    """
    # Imported here: the Snakefile imports this module for `corpus_files`, and `datasets` takes two seconds; left to
    # itself it also imports torch, for three more, to recognise tensors that these files cannot hold.
    os.environ.setdefault("USE_TORCH", "0")
    from datasets import load_dataset

    path = Path(path)
    suffix = format_suffix(path)
    if suffix is None:
        raise ValueError(f"{path}: not a format that is read ({', '.join(FORMATS)})")
    builder, options = FORMATS[suffix]
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            plain = path if path.name == _without_compression(path) else _unpack(path, Path(folder))
            rows = iter(load_dataset(builder, data_files=str(plain), split="train", streaming=True, **options))
        except Exception as error:
            raise _unreadable(path, number, error) from error
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # each format and codec has its own
                raise _unreadable(path, number, error) from error
            number += 1
            if missing := [column for column in columns if column not in row]:
                raise ValueError(f"{path}: row {number}: no column {', '.join(missing)}; it has {', '.join(row)}")
            yield row


def _unreadable(path: Path, number: int, error: Exception) -> ValueError:
    """Return one line that says what is wrong with a file, after how many good rows."""
    is_not_text = isinstance(error, UnicodeDecodeError)
    reason = "not UTF-8" if is_not_text else " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{path}: {f'after row {number}: ' if number else ''}{reason}")


def _unpack(path: Path, folder: Path) -> Path:
    """Unpack a gzip, xz or zstd file into a folder; an error of its codec means that it is damaged or cut."""
    plain = folder / _without_compression(path)
    with plain.open("wb") as output:
        if path.suffix == ".zst":
            _unpack_zstd(path, output)
        else:
            with {".gz": gzip, ".xz": lzma}[path.suffix].open(path) as packed:
                shutil.copyfileobj(packed, output)
    return plain


def _unpack_zstd(path: Path, output: BinaryIO) -> None:
    import zstandard

    decompressor = zstandard.ZstdDecompressor().decompressobj()
    with path.open("rb") as packed:
        while chunk := packed.read(2**20):
            while chunk:
                output.write(decompressor.decompress(chunk))
                chunk = decompressor.unused_data
                if decompressor.eof and chunk:  # another frame follows
                    decompressor = zstandard.ZstdDecompressor().decompressobj()
    if not decompressor.eof:
        raise ValueError("the zstd file ends in the middle of a frame")


def read_documents(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of every document of a corpus file that has any text.

    The id is the file's `id` column where there is one, else a digest of the text itself.
    """
    for number, row in enumerate(read_rows(path, ("text",)), start=1):
        text = row["text"]
        if text is None or not (text := require_text(path, number, "text", text).strip()):
            continue
        identity = row.get("id")
        yield (
            (hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if identity is None else str(identity)),
            text,
        )


def require_text(path: Path, number: int, column: str, value: object) -> str:
    """Return a value that is text.

    Raises:
        ValueError: it is not; the message names file, row (from 1) and column.
    """
    if not isinstance(value, str):
        raise ValueError(f"{path}: row {number}: {column} is {value!r}, not text")
    return value


def split_of(document_id: str, *, validation_fraction: float, test_fraction: float) -> str:
    """Return "train", "validation" or "test" by a stable hash of the id: adding documents moves none."""
    digest = hashlib.blake2b(document_id.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < test_fraction:
        return "test"
    return "validation" if position < test_fraction + validation_fraction else "train"
