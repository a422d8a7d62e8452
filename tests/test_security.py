"""Security of inputs: no file runs code, no name becomes a path outside, and what is not pinned is refused."""

import ast
import json
import pickle
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate
from test_workflow import ROOT, snakemake

from distilbert import hub, wordpiece
from distilbert.export import write_model
from distilbert.model import MaskedLM
from distilbert.sources import corpus_files, read_documents

SCRIPTS = ROOT / "workflow" / "scripts"
SOURCES = sorted(SCRIPTS.rglob("*.py"))


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def marker(tmp_path) -> Path:
    """Return the file that a trap creates where it is sprung."""
    return tmp_path / "sprung"


@pytest.fixture
def teacher(tmp_path, bert_config) -> Path:
    """Return the folder of a small teacher of strangers, with its tokenizer: nothing vouches for its files."""
    learnt = wordpiece.learn(lambda: ["the river is near the old bridge"] * 9, vocab_size=97, lowercase=True)
    (tmp_path / "tokenizer.json").write_text(learnt.to_str())
    vocabulary = wordpiece.vocabulary_of(learnt)
    config = bert_config.__class__(
        **{**vars(bert_config), "vocab_size": vocabulary.size, "pad_token_id": vocabulary.pad}
    )
    write_model(MaskedLM(config), tmp_path / "model", tmp_path / "tokenizer.json")
    weights = tmp_path / "model" / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt"})
    return tmp_path / "model"


def take_over(teacher: Path) -> Path:
    """Run the step import_teacher on a folder; return the folder that it wrote."""
    written = teacher.parent / "taken"
    import_module("import_teacher").main(
        tokenizer=teacher.parent / "tokenizer.json",
        weights=written / "model.safetensors",
        settings={},
        source=teacher / "model.safetensors",
    )
    return written


def assert_refused(teacher: Path, *parts: str) -> None:
    """Check that import_teacher refuses a folder in one line with these parts, and writes nothing."""
    with pytest.raises((ValueError, OSError)) as caught:
        take_over(teacher)
    assert len(str(caught.value).splitlines()) == 1
    assert str(teacher) in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
    assert not (teacher.parent / "taken").exists()


def test_the_trap_works(marker):
    """The control: who loads this pickle creates the file."""
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.bin", "pytorch_model.bin.index.json", "tf_model.h5"])
def test_weights_in_another_format_are_refused_unread(teacher, marker, name):
    """A folder with a pickle alone is refused by the safetensors file that it lacks; the pickle is not loaded."""
    (teacher / "model.safetensors").unlink()
    (teacher / name).write_bytes(pickle.dumps(Trap(marker)))
    assert_refused(teacher, "model.safetensors: no such file; weights are read from safetensors only")
    assert not marker.exists()


@pytest.mark.parametrize("save", [pickle.dump, torch.save], ids=["pickle", "torch.save"])
def test_a_pickle_that_calls_itself_safetensors_is_refused_unread(teacher, marker, save):
    """The name promises nothing: a pickle under the right name is no safetensors file, and is not loaded."""
    with (teacher / "model.safetensors").open("wb") as file:
        save(Trap(marker), file)
    assert_refused(teacher, "model.safetensors: not a whole safetensors file")
    assert not marker.exists()


def test_a_pickle_beside_the_weights_is_not_read(teacher, marker):
    """With both in the folder, the safetensors file is taken over and the pickle neither loaded nor copied."""
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "rng_state.pth"):
        (teacher / name).write_bytes(pickle.dumps(Trap(marker)))
    written = take_over(teacher)
    assert load_file(written / "model.safetensors").keys() == load_file(teacher / "model.safetensors").keys()
    assert {path.suffix for path in written.iterdir()} == {".safetensors", ".json"}
    assert not marker.exists()


