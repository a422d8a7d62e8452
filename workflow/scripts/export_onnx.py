"""A fine-tuned classifier as ONNX, for those who run it without PyTorch; written only if it answers as the model does.

Reads a classifier's folder and the task's test set; writes model.onnx (inputs `input_ids`, `attention_mask` and, of a
BERT, `token_type_ids`; output `logits`; batch and length are free) and check.json: how far its logits are from ours,
and the digests of the graph and of the weights that it was made from.

By the exporter that traces with torch.export. The older one, of TorchScript, wrote a graph of the same model whose
logits were wrong by 0.2, without an error.
"""

import logging
import time
import warnings
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from distilbert import runlog
from distilbert.batching import Batch, pad
from distilbert.export import load_classifier
from distilbert.files import atomic_path, sha256, write_json
from distilbert.tokens import TokenShards

# What no other step needs; they are imported inside functions, as importing a step must work without them.
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# Largest difference of two float32 logits that rounding explains, relative to the largest logit.
TOLERANCE = 1e-4
# Test examples that are compared, and those in a batch.
NUM_EXAMPLES, BATCH_SIZE = 500, 16


def main(*, model: Path, test: Path, onnx: Path, check: Path, settings: dict, code: str) -> None:
    """Export the classifier whose weights are `model`.

    Raises:
        RuntimeError: a package is missing.
        ValueError: the exported model answers otherwise; nothing is written.
    """
    started = time.time()
    require_packages()
    examples = TokenShards([test])
    classifier = load_classifier(model.parent, examples.vocabulary).eval()
    with atomic_path(onnx) as temporary:
        export(model.parent, temporary)
        figures = compare(temporary, classifier, examples)
        if not figures["largest_relative_difference"] <= TOLERANCE:
            raise ValueError(f"{model.parent}: the ONNX model's logits differ: {figures}")
    digests = {"model.onnx": sha256(onnx), model.name: sha256(model)}
    record = runlog.provenance(settings, code, started=started)
    record["versions"] |= {name: metadata.version(name) for name in PACKAGES}
    write_json(check, {**figures, "tolerance": TOLERANCE, "sha256": digests, "provenance": record})


def require_packages() -> None:
    """Refuse to begin without the packages that this step alone needs.

    Raises:
        RuntimeError: the message names those that are missing and what installs them.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise RuntimeError(f"no package {', '.join(missing)}; `make onnx` installs requirements-onnx.txt")


def export(folder: Path, path: Path) -> None:
    """Write the classifier of a folder, as `transformers` loads it, to an ONNX file."""
    disable_progress_bar()
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = ["The river is near the bridge.", "What is it?"], ["A bridge.", "A bird, which lives near the lake."]
    inputs = dict(tokenizer(*pairs, padding=True, return_tensors="pt"))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            model,
            kwargs=inputs,
            f=path,
            output_names=["logits"],
            dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in inputs},
            external_data=False,
            verbose=False,
        )


@torch.inference_mode()
def compare(path: Path, classifier: torch.nn.Module, examples: TokenShards) -> dict[str, float | int]:
    """Return how far the logits of an ONNX model are from ours, on batches of many shapes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    difference = largest = 0.0
    shapes, num_examples, num_same = set(), 0, 0
    for batch in batches(examples, classifier.config.max_positions):
        arrays = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.token_types}
        (theirs,) = session.run(["logits"], {name: arrays[name].astype(np.int64) for name in names})
        ours = classifier(*map(torch.from_numpy, (batch.ids, batch.mask, batch.token_types))).numpy()
        difference = max(difference, float(np.abs(theirs - ours).max()))
        largest = max(largest, float(np.abs(ours).max()))
        shapes.add(batch.ids.shape)
        num_examples += len(ours)
        num_same += int((theirs.argmax(1) == ours.argmax(1)).sum())
    return {
        "examples": num_examples,
        "same_answers": num_same,
        "shapes": len(shapes),
        "shortest": min(length for _, length in shapes),
        "longest": max(length for _, length in shapes),
        "largest_difference": difference,
        "largest_relative_difference": difference / largest,
    }


def batches(examples: TokenShards, num_positions: int) -> Iterator[Batch]:
    """Yield examples in many shapes, as a graph may be right for those alone that it was traced with.

    The shortest and the longest alone; all in batches, long beside short; two at the least and the greatest length.
    """
    order = np.argsort(examples.lengths, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(len(order), NUM_EXAMPLES)).round().astype(int)]
    yield pad(examples, chosen[:1])
    yield pad(examples, chosen[-1:])
    mixed = np.random.default_rng(0).permutation(chosen)
    for start in range(0, len(mixed), BATCH_SIZE):
        yield pad(examples, mixed[start : start + BATCH_SIZE])
    for length in (3, num_positions):
        yield with_length(pad(examples, chosen[[0, -1]]), length)


def with_length(batch: Batch, length: int) -> Batch:
    """Return a batch cut, or padded, to a length."""
    arrays = [array[:, :length] for array in (batch.ids, batch.mask, batch.token_types)]
    missing = length - arrays[0].shape[1]
    return Batch(*(np.pad(array, ((0, 0), (0, missing))) for array in arrays), batch.rows, batch.labels)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
