"""Load every exported model with `transformers` and compare its logits with ours: only then an export counts.

Reads the model folders; writes a JSON with the largest difference of each. Fails, naming the model, where one
differs by more than `TOLERANCE` or its tokenizer reads a sentence differently.
"""

import time
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from distilbert import runlog, wordpiece
from distilbert.export import load_classifier, load_masked_lm
from distilbert.files import read_json, write_json
from distilbert.model import CONFIG_FILE

# Largest difference of two float32 logits that rounding explains, relative to the largest logit.
TOLERANCE = 1e-4
PAIRS = [
    ("The river is near the old bridge.", "The old bridge is near the river."),
    ("What is it?", "It is a bird, of a kind that nobody knows, which lives near the lake."),
]


def main(*, models: list[Path], report: Path, settings: dict, code: str) -> None:
    """Compare each model folder of `models` (paths of their weights) with what `transformers` makes of it.

    `settings["models"]` holds what users call the folders, in the same order.
    """
    started = time.time()
    differences = {name: compare(path.parent) for name, path in zip(settings["models"], models, strict=True)}
    record = runlog.provenance(settings, code, started=started)
    write_json(report, {"largest_relative_difference": differences, "tolerance": TOLERANCE, "provenance": record})


@torch.inference_mode()
def compare(folder: Path) -> float:
    """Return the largest difference of the logits of two padded pairs, relative to the largest logit.

    Raises:
        ValueError: it is above the tolerance, or the tokenizers differ.
    """
    tokenizer = wordpiece.load(folder / wordpiece.TOKENIZER_FILE)
    vocabulary = wordpiece.vocabulary_of(tokenizer)
    first, second = zip(*PAIRS, strict=True)
    inputs = AutoTokenizer.from_pretrained(folder)(list(first), list(second), padding=True, return_tensors="pt")
    ids, mask, token_types = inputs["input_ids"], inputs["attention_mask"].bool(), inputs.get("token_type_ids")
    ours_ids = wordpiece.encode_examples(tokenizer, PAIRS, max_length=ids.shape[1])
    if [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)] != ours_ids:
        raise ValueError(f"{folder}: AutoTokenizer reads the same sentence as other tokens")
    is_classifier = any(
        "SequenceClassification" in name for name in read_json(folder / CONFIG_FILE).get("architectures", [])
    )
    if is_classifier:
        ours = load_classifier(folder, vocabulary)
        theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    else:
        ours = load_masked_lm(folder, vocabulary)
        theirs = AutoModelForMaskedLM.from_pretrained(folder)
    ours_logits, theirs_logits = ours.eval()(ids, mask, token_types), theirs.eval()(**inputs).logits
    if not is_classifier:
        ours_logits, theirs_logits = ours_logits[mask], theirs_logits[mask]
    difference = float((ours_logits - theirs_logits).abs().max() / theirs_logits.abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"{folder}: logits differ from those of transformers by {difference:.2g}")
    return difference


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
