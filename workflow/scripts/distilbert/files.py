"""Files that appear whole or not at all, digests by which a damaged one is known, and locks that no kill leaves.

What a later step reads is checked against the SHA-256 that was written beside it: neither Arrow nor safetensors
notices a flipped bit. Records of digests are sealed: JSON objects that hold the digest of their own content.
"""

import csv
import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# The key of a sealed JSON object under which the digest of its other keys stands.
SEAL = "content_sha256"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it, on failure remove it.

    What a killed process left of the same file is removed first. The file's mode is that of any new file, whatever
    mode its writer gave the temporary one (safetensors: for the owner alone).

    Raises:
        OSError: of the disk; where it does not say for which file (a full disk), the message names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.iterdir():
        if left_over.name.startswith(f".{path.name}.") and left_over.suffix == ".tmp":
            left_over.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        if error.filename is None:
            raise OSError(f"{path}: {error.strerror or error}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the bits that new files of this process lack; there is no way to ask for them but to set them."""
    bits = os.umask(0o077)
    os.umask(bits)
    return bits


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically: sorted keys, two spaces, a final newline."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Iterable[dict]) -> None:
    """Write rows as CSV atomically; the columns are the union of the rows' keys in order of appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        FileNotFoundError, ValueError: the file is absent, or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def write_sealed_json(path: Path, value: dict) -> None:
    """Write a JSON object atomically, with the digest of its own content."""
    value = json.loads(json.dumps(value))  # as it will be read: tuples are lists, keys are strings
    write_json(path, value | {SEAL: json_digest(value)})


def read_sealed_json(path: Path) -> dict:
    """Read a JSON object that `write_sealed_json` wrote, without its seal.

    Raises:
        FileNotFoundError, ValueError: the file is absent, or not what was written; the message names it.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.pop(SEAL, None) != json_digest(value):
        raise ValueError(f"{path}: damaged or edited: its content is not that of its {SEAL}")
    return value


def json_digest(value: object) -> str:
    """Return the SHA-256 of a JSON-able value in hexadecimal, whatever the layout and order of its keys in a file."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hold(path: Path, who: str, *, patience: float = 0.0) -> IO[str]:
    """Lock a file until the returned one is closed or this process ends, however it ends.

    who: what holds such a lock, in words. patience: seconds to wait for another holder that may be ending.

    Raises:
        RuntimeError: another process holds it; the message names the path's folder, the process's pid and
            its machine, as the folder may be shared by several.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            file.seek(0)
            owner = file.read().strip()
            file.close()
            raise RuntimeError(f"{path.parent}: {who} (pid {owner}) is at work here") from None
    file.truncate(0)
    file.write(f"{os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


def require_sha256(path: Path, expected: str, record: Path) -> None:
    """Refuse a file that is not the one whose SHA-256 stands in `record`.

    Raises:
        FileNotFoundError, ValueError: it is absent, damaged or replaced; the message names it and the record.
    """
    if sha256(path) != expected:
        raise ValueError(f"{path}: damaged or replaced: its SHA-256 is not the one in {record}")