def test_a_safetensors_header_that_promises_too_much_is_refused(teacher):
    """A header of 2^63 bytes, or tensors beyond the file's end: one line, not memory without end."""
    whole = (teacher / "model.safetensors").read_bytes()
    for content in (b"\xff" * 7 + b"\x7f" + whole[8:], whole[: len(whole) // 2]):
        (teacher / "model.safetensors").write_bytes(content)
        assert_refused(teacher, "model.safetensors: not a whole safetensors file")


def test_code_that_a_config_names_is_not_run(teacher, marker):
    """`auto_map` asks transformers for code from the folder: neither taking over nor verifying runs it."""
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Model: pass\nConfig = Tokenizer = Model\n"
    config = json.loads((teacher / "config.json").read_text())
    auto_map = {
        "AutoConfig": "evil.Config",
        "AutoModelForMaskedLM": "evil.Model",
        "AutoTokenizer": ["evil.Tokenizer"] * 2,
    }
    (teacher / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    for name in ("evil.py", "modeling_evil.py", "__init__.py", "sitecustomize.py"):
        (teacher / name).write_text(code)
    written = take_over(teacher)
    assert not list(written.glob("*.py"))
    shutil.copy(teacher / "evil.py", written)  # even where somebody puts it beside
    import_module("verify_exports").main(
        models=[written / "model.safetensors"],
        report=teacher.parent / "exports.json",
        settings={"models": ["taken over"]},
        code="a=b",
    )
    assert json.loads((teacher.parent / "exports.json").read_text())["largest_relative_difference"]
    assert not marker.exists()


@pytest.mark.parametrize("content", ["[]", '"bert"', "5", "null", "{", ""])
def test_a_config_that_is_no_object_is_refused(teacher, content):
    """JSON of another kind, or none, is refused by the name of the file."""
    (teacher / "config.json").write_text(content)
    assert_refused(teacher, "config.json: not ")


@pytest.mark.parametrize("model_type", ["evil", "../evil", None, ["bert"], {"a": 1}])
def test_an_architecture_that_is_not_ours_is_refused(teacher, model_type):
    """A config chooses between two architectures and nothing else."""
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    assert_refused(teacher, "config.json: model_type")


def calls(path: Path) -> set[str]:
    """Return what a source file calls, by the dotted names that stand there, and the keywords that it passes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
            found |= {f"{keyword.arg}=" for keyword in node.keywords}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {f"import {alias.name}" for alias in node.names}
            found |= {f"import {node.module}"} if isinstance(node, ast.ImportFrom) else set()
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_loads_what_can_run_code(path):
    """No pickle, no torch.load, no eval, no YAML or NumPy object loading, no remote code, no extraction of archives."""
    dangerous = {"torch.load", "eval", "exec", "yaml.load", "np.load", "numpy.load", "os.system", "pd.read_pickle"}
    dangerous |= {"trust_remote_code=", "allow_pickle=", "shell=", "import pickle", "import joblib", "import dill"}
    dangerous |= {"import shelve", "import marshal", "import tarfile", "import yaml"}
    found = calls(path)
    assert not found & dangerous
    assert not [name for name in found if name.endswith((".extractall", ".extract"))]


# --- What the config may say --------------------------------------------------------------------------------


def check(**sections: dict) -> None:
    """Validate the shipped config with some values replaced, as the Snakefile does."""
    config = load_configfile(ROOT / "config.yaml")
    for name, values in sections.items():
        for key, value in values.items():
            if isinstance(value, dict) and isinstance(config[name][key], dict):
                config[name][key].update(value)
            else:
                config[name][key] = value
    validate(config, str(ROOT / "workflow" / "schemas" / "config.schema.yaml"))


def refusal(**sections: dict) -> str:
    with pytest.raises(WorkflowError) as caught:
        check(**sections)
    return str(caught.value)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("section", ["corpus", "tokenizer", "teacher", "tasks"])
@pytest.mark.parametrize(
    "revision", ["main", "v1.0", "refs/pr/1", COMMIT[:7], COMMIT.upper(), COMMIT + "0", COMMIT + "\n", "../" * 13 + "x"]
)
def test_a_revision_that_is_no_whole_commit_is_refused(section, revision):
    """A branch, a tag, a short or odd commit can come to mean something else: refused by its key."""
    assert f"On instance['{section}']['hub']['revision']" in refusal(**{section: {"hub": {"revision": revision}}})


@pytest.mark.parametrize("section", ["corpus", "tokenizer", "teacher", "tasks"])
def test_a_whole_commit_is_accepted(section):
    """The control: 40 hexadecimal digits."""
    check(**{section: {"hub": {"revision": COMMIT}}})


@pytest.mark.parametrize(
    "files",
    [
        "../../x-{shard}.parquet",
        "/etc/{shard}.parquet",
        "a/../../{shard}.parquet",
        "..{shard}.parquet",
        "{shard}/../x.parquet",
        "a\\..\\{shard}.parquet",
        "{shard.__class__}-{shard}.parquet",
        "{shard:>9999999999}.parquet",
        "{shard:0999999999d}.parquet",
        "{shard}.parquet\n",
        "{shard}.bin",
        "one.parquet",
    ],
)
def test_a_hub_file_that_is_no_plain_path_is_refused(files):
    """Paths upwards, absolute ones, attributes and widths in the pattern, other formats: refused by the key."""
    assert "On instance['corpus']['hub']['files']" in refusal(corpus={"hub": {"files": files}})


@pytest.mark.parametrize(
    "files", ["20231101.en/train-{shard:05d}-of-00041.parquet", "{shard}.parquet", "a_b/c-{shard}.parquet"]
)
def test_a_plain_path_is_accepted(files):
    """The control: what repositories use."""
    check(corpus={"hub": {"files": files}})


@pytest.mark.parametrize(
    "repository", ["../..", "a/..", "./b", "/etc/passwd", "a/b/c", "a", "a/b\n", "-a/b", "https://x/y", "a/.b"]
)
def test_a_repository_that_is_none_is_refused(repository):
    """The Hub's owner/name and nothing that could be a path or an address: refused by its key."""
    assert "On instance['tasks']['hub']['repository']" in refusal(tasks={"hub": {"repository": repository}})


@pytest.mark.parametrize("repository", ["nyu-mll/glue", "google-bert/bert-base-uncased", "a/b.c_d-e"])
def test_a_repository_is_accepted(repository):
    """The control: owner/name."""
    check(tasks={"hub": {"repository": repository}})


@pytest.mark.parametrize(
    "key,section",
    [
        ("['tasks']['names'][0]", {"tasks": {"names": ["../../evil"]}}),
        ("['finetune']['seeds'][0]", {"finetune": {"seeds": ["../../evil"]}}),
        ("['finetune']['seeds'][0]", {"finetune": {"seeds": [-1]}}),
        ("['tasks']['names'][0]", {"tasks": {"names": ["a/b"]}}),
        ("['tasks']['names'][0]", {"tasks": {"names": [".."]}}),
        ("['tasks']['names'][0]", {"tasks": {"names": ["a.b"]}}),
        ("['tasks']['names'][0]", {"tasks": {"names": ["a b"]}}),
        ("['tasks']['names'][0]", {"tasks": {"names": ["a\n"]}}),
        ("['tasks']['names'][0]", {"tasks": {"names": ["Reviews"]}}),
        ("['tasks']['names'][0]", {"tasks": {"names": ["x" * 41]}}),
        ("['tasks']['custom']", {"tasks": {"custom": {"../evil": {}}}}),
        ("['tasks']['custom']", {"tasks": {"custom": {2024: {}}}}),
        ("['seed']", None),
        ("['tasks']['folder']", {"tasks": {"folder": "a{b}"}}),
        ("['corpus']['folder']", {"corpus": {"folder": ""}}),
    ],
)
def test_names_that_become_paths_are_refused_by_their_key(key, section):
    """Tasks, seeds and folders stand in file names: nothing but a lower-case word, a number, a path without braces."""
    if section is None:
        config = load_configfile(ROOT / "config.yaml") | {"seed": "../1"}
        with pytest.raises(WorkflowError) as caught:
            validate(config, str(ROOT / "workflow" / "schemas" / "config.schema.yaml"))
        message = str(caught.value)
    else:
        message = refusal(**section)
    assert f"On instance{key}" in message


OWN_TASK = {"columns": ["text"], "label_names": ["bad", "good"], "train": "a.csv", "test": "b.jsonl.gz"}


def test_an_own_task_is_accepted():
    """The control: what a description must have; the rest takes its default."""
    check(tasks={"names": ["my_task-2"], "custom": {"my_task-2": dict(OWN_TASK)}})


@pytest.mark.parametrize(
    "key,value",
    [
        ("columns", []),
        ("columns", ["a", "b", "c"]),
        ("columns", ["a", "a"]),
        ("columns", "text"),
        ("label_names", ["only"]),
        ("label_names", ["same", "same"]),
        ("label_names", [False, True]),  # what YAML makes of [no, yes]
        ("label_names", ["1", "0"]),
        ("label_names", ["no", "0"]),
        ("yes_class", 2),
        ("yes_class", True),
        ("metric", "f1"),
        ("train", "a.txt"),
        ("train", "a.zip"),
        ("train", "a.parquet.gz"),
        ("train", "{a}.csv"),
        ("test", None),
        ("test", "a.csv\n"),
        ("title", "a|b"),
        ("title", "two\nlines"),
        ("title", "$x$"),
        ("title", ""),
    ],
)
def test_a_wrong_description_of_an_own_task_is_refused_by_its_key(key, value):
    """Columns, classes, files and titles that cannot be meant: the path in the config is named."""
    message = refusal(tasks={"custom": {"mine": OWN_TASK | {key: value}}})
    assert f"On instance['tasks']['custom']['mine']['{key}']" in message


@pytest.mark.parametrize("key", OWN_TASK)
def test_an_own_task_must_say_what_it_is(key):
    """Each key without a default is asked for by its name, and one that does not exist is refused."""
    lacking = {name: value for name, value in OWN_TASK.items() if name != key}
    assert f"'{key}' is a required property" in refusal(tasks={"custom": {"mine": lacking}})
    assert "'lables' was unexpected" in refusal(tasks={"custom": {"mine": OWN_TASK | {"lables": 1}}})


def test_a_branch_is_refused_through_snakemake(tmp_path):
    """What the user sees: the key and the value, before anything is fetched."""
    done = snakemake(tmp_path, "--dry-run", overlays=[{"tasks": {"source": "hub", "hub": {"revision": "main"}}}])
    assert done.returncode != 0
    assert "On instance['tasks']['hub']['revision']" in done.stdout
    assert "'main' does not match" in done.stdout


def test_a_file_of_the_hub_is_asked_for_at_its_commit_and_lands_where_it_is_wanted(tmp_path, monkeypatch):
    """Whatever its name in the repository, the copy has the name that the rule gave, and nothing else is written."""
    (tmp_path / "cached").write_bytes(b"content")
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "cached"))
    hub.fetch("a/b", COMMIT, "../../evil.parquet", tmp_path / "results" / "0.parquet", kind="dataset")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"cached", "results/0.parquet"}


