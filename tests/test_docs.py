"""Documents: what they quote stands in committed files, and the environments hold the versions of the lock file."""

import csv
import json
import re
import statistics
from pathlib import Path

import yaml
from check_docs import BLOCK, ROOT, pages, presets_table, with_tables
from config_reference import keys_of, reference

CI = ROOT / ".github" / "workflows" / "ci.yml"


def test_pages_quote_the_committed_results():
    """The tables in README.md and docs/*.md are those of docs/results, and README.md has at least one."""
    assert BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert with_tables(text) == text, page


def test_the_reference_has_every_key_of_the_config():
    """Each value of config.yaml has one row, with its value there as the default and a description."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    table = reference(ROOT / "workflow" / "schemas" / "config.schema.yaml")
    assert table in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\S+)` \|(.*)$", table, re.MULTILINE))

    def check(prefix: str, section: dict) -> None:
        for name, value in section.items():
            if isinstance(value, dict) and value:
                check(f"{prefix}{name}.", value)
            else:
                _, default, description = rows[prefix + name].strip(" |").split(" | ")
                assert yaml.safe_load(default.strip("`")) == value, name
                assert len(description) > 10, name

    check("", config)


def test_the_reference_says_what_a_key_may_be():
    """Ranges, choices, lists, null, and what has no default, of each kind one."""
    schema = {
        "$defs": {"share": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "description": "A share."}},
        "properties": {
            "number": {"$ref": "#/$defs/share", "description": "Of what is left."},
            "choice": {"enum": ["a", "b", 1]},
            "names": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
            "limit": {"type": ["integer", "null"], "minimum": 1},
            "flag": {"type": "boolean"},
            "things": {
                "type": "object",
                "additionalProperties": {"required": ["new"], "properties": {"new": {"type": "string"}}},
            },
        },
    }
    defaults = {"number": 0.5, "choice": "a", "names": ["x"], "limit": None, "flag": True, "things": {}}
    found = {key: (kind, default) for key, _, kind, default in keys_of(schema, "top", schema, defaults)}
    assert found == {
        "top.number": ("number ≥ 0 and < 1", 0.5),
        "top.choice": ("`a`, `b` or `1`", "a"),
        "top.names": ("list of string, 1 to 2", ["x"]),
        "top.limit": ("integer ≥ 1 or `null`", None),
        "top.flag": ("`true` or `false`", True),
        "top.things": ("a section", {}),
        "top.things.<name>.new": ("string", ...),
    }


def test_the_first_screen_says_what_the_runs_came_to():
    """Above README's first command stand the headlines of the demo and of real text, as in the tables of both."""
    top = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[0]
    headlines = [found[0] for found in BLOCK.finditer(top)]
    for run, headline in zip(("demo", "minilm-long"), headlines, strict=True):
        assert f"docs/results/{run}/summary.md headline" in headline
        kept = re.search(r"keeps (\d+\.\d) % of its score", headline)[1]
        table = (ROOT / "docs" / "results" / run / "summary.md").read_text(encoding="utf-8").split("\n\n")[-1]
        (student,) = [line for line in table.splitlines() if line.startswith("| Student, pretrained |")]
        assert f"| {kept} |" in student


def test_the_table_of_presets_has_the_values_of_each():
    """A value of config.yaml stands for a preset that does not name the key, the preset's own where it does."""
    header, _, *lines = presets_table(ROOT / "workflow" / "presets").splitlines()
    names = header.strip("| ").split(" | ")
    rows = {line.split("`")[1]: dict(zip(names, line.strip("| ").split(" | "), strict=True)) for line in lines}
    assert {"demo", "coursework", "minilm", "paper"} <= set(names)
    assert rows["student.initialization"]["coursework"] == "random"
    assert rows["student.initialization"]["demo"] == rows["student.initialization"]["paper"] == "teacher"
    assert yaml.safe_load(rows["finetune.learning_rate"]["paper"]) == 3.0e-5
    assert rows["finetune.scratch"]["minilm"] == "false"


def test_committed_summaries_agree_with_their_tables():
    """The means in each committed summary.md are those of the summary.csv beside it."""
    folders = [path.parent for path in (ROOT / "docs" / "results").glob("*/summary.md")]
    assert folders
    for folder in folders:
        with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        table = (folder / "summary.md").read_text(encoding="utf-8").strip().split("\n\n")[-1]
        pretrained = [100 * float(row["accuracy"]) for row in rows if row["approach"] == "pretrained"]
        assert f"| Student, pretrained | {statistics.mean(pretrained):.1f} |" in table, folder


