"""A task's examples: read from its two files, checked, and dealt to train, validation and test.

Two protocols. `official`: the second file (GLUE's validation set) is the test set, and a tenth of the first is held
out to choose the epoch. `coursework` (the student project): both files merged, 80/10/10. Either way an
example whose text also stands in the test set is left out of training and validation, so that no test is
ever trained on; GLUE itself has such repeats.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from distilbert.batching import random_generator
from distilbert.glue import is_glue, is_official, read_official_rows
from distilbert.sources import TABLE_FORMATS, read_rows, require_text
from distilbert.tasks import SPLITS, TaskData

HELD_OUT_FRACTION = 0.1


class EmptySplitError(ValueError):
    """A task has too few examples for its splits."""


@dataclass(frozen=True)
class Example:
    """One sentence (a 1-tuple) or pair, its class, and its row in its file (from 0)."""

    texts: tuple[str, ...]
    label: int
    idx: int


def read_examples(path: Path, task: TaskData, split: str) -> list[Example]:
    """Read the labelled examples of one file: of GLUE parquet or official, of the user's own any table that is read.

    split: "train" or "validation": which of the two files it is, or has in it.

    Raises:
        ValueError: the file cannot be read or has no example, a column is missing, a text is no text or a label is no
            class of the task; the message names file and row or line (from 1).
    """
    if is_glue(task) and is_official(path):
        rows = read_official_rows(path, task, split)
    else:
        rows = read_rows(path, (*task.columns, task.label_column), TABLE_FORMATS)
    examples = []
    for place, row in rows:
        label = _class_of(row[task.label_column], task)
        if label not in (0, 1):
            names = ", ".join(f"{i} ({name})" for i, name in enumerate(task.label_names))
            raise ValueError(f"{path}: {place}: label {label!r:.80} is not a class of {task.name}: {names}")
        texts = tuple(require_text(path, place, column, row[column]) for column in task.columns)
        examples.append(Example(texts, int(label), len(examples)))
    if not examples:
        raise ValueError(f"{path}: no example of {task.name}")
    return examples


def _class_of(label: object, task: TaskData) -> object:
    """Return the class that a label names; one that names none stays as it is.

    The user's own file may have a class's number as text, as any CSV has, or its name; GLUE's files have one spelling.
    """
    if not isinstance(label, str) or is_glue(task):
        return label
    return {"0": 0, "1": 1, task.label_names[0]: 0, task.label_names[1]: 1}.get(label, label)


def split_examples(
    train: list[Example], validation: list[Example], *, split: str, seed: int, max_train_examples: int | None
) -> dict[str, list[Example]]:
    """Deal a task's two files to {"train", "validation", "test"}; which goes where depends on seed and text alone.

    max_train_examples: keep so many training examples, or None for all.

    Raises:
        EmptySplitError: a split would be empty.
    """
    if split == "official":
        parts = {"test": validation, **_deal(train, {"validation": HELD_OUT_FRACTION}, seed)}
    elif split == "coursework":
        # `idx` counts on from the training file, so that it names one example of the merged set.
        merged = train + [replace(example, idx=len(train) + example.idx) for example in validation]
        parts = _deal(merged, {"test": HELD_OUT_FRACTION, "validation": HELD_OUT_FRACTION}, seed)
    else:
        raise ValueError(f"tasks.split: {split!r} is neither 'official' nor 'coursework'")
    tested = {_key(example) for example in parts["test"]}
    for name in ("train", "validation"):
        parts[name] = [example for example in parts[name] if _key(example) not in tested]
    if max_train_examples is not None and len(parts["train"]) > max_train_examples:
        chosen = random_generator(seed).permutation(len(parts["train"]))[:max_train_examples]
        parts["train"] = [parts["train"][i] for i in sorted(chosen)]
    for name in SPLITS:
        if not parts[name]:
            raise EmptySplitError(f"the {name} split has no example")
    return {name: parts[name] for name in SPLITS}


def _deal(examples: Iterable[Example], fractions: dict[str, float], seed: int) -> dict[str, list[Example]]:
    """Deal examples by a hash of seed and text, so that equal texts stay together; the rest is "train"."""
    parts: dict[str, list[Example]] = {name: [] for name in (*fractions, "train")}
    for example in examples:
        digest = hashlib.blake2b("\x1f".join((str(seed), *_key(example))).encode(), digest_size=8).digest()
        position = int.from_bytes(digest, "big") / 2**64
        for name, fraction in fractions.items():
            if position < fraction:
                parts[name].append(example)
                break
            position -= fraction
        else:
            parts["train"].append(example)
    return parts


def _key(example: Example) -> tuple[str, ...]:
    """Return what makes two examples the same text: letters in lower case, spaces folded, pairs in any order."""
    return tuple(sorted(" ".join(text.lower().split()) for text in example.texts))
