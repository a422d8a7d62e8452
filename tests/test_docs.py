"""Documents: what they quote stands in committed files, and the environments hold the versions of the lock file."""

import csv
import re
import statistics

import yaml
from check_docs import BLOCK, ROOT, with_tables


def test_readme_quotes_the_committed_results():
    """The tables in README.md are those of docs/results, and there is at least one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert BLOCK.search(text)
    assert with_tables(text) == text


def test_the_first_sentences_quote_the_demo():
    """Every percentage above the README's first command stands in the demo's table of means."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    figures = re.findall(r"(\d+\.\d) %", text.split("```")[0])
    table = (ROOT / "docs" / "results" / "demo" / "summary.md").read_text(encoding="utf-8").split("\n\n")[-1]
    assert len(figures) == 3
    assert [figure for figure in figures if f"| {figure} |" not in table] == []


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


def test_links_in_the_readme_lead_somewhere():
    """Every relative link of README.md names a file or folder of the repository."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_environments_have_the_versions_of_the_lock_file():
    """Every package that envs/*.yaml pin is pinned to the same version in requirements.txt."""
    locked = set((ROOT / "requirements.txt").read_text(encoding="utf-8").split())
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        packages = next(
            item["pip"] for item in yaml.safe_load(path.read_text())["dependencies"] if isinstance(item, dict)
        )
        assert packages
        assert [package for package in packages if package not in locked] == [], path


def test_every_direct_dependency_is_used():
    """Each package of requirements.in is imported by the workflow (Snakemake runs it)."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow").rglob("*.py"))
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    names = [re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")]
    unused = [name for name in names if name != "snakemake" and not re.search(rf"\b(import|from) {name}\b", sources)]
    assert unused == []
