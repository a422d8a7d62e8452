"""Downloads: what a step leaves when the network or the server fails, against a server that speaks the Hub's protocol.

Each test runs `fetch_corpus_shard` in a process of its own, which notes the pauses that it would have made.
"""

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import serving

SCRIPTS = Path(__file__).parent.parent / "workflow" / "scripts"
REVISION = "0123456789" * 4
LARGE, SMALL = "en/train-00000.parquet", "tokenizer.json"
# `huggingface_hub` writes a chunk at a time: what a broken connection had sent of a chunk is asked for again.
CHUNK = 10 * 2**20
PROGRAM = f"""
import json, sys, time
from types import SimpleNamespace

from snakemake.iocontainers import InputFiles, OutputFiles

pauses = []
time.sleep = pauses.append
import fetch_corpus_shard
from distilbert import runlog

settings = {{"repository": "wiki/pedia", "revision": "{REVISION}", "filename": sys.argv[1]}}
code = runlog.code_digest(runlog.STEPS / "fetch_corpus_shard.py").splitlines()
job = SimpleNamespace(
    rule="fetch_corpus_shard", threads=1, resources={{}}, log=["step.log"],
    input=InputFiles(), output=OutputFiles(fromdict={{"corpus": "out/corpus"}}),
    params=[f"{{key}}={{json.dumps(value)}}" for key, value in settings.items()] + [f"code {{line}}" for line in code],
)
try:
    runlog.run(fetch_corpus_shard.main, job)
finally:
    print(json.dumps(pauses))
"""


@dataclass
class Request:
    """A request that the server was sent, as its log keeps it."""

    method: str
    path: str
    range: str | None


@dataclass
class Hub:
    """A server of one repository; `faults` are taken one by one, each by the next request of its method.

    A fault is an HTTP status, or "drop" and "reset" (after 1.5 chunks), "wrong" (a bit flipped) or "short".
    """

    files: dict[str, bytes]
    faults: dict[str, list] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    address: str = ""

    def next_fault(self, method: str):
        return self.faults[method].pop(0) if self.faults.get(method) else None

    def asked(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]


def etag_of(name: str, content: bytes) -> str:
    """Return the ETag of the Hub: the SHA-256 of a large file, Git's SHA-1 of a small one."""
    if name == LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """HEAD on /datasets/<repository>/resolve/<revision>/<file>, and GET; large files lie on "another host"."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def answer(self, status: int, headers: dict, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def respond(self) -> None:
        hub = self.hub
        hub.requests.append(Request(self.command, self.path, self.headers["Range"]))
        fault = hub.next_fault(self.command)
        name = self.path.removeprefix("/cdn/").removeprefix(f"/datasets/wiki/pedia/resolve/{REVISION}/")
        if isinstance(fault, int):
            return self.answer(fault, {"X-Error-Code": {401: "RepoNotFound"}.get(fault, "")})
        if name not in hub.files:
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})
        content, headers = hub.files[name], {"X-Repo-Commit": REVISION}
        if name == LARGE and not self.path.startswith("/cdn/"):
            port = self.server.server_address[1]
            linked = {"X-Linked-Size": len(content), "X-Linked-ETag": f'"{etag_of(name, content)}"'}
            return self.answer(302, headers | linked | {"Location": f"http://localhost:{port}/cdn/{name}"})
        headers["ETag"] = f'"{etag_of(name, content)}"'
        if self.command == "HEAD":
            return self.answer(200, headers | {"Content-Length": len(content)})
        if fault == "wrong":
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault == "short":
            content = content[:-1]
        if fault in ("drop", "reset"):
            self.answer(200, headers | {"Content-Length": len(content)}, content[: CHUNK * 3 // 2])
            return self.break_off(fault)
        if self.headers["Range"]:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self.answer(206, headers | {"Content-Range": span}, content[start:])
        return self.answer(200, headers, content)

    def break_off(self, fault: str) -> None:
        self.wfile.flush()
        self.close_connection = True
        if fault == "reset":  # closed with a RST, as by a router that lost the connection
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Return a large file (LFS) of two and a half chunks, and a small one."""
    return {LARGE: os.urandom(CHUNK * 5 // 2), SMALL: b'{"model": {}}'}


@pytest.fixture
def hub(files) -> Hub:
    """Run the server while a test lasts."""
    hub = Hub(files)
    with serving(Handler, hub):
        yield hub


@dataclass
class Done:
    """What a step left: its exit code, the lines on the terminal, the pauses in seconds."""

    code: int
    lines: list[str]
    pauses: list[float]


@pytest.fixture
def fetch(tmp_path, hub):
    """Return a function that runs the step on a file in a folder of the test."""

    def run(filename: str = LARGE, *, setup: str = "", **environment: str) -> Done:
        variables = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        outside = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        variables = outside | {"PYTHONPATH": str(SCRIPTS), "HF_HUB_DISABLE_TELEMETRY": "1"} | variables | environment
        command = [sys.executable, "-c", setup + PROGRAM, filename]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=100)
        lines = [line for line in done.stderr.splitlines() if line.startswith("fetch_corpus_shard: ")]
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, lines, json.loads(done.stdout.splitlines()[-1]))

    return run


def output(folder: Path) -> bytes:
    """Return what the step wrote, after checking that nothing else is beside it."""
    assert [path.name for path in (folder / "out").iterdir()] == ["corpus"]
    return (folder / "out" / "corpus").read_bytes()


def blobs(folder: Path) -> list[Path]:
    """Return the files of the cache, partial ones too."""
    return [path for path in (folder / "home").rglob("*") if path.parent.name == "blobs"]


