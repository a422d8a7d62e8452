"""Tools: what a user types after a run, on a small model."""

from dataclasses import replace

import pytest
import torch

import classify
from distilbert import wordpiece
from distilbert.export import load_classifier, write_model
from distilbert.model import SequenceClassifier

SENTENCES = ["the river bends near the old bridge", "a bird sings", "what is it?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory, bert_config):
    """Return the folder of a classifier with weights so large that its answers differ."""
    folder = tmp_path_factory.mktemp("tools")
    encoder = wordpiece.learn(lambda: SENTENCES, vocab_size=90, lowercase=True)
    wordpiece.save(encoder, folder, max_length=40, token_types=True)
    size = wordpiece.vocabulary_of(encoder).size
    torch.manual_seed(1)
    classifier = SequenceClassifier(replace(bert_config, vocab_size=size, initializer_range=0.2))
    write_model(classifier, folder / "model", folder / "tokenizer.json", label_names=("no", "yes"))
    return folder / "model"


@torch.inference_mode()
def probability_of_yes(folder, ids, first_length):
    """Return what our own model says of the ids of two texts, the first of so many tokens."""
    tokenizer = wordpiece.load(folder / "tokenizer.json")
    ids = torch.tensor([ids])
    token_types = (torch.arange(ids.shape[1]) >= first_length).long()[None]
    own = load_classifier(folder, wordpiece.vocabulary_of(tokenizer)).eval()
    return own(ids, torch.ones_like(ids, dtype=torch.bool), token_types).softmax(-1)[0, 1].item()


@pytest.mark.parametrize("texts", [SENTENCES[:1], SENTENCES[:2], [SENTENCES[0] * 9, SENTENCES[1]]])
def test_classify_answers_as_the_model_does(model, texts):
    """A sentence, a pair and what is too long get our own model's probabilities; the likeliest class comes first."""
    tokenizer = wordpiece.load(model / "tokenizer.json")
    (ids,) = wordpiece.encode_examples(tokenizer, [tuple(texts)], max_length=40)
    expected = probability_of_yes(model, ids, ids.index(tokenizer.token_to_id("[SEP]")) + 1)
    answer = classify.classify(model, texts)
    assert answer["yes"] == pytest.approx(expected, abs=1e-5)
    assert answer["no"] == pytest.approx(1 - expected, abs=1e-5)
    assert list(answer.values()) == sorted(answer.values(), reverse=True)


def test_classify_prints_a_line_a_class(model, capsys):
    """Percent and class name; a pair is asked by a second text."""
    classify.main(["--model", str(model), *SENTENCES[:2]])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[-1] for line in lines) == ["no", "yes"]
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(100, abs=0.11)


@pytest.mark.parametrize(
    "arguments,reason",
    [(["--model", "nowhere", "a"], "nowhere: no model there"), (["a"] * 3, "two"), ([" "], "one text")],
)
def test_classify_refuses_in_one_line(capsys, arguments, reason):
    """A folder without a model, three texts, and none (as `make classify` without TEXT gives it)."""
    with pytest.raises(SystemExit):
        classify.main(arguments)
    assert reason in capsys.readouterr().err.splitlines()[-1]
