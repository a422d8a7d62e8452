"""A digest of the code that a step runs, which changes when its behaviour can change and not otherwise.

Snakemake notices an edited script, a comment in it too, but no edit of a module that the script imports.
So each rule carries this digest as a parameter instead: over the syntax trees of the script and of every
local module that it imports, directly or not, docstrings removed. Comments, layout and docstrings are free.
"""

import ast
import hashlib
from pathlib import Path


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
        if name in digests:
            continue
        tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
        digests[name] = hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]
        pending += _local_imports(tree, root)
    return "\n".join(f"{name}={digest}" for name, digest in sorted(digests.items()))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _local_imports(tree: ast.Module, root: Path) -> list[Path]:
    """Return the files below `root` that a module imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = []
    for name in sorted(names):
        base = root.joinpath(*name.split("."))
        found += [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()]
    return found
