"""The reference of the configuration, as Markdown, from its schema and the shipped config.

`check_docs.py --write` puts it into docs/configuration.md.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

CONFIG = Path(__file__).parent.parent / "config.yaml"
HEADER = ["| key | value | default | what it is |", "|---|---|---|---|"]
# What a number must be -> how it is said.
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def reference(schema_file: Path) -> str:
    """Return a heading and a table for each section of the schema, a row for each key."""
    schema = yaml.safe_load(schema_file.read_text(encoding="utf-8"))
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    parts = []
    for section in schema["properties"]:
        rows = [row_of(*found) for found in keys_of(schema, section, schema["properties"][section], config[section])]
        parts.append("\n".join([f"## {section}", "", *HEADER, *rows]))
    return "\n\n".join(parts)


def keys_of(schema: dict, key: str, part: dict, default: object) -> Iterator[tuple[str, dict, str, object]]:
    """Yield (dotted key, its schema, what it may be, its default) of a part of the schema and of all below it."""
    part = resolved(schema, part)
    below = part.get("additionalProperties")
    if "properties" not in part or "description" in part:
        yield key, part, value_of(schema, part), default
    for name, inner in part.get("properties", {}).items():
        needed = name in part.get("required", ()) and not isinstance(default, dict)
        inner_default = default[name] if isinstance(default, dict) else inner.get("default", ... if needed else None)
        yield from keys_of(schema, f"{key}.{name}", inner, inner_default)
    if isinstance(below, dict):
        yield from keys_of(schema, f"{key}.<name>", below, ...)


def row_of(key: str, part: dict, value: str, default: object) -> str:
    """Return a row of the table; a default of `...` means that there is none."""
    if default is ...:
        shown = "to be given" if "properties" not in part else ""
    else:
        shown = "" if isinstance(default, dict) and default else f"`{yaml_of(default)}`"
    cells = (f"`{key}`", value, shown, part.get("description", "").strip())
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def yaml_of(value: object) -> str:
    """Return a value as it is written in YAML, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def resolved(schema: dict, part: dict) -> dict:
    """Return a part of the schema with what its `$ref` names; what stands beside the reference goes first."""
    if "$ref" not in part:
        return part
    name = part["$ref"].removeprefix("#/$defs/")
    return schema["$defs"][name] | {key: value for key, value in part.items() if key != "$ref"}


def value_of(schema: dict, part: dict) -> str:
    """Return in words what a key may be: its type, its range, its choices."""
    part = resolved(schema, part)
    if "enum" in part:
        *first, last = (f"`{yaml_of(value)}`" for value in part["enum"])
        return f"{', '.join(first)} or {last}"
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    words = [in_words(schema, part, kind) for kind in kinds if kind != "null"]
    return " or ".join(words + ["`null`"] * ("null" in kinds))


def in_words(schema: dict, part: dict, kind: str) -> str:
    """Return what a value of one type may be."""
    if kind == "boolean":
        return "`true` or `false`"
    if kind == "object":
        return "a section"
    if kind == "array":
        return f"list of {value_of(schema, part['items'])}{counted(part)}"
    bounds = [f"{sign} {part[bound]}" for bound, sign in BOUNDS.items() if bound in part]
    return f"{kind} {' and '.join(bounds)}".strip()


def counted(part: dict) -> str:
    """Return how many items a list has, where its schema says it."""
    few, many = part.get("minItems"), part.get("maxItems")
    if few is None:
        return ""
    if many is None:
        return f", {few} or more"
    return f", {few}" if few == many else f", {few} to {many}"
