"""Keep README.md and docs/results together: `--write` copies the demo's table of means into README.md."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- (docs/results/\S+summary\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Return a page with the table of means of the named summary in each marked block."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{means_table(ROOT / found[2])}\n\n{found[3]}", text)


def means_table(summary: Path) -> str:
    """Return the last table of a summary.md."""
    return summary.read_text(encoding="utf-8").strip().split("\n\n")[-1]


if __name__ == "__main__":
    readme = ROOT / "README.md"
    if sys.argv[1:] == ["--write"]:
        readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
