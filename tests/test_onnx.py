"""ONNX: what is exported answers as our model does, for every shape of batch; what does not is refused.

The tests that export need the packages of requirements-onnx.txt, and skip without them.
"""

import shutil
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import vouch_for

import export_onnx
from distilbert import wordpiece
from distilbert.export import load_classifier, write_model
from distilbert.files import read_json, sha256
from distilbert.model import SequenceClassifier, student_config
from distilbert.tokens import write_shard

SENTENCES = ["the river bends near the old bridge", "a bird sings", "what is it?", "the old bird bends"]
CODE = "step=0123456789ab"
MISSING = [name for name in export_onnx.PACKAGES if find_spec(name) is None]
needs_packages = pytest.mark.skipif(bool(MISSING), reason=f"without {', '.join(MISSING)}: see requirements-onnx.txt")


def make_model(folder, family, bert_config, *, seed):
    """Write a classifier with weights so large that its answers differ, and a test set; return the model's folder."""
    tokenizer = wordpiece.learn(lambda: SENTENCES, vocab_size=90, lowercase=True)
    wordpiece.save(tokenizer, folder, max_length=40, token_types=family == "bert")
    vocabulary = wordpiece.vocabulary_of(tokenizer)
    bert = replace(bert_config, vocab_size=vocabulary.size, initializer_range=0.2)
    torch.manual_seed(seed)
    model = SequenceClassifier(bert if family == "bert" else student_config(bert, num_layers=2))
    write_model(model, folder / "model", folder / "tokenizer.json", label_names=("no", "yes"))
    pairs = [(first, second) for first in SENTENCES for second in SENTENCES]
    ids = wordpiece.encode_examples(tokenizer, pairs, max_length=40)
    rows = ({"input_ids": row, "label": 0, "idx": idx} for idx, row in enumerate(ids))
    write_shard(folder / "test.arrow", rows, vocabulary, labelled=True)
    vouch_for(folder)
    return folder / "model"


def export(model):
    """Run the step on a folder of `make_model`; return where it writes."""
    written = model / "onnx"
    export_onnx.main(
        model=model / "model.safetensors",
        test=model.parent / "test.arrow",
        onnx=written / "model.onnx",
        check=written / "check.json",
        settings={},
        code=CODE,
    )
    return written


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def model(request, tmp_path_factory, bert_config):
    """Return the folder of an exported classifier of each family."""
    folder = make_model(tmp_path_factory.mktemp(request.param), request.param, bert_config, seed=1)
    export(folder)
    return folder


@needs_packages
@pytest.mark.parametrize("batch_size,length", [(1, 1), (1, 40), (2, 7), (3, 2), (17, 23)])
@torch.inference_mode()
def test_the_exported_model_answers_as_ours(model, batch_size, length):
    """Logits of random batches, of which all but the first sequence are padded, are ours; so is what it asks for."""
    import onnxruntime

    vocabulary = wordpiece.vocabulary_of(wordpiece.load(model / "tokenizer.json"))
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(5, vocabulary.size, (batch_size, length), generator=generator)
    token_types = torch.randint(0, 2, (batch_size, length), generator=generator)
    lengths = torch.randint(1, length + 1, (batch_size, 1), generator=generator)
    lengths[0] = length
    mask = torch.arange(length) < lengths
    session = onnxruntime.InferenceSession(model / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy().astype(np.int64)}
    ours = load_classifier(model, vocabulary).eval()
    if ours.config.family == "bert":
        inputs["token_type_ids"] = token_types.numpy()
    assert {tensor.name for tensor in session.get_inputs()} == set(inputs)
    (logits,) = session.run(["logits"], inputs)
    expected = ours(ids, mask, token_types)
    assert logits.shape == (batch_size, 2)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)


@needs_packages
def test_the_record_says_what_was_compared(model):
    """check.json has the digests of graph and weights, the lengths from 3 to all positions, and no other answer."""
    check = read_json(model / "onnx" / "check.json")
    digests = {path.name: sha256(path) for path in (model / "onnx" / "model.onnx", model / "model.safetensors")}
    assert check["sha256"] == digests
    assert (check["shortest"], check["longest"]) == (3, 40)
    assert check["examples"] == check["same_answers"] == 16 + 2 + 4
    assert check["largest_relative_difference"] <= check["tolerance"] == 1e-4
    assert set(export_onnx.PACKAGES) <= check["provenance"]["versions"].keys()
    assert {path.name for path in (model / "onnx").iterdir()} == {"model.onnx", "check.json"}


@needs_packages
def test_a_graph_of_other_weights_is_refused(model, tmp_path, bert_config, monkeypatch):
    """A graph whose logits differ is refused by the model's name, and neither it nor a record is left."""
    family = read_json(model / "config.json")["model_type"]
    other = make_model(tmp_path, family, bert_config, seed=2)
    monkeypatch.setattr(export_onnx, "export", lambda _, path: shutil.copyfile(model / "onnx" / "model.onnx", path))
    with pytest.raises(ValueError, match="logits differ") as error:
        export(other)
    assert str(error.value).startswith(f"{other}: ")
    assert list((other / "onnx").iterdir()) == []


@needs_packages
def test_a_graph_of_one_shape_is_refused(tmp_path, bert_config, monkeypatch):
    """A graph for the batch alone that it was traced with is refused, and nothing is left."""
    model = make_model(tmp_path, "distilbert", bert_config, seed=1)
    right = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, dynamic_shapes, **options: right(*a, **options))
    with pytest.raises(Exception, match="invalid dimensions"):
        export(model)
    assert list((model / "onnx").iterdir()) == []


def test_without_the_packages_one_line_says_what_installs_them(tmp_path, bert_config, monkeypatch):
    """The step can be imported without them, and its first act is to name them; nothing is written."""
    monkeypatch.setattr(export_onnx, "find_spec", lambda name: None)
    model = make_model(tmp_path, "distilbert", bert_config, seed=1)
    with pytest.raises(RuntimeError, match="no package onnx, onnxruntime, onnxscript; `make onnx` installs"):
        export(model)
    assert not (model / "onnx").exists()
