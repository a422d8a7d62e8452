"""Digest: what can change a result changes it, what cannot leaves it alone."""

import ast
from pathlib import Path

import pytest

from distilbert import digest as module
from distilbert.digest import VARIABLE, announce, code_digest, is_as_announced

ast_parse = ast.parse
FILES = {
    "step.py": '"""A step."""\nfrom library import used\nimport json\n\nif "x" in globals():\n    used.go()\n',
    "library/__init__.py": '"""A library."""\n',
    "library/used.py": '"""Use."""\n\nfrom library.deep import LIMIT\n\n\ndef go():\n    """Go."""\n    return LIMIT\n',
    "library/deep.py": "LIMIT = 1\n",
    "library/unused.py": "LIMIT = 1\n",
    "other_step.py": "X = 1\n",
}


@pytest.fixture(autouse=True)
def restart(tmp_path_factory, monkeypatch):
    """Give each test a memory of its own; return what forgets all but the file, as a new process has."""
    monkeypatch.setattr(module, "MEMORY", tmp_path_factory.mktemp("memory") / "digests.json")
    module._memory.cache_clear()
    return module._memory.cache_clear


@pytest.fixture
def digest_with(tmp_path):
    """Return a function that writes the files with changes and returns the digest of step.py."""

    def digest(changes: dict[str, str] | None = None) -> str:
        for name, text in (FILES | (changes or {})).items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return code_digest(tmp_path / "step.py")

    return digest


def modules(digest: str) -> dict[str, str]:
    return dict(line.split("=") for line in digest.splitlines())


def test_only_modules_that_are_reached_are_listed(digest_with):
    """One line module=digest for the script and each local module that it reaches, sorted."""
    lines = digest_with().splitlines()
    assert [line.split("=")[0] for line in lines] == ["library.__init__", "library.deep", "library.used", "step"]
    for line in lines:
        assert len(line.split("=")) == 2
        int(line.split("=")[1], 16)


@pytest.mark.parametrize(
    "name,text",
    [
        ("step.py", "# a comment\n" + FILES["step.py"]),
        ("step.py", FILES["step.py"].replace("A step.", "Another docstring.")),
        ("step.py", FILES["step.py"].replace('"""A step."""\n', "")),
        ("library/used.py", FILES["library/used.py"].replace('    """Go."""\n', '    """Stay."""\n\n')),
        ("library/used.py", ast.unparse(ast.parse(FILES["library/used.py"]))),
        ("library/deep.py", "LIMIT = (\n    1\n)  # units\n"),
        ("library/unused.py", "LIMIT = 2\n"),
        ("other_step.py", "X = 2\n"),
    ],
    ids=["comment", "docstring", "no docstring", "function docstring", "reformat", "layout", "unused", "other step"],
)
def test_what_cannot_change_a_result_changes_no_digest(digest_with, name, text):
    """Comments, docstrings, blank lines, layout and modules that are not imported are free."""
    before = digest_with()
    assert FILES[name] != text
    assert digest_with({name: text}) == before


@pytest.mark.parametrize(
    "name,text,changed",
    [
        ("step.py", FILES["step.py"].replace("used.go()", "used.go(1)"), "step"),
        ("library/used.py", FILES["library/used.py"].replace("return LIMIT", "return -LIMIT"), "library.used"),
        ("library/deep.py", "LIMIT = 2\n", "library.deep"),
        ("library/__init__.py", "LIMIT = 1\n", "library.__init__"),
    ],
)
def test_a_change_of_behaviour_changes_its_modules_line_alone(digest_with, name, text, changed):
    """An edit of the script or of a module that it imports, directly or not, shows on that module's line."""
    before, after = modules(digest_with()), modules(digest_with({name: text}))
    assert before.keys() == after.keys()
    assert [module for module in before if before[module] != after[module]] == [changed]


@pytest.mark.parametrize(
    "statement",
    [
        "import library.unused",
        "import library.unused as u",
        "from library import unused",
        "from library.unused import LIMIT",
        "def f():\n    from library import unused\n",
    ],
)
def test_every_form_of_import_is_followed(digest_with, statement):
    """A module counts however and wherever it is imported, inside a function too."""
    assert "library.unused" in modules(digest_with({"step.py": FILES["step.py"] + statement + "\n"}))


