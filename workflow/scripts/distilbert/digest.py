"""A digest of the code that a step runs, which changes when its behaviour can change and not otherwise.

Snakemake notices an edited script, a comment in it too, but no edit of a module that the script imports.
So each rule carries this digest as a parameter instead: over the syntax trees of the script and of every
local module that it imports, directly or not, docstrings removed. Comments, layout and docstrings are free.
"""

import ast
import hashlib
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from distilbert.files import read_sealed_json, sha256, write_sealed_json

# Tells a job the bytes of all sources as they were before Snakemake read them.
VARIABLE = "DISTILBERT_SOURCES"
# What was found of sources by their own digests, so that a start of Snakemake need not parse all of them again: most of
# a second. Beside the bytecode, which is kept for the same reason.
MEMORY = Path(__file__).parent / "__pycache__" / f"digests.{sys.implementation.cache_tag}.json"
# So many edits are remembered, then all is forgotten.
MEMORY_SIZE = 2000


def announce(root: Path) -> None:
    """Name the sources below `root` to the jobs that this process starts; to be called before it digests any."""
    os.environ[VARIABLE] = _digest_of_bytes(root)


def is_as_announced(root: Path) -> bool:
    """Tell whether not a byte of the sources below `root` has changed since they were announced.

    Then no module's digest has changed either, and none has to be parsed again, a quarter of a second of every job.
    """
    return os.environ.get(VARIABLE) == _digest_of_bytes(root)


def _digest_of_bytes(root: Path) -> str:
    """Return the SHA-256 of the names and bytes of all Python files below `root`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*.py") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def code_digest(script: Path) -> str:
    """Return one line `module=digest` for the script and each local module that it imports, sorted by name.

    One a line, so that Snakemake's reason for a rerun names the module that changed.

    Raises:
        FileNotFoundError, SyntaxError: the script is absent or cannot be parsed.
    """
    root = Path(script).parent
    known = set(_memory())
    digests, pending = {}, [Path(script)]
    while pending:
        path = pending.pop()
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        if name not in digests:
            digests[name], imported = _remembered(path)
            pending += _local_files(imported, root)
    if _memory().keys() - known:
        with suppress(OSError):  # sources that may only be read, or a full disk: the next start parses again
            write_sealed_json(MEMORY, {"by": sha256(Path(__file__)), "modules": _memory()})
    return "\n".join(f"{name}={digest}" for name, digest in sorted(digests.items()))


def _remembered(path: Path) -> tuple[str, list[str]]:
    """Return what `_read` does, from memory if these bytes were read before."""
    source = path.read_bytes()
    key = hashlib.sha256(source).hexdigest()
    memory = _memory()
    if key not in memory:
        if len(memory) >= MEMORY_SIZE:
            memory.clear()
        memory[key] = _read(source, str(path))
    return memory[key]


@cache
def _memory() -> dict[str, tuple[str, list[str]]]:
    """Return {digest of a source: what `_read` made of it}, as this same file wrote it; damaged, it is empty."""
    try:
        memory = read_sealed_json(MEMORY)
    except (OSError, ValueError):
        return {}
    return memory["modules"] if memory["by"] == sha256(Path(__file__)) else {}


def _read(source: bytes, path: str) -> tuple[str, list[str]]:
    """Return a module's digest and the names that it imports, wherever in it the import stands."""
    tree = _without_docstrings(ast.parse(source, filename=path))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest()[:12], sorted(names)


def _plain(value: object) -> object:
    """Return a syntax tree as nested lists, without positions and empty fields.

    Not `ast.dump`, which says the same of other Pythons in other words: a job may run in another one than Snakemake.
    """
    if isinstance(value, ast.AST):
        fields = [[name, _plain(item)] for name, item in ast.iter_fields(value) if item is not None and item != []]
        return [type(value).__name__, *fields]
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _local_files(names: list[str], root: Path) -> list[Path]:
    """Return the files below `root` that hold the modules of these names."""
    here = {path.stem for path in root.iterdir()}
    bases = [root.joinpath(*name.split(".")) for name in names if name.split(".")[0] in here]
    files = [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py")]
    return [path for path in files if path.exists()]
