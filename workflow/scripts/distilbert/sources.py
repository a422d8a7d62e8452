"""Reading text as it comes: Wikipedia-like corpora and tables of examples, from a folder or from the Hub's layout.

`pyarrow` reads parquet, some rows at a time; `datasets`, which does no more with it, takes two seconds to import. JSON
lines and plain text are read here, line by line, because the readers of `datasets` change text without a word: its text
reader ends lines (and so documents) at a lone carriage return and leaves a byte order mark in the first document; its
JSON reader takes "2020-01-01" for a date, and turns a number into text once an earlier chunk of the file held text.
Files packed with gzip, xz or zstd are unpacked first, because `datasets` reads a zstd file that was cut silently short.
What cannot be read right is refused in one line.
"""

import codecs
import csv
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

# The suffixes that decide how a file is read, READERS says by what; of a corpus, and of tables of examples.
CORPUS_FORMATS = (".parquet", ".jsonl", ".json", ".txt")
TABLE_FORMATS = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
COMPRESSIONS = (".gz", ".xz", ".zst")
# Rows of a parquet file that are taken at a time: one at a time took 15 times as long.
PARQUET_ROWS = 100


def format_suffix(path: Path, formats: Iterable[str]) -> str | None:
    """Return which of the formats a file has by its suffix, compression aside, or None."""
    name = _without_compression(path)
    suffix = next((suffix for suffix in formats if name.endswith(suffix)), None)
    is_packed_parquet = suffix == ".parquet" and name != Path(path).name  # parquet packs its columns itself
    return None if is_packed_parquet else suffix


def _without_compression(path: Path) -> str:
    name = Path(path).name
    return name.removesuffix(Path(name).suffix) if Path(name).suffix in COMPRESSIONS else name


def corpus_files(folder: Path) -> dict[str, Path]:
    """Return {shard name: file} of every readable file below a corpus folder, sorted by name.

    A shard is named by the file's path in the folder, without its suffixes and with "--" for whatever is no letter,
    digit, dot or hyphen: "/" too, so that the name is never a path.

    Raises:
        ValueError: the folder has none or cannot be listed, a link leads nowhere, a name has a brace, or two files
            would share a name; the message says which.
    """
    shards: dict[str, Path] = {}
    for path in sorted(_files_below(Path(folder))):
        inside = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in inside.parts)
        suffix = format_suffix(path, CORPUS_FORMATS)
        if is_hidden or suffix is None:
            continue
        if path.is_symlink() and not path.exists():
            raise ValueError(f"corpus.folder: {path} is a link to a file that is not there")
        if not path.is_file():
            continue
        if set("{}") & set(str(path)):
            raise ValueError(f"corpus.folder: {path}: Snakemake takes braces in a name for a wildcard; rename it")
        stem = str(inside)[: str(inside).rindex(suffix)]
        name = re.sub(r"[^\w.-]+", "--", stem)
        if name in shards:
            raise ValueError(f"corpus.folder: {shards[name]} and {path} would share the shard name {name}")
        shards[name] = path
    if not shards:
        endings = ", ".join(CORPUS_FORMATS)
        raise ValueError(f"corpus.folder: no document in {folder}; looked for files ending in {endings}")
    return shards


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder.

    Links to folders are followed. Each folder is read once and those above the corpus never, so that a loop ends.
    """

    def refuse(error: OSError) -> None:
        raise ValueError(f"corpus.folder: {error.filename}: {error.strerror}") from error

    seen = set(folder.resolve().parents)
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders.sort()
        real = Path(parent).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in files)


def read_rows(path: Path, columns: tuple[str, ...], formats: Iterable[str]) -> Iterator[tuple[str, dict]]:
    """Yield (place, row) of a file: a place such as "row 3" or "line 3", and a dict that has at least these columns.

    formats: CORPUS_FORMATS or TABLE_FORMATS, what the file may be. Rows, lines and items of a list are counted from 1;
    the place of a plain-text document, or of a row of several lines, is its first line.

    Raises:
        ValueError: the file is absent, of an unknown format, empty or cannot be read, or a column is missing; the
            message names the file, and the place where it is known.
    """
    path = Path(path)
    suffix = format_suffix(path, formats)
    if suffix is None:
        raise ValueError(f"{path}: not a format that is read ({', '.join(formats)})")
    with naming(path), tempfile.TemporaryDirectory() as folder:
        with path.open("rb") as file:
            if not file.read(1):
                raise ValueError("the file is empty")
        plain = path if path.name == _without_compression(path) else _unpack(path, Path(folder))
        for place, row in READERS[suffix](plain):
            if missing := [column for column in columns if column not in row]:
                raise ValueError(f"{place}: no column {', '.join(missing)}; it has {', '.join(row)}")
            yield place, row


@contextmanager
def naming(name: object) -> Iterator[None]:
    """Make whatever is raised inside one line that begins with the name of a file.

    Raises:
        ValueError: instead of any other exception.
    """
    try:
        yield
    except Exception as error:  # each format and codec has its own
        raise ValueError(f"{name}: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()) or type(error).__name__


def read_lines(file: BinaryIO, *, name: str = "line") -> Iterator[tuple[str, str]]:
    """Yield (place, text without its end) of each line of a UTF-8 file; the place is `name` and the number from 1.

    A line ends with LF or CRLF and nothing else: a lone CR, U+0085 or U+2028 is text. A byte order mark is left out.

    Raises:
        ValueError: a line is not UTF-8; the message begins with its place.
    """
    for number, line in enumerate(file, start=1):
        place = f"{name} {number}"
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        line = line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")
        try:
            yield place, line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{place}: not UTF-8") from error


def _paragraphs(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the documents of a plain-text file: a line of nothing, or of spaces and tabs, ends one."""
    with path.open("rb") as file:
        lines, first = [], ""
        for place, line in chain(read_lines(file), [("", "")]):
            if line.strip(" \t"):
                first = first or place
                lines.append(line)
            elif lines:
                yield first, {"text": "\n".join(lines)}
                lines, first = [], ""