def test_modules_that_import_each_other_end(digest_with):
    """A cycle of imports is walked once."""
    digest = digest_with({"library/deep.py": "import library.used\nLIMIT = 1\n"})
    assert list(modules(digest)) == ["library.__init__", "library.deep", "library.used", "step"]


def test_an_absent_or_broken_script_is_refused(tmp_path):
    """A script that is not there, or that Python cannot read, has no digest."""
    with pytest.raises(FileNotFoundError):
        code_digest(tmp_path / "absent.py")
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(SyntaxError):
        code_digest(tmp_path / "broken.py")


def test_the_digest_is_the_same_in_every_python(tmp_path):
    """Snakemake and its jobs may run in different Pythons: this digest is that of 3.11, 3.12, 3.13."""
    source = """
def f(a, *, b=1.5, **c):
    with open(a) as g, open(b): x = [i for i in g if i is not None and i != "é"]
    return f"{x!r:>9} and {c}", -0, None, ..., b"x", 1j, lambda q: (yield)

class A: pass
"""
    (tmp_path / "step.py").write_text(source, encoding="utf-8")
    assert code_digest(tmp_path / "step.py") == "step=6a8a99e2d213"


def test_what_is_remembered_is_not_parsed_again(digest_with, restart, monkeypatch):
    """A new process has the digests of what it does not parse; an edited module alone is parsed, and shows."""
    before = digest_with()
    restart()
    parsed = []
    monkeypatch.setattr(module.ast, "parse", lambda source, filename: parsed.append(filename) or ast_parse(source))
    assert digest_with() == before
    assert parsed == []
    after = digest_with({"library/deep.py": "LIMIT = 2\n"})
    assert [name.rsplit("/", 1)[1] for name in parsed] == ["deep.py"]
    assert after != before
    assert digest_with() == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"library.used"', '"library.deep"'),
        lambda text: "[]",
        lambda text: text.replace(module.sha256(Path(module.__file__)), "0" * 64),
    ],
    ids=["cut", "edited", "another form", "of another version"],
)
def test_a_spoilt_memory_is_no_memory(digest_with, restart, spoil):
    """What was not written so by this very file is not believed: all is parsed again, to the same digests."""
    before = digest_with()
    text = module.MEMORY.read_text()
    assert spoil(text) != text
    module.MEMORY.write_text(spoil(text))
    restart()
    assert module._memory() == {}
    assert digest_with() == before


def test_sources_that_may_only_be_read_have_digests(digest_with, restart, tmp_path, monkeypatch):
    """Where no memory can be written there is none."""
    before = digest_with()
    restart()
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "MEMORY", tmp_path / "file" / "digests.json")
    assert digest_with() == before


def test_the_memory_has_a_limit(digest_with, restart, monkeypatch):
    """Of thousands of edits the last ones are remembered."""
    monkeypatch.setattr(module, "MEMORY_SIZE", 5)
    for number in range(8):
        digest_with({"library/deep.py": f"LIMIT = {number}\n"})
    restart()
    assert 0 < len(module._memory()) <= 5


def test_sources_are_as_announced_until_a_byte_changes(tmp_path, monkeypatch):
    """A comment, another file and another name all count; what is put back is as announced again."""
    monkeypatch.setenv(VARIABLE, "")  # restored at the end
    (tmp_path / "library").mkdir()
    step, library = tmp_path / "step.py", tmp_path / "library" / "used.py"
    step.write_text("import library.used\n")
    library.write_text("LIMIT = 1\n")
    assert not is_as_announced(tmp_path)
    announce(tmp_path)
    assert is_as_announced(tmp_path)

    library.write_text("LIMIT = 1  # of all\n")
    assert not is_as_announced(tmp_path)
    library.write_text("LIMIT = 1\n")
    assert is_as_announced(tmp_path)

    other = step.rename(tmp_path / "other.py")
    assert not is_as_announced(tmp_path)
    other.rename(step)
    (tmp_path / "torch.py").write_text("")
    assert not is_as_announced(tmp_path)
