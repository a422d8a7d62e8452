"""Push: what `make push` uploads, and what it refuses, against a server that speaks the Hub's protocol for uploads.

Each test runs tools/push.py in a process of its own. Large files go by LFS (without `hf_xet`, whose servers are not
the Hub's); a second way has the Hub take all files in the commit, through the code that `hf_xet` switches on.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import serving

ROOT = Path(__file__).parent.parent
TOKEN = "hf_of_this_test"
CARD = "---\nlicense: apache-2.0\n---\n\n# A model\n"
MODEL_FILES = {
    "README.md": CARD.encode(),
    "config.json": b"{}",
    "metrics.json": b"{}",
    "model.safetensors": bytes(range(256)) * 40,
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b"{}",
    "training.csv": b"step,loss\n1,2\n",
}
# What may lie beside a model and must stay at home.
PRIVATE_FILES = ("model.pkl", "pytorch_model.bin", "optimizer.pt", "checkpoints/step-5/state.pt", ".model.onnx.7.tmp")


@dataclass
class Hub:
    """A server that keeps the files of one repository, me/name.

    is_private: None while there is no repository. answers: {beginning of "METHOD path": (status, text)} that it gives
    in place of its own. requests: what it was asked, as "METHOD path".
    """

    takes_lfs: bool = True
    is_private: bool | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set = field(default_factory=set)
    large: dict[str, bytes] = field(default_factory=dict)
    address: str = ""

    def create(self, asked: dict) -> tuple[int, dict]:
        assert (asked["organization"], asked["name"]) == ("me", "name")
        if self.is_private is not None:
            return 409, {"error": "You already created this model repo", "url": f"{self.address}/me/name"}
        self.is_private = asked["visibility"] == "private"
        return 200, {"url": f"{self.address}/me/name"}

    def preupload(self, asked: dict) -> tuple[int, dict]:
        return 200, {
            "files": [{"path": f["path"], "uploadMode": self.mode(f), "shouldIgnore": False} for f in asked["files"]]
        }

    def mode(self, file: dict) -> str:
        return "lfs" if self.takes_lfs and file["path"].endswith((".safetensors", ".onnx")) else "regular"

    def lfs_batch(self, asked: dict) -> tuple[int, dict]:
        objects = [
            wanted | {"actions": {"upload": {"href": f"{self.address}/lfs/{wanted['oid']}"}}}
            for wanted in asked["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def commit(self, lines: list[dict]) -> tuple[int, dict]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]
        return 200, {"commitUrl": f"{self.address}/me/name/commit/1", "commitOid": "1" * 40}


class Handler(BaseHTTPRequestHandler):
    """The addresses that an upload asks."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_) -> None:
        pass

    def answer(self, status: int, content: dict | str) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def respond(self) -> None:
        hub, body = self.hub, self.body()
        name = f"{self.command} {self.path}"
        hub.requests.append(name)
        for beginning, answer in hub.answers.items():
            if name.startswith(beginning):
                return self.answer(*answer)
        if self.command == "PUT":
            oid = self.path.removeprefix("/lfs/")
            assert hashlib.sha256(body).hexdigest() == oid
            hub.large[oid] = body
            return self.answer(200, {})
        if self.path == "/api/validate-yaml":
            asked = json.loads(body)
            assert asked == {"repoType": "model", "content": CARD}
            return self.answer(200, {"errors": [], "warnings": []})
        hub.tokens.add(self.headers["Authorization"])
        if name == "GET /api/models/me/name":
            return self.answer(200, {"id": "me/name", "private": hub.is_private})
        lines = [json.loads(line) for line in body.splitlines()]
        steps = {
            "POST /api/repos/create": lambda: hub.create(*lines),
            "POST /api/models/me/name/preupload/main": lambda: hub.preupload(*lines),
            "POST /me/name.git/info/lfs/objects/batch": lambda: hub.lfs_batch(*lines),
            "POST /api/models/me/name/commit/main": lambda: hub.commit(lines),
        }
        return self.answer(*steps.get(name, lambda: (404, {}))())

    do_GET = do_POST = do_PUT = respond  # noqa: N815

    def body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


