"""Check a report of the workflow: `python tests/check_report.py report.html`.

It must hold each figure and page with caption, category and label, the config, the rules, and load nothing from
elsewhere. Prints what is in it; exits with 1 and says what is missing.
"""

import base64
import json
import re
import sys
from pathlib import Path

EXPECTED = {
    "results/summary.html": ("Results", "text/html"),
    "results/plots/accuracy.png": ("Results", "image/png"),
    "results/plots/cross_evaluation.png": ("Results", "image/png"),
    "results/plots/efficiency.png": ("Results", "image/png"),
    "results/plots/training_curves.png": ("Training", "image/png"),
    "results/provenance.html": ("Provenance", "text/html"),
}
RULES = {"pretrain", "finetune", "distill_task", "score_models", "measure_efficiency", "collect_results"}
# What makes a browser load something: a script or picture by its address, a style sheet, an import of one.
LOADS = r"<(?:script|img|iframe|link)[^>]+(?:src|href)=[\"']?https?:[^>]*>|@import[^;]*https?:"


def faults(page: str) -> list[str]:
    """Return what a report lacks, or has and should not."""
    results, categories = variable(page, "results"), variable(page, "categories")
    found = [f"no {path}" for path in EXPECTED if path not in results]
    for path, (category, mime) in EXPECTED.items():
        if path in results:
            found += [f"{path}: {fault}" for fault in result_faults(results[path], mime)]
            if path not in sum(categories.get(category, {}).values(), []):
                found.append(f"{path}: not among {category}")
    if missing := RULES - variable(page, "rules").keys():
        found.append(f"no rule {', '.join(sorted(missing))}")
    if missing := RULES - {node["rule"] for node in variable(page, "rulegraph_spec")["data"][0]["values"]}:
        found.append(f"not in the graph: {', '.join(sorted(missing))}")
    if "align-items: safe center" not in variable(page, "workflow_desc"):
        found.append("the first page loses its head where it is higher than the window")
    description = re.sub(r"<[^>]+>", "", variable(page, "workflow_desc"))
    found += [f"{key} is not in the description" for key in ("mlm_probability", "alpha_ce") if key not in description]
    found += [
        f"loads {address}" for address in re.findall(LOADS, re.sub(r"<script>.*?</script>", "", page, flags=re.S))
    ]
    return found


def result_faults(result: dict, mime: str) -> list[str]:
    """Return what is wrong with one result."""
    head, _, data = result["data_uri"].partition(";base64,")
    content = base64.b64decode(data)
    checks = {
        f"is {result['mime_type']}, not {mime}": result["mime_type"] == mime and mime in head,
        "no caption": len(re.sub(r"<[^>]+>", "", result["caption"]).split()) > 20,
        "no label": bool(result["labels"]["figure"]),
        "no content": content.startswith(b"\x89PNG\r\n\x1a\n" if mime == "image/png" else b"<!doctype html>"),
    }
    return [fault for fault, is_fine in checks.items() if not is_fine]


def variable(page: str, name: str):
    """Return the value of a JavaScript variable that the report sets to JSON."""
    found = re.search(rf'<script id="[\w-]+">\s*var {name} = ', page)
    if not found:
        raise ValueError(f"no variable {name}: not a report, or one of another Snakemake")
    return json.JSONDecoder().raw_decode(page, found.end())[0]


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    if wrong := faults(text):
        sys.exit("the report: " + "; ".join(wrong))
    print(f"the report holds all {len(EXPECTED)} results, {len(text) / 1e6:.1f} MB")
