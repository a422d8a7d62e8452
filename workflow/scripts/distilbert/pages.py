"""Pages of paragraphs and tables, written as Markdown or as HTML that needs no other file."""

from dataclasses import dataclass
from html import escape

# Columns of numbers are set right; the first paragraph stands out, as it says what the page comes to.
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; margin: 1.5rem; }
h1 + p { font-size: 1.2rem; max-width: 50rem; }
p { max-width: 60rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }
td { white-space: nowrap; }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
.left { text-align: left; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; }
summary { cursor: pointer; }
""".strip()


@dataclass(frozen=True)
class Table:
    """A table: its header, the rows of its cells, and how many of the first columns hold words, not numbers."""

    header: list[str]
    rows: list[list]
    num_left: int = 1


@dataclass(frozen=True)
class Details:
    """A text that an HTML page shows when its title is clicked; not for Markdown."""

    title: str
    text: str


def to_markdown(title: str, blocks: list[str | Table]) -> str:
    """Return a page as Markdown."""
    parts = [block if isinstance(block, str) else markdown_table(block) for block in blocks]
    return "\n\n".join([f"# {title}", *parts]) + "\n"


def markdown_table(table: Table) -> str:
    """Return a table as Markdown."""
    rule = ["---"] * table.num_left + ["--:"] * (len(table.header) - table.num_left)
    lines = [_markdown_row(table.header), f"|{'|'.join(rule)}|", *map(_markdown_row, table.rows)]
    return "\n".join(lines)


def _markdown_row(cells: list) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def to_html(title: str, blocks: list[str | Table | Details]) -> str:
    """Return a page as HTML."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", *map(_html_block, blocks)])
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'


def _html_block(block: str | Table | Details) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    if isinstance(block, Details):
        return f"<details><summary>{escape(block.title)}</summary><pre>{escape(block.text)}</pre></details>"
    lines = [_html_row("th", block.header, block.num_left)]
    lines += [_html_row("td", row, block.num_left) for row in block.rows]
    return "\n".join(["<table>", *lines, "</table>"])


def _html_row(tag: str, cells: list, num_left: int) -> str:
    opened = [f'<{tag} class="left">'] * num_left + [f"<{tag}>"] * (len(cells) - num_left)
    return f"<tr>{''.join(f'{o}{escape(str(cell))}</{tag}>' for o, cell in zip(opened, cells, strict=True))}</tr>"


def percent(share: float) -> str:
    """Return a share in percent with one decimal."""
    return f"{100 * share:.1f}"


def percent_range(low: float, high: float) -> str:
    """Return an interval of shares in percent."""
    return f"{percent(low)} to {percent(high)}"
