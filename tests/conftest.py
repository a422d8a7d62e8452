"""What the tests share: a small vocabulary, small models, small shards."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as workflow/rules/common.smk does, before torch is imported

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from distilbert.config import EncoderConfig
from distilbert.files import sha256, write_sealed_json
from distilbert.tokens import MANIFEST_FILE, TokenShards, Vocabulary, write_shard


def vouch_for(folder: Path) -> None:
    """Write the manifest of all shards that lie in a folder, as they are."""
    files = {
        path.stem: {"rows": pa.ipc.open_file(path).read_all().num_rows, "sha256": sha256(path)}
        for path in folder.glob("*.arrow")
    }
    write_sealed_json(folder / MANIFEST_FILE, {"files": files})


def original_ids(batch):
    """Return the ids (B, T) of a masked micro-batch as they were before the corruption."""
    original, is_target = batch.ids.clone(), batch.words >= 0
    original.view(-1)[batch.positions[is_target]] = batch.words[is_target]
    return original


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """Return a vocabulary of 97 words whose special ids stand first."""
    return Vocabulary(size=97, pad=0, unk=1, cls=2, sep=3, mask=4)


@pytest.fixture(scope="session")
def bert_config() -> EncoderConfig:
    """Return the shape of a tiny BERT."""
    return EncoderConfig(
        family="bert",
        vocab_size=97,
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        intermediate_size=64,
        max_positions=40,
        type_vocab_size=2,
    )


@pytest.fixture
def make_shards(tmp_path, vocabulary):
    """Return a function that writes random sequences as shards and opens them."""

    def make(num_sequences: int = 60, *, num_shards: int = 1, labelled: bool = False, seed: int = 0) -> TokenShards:
        generator = np.random.default_rng(seed)
        rows = []
        for idx in range(num_sequences):
            words = generator.integers(5, vocabulary.size, generator.integers(3, 20))
            label = int(words[0] % 2)  # the label can be learnt: it is the parity of the first word
            rows.append({"input_ids": [vocabulary.cls, *words, vocabulary.sep], "label": label, "idx": idx})
        paths = []
        for number, part in enumerate(np.array_split(np.arange(num_sequences), num_shards)):
            paths.append(tmp_path / f"shard-{seed}-{number}.arrow")
            write_shard(paths[-1], (rows[i] for i in part), vocabulary, labelled=labelled)
        vouch_for(tmp_path)
        return TokenShards(paths)

    return make