def test_results_name_no_place_of_the_machine_that_made_them():
    """A command in a committed result can be typed in any checkout: no word of it is an absolute path."""
    files = sorted((ROOT / "docs" / "results").rglob("*.json"))
    commands = [figures["command"] for figures in map(json.loads, map(Path.read_text, files)) if "command" in figures]
    assert len(commands) > 5
    for command in commands:
        assert not any(word.startswith("/") for word in command.split()), command


def test_links_lead_somewhere():
    """Every relative link of README.md, CONTRIBUTING.md and docs/*.md names a file, and after # a heading of it."""
    links = [
        (page.name, link, page.parent / link.split("#")[0] if not link.startswith("#") else page)
        for page in [*pages(), ROOT / "CONTRIBUTING.md"]
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        if not link.startswith("http")
    ]
    assert links
    assert [link for link in links if not link[2].exists()] == []
    anchored = [(page, link.split("#")[1], path) for page, link, path in links if "#" in link]
    assert [link for link in anchored if link[1] not in anchors(link[2].read_text(encoding="utf-8"))] == []


def anchors(text: str) -> set[str]:
    """Return what GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_make_has_what_the_pages_type():
    """Every `make <target>` of the pages and of .ci/run is a target of the Makefile, as is each word of `make a b`."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    code = [(ROOT / ".ci" / "run").read_text(encoding="utf-8")]
    for page in [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        code += re.findall(r"```sh\n.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
    commands = re.findall(r"^`?make ((?:[a-z-]+\b(?!=) ?)+)", "\n".join(code), re.MULTILINE)
    typed = {target for command in commands for target in command.split()}
    assert {"demo", "report", "test", "docs"} <= typed
    assert typed <= targets


def test_github_calls_what_everybody_calls():
    """The CI of GitHub runs .ci/run, with the oldest Python that README promises, and pins a version of each action."""
    job = yaml.safe_load(CI.read_text(encoding="utf-8"))["jobs"]["ci"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    versions = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert [f"Python {version} or newer" in (ROOT / "README.md").read_text() for version in versions] == [True]
    assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)


def test_the_citation_names_what_is_cited():
    """CITATION.cff has what its format asks for, the paper that README names, and the licence of LICENSE."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert paper["url"] in (ROOT / "README.md").read_text(encoding="utf-8")
    assert citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]


def test_tests_that_the_pages_name_exist():
    """Every `test_...` that docs/*.md name is the name, or with `*` the beginning, of a test."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for page in pages():
        for name in re.findall(r"`(test_\w+?)(?:\*|)`", page.read_text(encoding="utf-8")):
            assert f"def {name}" in sources, f"{page.name}: {name}"


def pins(name: str) -> dict[str, str]:
    """Return {package: version} of a lock file."""
    lines = (ROOT / name).read_text(encoding="utf-8").split("\n")
    return dict(line.split("==") for line in lines if "==" in line)


def test_environments_have_the_versions_of_the_lock_file():
    """What envs/*.yaml pin is pinned alike in requirements.txt, or for envs/onnx.yaml in requirements-onnx.txt."""
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        locked = pins("requirements.txt") | (pins("requirements-onnx.txt") if path.stem == "onnx" else {})
        packages = next(
            item["pip"] for item in yaml.safe_load(path.read_text())["dependencies"] if isinstance(item, dict)
        )
        assert packages
        assert [package for package in packages if package.split("==") not in map(list, locked.items())] == [], path


def test_the_packages_of_onnx_change_no_other():
    """Where requirements-onnx.txt and requirements.txt pin the same package they pin the same version."""
    base, onnx = pins("requirements.txt"), pins("requirements-onnx.txt")
    shared = base.keys() & onnx.keys()
    assert "numpy" in shared
    assert {name: onnx[name] for name in shared} == {name: base[name] for name in shared}
    assert {"onnx", "onnxruntime", "onnxscript"} <= onnx.keys() - base.keys()


def test_every_direct_dependency_is_used():
    """Each package of requirements.in is imported by the workflow (Snakemake runs it)."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow").rglob("*.py"))
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    names = [re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")]
    unused = [name for name in names if name != "snakemake" and not re.search(rf"\b(import|from) {name}\b", sources)]
    assert unused == []