@pytest.fixture
def hub():
    """Run the server while a test lasts."""
    hub = Hub()
    with serving(Handler, hub):
        yield hub


@pytest.fixture
def model(tmp_path) -> Path:
    """Return a model's folder, with files in it that are nobody else's."""
    folder = tmp_path / "model"
    for name, content in MODEL_FILES.items() | {(name, b"\x80\x04N.") for name in PRIVATE_FILES}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def add_onnx(model: Path) -> dict[str, bytes]:
    """Write what `make onnx` leaves; return {name: content}."""
    content = {"onnx/model.onnx": b"graph" * 99}
    digests = {"model.onnx": content["onnx/model.onnx"], "model.safetensors": MODEL_FILES["model.safetensors"]}
    record = {"sha256": {name: hashlib.sha256(data).hexdigest() for name, data in digests.items()}}
    content["onnx/check.json"] = json.dumps(record).encode()
    (model / "onnx").mkdir()
    for name, data in content.items():
        (model / name).write_bytes(data)
    return content


@pytest.fixture
def push(tmp_path, hub, model):
    """Return a function that runs the tool; a variable of the environment that is None is not set."""

    def run(*arguments: str, folder: Path = model, repo: str = "me/name", **environment) -> subprocess.CompletedProcess:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        variables = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
        variables |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        variables = {name: value for name, value in (outside | variables | environment).items() if value is not None}
        command = [sys.executable, str(ROOT / "tools" / "push.py"), "--model", str(folder), "--repo", repo, *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100)

    return run


def assert_refused(done: subprocess.CompletedProcess, *reasons: str) -> None:
    """Check for exit code 1 and one line with the reasons."""
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("push: ")
    for reason in reasons:
        assert reason in line


