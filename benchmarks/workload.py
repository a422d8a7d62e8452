"""What the benchmarks work on: models of two sizes with the settings that users have, sequences of real lengths, FLOPs.

The ids are random words: a step costs the same whatever the words are. The lengths are real (lengths.json).
"""

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import ROOT

from distilbert.batching import STEPS_PER_POOL
from distilbert.config import EncoderConfig
from distilbert.files import write_sealed_json
from distilbert.flops import Shape
from distilbert.model import student_config
from distilbert.tokens import MANIFEST_FILE, TokenShards, Vocabulary, write_shard

LENGTHS = json.loads(Path(__file__).with_name("lengths.json").read_text(encoding="utf-8"))
SEED = 1
# The student project's settings are for a GPU. On a CPU more tokens at once take memory and no less time.
CPU_TOKENS = 2048
BERT_BASE = EncoderConfig(
    family="bert",
    vocab_size=30_522,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
    type_vocab_size=2,
)
BERT_VOCABULARY = Vocabulary(size=30_522, pad=0, unk=100, cls=101, sep=102, mask=103)


@dataclass(frozen=True)
class Size:
    """Teacher and student, their vocabulary, and the settings of config.yaml with a preset on top."""

    name: str
    teacher: EncoderConfig
    student: EncoderConfig
    vocabulary: Vocabulary
    settings: dict


@cache
def size_of(name: str) -> Size:
    """Return "full" (bert-base-uncased, the student project's settings) or "demo" (those of config.yaml)."""
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    if name == "full":
        preset = ROOT / "workflow" / "presets" / "coursework.yaml"
        settings = _merge(settings, yaml.safe_load(preset.read_text(encoding="utf-8")))
        if not torch.cuda.is_available():
            for section in ("pretrain", "finetune", "direct_distillation"):
                settings[section] = settings[section] | {"max_tokens_per_forward": CPU_TOKENS}
        teacher, vocabulary = BERT_BASE, BERT_VOCABULARY
    else:
        vocab_size = settings["tokenizer"]["train"]["vocab_size"]
        shape = settings["teacher"]["train"]["model"]
        teacher = EncoderConfig(family="bert", vocab_size=vocab_size, type_vocab_size=2, **shape)
        vocabulary = Vocabulary(size=vocab_size, pad=0, unk=1, cls=2, sep=3, mask=4)
    student = settings["student"]
    dropouts = {key: student[key] for key in ("dropout", "attention_dropout", "classifier_dropout")}
    student = student_config(teacher, num_layers=student["num_layers"], **dropouts)
    return Size(name, teacher, student, vocabulary, settings)


def _merge(settings: dict, overlay: dict) -> dict:
    """Return settings with those of an overlay in their place, as Snakemake's --configfile does it."""
    merged = dict(settings)
    for key, value in overlay.items():
        merged[key] = _merge(settings[key], value) if isinstance(value, dict) else value
    return merged


def draw_sequences(data: str, size: Size, num_sequences: int, *, max_length: int) -> list[np.ndarray]:
    """Return sequences of random words whose lengths are distributed as those of a task or of "wikipedia".

    Those of a pair of sentences have a [SEP] in their middle.
    """
    generator = np.random.default_rng(SEED)
    counts = np.array(LENGTHS[data])
    # Evenly spaced quantiles instead of a random draw: a small sample has the distribution of the whole.
    quantiles = (np.arange(num_sequences) + 0.5) / num_sequences
    lengths = np.searchsorted(np.cumsum(counts) / counts.sum(), quantiles)
    vocabulary, sequences = size.vocabulary, []
    for length in generator.permutation(np.minimum(lengths, max_length)):
        ids = generator.integers(max(vocabulary.special_ids) + 1, vocabulary.size, length)
        ids[0], ids[-1] = vocabulary.cls, vocabulary.sep
        if data in ("mrpc", "qqp", "rte"):
            ids[length // 2] = vocabulary.sep
        sequences.append(ids)
    return sequences


def choose_steps(sequences: list[np.ndarray], *, batch_size: int, num_steps: int) -> list[np.ndarray]:
    """Return the sequences of some steps of a real epoch, in random order.

    A training sorts the sequences of `STEPS_PER_POOL` steps by length; of these steps evenly spaced ones are kept, so
    that a training on what is returned does exactly these steps: padded as in a long epoch, short and long alike.

    Raises:
        ValueError: fewer sequences than a pool has.
    """
    pool = STEPS_PER_POOL * batch_size
    if len(sequences) < pool:
        raise ValueError(f"{len(sequences)} sequences, but {STEPS_PER_POOL} steps have {pool}")
    order = np.argsort([len(ids) for ids in sequences[:pool]], kind="stable").reshape(STEPS_PER_POOL, batch_size)
    chosen = ((np.arange(num_steps) + 0.5) * STEPS_PER_POOL / num_steps).astype(int)
    return [sequences[row] for row in np.random.default_rng(SEED).permutation(order[chosen].ravel())]


def as_shards(sequences: list[np.ndarray], size: Size, *, labelled: bool) -> TokenShards:
    """Return sequences as token shards, with random labels if a task's are asked for.

    The file is deleted at once: what is mapped stays until the process ends.
    """
    labels = np.random.default_rng(SEED).integers(2, size=len(sequences))
    rows = (
        {"input_ids": ids, "label": int(label), "idx": idx}
        for idx, (ids, label) in enumerate(zip(sequences, labels, strict=True))
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.arrow"
        entry = write_shard(path, rows, size.vocabulary, labelled=labelled)
        write_sealed_json(path.with_name(MANIFEST_FILE), {"files": {path.stem: entry}})
        return TokenShards([path])


def flops(model: EncoderConfig, lengths: np.ndarray, *, vocabulary_head: bool) -> float:
    """Return the FLOPs of a forward pass over sequences of these lengths without pads; a training's are 3 times that.

    As `distilbert.flops` counts them, every token's last hidden state being read.
    """
    lengths = np.asarray(lengths, dtype=float)
    return float(np.sum(lengths * Shape.of(model).flops(lengths, head=vocabulary_head)))
