"""Keep the pages together with what they quote: `--write` puts tables of files into README.md and docs/*.md.

A page marks where with `<!-- docs/results/<file> -->`, or the schema of the configuration or the folder of the presets,
and `<!-- end -->`. Of a summary that is the table of means; `<!-- docs/results/<run>/summary.md headline -->` is its
first sentences, `tasks` in that place the table of tasks, and `sizes` that of size and speed.
"""

import json
import re
import sys
from pathlib import Path

import yaml
from config_reference import reference, yaml_of
from reruns import merged

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(<!-- ((?:docs/results|workflow/schemas|workflow/presets)\S*)(?: ([a-z]+))? -->\n).*?(<!-- end -->)",
    re.DOTALL,
)
# What tells the presets apart at a glance.
COMPARED = """
corpus.source corpus.chunking corpus.max_length teacher.source student.num_layers student.initialization
pretrain.restrict_ce_to_mask pretrain.batch_size pretrain.epochs pretrain.max_steps pretrain.learning_rate
tasks.source tasks.split tasks.max_length tasks.max_train_examples
finetune.seeds finetune.scratch finetune.batch_size finetune.epochs finetune.learning_rate
""".split()


def pages() -> list[Path]:
    """Return the pages that may quote results."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def with_tables(text: str) -> str:
    """Return a page with what it quotes of the named file in each marked block."""

    def filled(found: re.Match) -> str:
        begin, path, part, end = found.groups()
        quoted = part_of_summary(ROOT / path, part) if part else table_of(ROOT / path)
        return f"{begin}\n{quoted}\n\n{end}"

    return BLOCK.sub(filled, text)


def part_of_summary(path: Path, part: str) -> str:
    """Return the "headline", the "means", or the table of "tasks" or "sizes" of a summary."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    if part == "headline":
        return blocks[1]
    tables = [block for block in blocks if block.startswith("|")]
    return tables[{"tasks": 0, "sizes": 1, "means": -1}[part]]


def table_of(path: Path) -> str:
    """Return what a page shows of a file: a summary's table of means, what a torture came to, a schema's keys."""
    if path.suffix == ".yaml":
        return reference(path)
    if path.name == "presets":
        return presets_table(path)
    if path.parent.name == "benchmarks" and not path.exists():
        return "Not measured yet."
    if path.name == "summary.md":
        return part_of_summary(path, "means")
    figures = json.loads(path.read_text(encoding="utf-8"))
    if "faults" in figures:
        return faults_table(figures["faults"])
    if path.parent.name == "benchmarks":
        return benchmark_tables(figures)
    return torture_table(figures) if "kills" in figures else table_of_figures(figures)


def benchmark_tables(figures: dict) -> str:
    """Return each list of rows that a benchmark wrote as a table, and under them what it was measured on."""
    parts = [table_of_rows(rows) for rows in figures.values() if isinstance(rows, list)]
    if "percent_computing" in figures:
        parts.append(f"{figures['seconds']} seconds on {figures['cores']} cores, {figures['cpu_seconds']} CPU seconds.")
    if "machine" in figures:
        torch = figures["versions"]["torch"]
        share = (
            f"; fastest product of matrices {figures['peak_gigaflops']} GFLOP/s" if "peak_gigaflops" in figures else ""
        )
        repeats = f", {figures['repeats']} repeats" if "repeats" in figures else ""
        parts.append(f"{figures['machine']}, {figures['threads']} threads, PyTorch {torch}{repeats}{share}.")
        parts.append(f"`{figures['command'].split(' --json')[0]}` at {(figures['git_commit'] or 'no commit')[:12]}")
    return "\n\n".join(parts)


def table_of_rows(rows: list[dict]) -> str:
    """Return rows that share their keys as a table, numbers to the right."""
    keys = list(rows[0])
    lines = [[key.replace("_", " ") for key in keys]]
    lines.append(["---" if isinstance(rows[0][key], str) else "--:" for key in keys])
    lines += [
        [value if isinstance(value, str) else f"{value:,}" for value in (row[key] for key in keys)] for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_of_figures(figures: dict) -> str:
    """Return named figures as a table of two rows."""
    rows = ([key.replace("_", " ") for key in figures], ["---"] * len(figures), map(str, figures.values()))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def presets_table(folder: Path) -> str:
    """Return what the shipped config and each preset set, a row per setting, as a table."""
    demo = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    overlays = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml"))}
    configs = {"demo": demo} | {name: merged(demo, overlay) for name, overlay in overlays.items()}
    rows = []
    for key in COMPARED:
        section, name = key.split(".")
        values = [config[section][name] for config in configs.values()]
        rows.append({"setting": f"`{key}`"} | dict(zip(configs, map(yaml_of, values), strict=True)))
    return table_of_rows(rows)


def faults_table(faults: list[dict]) -> str:
    """Return the outcomes of tests/slurm.py as a table."""
    rows = [["what happened", "how", "SLURM's word", "saved", "last went on after step", "files that differ"]]
    rows += [["---"] * 5 + ["--:"]]
    for fault in faults:
        after = fault["resumed_after_step"]
        steps = "began anew" if after is None else f"{after} of {fault['steps']}"
        words = [fault["fault"], fault["done"], fault["slurm_said"], fault["saved"], steps]
        rows += [[*words, str(fault["differing_files"])]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def torture_table(report: dict) -> str:
    """Return the report of tests/torture.py as a table."""
    rows = [("killed", "times"), ("---", "---:")]
    rows += [(way, count) for way, count in report["kills"].items()]
    rows += [("**in all**", report["kills_in_all"])]
    rows += [(f"running then: `{rule}`", count) for rule, count in report["running_when_killed"].items()]
    rows += [("starts of Snakemake", report["lives_of_snakemake"])]
    rows += [(f"runs that ended, {what}", count) for what, count in report["finished_runs"].items()]
    rows += [("**result files that differ from the undisturbed run**", len(report["differing_files"]))]
    rows += [("longest life of an orphan, seconds", report["longest_orphan_seconds"])]
    return "\n".join(f"| {left} | {right} |" for left, right in rows)


if __name__ == "__main__":
    for page in pages():
        if sys.argv[1:] == ["--write"]:
            page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
