"""Files from the Hugging Face Hub at a pinned commit, or from a folder that is laid out like a repository.

`huggingface_hub` resumes a broken download, checks it and keeps it in its cache ($HF_HOME); with
HF_HUB_OFFLINE=1 it only looks there.
"""

import shutil
from pathlib import Path

from huggingface_hub import hf_hub_download

from distilbert.files import atomic_path


def fetch(repository: str, revision: str, filename: str, output: Path, *, kind: str) -> None:
    """Put one file of a repository at a commit into `output`, whole or not at all.

    kind: "dataset" or "model".

    Raises:
        ValueError: it is not to be had; the message names repository, commit and file.
    """
    try:
        cached = hf_hub_download(repository, filename, revision=revision, repo_type=kind)
    except Exception as error:  # of the Hub, of its HTTP client, of the disk
        reason = " ".join(str(error).split())
        raise ValueError(f"{kind} {repository}@{revision}: cannot fetch {filename}: {reason}") from error
    with atomic_path(output) as temporary:
        shutil.copyfile(cached, temporary)