def _json_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the objects of a file of JSON lines, or of a file that is one JSON list."""
    with path.open("rb") as file:
        lines = read_lines(file)
        first = next(lines, ("line 1", ""))
        if first[1].lstrip().startswith("["):
            items = enumerate(_parsed("list", "\n".join(line for _, line in chain([first], lines))), start=1)
            rows: Iterable = ((f"item {number}", item) for number, item in items)
        else:
            rows = ((place, _parsed(place, line)) for place, line in chain([first], lines) if line.strip())
        for place, row in rows:
            if not isinstance(row, dict):
                raise ValueError(f"{place}: {row!r:.80} is not a JSON object")
            yield place, row


def _parsed(place: str, text: str) -> object:
    try:
        return JSON.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: JSON parse error: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a key twice, a number of thousands of digits, too deep
        raise ValueError(f"{place}: JSON parse error: {error}") from error


def _with_unique_keys(pairs: list[tuple[str, object]]) -> dict:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError(f"a key stands twice in an object that has {', '.join(row)}"[:200])
    return row


JSON = json.JSONDecoder(object_pairs_hook=_with_unique_keys)  # one for all lines: to build it takes longer than a line


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow.parquet  # here: the Snakefile imports this module for `corpus_files` alone

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except Exception as error:
        raise ValueError(f"{f'after row {number}: ' if number else ''}{_in_one_line(error)}") from error


def _csv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the rows of a CSV whose first line names the columns: commas, quotation marks, a doubled one inside.

    What is longer than `csv.field_size_limit()` is refused: so a mark that is never closed is named by its line.
    """
    with path.open("rb") as file:
        yield from _named(_csv_fields(file))


def _csv_fields(file: BinaryIO) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader((line + "\n" for _, line in read_lines(file)), strict=True)
    first = 1
    try:
        for fields in reader:
            yield f"line {first}", fields
            first = reader.line_num + 1  # of the next row; this one may have run over several lines
    except csv.Error as error:
        raise ValueError(f"line {first}: {error}") from error


def _tsv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the rows of a TSV whose first line names the columns: only tabs part them, a quotation mark is a letter."""
    with path.open("rb") as file:
        yield from _named((place, line.split("\t") if line else []) for place, line in read_lines(file))


def _named(rows: Iterator[tuple[str, list[str]]]) -> Iterator[tuple[str, dict]]:
    """Yield each row of fields by the names in the first; an empty line is no row."""
    place, columns = next(rows, ("line 1", []))
    if len(set(columns)) != len(columns):
        raise ValueError(f"{place}: a column stands twice in {', '.join(columns)}"[:200])
    for place, fields in rows:
        if fields and len(fields) != len(columns):
            raise ValueError(f"{place}: {len(fields)} columns, not {len(columns)}")
        if fields:
            yield place, dict(zip(columns, fields, strict=True))


# The suffix of a file -> the function that yields its rows.
READERS = {
    ".parquet": _parquet_rows,
    ".jsonl": _json_rows,
    ".json": _json_rows,
    ".txt": _paragraphs,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
}


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
    for place, row in read_rows(path, ("text",), CORPUS_FORMATS):
        text = row["text"]
        if text is None or not (text := require_text(path, place, "text", text).strip()):
            continue
        if row.get("id") is None:
            yield hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), text
        else:
            yield require_text(path, place, "id", str(row["id"])), text


def require_text(path: Path, place: str, column: str, value: object) -> str:
    """Return a value that is text.

    Raises:
        ValueError: it is not, or it holds half of a surrogate pair, which JSON can write and UTF-8 cannot; the
            message names file, place and column.
    """
    if not isinstance(value, str):
        raise ValueError(f"{path}: {place}: {column} is {value!r:.80}, not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: {place}: {column} has a lone surrogate at character {error.start + 1}") from error
    return value


def split_of(document_id: str, *, validation_fraction: float, test_fraction: float) -> str:
    """Return "train", "validation" or "test" by a stable hash of the id: adding documents moves none."""
    digest = hashlib.blake2b(document_id.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < test_fraction:
        return "test"
    return "validation" if position < test_fraction + validation_fraction else "train"
