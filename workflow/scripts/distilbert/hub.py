"""Files from the Hugging Face Hub at a pinned commit, or from a folder that is laid out like a repository.

`huggingface_hub` keeps what it downloads in its cache ($HF_HOME), with HF_HUB_OFFLINE=1 looks only there, goes on
where a connection broke off, and checks a file's size. What it does not do is done here: to try again after the other
passing faults of a network or server, and to check the content. The cache keeps each file under its ETag: the SHA-256
of a large file (LFS), Git's SHA-1 of another.
"""

import hashlib
import logging
import shutil
import time
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from distilbert.files import atomic_path, sha256

# Seconds before each further attempt; the requests of one attempt are themselves repeated for some 20 seconds.
WAITS = (2, 8, 32)
# Answers of a server that may be other ones a little later; not 401 (no access) or 404 (no such file).
PASSING_STATUSES = (408, 429, 500, 502, 503, 504)

log = logging.getLogger(__name__)


class WrongContentError(RuntimeError):
    """What was downloaded is not what the Hub says that it has."""


def fetch(repository: str, revision: str, filename: str, output: Path, *, kind: str) -> None:
    """Put one file of a repository at a commit into `output`, whole or not at all.

    kind: "dataset" or "model".

    Raises:
        ValueError: it is not to be had; the message names repository, commit and file.
    """
    name = f"{kind} {repository}@{revision}: cannot fetch {filename}"
    waits = iter(WAITS)
    while True:
        try:
            cached = Path(hf_hub_download(repository, filename, revision=revision, repo_type=kind))
            check(cached)
            break
        except Exception as error:  # of the Hub, of its HTTP client, of the disk
            is_vague = isinstance(error, LocalEntryNotFoundError) and error.__cause__
            cause = error.__cause__ if is_vague else error
            reason = " ".join(str(cause).split()) or type(cause).__name__
            wait = next(waits, None) if is_passing(cause) else None
            if wait is None:
                raise ValueError(f"{name}: {reason}") from error
            log.warning("%s: %s; trying again in %g s", name, reason, wait)
            time.sleep(wait)
    with atomic_path(output) as temporary:
        shutil.copyfile(cached, temporary)


def is_passing(error: BaseException) -> bool:
    """Tell whether a later attempt may succeed: not where the Hub refuses, at will offline, or on a full disk."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING_STATUSES
    is_of_the_system = isinstance(error, OSError) and error.errno is not None
    is_lasting = isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled, ValueError))
    return not is_lasting and not is_of_the_system


def check(cached: Path) -> None:
    """Compare a file of the cache with the ETag that it is kept under; remove a wrong one, lest it be used again.

    Raises:
        WrongContentError: it is another.
    """
    etag = cached.readlink().name if cached.is_symlink() else ""  # a disk without links keeps no ETag
    if len(etag) == 64:
        found = sha256(cached)
    elif len(etag) == 40:
        found = git_sha1(cached)
    else:
        log.warning("%s: not checked: the cache does not know its digest", cached)
        return
    if found != etag:
        cached.resolve().unlink()
        cached.unlink(missing_ok=True)
        raise WrongContentError(f"its content has the digest {found}, not {etag}")


def git_sha1(path: Path) -> str:
    """Return the SHA-1 by which Git names a file's content, in hexadecimal."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()