def assert_refused(done: Done, folder: Path, reason: str) -> None:
    """Check for one line with the reason, exit code 1, nothing at the output and nothing in the cache."""
    assert done.code == 1
    assert len(done.lines) == 1
    assert f"dataset wiki/pedia@{REVISION}: cannot fetch " in done.lines[0]
    assert reason in done.lines[0]
    assert not (folder / "out" / "corpus").exists()
    assert blobs(folder) == []


@pytest.mark.parametrize("name", [LARGE, SMALL])
def test_a_file_arrives(fetch, hub, files, tmp_path, name):
    """Without a fault a large and a small file come with one request each for metadata and content."""
    done = fetch(name)
    assert (done.code, done.lines, done.pauses) == (0, [], [])
    assert output(tmp_path) == files[name]
    assert [len(hub.asked(method)) for method in ("HEAD", "GET")] == [1, 1]


def test_a_dropped_connection_is_resumed(fetch, hub, files, tmp_path):
    """A connection that closes after 15 of 25 MiB: the second request asks for the rest, from the last whole chunk."""
    hub.faults["GET"] = ["drop"]
    assert fetch().code == 0
    assert output(tmp_path) == files[LARGE]
    assert [request.range for request in hub.asked("GET")] == [None, f"bytes={CHUNK}-"]


def test_a_reset_connection_is_tried_again(fetch, hub, files, tmp_path):
    """A connection that is reset, which the library gives up on, is tried again after two seconds."""
    hub.faults["GET"] = ["reset"]
    done = fetch()
    assert done.code == 0
    assert output(tmp_path) == files[LARGE]
    assert 2 in done.pauses


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_server_is_asked_again(fetch, hub, files, tmp_path, method, status):
    """Two answers 503 or 429, to the metadata or to the content, cost pauses and nothing else."""
    hub.faults[method] = [status, status]
    done = fetch()
    assert done.code == 0
    assert output(tmp_path) == files[LARGE]
    assert len(hub.asked(method)) == 3
    assert done.pauses


def test_a_server_that_stays_down_is_given_up(fetch, hub, tmp_path):
    """503 for ever: the pauses grow, end, and one line says why."""
    hub.faults["GET"] = [503] * 1000
    done = fetch()
    assert_refused(done, tmp_path, "503")
    assert done.pauses == [2, 8, 32]


def test_no_server_is_given_up(fetch, tmp_path):
    """Nobody listens at the address: one line with the reason, after bounded pauses."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = fetch(HF_ENDPOINT=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert_refused(done, tmp_path, "Connection refused")
    assert 60 < sum(done.pauses) < 180


@pytest.mark.parametrize("name", [LARGE, SMALL])
def test_wrong_content_is_refused(fetch, hub, tmp_path, name):
    """A flipped bit in what is sent, each time: refused by digest, nothing at the output nor left in the cache."""
    hub.faults["GET"] = ["wrong"] * 1000
    done = fetch(name)
    assert_refused(done, tmp_path, "its content has the digest")
    assert len(hub.asked("GET")) == 4


@pytest.mark.parametrize("name", [LARGE, SMALL])
@pytest.mark.parametrize("fault", ["wrong", "short"])
def test_damage_on_the_way_is_fetched_again(fetch, hub, files, tmp_path, name, fault):
    """A bit flipped, or the end missing, in the first answer only: the second is taken."""
    hub.faults["GET"] = [fault]
    assert fetch(name).code == 0
    assert output(tmp_path) == files[name]


@pytest.mark.parametrize(("name", "status"), [("no/such.parquet", None), (LARGE, 401), (LARGE, 403)])
def test_what_the_hub_refuses_is_not_asked_again(fetch, hub, tmp_path, name, status):
    """No such file, no access: one line at once, after one request."""
    hub.faults["HEAD"] = [status] * 1000 if status else []
    done = fetch(name)
    assert_refused(done, tmp_path, str(status or 404))
    assert len(hub.requests) == 1
    assert done.pauses == []


def test_offline_the_cache_is_enough(fetch, hub, files, tmp_path):
    """HF_HUB_OFFLINE=1 takes a cached file without a request."""
    fetch()
    hub.requests.clear()
    (tmp_path / "out" / "corpus").unlink()
    assert fetch(HF_HUB_OFFLINE="1").code == 0
    assert output(tmp_path) == files[LARGE]
    assert hub.requests == []


def test_offline_without_the_file_says_so(fetch, hub, tmp_path):
    """HF_HUB_OFFLINE=1 without the file: one line that names the variable, at once, no request."""
    done = fetch(HF_HUB_OFFLINE="1")
    assert_refused(done, tmp_path, "HF_HUB_OFFLINE")
    assert hub.requests == [] and done.pauses == []


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_damaged_cache_is_not_used(fetch, hub, files, tmp_path, offline):
    """A bit that flipped on the disk of the cache: fetched again, or offline refused."""
    fetch(SMALL)
    (tmp_path / "out" / "corpus").unlink()
    (blob,) = blobs(tmp_path)
    blob.write_bytes(blob.read_bytes().replace(b"model", b"mndel"))
    done = fetch(SMALL, HF_HUB_OFFLINE=offline)
    if offline == "1":
        assert_refused(done, tmp_path, "offline")
    else:
        assert done.code == 0
        assert output(tmp_path) == files[SMALL]


def test_a_full_disk_ends_a_download(fetch, hub, tmp_path):
    """A file that the disk has no room for: one line at once, and no partial file stays in the cache."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
    done = fetch(setup=limit)
    assert_refused(done, tmp_path, "File too large")
    assert done.pauses == []
    assert len(hub.asked("GET")) == 1
