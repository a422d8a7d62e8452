"""Imports: the library's arrows go one way, and a step pays only for what it uses."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "workflow" / "scripts"
LIBRARY = SCRIPTS / "distilbert"

# Module -> the local modules that it may import. A new module needs a line here.
ALLOWED = {
    # Ground floor: nothing local.
    "__init__": set(),
    "confidence": set(),
    "config": set(),
    "digest": {"files"},
    "dropout": set(),
    "efficiency": set(),
    "evaluation": set(),
    "events": set(),
    "files": set(),
    "flops": set(),
    "losses": set(),
    "masking": set(),
    "metrics": set(),
    "optimizer": set(),
    "pages": set(),
    "parent": set(),
    "processes": set(),
    "sources": set(),
    "tasks": set(),
    "vocabulary_kernel": set(),
    # How a step runs.
    "device": {"flops", "processes"},
    "plan": {"files"},
    "runlog": {"digest", "parent", "plan"},
    # Data.
    "hub": {"files"},
    "synthetic": {"tasks"},
    "tokens": {"files"},
    "batching": {"tokens"},
    "wordpiece": {"files", "tokens"},
    "glue": {"sources", "tasks"},
    "examples": {"batching", "glue", "sources", "tasks"},
    # Models and training.
    "model": {"config", "dropout", "files"},
    "vocabulary_head": {"vocabulary_kernel"},
    "checkpoint": {"files"},
    "export": {"config", "model", "tokens", "wordpiece"},
    "corpus_objectives": {
        "batching",
        "config",
        "flops",
        "losses",
        "masking",
        "model",
        "processes",
        "tokens",
        "vocabulary_head",
    },
    "task_objectives": {"batching", "config", "flops", "losses", "model", "processes", "tokens"},
    "training": {"batching", "checkpoint", "config", "device", "events", "flops", "optimizer", "processes", "runlog"},
    # Results.
    "inference": {"model", "task_objectives", "tokens"},
    "timing": {"model", "task_objectives", "tokens"},
    "plotting": {"efficiency", "files", "metrics", "tasks"},
    "cards": {"confidence", "files", "pages", "tasks"},
    # What a run costs: no step imports it.
    "costs": {"files", "flops", "runlog", "sources", "tasks"},
    # What training steps share; only scripts stand above it.
    "steps": {
        "checkpoint",
        "config",
        "events",
        "export",
        "files",
        "model",
        "processes",
        "runlog",
        "tokens",
        "training",
    },
    "corpus_training": {
        "batching",
        "config",
        "corpus_objectives",
        "device",
        "files",
        "model",
        "steps",
        "tokens",
        "training",
    },
    "task_training": {
        "batching",
        "config",
        "inference",
        "metrics",
        "model",
        "steps",
        "task_objectives",
        "tokens",
        "training",
    },
}
WITHOUT_TORCH = (
    "batching cards confidence config costs digest efficiency evaluation examples files flops glue hub metrics pages "
    "parent plan plotting runlog sources synthetic tasks tokens wordpiece"
).split()
STEPS = sorted(path.stem for path in SCRIPTS.glob("*.py"))


def imported(path: Path) -> list[tuple[str, bool]]:
    """Return (module, whether it is imported at the top level) of each import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top_level = set(map(id, tree.body))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports escape the code digest"
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "distilbert" else [node.module]
        else:
            continue
        found += [(name, id(node) in top_level) for name in names]
    return found


def local_imports(module: str) -> set[str]:
    names = [name.split(".") for name, _ in imported(LIBRARY / f"{module}.py")]
    return {parts[1] for parts in names if parts[0] == "distilbert"}


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name, _ in imported(path)}


def reached(module: str) -> set[str]:
    """Return a module and all local modules that it reaches."""
    found, pending = set(), [module]
    while pending:
        if (name := pending.pop()) not in found:
            found.add(name)
            pending += local_imports(name)
    return found


def test_the_table_names_every_module():
    """A module that is added or removed must be thought about here."""
    assert set(ALLOWED) == {path.stem for path in LIBRARY.glob("*.py")}


