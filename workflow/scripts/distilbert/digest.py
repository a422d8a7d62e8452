"""A digest of the code that a step runs, which changes when its behaviour can change and not otherwise.

Snakemake notices an edited script, a comment in it too, but no edit of a module that the script imports.
So each rule carries this digest as a parameter instead: over the syntax trees of the script and of every
local module that it imports, directly or not, docstrings removed. Comments, layout and docstrings are free.
"""

import ast
import hashlib
import os
from functools import cache
from pathlib import Path

# Tells a job the bytes of all sources as they were before Snakemake read them.
VARIABLE = "DISTILBERT_SOURCES"


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
    digests, pending = {}, [Path(script)]
    while pending:
        path = pending.pop()
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        if name not in digests:
            digests[name], imported = _read(path.read_text(encoding="utf-8"), str(path))
            pending += _local_files(imported, root)
    return "\n".join(f"{name}={digest}" for name, digest in sorted(digests.items()))


@cache
def _read(source: str, path: str) -> tuple[str, list[str]]:
    """Return a module's digest and the names that it imports, wherever in it the import stands.

    Remembered by the source itself: the Snakefile asks for most modules once per rule.
    """
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
    bases = [root.joinpath(*name.split(".")) for name in names]
    files = [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py")]
    return [path for path in files if path.exists()]
