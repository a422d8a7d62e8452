"""Model folders: what a Hugging Face user opens, and what our steps open again."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from distilbert import wordpiece
from distilbert.config import EncoderConfig
from distilbert.export import load_classifier, load_masked_lm, write_model
from distilbert.model import MaskedLM, SequenceClassifier, save_pretrained, student_config

SENTENCES = ["the river bends near the old bridge", "a bird sings", "what is it?"]


@pytest.fixture
def tokenizer(tmp_path):
    """Return the path of a tokenizer.json learnt from the sentences."""
    wordpiece.save(
        wordpiece.learn(lambda: SENTENCES, vocab_size=90, lowercase=True), tmp_path, max_length=40, token_types=True
    )
    return tmp_path / "tokenizer.json"


@pytest.fixture
def words(tokenizer):
    """Return the vocabulary of the tokenizer."""
    return wordpiece.vocabulary_of(wordpiece.load(tokenizer))


@pytest.fixture(params=["bert", "distilbert"])
def config(request, bert_config, words) -> EncoderConfig:
    """Return the shape of each family for the tokenizer's vocabulary."""
    bert = replace(bert_config, vocab_size=words.size, initializer_range=0.2)
    return bert if request.param == "bert" else student_config(bert, num_layers=2)


@torch.no_grad()
def assert_same(folder, ours, kind) -> None:
    """Open a folder as a user does, with the tokenizer in it, and compare the logits with ours."""
    inputs = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    encoder = wordpiece.load(folder / "tokenizer.json")
    ids = wordpiece.encode_examples(encoder, [(text,) for text in SENTENCES], max_length=40)
    mask = inputs["attention_mask"].bool()
    assert [row[keep].tolist() for row, keep in zip(inputs["input_ids"], mask, strict=True)] == ids
    assert ("token_type_ids" in inputs) == (ours.config.family == "bert")
    theirs = kind.from_pretrained(folder).eval()(**inputs).logits
    expected = ours.eval()(inputs["input_ids"], mask)
    if isinstance(ours, MaskedLM):
        theirs, expected = theirs[mask], expected[mask]
    assert expected.std() > 0.05
    torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=0)


def test_masked_lm_folder_opens_in_transformers(tmp_path, config, tokenizer):
    """AutoModelForMaskedLM and AutoTokenizer open the folder; ids and logits are ours."""
    model = MaskedLM(config)
    write_model(model, tmp_path / "model", tokenizer)
    assert_same(tmp_path / "model", model, AutoModelForMaskedLM)


def test_classifier_folder_opens_in_transformers(tmp_path, config, tokenizer):
    """AutoModelForSequenceClassification opens the folder, and names the labels as the task does."""
    model = SequenceClassifier(config)
    write_model(model, tmp_path / "model", tokenizer, label_names=("unacceptable", "acceptable"))
    assert_same(tmp_path / "model", model, AutoModelForSequenceClassification)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").config
    assert theirs.id2label == {0: "unacceptable", 1: "acceptable"}
    assert theirs.label2id == {"unacceptable": 0, "acceptable": 1}


def test_another_vocabulary_is_refused(tmp_path, config, words):
    """A model of another number of words than the tokenizer's is one line with the folder and both numbers."""
    save_pretrained(MaskedLM(replace(config, vocab_size=words.size + 1)), tmp_path / "model")
    for load in (load_masked_lm, load_classifier):
        with pytest.raises(ValueError) as error:
            load(tmp_path / "model", words)
        message = str(error.value)
        assert "\n" not in message
        assert str(tmp_path / "model") in message
        assert str(words.size) in message and str(words.size + 1) in message


def test_a_headless_encoder_needs_leave(tmp_path, config, words):
    """A folder without a masked-LM head loads only where that is said to be all right; its encoder is taken."""
    written = SequenceClassifier(config)
    save_pretrained(written, tmp_path / "model")
    with pytest.raises(ValueError, match="model.safetensors: no tensor"):
        load_masked_lm(tmp_path / "model", words)
    model = load_masked_lm(tmp_path / "model", words, headless_ok=True)
    for name, value in written.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value), name


def test_a_new_classifier_follows_the_seed(tmp_path, config, words):
    """A pretrained encoder gets a classifier that the seed decides; without a seed its absence is an error."""
    written = MaskedLM(config)
    save_pretrained(written, tmp_path / "model")
    with pytest.raises(ValueError, match="model.safetensors: no tensor"):
        load_classifier(tmp_path / "model", words)
    first, again, other = (load_classifier(tmp_path / "model", words, seed=seed) for seed in (1, 1, 2))
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert not torch.equal(other.classifier.weight, first.classifier.weight)
    assert not torch.equal(other.pooler.weight, first.pooler.weight)
    assert torch.equal(other.encoder.word.weight, written.encoder.word.weight)


def test_a_trained_classifier_keeps_its_head(tmp_path, config, words):
    """A classifier of the folder is loaded even with a seed: the seed is for what is absent."""
    written = SequenceClassifier(config)
    save_pretrained(written, tmp_path / "model")
    for seed in (None, 3):
        model = load_classifier(tmp_path / "model", words, seed=seed)
        for name, value in written.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name