@pytest.mark.parametrize("takes_lfs", [True, False], ids=["LFS", "hf_xet's pipeline"])
def test_a_model_arrives(push, hub, model, takes_lfs):
    """All files of the model and the ONNX model, byte for byte, in a private repository; nothing else of the folder."""
    hub.takes_lfs = takes_lfs
    onnx = add_onnx(model)
    done = push("--confirm", HF_HUB_DISABLE_XET="1" if takes_lfs else "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert hub.files == MODEL_FILES | onnx
    assert hub.is_private
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert hub.requests[:3] == ["POST /api/validate-yaml", "POST /api/repos/create", "GET /api/models/me/name"]
    assert done.stdout.splitlines()[-1] == f"uploaded to {hub.address}/me/name (private)"


def test_public_is_asked_for(push, hub):
    """`--public` creates a repository for everyone."""
    done = push("--confirm", "--public")
    assert done.stdout.splitlines()[-1] == f"uploaded to {hub.address}/me/name (public)"
    assert hub.is_private is False
    assert hub.files == MODEL_FILES


def test_a_repository_that_exists_gets_the_files(push, hub):
    """A second push goes to the same repository, which stays private whatever is asked."""
    hub.is_private = True
    done = push("--confirm", "--public")
    assert done.stdout.splitlines()[-1] == f"uploaded to {hub.address}/me/name (private)"
    assert hub.files == MODEL_FILES


def test_a_public_repository_is_not_taken_for_a_private_one(push, hub):
    """What is to be private does not go to a repository that is public already."""
    hub.is_private = False
    assert_refused(push("--confirm"), "me/name is already public", "PUBLIC=yes")
    assert hub.files == {}
    assert push("--confirm", "--public").returncode == 0
    assert hub.files == MODEL_FILES


def test_without_confirmation_it_says_what_it_would_do(push, hub, model):
    """Each file with its size, and the repository; the Hub is not asked, and no token needed."""
    done = push(HF_TOKEN=None)
    assert (done.returncode, done.stderr) == (0, "")
    *files, last = done.stdout.splitlines()
    assert {tuple(line.split()) for line in files} == {
        (f"{len(content):,}", str(model / name)) for name, content in MODEL_FILES.items()
    }
    assert last == f"for {hub.address}/me/name (private); nothing is uploaded without CONFIRM=yes"
    assert hub.requests == []


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_without_a_model_is_refused(push, hub, model, missing):
    """No weights, no config or no tokenizer: there is no such model."""
    (model / missing).unlink()
    assert_refused(push("--confirm"), f"{model}: no such model", missing)
    assert hub.requests == []


def test_a_model_without_a_card_is_refused(push, hub, model):
    """Nobody gets a model that does not say what it is."""
    (model / "README.md").unlink()
    assert_refused(push("--confirm"), f"{model}: no model card")
    assert hub.requests == []


@pytest.mark.parametrize(
    "repo", ["", "name", "me/", "/name", "me/name/more", "https://huggingface.co/me/name", "me/a b"]
)
def test_a_repository_is_owner_and_name(push, hub, repo):
    """What is not `owner/name` is refused, with the name as it was given."""
    assert_refused(push("--confirm", repo=repo), f"'{repo}'")
    assert hub.requests == []


def test_without_a_token_nothing_is_asked(push, hub):
    """No token in the environment nor in the file that `hf auth login` writes."""
    assert_refused(push("--confirm", HF_TOKEN=None), "no token", "hf auth login")
    assert hub.requests == []


def test_a_card_that_the_hub_refuses_is_not_uploaded(push, hub, model):
    """The Hub's reason in one line, before a repository is created."""
    hub.answers["POST /api/validate-yaml"] = 400, 'Invalid metadata\n- "license" must be one of [apache-2.0, ...]'
    reason = 'Invalid metadata - "license" must be one of'
    assert_refused(push("--confirm"), f"{model / 'README.md'}: the Hub refuses this model card: {reason}")
    assert hub.requests == ["POST /api/validate-yaml"]


@pytest.mark.parametrize(
    "asked", ["POST /api/validate-yaml", "POST /api/repos/create", "POST /me/name.git", "POST /api/models"]
)
def test_what_the_hub_forbids_is_said_in_one_line(push, hub, asked):
    """403 to each step of an upload: its reason, and no file arrives."""
    hub.answers[asked] = 403, '{"error": "You have no right to do this"}'
    hub.answers["GET /api/models/me/name"] = (
        (200, '{"id": "me/name", "private": true}') if "repos" not in asked else (404, "")
    )
    assert_refused(push("--confirm"), "403")
    assert hub.files == {}


def test_no_server_is_said_in_one_line(push):
    """Nobody listens at the address."""
    assert_refused(push("--confirm", HF_ENDPOINT="http://127.0.0.1:9"), "http://127.0.0.1:9: ", "refused")


@pytest.mark.parametrize("name", ["model.safetensors", "onnx/model.onnx", "onnx/check.json"])
def test_an_onnx_model_of_other_weights_is_refused(push, hub, model, name):
    """The model was trained again, the graph changed, or nothing says what it was made from."""
    add_onnx(model)
    if name == "onnx/check.json":
        (model / name).unlink()
    else:
        (model / name).write_bytes(b"other")
    assert_refused(push("--confirm"), f"{model / 'onnx/model.onnx'}: not made from these weights", "make onnx")
    assert hub.requests == []


def test_make_uploads_only_with_yes():
    """`make push` passes --confirm and --public for `yes` alone, and MODEL has a default."""

    def command(*variables: str) -> str:
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", "push", "REPO=me/name", *variables],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        return done.stdout.partition("tools/push.py")[2]

    plain = command()
    assert "--model results/models/pretrained/sst2/seed1" in plain.replace('"', "")
    assert "--confirm" not in plain and "--public" not in plain
    assert "--confirm" not in command("CONFIRM=no") and "--public" not in command("PUBLIC=no", "CONFIRM=yes")
    assert "--confirm" in command("CONFIRM=yes") and "--public" in command("CONFIRM=yes", "PUBLIC=yes")