# --- What a corpus folder may hold --------------------------------------------------------------------------

ODD_NAMES = [
    "with space.txt",
    "-rf.txt",
    "--config.jsonl",
    "a..b.txt",
    "a/..b/..c.txt",
    "b/ ..txt",
    "b/~.txt",
    "new\nline.txt",
    "tab\tbell\a.txt",
    "漢字/naïve.txt",
    "e\u0301.txt",
    "\u202egnp.txt",
    "$(touch sprung);`touch sprung`.txt",
    "quote'\".txt",
    "star*?[1].txt",
    "semi;colon|pipe&.txt",
    "back\\..\\slash.txt",
    "percent%2e%2e%2f.txt",
    "x" * 200 + ".txt",
]


def test_odd_file_names_become_shard_names_that_are_no_paths(tmp_path):
    """Each shard's name is one plain file name: letters, digits, dots, hyphens; its folder lies inside results/."""
    root = tmp_path / "corpus"
    for name in ODD_NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("word" if name.endswith("txt") else '{"text": "word"}\n')
    shards = corpus_files(root)
    hidden = [name for name in ODD_NAMES if any(part.startswith(".") for part in Path(name).parts)]
    assert len(shards) == len(ODD_NAMES) - len(hidden)
    tokens = (tmp_path / "results" / "tokens").resolve()
    for name, path in shards.items():
        assert re.fullmatch(r"[\w.-]+", name)
        assert name not in (".", "..")
        assert (tokens / name / "train.arrow").resolve().parent.parent == tokens
        assert [text for _, text in read_documents(path)] == ["word"]


