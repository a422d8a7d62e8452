"""Upload a trained model to the Hugging Face Hub: `python tools/push.py --repo me/name --confirm`.

Without `--confirm` it lists what it would upload, and asks the Hub nothing. The repository is created where there is
none, private unless `--public`. HF_TOKEN and HF_ENDPOINT count as they do for `huggingface_hub`.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, constants, get_token
from huggingface_hub.utils import validate_repo_id

DEFAULT = "results/models/pretrained/sst2/seed1"
# All that is uploaded, of what there is: whatever else lies in the folder stays there.
MODEL = ("config.json", "model.safetensors", "tokenizer.json")
CARD = "README.md"
OTHERS = ("metrics.json", "tokenizer_config.json", "training.csv")
ONNX, ONNX_CHECK = "onnx/model.onnx", "onnx/check.json"


def files_of(folder: Path) -> list[str]:
    """Return the names of the files that are uploaded.

    Raises:
        ValueError: there is no model, no card, or an ONNX model that is not this one.
    """
    missing = [name for name in MODEL if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: no such model: no {', '.join(missing)}; `snakemake --cores all` trains it")
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder}: no model card ({CARD}); `snakemake --cores all` writes it")
    onnx = [ONNX, ONNX_CHECK] if (folder / ONNX).exists() else []
    if onnx:
        require_same_onnx(folder)
    return [name for name in (CARD, *MODEL, *OTHERS, *onnx) if (folder / name).is_file()]


def require_same_onnx(folder: Path) -> None:
    """Refuse an ONNX model that was made from other weights, or changed since it was compared with them.

    Raises:
        ValueError: the message says what makes it anew.
    """
    check = folder / ONNX_CHECK
    digests = json.loads(check.read_text(encoding="utf-8")).get("sha256", {}) if check.is_file() else {}
    for path in (folder / ONNX, folder / "model.safetensors"):
        with path.open("rb") as file:
            if digests.get(path.name) != hashlib.file_digest(file, "sha256").hexdigest():
                raise ValueError(f"{folder / ONNX}: not made from these weights; `make onnx` makes it anew")


def require_name(repository: str) -> None:
    """Refuse a name that is not `owner/name`, which the Hub would take for another.

    Raises:
        ValueError: the message shows the name.
    """
    owner, _, name = repository.partition("/")
    if not owner or not name or "/" in name:
        raise ValueError(f"the repository is 'owner/name', not '{repository}'")
    validate_repo_id(repository)


def upload(folder: Path, repository: str, files: list[str], *, public: bool) -> str:
    """Upload files of a folder to a repository; return what came of it, in a line.

    Raises:
        ValueError: there is no token, the Hub refuses the model card, or the repository is public against the wish.
        Exception: of the Hub, or of its HTTP client.
    """
    if not get_token():
        raise ValueError("no token for the Hub: `.venv/bin/hf auth login` keeps one, or set HF_TOKEN")
    try:
        ModelCard.load(folder / CARD).validate()
    except ValueError as error:
        raise ValueError(f"{folder / CARD}: the Hub refuses this model card: {error}") from error
    api = HfApi()
    api.create_repo(repository, private=not public, exist_ok=True)
    is_private = api.model_info(repository).private
    if not public and not is_private:
        raise ValueError(f"{repository} is already public; PUBLIC=yes (--public) uploads to it all the same")
    api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=files, commit_message="Upload the model")
    return f"uploaded to {constants.ENDPOINT}/{repository} ({'private' if is_private else 'public'})"


def main(arguments: list[str]) -> None:
    """List the files with their sizes, and upload them if that is confirmed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEFAULT, help=f"folder of a trained model; {DEFAULT}")
    parser.add_argument("--repo", required=True, help="the repository, owner/name")
    parser.add_argument("--public", action="store_true", help="create it for everyone to see")
    parser.add_argument("--confirm", action="store_true", help="upload; else the files are listed")
    given = parser.parse_args(arguments)
    try:
        require_name(given.repo)
        files = files_of(given.model)
        for name in files:
            print(f"{(given.model / name).stat().st_size:>13,}  {given.model / name}")
        if given.confirm:
            print(upload(given.model, given.repo, files, public=given.public))
        else:
            visibility = "public" if given.public else "private"
            print(f"for {constants.ENDPOINT}/{given.repo} ({visibility}); nothing is uploaded without CONFIRM=yes")
    except ValueError as error:
        sys.exit(f"push: {in_a_line(error)}")
    except Exception as error:  # of the Hub, or of its HTTP client
        sys.exit(f"push: {constants.ENDPOINT}: {in_a_line(error)}")


def in_a_line(error: Exception) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
