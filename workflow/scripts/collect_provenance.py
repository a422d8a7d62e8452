"""Records to a page: what made each result, when, where, by which code, with which settings.

Reads the JSON records that the steps wrote beside their results; writes provenance.csv, a row per record, and
provenance.html, the same for the report, with the versions and the settings.
"""

import json
from pathlib import Path

from distilbert import runlog
from distilbert.files import read_json, write_csv, write_text
from distilbert.pages import Details, Table, to_html


def main(*, records: list[Path], table: Path, html: Path, settings: dict) -> None:
    """Write table and page of the records, in their order; `settings["names"]` says what users call each."""
    found = {name: read_json(path)["provenance"] for name, path in zip(settings["names"], records, strict=True)}
    rows = [row(path, record) for path, record in found.items()]
    write_csv(table, rows)
    versions: dict[str, list[str]] = {}
    for path, record in found.items():
        versions.setdefault(", ".join(f"{name} {v}" for name, v in record["versions"].items()), []).append(path)
    blocks = [
        "What made each result: a row per record that a step wrote beside it. A commit that ends in + was edited.",
        *(
            f"Versions{' of all' if len(versions) == 1 else f' of {len(paths)} records'}: {names}."
            for names, paths in versions.items()
        ),
        Table([name.replace("_", " ") for name in rows[0]], [cells(row) for row in rows]),
        "Settings and digests of the code of each:",
        *(Details(path, to_text(record)) for path, record in found.items()),
    ]
    write_text(html, to_html("Provenance", blocks))


def row(path: str, record: dict) -> dict:
    """Return a record's row."""
    return {
        "record": path,
        "started": record["started"],
        "seconds": record["seconds"],
        "tokens_per_second": record.get("tokens_per_second", ""),
        "git_commit": record["git_commit"] or "",
        "threads": record["threads"],
        "device": record["device"],
    }


def cells(row: dict) -> list:
    """Return a row as the page shows it, its commit as short as git would."""
    commit = row["git_commit"]
    return list((row | {"git_commit": commit[:12] + "+" * commit.endswith("+")}).values())


def to_text(record: dict) -> str:
    """Return a record's settings and digests as text."""
    return json.dumps({key: record[key] for key in ("settings", "code")}, indent=2, sort_keys=True)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
