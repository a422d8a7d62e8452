"""Model folders that Hugging Face users expect: weights, config and tokenizer together."""

from pathlib import Path

import torch

from distilbert import wordpiece
from distilbert.config import EncoderConfig, build
from distilbert.model import MaskedLM, SequenceClassifier, load_pretrained, read_config, save_pretrained
from distilbert.tokens import Vocabulary

# The parts of a masked-LM head: absent from a sentence encoder, and then trained from random values.
MLM_HEAD = ("transform", "transform_norm", "bias")
# The parts of a classifier that a pretrained encoder may lack.
CLASSIFIER_HEAD = ("pooler", "classifier")


def write_model(
    model: MaskedLM | SequenceClassifier, folder: Path, tokenizer: Path, *, label_names: tuple[str, ...] = ()
) -> None:
    """Write a model folder with the tokenizer of `tokenizer` (a tokenizer.json)."""
    save_pretrained(model, folder, label_names=label_names)
    wordpiece.save(
        wordpiece.load(tokenizer),
        folder,
        max_length=model.config.max_positions,
        token_types=model.config.type_vocab_size > 0,
    )


def teacher_config(shape: dict, vocabulary: Vocabulary) -> EncoderConfig:
    """Return the BERT of a vocabulary whose sizes and dropouts are `shape`, the setting `teacher.train.model`.

    Raises:
        ValueError: a key of `shape` is unknown, missing or of the wrong type.
    """
    given = {"family": "bert", "vocab_size": vocabulary.size, "type_vocab_size": 2, "pad_token_id": vocabulary.pad}
    return build(EncoderConfig, shape | given)


def check_vocabulary(config: EncoderConfig, vocabulary: Vocabulary, folder: Path) -> None:
    """Refuse a checkpoint whose word embeddings are not those of the tokenizer.

    Raises:
        ValueError: another number of words.
    """
    if config.vocab_size != vocabulary.size:
        raise ValueError(f"{folder}: a model of {config.vocab_size} words, but the tokenizer has {vocabulary.size}")


def load_masked_lm(folder: Path, vocabulary: Vocabulary, *, headless_ok: bool = False) -> MaskedLM:
    """Load a masked LM; `changes` (dropouts) replace settings of its config, `headless_ok` lets it lack its head.

    Raises:
        FileNotFoundError, ValueError: no such checkpoint, or one of another shape or vocabulary.
    """
    config = read_config(folder)
    check_vocabulary(config, vocabulary, folder)
    model = MaskedLM(config)
    load_pretrained(model, folder, missing_ok=MLM_HEAD if headless_ok else ())
    return model


def load_classifier(folder: Path, vocabulary: Vocabulary, *, seed: int | None = None) -> SequenceClassifier:
    """Load a classifier; with a seed, put a new random classifier on an encoder that has none.

    Raises:
        FileNotFoundError, ValueError: no such checkpoint, or one of another shape or vocabulary.
    """
    config = read_config(folder)
    check_vocabulary(config, vocabulary, folder)
    if seed is not None:
        torch.manual_seed(seed)
    model = SequenceClassifier(config)
    load_pretrained(model, folder, missing_ok=() if seed is None else CLASSIFIER_HEAD)
    return model
