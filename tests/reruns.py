"""Snakemake runs in forks of a process that has imported it once, and projects to try edits on.

A dry run as a process of its own costs four seconds, three of them imports. So this file is also a program: it
imports Snakemake, then forks for each request that it reads; the fork is as new to the project's code as a fresh
process. It reads one JSON request a line and answers each with one JSON line.
"""

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
SOURCES = ("Snakefile", "config.yaml", "workflow", "envs", "profiles")
# What Snakemake or a run keeps for itself: no part of what an edit or its undoing touches.
BOOKKEEPING = (".snakemake", ".git", ".checkpoints")


@dataclass(frozen=True)
class Outcome:
    """What a run of Snakemake did or, dry, would do: {job: reason}, their outputs, its status, all that it printed."""

    jobs: dict[str, str]
    outputs: list[str]
    status: int
    text: str


class Runner:
    """Runs Snakemake in forks; as many at once as it has servers."""

    def __init__(self, num_servers: int, cache: Path):
        environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
        environment |= {"XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        self.servers = [subprocess.Popen([sys.executable, __file__], **pipes) for _ in range(num_servers)]
        self.idle = queue.SimpleQueue()
        for server in self.servers:
            self.idle.put(server)

    def run(self, folder: Path, arguments: list[str], environment: dict, edits: dict[str, str]) -> Outcome:
        """Run `snakemake <arguments>` in a folder; `edits` {path: text} are made when the first job starts."""
        server = self.idle.get()
        try:
            request = {"folder": str(folder), "arguments": arguments, "environment": environment, "edits": edits}
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            return Outcome(**json.loads(server.stdout.readline()))
        finally:
            self.idle.put(server)

    def close(self) -> None:
        """End the servers."""
        for server in self.servers:
            server.stdin.close()
            server.wait()


@dataclass(frozen=True)
class Project:
    """A copy of the workflow's sources with a finished run in it, and the overlay that the run was given."""

    folder: Path
    overlay: dict
    runner: Runner = field(repr=False)

    @classmethod
    def create(cls, folder: Path, overlay: dict, runner: Runner) -> "Project":
        """Copy the sources to a new folder, a git repository of its own."""
        ignore = shutil.ignore_patterns("__pycache__")
        folder.mkdir(parents=True)
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=ignore)
            else:
                shutil.copy(ROOT / name, folder / name)
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        (folder / ".gitignore").write_text(
            "__pycache__/\n.snakemake/\n.checkpoints/\nresults/\nlogs/\nbenchmarks/\ndata/\n"
        )
        project = cls(folder, overlay, runner)
        project.git("init", "--quiet")
        project.commit("Sources")
        return project

    def copy(self, folder: Path) -> "Project":
        """Copy the project with everything in it, dates too."""
        shutil.copytree(self.folder, folder)
        return Project(folder, self.overlay, self.runner)

    def git(self, *arguments: str) -> None:
        """Run git in the project."""
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.folder, check=True, capture_output=True)

    def commit(self, subject: str) -> None:
        """Commit all files that git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)

    def config(self, *overlays: dict) -> dict:
        """Return the shipped config under the project's overlay and others."""
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        for overlay in (self.overlay, *overlays):
            config = merged(config, overlay)
        return config

    def snakemake(
        self, *arguments: str, overlay: dict | None = None, environment: dict | None = None, edits: dict | None = None
    ) -> Outcome:
        """Run Snakemake in the project; an overlay of the caller comes on top of the project's own."""
        files = ["overlay.yaml"]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            if overlay is not None:
                yaml.safe_dump(overlay, file, sort_keys=False)
                file.flush()
                files.append(file.name)
            command = ["--cores", "2", *arguments, "--configfile", *files]
            return self.runner.run(self.folder, command, environment or {}, edits or {})

    def plan(self, *arguments: str, **options) -> dict[str, str]:
        """Return {job: reason} of a dry run.

        Raises:
            AssertionError: the dry run failed, or it plans no job without saying that nothing is to be done.
        """
        outcome = self.snakemake("--dry-run", *arguments, **options)
        assert outcome.status == 0, outcome.text
        assert bool(outcome.jobs) != ("Nothing to be done" in outcome.text), outcome.text
        return outcome.jobs

    def finish(self, *arguments: str, **options) -> dict[str, str]:
        """Run the project to its end and return {job: reason} of what ran."""
        outcome = self.snakemake(*arguments, **options)
        assert outcome.status == 0, outcome.text
        return outcome.jobs

    def undo(self, original: "Project") -> None:
        """Give each file the content that it has in another copy: edited ones anew, so their dates are new too."""
        before, now = original.files(), self.files()
        for name in now - before:
            (self.folder / name).unlink()
        for name in before:
            source, target = original.folder / name, self.folder / name
            if name not in now or source.read_bytes() != target.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def files(self) -> set[str]:
        """Return the names of all files but the bookkeeping."""
        paths = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {str(path) for path in paths if path.parts[0] not in BOOKKEEPING}


def merged(config: dict, overlay: dict) -> dict:
    """Return a config with an overlay on it, as `--configfile` puts it there."""
    result = dict(config)
    for key, value in overlay.items():
        is_section = isinstance(value, dict) and isinstance(config.get(key), dict)
        result[key] = merged(config[key], value) if is_section else value
    return result


def changed_params(reason: str) -> set[str]:
    """Return the names of the settings (`training.epochs`) and modules (`code pretrain`) that a reason names."""
    found = re.search(r"across all output: before: (.*) now: (.*)", reason)
    return set(re.findall(r"""['"]((?:code )?[\w.]+)=""", found[0])) if found else set()


def _serve() -> None:
    """Import Snakemake and its plugins, then fork for each request."""
    import jsonschema  # noqa: F401
    import pandas  # noqa: F401
    import smart_open  # noqa: F401
    import snakemake.executors.dryrun  # noqa: F401
    import snakemake.scheduling.milp  # noqa: F401
    from snakemake.cli import get_argument_parser

    get_argument_parser()  # finds the plugins
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as answer:
            if (child := os.fork()) == 0:
                _answer(request, answer)
                os._exit(0)
            os.waitpid(child, 0)
            answer.seek(0)
            print(answer.read(), flush=True)


def _answer(request: dict, answer) -> None:
    """Run one request and write its outcome."""
    from snakemake.cli import main
    from snakemake.logging import logger
    from snakemake_interface_logger_plugins.common import LogEvent

    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    jobs: dict[str, str] = {}
    outputs: list[str] = []

    def note(record) -> bool:
        if getattr(record, "event", None) == LogEvent.JOB_INFO and record.rule_name != "all":
            jobs[" ".join([record.rule_name, "/".join(record.wildcards.values())]).strip()] = record.reason
            outputs.extend(record.output)
            for name, text in request["edits"].items():
                Path(name).write_text(text)
        return True

    logger.addFilter(note)
    with tempfile.TemporaryFile("w+") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        try:
            main(request["arguments"])
        except SystemExit as end:
            status = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        output.seek(0)
        json.dump({"jobs": jobs, "outputs": outputs, "status": status, "text": output.read()}, answer)
    answer.flush()


if __name__ == "__main__":
    _serve()