def test_braces_in_a_name_are_refused(tmp_path):
    """Snakemake would take them for a wildcard, far from the cause: one line names the file."""
    (tmp_path / "a{b}.txt").write_text("word")
    with pytest.raises(ValueError, match=r"corpus\.folder: .*/a\{b\}\.txt: Snakemake takes braces"):
        corpus_files(tmp_path)


def test_loops_of_links_end(tmp_path):
    """A link to its own folder, to a folder above, to itself, and a pair that point at each other: each file once."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "far.txt").write_text("word")
    (tmp_path / "config.json").write_text("{}")  # above the corpus, so no part of it
    corpus = tmp_path / "corpus"
    (corpus / "a").mkdir(parents=True)
    (corpus / "a" / "near.txt").write_text("word")
    for name, target in {"here": ".", "above": "..", "a/up": "..", "self": "self", "x": "y", "y": "x"}.items():
        (corpus / name).symlink_to(target)
    (corpus / "linked").symlink_to(tmp_path / "outside")
    (corpus / "twice").symlink_to("a")
    (corpus / "link.txt").symlink_to(tmp_path / "outside" / "far.txt")
    assert list(corpus_files(corpus)) == ["a--near", "link", "linked--far"]


@pytest.mark.parametrize("target", ["absent.txt", "a.txt"])
def test_a_link_to_nothing_is_refused(tmp_path, target):
    """A link to nothing, or to itself, is named: passed over, it would make the corpus smaller without a word."""
    (tmp_path / "b.txt").write_text("word")
    (tmp_path / "a.txt").symlink_to(target)
    with pytest.raises(ValueError, match=r"corpus\.folder: .*/a\.txt is a link to a file that is not there"):
        corpus_files(tmp_path)


def test_odd_names_go_through_snakemake(tmp_path):
    """A file whose name is a shell command, and one that begins with a hyphen, are encoded; no command is run."""
    (tmp_path / "corpus").mkdir()
    text = "\n\n".join("the river is near the old bridge " * 3 for _ in range(50))
    for name in ("$(touch sprung);`touch sprung`.txt", "-rf.txt"):
        (tmp_path / "corpus" / name).write_text(text)
    overlay = {
        "corpus": {"source": "folder", "folder": "corpus"},
        "tokenizer": {"train": {"vocab_size": 100}},
    }
    targets = [f"results/tokens/{name}/manifest.json" for name in ("-rf", "--touch--sprung--touch--sprung--")]
    done = snakemake(tmp_path, *targets, overlays=[overlay])
    assert done.returncode == 0, done.stdout
    assert all((tmp_path / target).exists() for target in targets)
    assert not list(tmp_path.rglob("sprung"))


def test_a_checkpoint_of_another_shape_is_refused_before_it_is_used(teacher):
    """Tensors come by name and shape: one too large is refused by its name."""
    tensors = load_file(teacher / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    save_file(
        tensors | {name: torch.zeros(len(tensors[name]) + 1, tensors[name].shape[1])}, teacher / "model.safetensors"
    )
    assert_refused(teacher, name)