@pytest.mark.parametrize("module", ALLOWED)
def test_a_module_imports_only_what_it_may(module):
    """Each module's local imports stand in the table."""
    assert local_imports(module) <= ALLOWED[module]


def test_the_arrows_go_one_way():
    """No module reaches itself: the table, and so the imports, have no cycle."""
    level: dict[str, int] = {}
    while len(level) < len(ALLOWED):
        ready = [m for m in ALLOWED if m not in level and ALLOWED[m] <= level.keys()]
        assert ready, f"a cycle among {sorted(ALLOWED.keys() - level.keys())}"
        level |= {module: 1 + max((level[m] for m in ALLOWED[module]), default=-1) for module in ready}


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_light_modules_never_reach_torch(module):
    """Neither the module nor anything local that it imports names torch, transformers or safetensors.torch."""
    for name in reached(module):
        assert not packages(LIBRARY / f"{name}.py") & {"torch", "transformers", "safetensors"}, name


def test_importing_the_light_modules_loads_no_torch():
    """Measured, not read: a fresh interpreter with all light modules has neither torch nor datasets loaded."""
    modules = ", ".join((*WITHOUT_TORCH, "checkpoint"))  # which imports torch only to save and load
    program = f"import sys; from distilbert import {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert not {"torch", "datasets", "transformers"} & set(done.stdout.split())


def test_transformers_is_used_for_exports_alone():
    """Only export_onnx.py and verify_exports.py import `transformers`: everything else is our own."""
    users = [path.name for path in SCRIPTS.rglob("*.py") if "transformers" in packages(path)]
    assert sorted(users) == ["export_onnx.py", "verify_exports.py"]


def test_onnx_is_imported_inside_functions_of_its_step_alone():
    """The packages of requirements-onnx.txt are not installed with the others: nothing may need them to start."""
    found = {
        (path.stem, at_top)
        for path in SCRIPTS.rglob("*.py")
        for name, at_top in imported(path)
        if name.split(".")[0] in ("onnx", "onnxruntime", "onnxscript")
    }
    assert found == {("export_onnx", False)}


def test_triton_is_imported_inside_functions_of_the_vocabulary_head_alone():
    """Only a GPU's installation has Triton: nothing but the kernel names it, and nothing imports that at its top."""
    users = [path.stem for path in SCRIPTS.rglob("*.py") if "triton" in packages(path)]
    assert users == ["vocabulary_kernel"]
    importers = {
        (path.stem, at_top)
        for path in SCRIPTS.rglob("*.py")
        for name, at_top in imported(path)
        if name.startswith("distilbert.vocabulary_kernel")
    }
    assert importers == {("vocabulary_head", False)}


def test_datasets_is_imported_nowhere():
    """`datasets` takes two seconds to import, and adds nothing to what pyarrow reads."""
    assert [path.name for path in SCRIPTS.rglob("*.py") if "datasets" in packages(path)] == []


@pytest.mark.parametrize("step", STEPS)
def test_importing_a_step_runs_nothing(step):
    """At its top level a step has imports, definitions and constants, and runs only under the Snakemake guard."""
    tree = ast.parse((SCRIPTS / f"{step}.py").read_text(encoding="utf-8"))
    assert isinstance(tree.body[0], ast.Expr), "no docstring"
    *definitions, guard = tree.body[1:]
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    for node in definitions:
        is_constant = isinstance(node, ast.Assign) and not any(isinstance(n, ast.Call) for n in ast.walk(node.value))
        assert isinstance(node, allowed) or is_constant, f"line {node.lineno}"
    assert isinstance(guard, ast.If)
    assert ast.unparse(guard.test) == "'snakemake' in globals()"
    assert [ast.unparse(line) for line in guard.body] == ["runlog.run(main, snakemake)"]


def test_steps_import_only_the_library():
    """No step imports another step: what two steps share stands in the library."""
    for step in STEPS:
        assert not packages(SCRIPTS / f"{step}.py") & set(STEPS), step
