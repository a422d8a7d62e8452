"""The encoder and its heads: the numbers of `transformers`, checkpoints in both directions, errors in one line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from distilbert.config import EncoderConfig
from distilbert.export import MLM_HEAD
from distilbert.model import (
    MaskedLM,
    SequenceClassifier,
    hold_matrices,
    init_from_teacher,
    load_pretrained,
    read_config,
    save_pretrained,
    student_config,
)

TOLERANCE = 1e-5
ARCHITECTURES = [
    ("bert", "BertForMaskedLM"),
    ("bert", "BertForSequenceClassification"),
    ("distilbert", "DistilBertForMaskedLM"),
    ("distilbert", "DistilBertForSequenceClassification"),
]


def randomize(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter, LayerNorms and biases included, values that a mix-up would show; set eval mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if is_norm else 0.15 * noise)
    return model.eval()


def config_of(family: str, bert_config: EncoderConfig) -> EncoderConfig:
    """Return the tiny shape of one family."""
    return bert_config if family == "bert" else student_config(bert_config, num_layers=3)


def ours_of(architecture: str, config: EncoderConfig) -> MaskedLM | SequenceClassifier:
    """Return our model of one of their architectures."""
    return MaskedLM(config) if architecture.endswith("MaskedLM") else SequenceClassifier(config)


def theirs_of(architecture: str) -> transformers.PreTrainedModel:
    """Return their model, in the shape of `bert_config`."""
    if architecture.startswith("Bert"):
        config = transformers.BertConfig(
            vocab_size=97,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=40,
        )
    else:
        config = transformers.DistilBertConfig(
            vocab_size=97,
            dim=32,
            n_layers=3,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=40,
            seq_classif_dropout=0.1,
        )
    return randomize(getattr(transformers, architecture)(config))


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, mask and token types of three sequences of 12, 7 and 3 tokens."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.arange(12) < torch.tensor([[12], [7], [3]])
    ids = torch.randint(5, 97, (3, 12), generator=generator) * mask
    token_types = (torch.arange(12) >= torch.tensor([[5], [4], [2]])).long() * mask
    return ids, mask, token_types


@torch.no_grad()
def assert_same_logits(ours, theirs, batch) -> None:
    """Compare the logits of our and their model on a padded batch, pads left out."""
    ids, mask, token_types = batch
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    if ours.config.family == "bert":
        inputs["token_type_ids"] = token_types
    ours_logits, theirs_logits = ours.eval()(ids, mask, token_types), theirs.eval()(**inputs).logits
    if isinstance(ours, MaskedLM):
        ours_logits, theirs_logits = ours_logits[mask], theirs_logits[mask]
    assert theirs_logits.std() > 0.05  # logits near zero would agree whatever the weights
    torch.testing.assert_close(ours_logits, theirs_logits, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("family", "architecture"), ARCHITECTURES)
def test_their_checkpoint_gives_their_logits(tmp_path, bert_config, batch, family, architecture):
    """A checkpoint that `transformers` wrote gives in our model the logits that it gives in theirs."""
    theirs = theirs_of(architecture)
    theirs.save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert config == config_of(family, bert_config)
    ours = ours_of(architecture, config)
    load_pretrained(ours, tmp_path)
    assert_same_logits(ours, theirs, batch)


@pytest.mark.parametrize(("family", "architecture"), ARCHITECTURES)
def test_our_checkpoint_gives_our_logits_in_transformers(tmp_path, bert_config, batch, family, architecture):
    """A checkpoint that we wrote loads in `transformers`, no tensor missing or left over, with equal logits."""
    ours = randomize(ours_of(architecture, config_of(family, bert_config)))
    save_pretrained(ours, tmp_path)
    kind = getattr(transformers, architecture)
    theirs, loading = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_logits(ours, theirs, batch)


@pytest.mark.parametrize(("family", "architecture"), ARCHITECTURES)
def test_checkpoint_reads_back_bit_for_bit(tmp_path, bert_config, family, architecture):
    """Config and weights that we wrote read back exactly as they were."""
    config = replace(
        config_of(family, bert_config), dropout=0.2, attention_dropout=0.3, classifier_dropout=0.4, pad_token_id=1
    )
    written, read = randomize(ours_of(architecture, config)), ours_of(architecture, config)
    save_pretrained(written, tmp_path)
    load_pretrained(read, tmp_path)
    assert read_config(tmp_path) == config
    for name, value in written.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name


def test_dropouts_are_read_from_the_right_keys(tmp_path):
    """The three dropouts of their configs, all different, arrive in ours; an absent one of BERT is the hidden one."""
    transformers.BertConfig(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3).save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert (config.dropout, config.attention_dropout, config.classifier_dropout) == (0.2, 0.3, 0.2)
    transformers.DistilBertConfig(dropout=0.2, attention_dropout=0.3, seq_classif_dropout=0.4).save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert (config.dropout, config.attention_dropout, config.classifier_dropout) == (0.2, 0.3, 0.4)


def test_old_layer_norm_names_load(tmp_path, bert_config, batch):
    """The names of bert-base-uncased's file (gamma, beta, a next-sentence head) load as the modern ones do."""
    theirs = theirs_of("BertForMaskedLM")
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in tensors.items()
    }
    assert set(old) != set(tensors)
    old["cls.seq_relationship.weight"] = torch.zeros(2, 32)
    save_file(old, tmp_path / "model.safetensors")
    ours = MaskedLM(bert_config)
    load_pretrained(ours, tmp_path)
    assert_same_logits(ours, theirs, batch)


def test_encoder_without_prefix_and_head_loads(tmp_path, bert_config, batch):
    """A sentence encoder (no "bert." prefix, no masked-LM head) loads where the head may be missing, else raises."""
    theirs = theirs_of("BertModel")
    theirs.save_pretrained(tmp_path)
    assert not any(name.startswith("bert.") for name in load_file(tmp_path / "model.safetensors"))
    ours = MaskedLM(bert_config).eval()
    head = {name: value.clone() for name, value in ours.state_dict().items() if name.split(".")[0] in MLM_HEAD}
    with pytest.raises(ValueError, match="no tensor cls.predictions"):
        load_pretrained(ours, tmp_path)
    load_pretrained(ours, tmp_path, missing_ok=MLM_HEAD)
    ids, mask, token_types = batch
    with torch.no_grad():
        expected = theirs(ids, mask.long(), token_types).last_hidden_state
        torch.testing.assert_close(ours.encoder(ids, mask, token_types)[mask], expected[mask], atol=TOLERANCE, rtol=0)
    for name, value in head.items():
        assert torch.equal(ours.state_dict()[name], value), name


def assert_one_line(error: BaseException, *parts: object) -> None:
    """Check that an error is one line that holds all parts."""
    message = str(error)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def test_missing_tensor_is_named(tmp_path, bert_config):
    """A tensor that the file lacks is named, with the file, in one line."""
    save_pretrained(MaskedLM(bert_config), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["bert.encoder.layer.1.attention.self.key.weight"]
    save_file(tensors, path)
    with pytest.raises(ValueError) as error:
        load_pretrained(MaskedLM(bert_config), tmp_path)
    assert_one_line(error.value, path, "bert.encoder.layer.1.attention.self.key.weight")


def test_other_shape_is_named(tmp_path, bert_config):
    """A tensor of another shape is named, with the file and both shapes, in one line."""
    save_pretrained(MaskedLM(bert_config), tmp_path)
    with pytest.raises(ValueError) as error:
        load_pretrained(MaskedLM(replace(bert_config, max_positions=41)), tmp_path)
    path = tmp_path / "model.safetensors"
    assert_one_line(error.value, path, "bert.embeddings.position_embeddings.weight", "(40, 32)", "(41, 32)")


def test_absent_weights_file_is_named(tmp_path, bert_config):
    """A folder with a pytorch_model.bin only raises one line that names the file it lacks and says why."""
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError) as error:
        load_pretrained(MaskedLM(bert_config), tmp_path)
    assert_one_line(error.value, tmp_path / "model.safetensors", "safetensors only")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"model_type": "roberta"}, "roberta"),
        ({"hidden_act": "relu"}, "relu"),
        ({"position_embedding_type": "relative_key"}, "absolute"),
        ({"hidden_size": None}, "missing key hidden_size"),
    ],
)
def test_unsupported_config_is_refused(tmp_path, bert_config, change, part):
    """Another architecture, activation or kind of positions, or an absent key, is one line naming the file."""
    save_pretrained(MaskedLM(bert_config), tmp_path)
    (tmp_path / "model.safetensors").unlink()  # it would not have this config beside it
    path = tmp_path / "config.json"
    values = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    with pytest.raises(ValueError) as error:
        read_config(tmp_path)
    assert_one_line(error.value, path, part)


def test_relu_distilbert_is_refused(tmp_path):
    """DistilBERT names its activation otherwise than BERT, and another one than gelu is refused there too."""
    transformers.DistilBertConfig(activation="relu").save_pretrained(tmp_path)
    with pytest.raises(ValueError) as error:
        read_config(tmp_path)
    assert_one_line(error.value, tmp_path / "config.json", "relu")


def test_student_takes_the_chosen_layers_and_the_head(bert_config):
    """Each student layer is the teacher layer named for it; embeddings and head are the teacher's, as copies."""
    teacher = randomize(MaskedLM(bert_config))
    student = MaskedLM(student_config(bert_config, num_layers=2))
    init_from_teacher(student, teacher, teacher_layers=[2, 0])
    theirs, ours = teacher.state_dict(), student.state_dict()
    expected = {name: name for name in ours if not name.startswith("encoder.layers.")}
    for ours_layer, theirs_layer in ((0, 2), (1, 0)):
        start = f"encoder.layers.{ours_layer}."
        for name in ours:
            if name.startswith(start):
                expected[name] = f"encoder.layers.{theirs_layer}.{name.removeprefix(start)}"
    assert set(expected) == set(ours)
    del expected["encoder.position.weight"]
    for name, source in expected.items():
        assert torch.equal(ours[name], theirs[source]), name
        assert ours[name].data_ptr() != theirs[source].data_ptr(), name
    positions = theirs["encoder.position.weight"] + theirs["encoder.token_type.weight"][0]
    assert torch.equal(ours["encoder.position.weight"], positions)


def test_student_with_all_layers_is_the_teacher(bert_config, batch):
    """A student with every layer of its teacher gives its logits for token type 0: nothing else is lost."""
    teacher = randomize(MaskedLM(bert_config))
    student = MaskedLM(student_config(bert_config, num_layers=3)).eval()
    init_from_teacher(student, teacher, teacher_layers=[0, 1, 2])
    ids, mask, _ = batch
    with torch.no_grad():
        hidden, expected = student.encoder(ids, mask)[mask], teacher.encoder(ids, mask)[mask]
        torch.testing.assert_close(hidden, expected, atol=2e-6, rtol=0)
        torch.testing.assert_close(student(ids, mask)[mask], teacher(ids, mask)[mask], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("teacher_layers", [[0], [0, 1, 2], [0, 3], [-1, 0]])
def test_wrong_teacher_layers_raise(bert_config, teacher_layers):
    """Too few, too many, too high and negative layers are refused, and the student is left as it was."""
    teacher, student = MaskedLM(bert_config), MaskedLM(student_config(bert_config, num_layers=2))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(ValueError, match="teacher_layers"):
        init_from_teacher(student, teacher, teacher_layers=teacher_layers)
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_sizes_are_those_of_the_paper():
    """The published shapes have the parameters that `transformers` counts: 66 M and 110 M in the paper."""
    bert = EncoderConfig(
        family="bert",
        vocab_size=30522,
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        intermediate_size=3072,
        type_vocab_size=2,
    )
    with torch.device("meta"):
        teacher, student = MaskedLM(bert), MaskedLM(student_config(bert, num_layers=6))
    assert sum(p.numel() for p in teacher.parameters()) == 109_514_298
    assert sum(p.numel() for p in student.parameters()) == 66_985_530


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_pads_do_not_change_real_tokens(bert_config, batch, family):
    """A sequence alone, and beside longer ones with any ids on its pads, has the same hidden states."""
    model = randomize(MaskedLM(config_of(family, bert_config)))
    ids, mask, token_types = batch
    with torch.no_grad():
        together = model.encoder(torch.where(mask, ids, 96), mask, token_types)
        for row, length in enumerate(mask.sum(1).tolist()):
            cut = (row, slice(0, length))
            alone = model.encoder(ids[cut][None], mask[cut][None], token_types[cut][None])
            torch.testing.assert_close(together[cut], alone[0], atol=2e-6, rtol=0)


def test_initial_weights_are_those_of_bert(bert_config):
    """Matrices start as N(0, 0.02^2), biases and the pad's embedding at 0, LayerNorms at 1; the seed decides."""
    torch.manual_seed(3)
    model = MaskedLM(replace(bert_config, hidden_size=128, intermediate_size=512))
    torch.manual_seed(3)
    again = MaskedLM(replace(bert_config, hidden_size=128, intermediate_size=512))
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        if value.ndim == 1:
            assert torch.equal(value, torch.full_like(value, float("norm" in name and "weight" in name))), name
        elif value.numel() > 10_000:
            assert abs(value.mean()) < 0.001 and abs(value.std() - 0.02) < 0.001, name
    assert torch.count_nonzero(model.encoder.word.weight[bert_config.pad_token_id]) == 0


def test_a_model_is_written_to_the_same_bytes_each_time(bert_config, tmp_path):
    """Two processes write one model to equal files: their order of metadata, too, is always the same."""
    program = (
        "import sys, torch; from pathlib import Path; from distilbert.config import EncoderConfig\n"
        "from distilbert.model import MaskedLM, save_pretrained\n"
        f"torch.manual_seed(0); save_pretrained(MaskedLM({bert_config!r}), Path(sys.argv[1]))"
    )
    scripts = Path(__file__).parent.parent / "workflow" / "scripts"
    for name in ("one", "two", "three"):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], cwd=scripts, check=True)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "three")]
    assert files[0] == files[1] == files[2]
    metadata = json.loads(files[0][8 : 8 + int.from_bytes(files[0][:8], "little")])["__metadata__"]
    assert list(metadata) == ["config_sha256", "format", "tensors_sha256"]


def test_some_positions_alone(bert_config):
    """Hidden states and gradients of chosen positions are those of the whole batch, and none at all is allowed."""
    torch.manual_seed(0)
    encoder = MaskedLM(bert_config).encoder.eval()
    ids = torch.randint(5, 97, (3, 8))
    mask = torch.arange(8) < torch.tensor([8, 5, 2])[:, None]
    at = torch.tensor([0, 3, 8, 17, 16])
    results = []
    for hidden in (encoder(ids, mask, at=at), encoder(ids, mask).flatten(0, 1)[at]):
        encoder.zero_grad()
        hidden.square().sum().backward()
        results.append([hidden, *(p.grad for p in encoder.parameters() if p.grad is not None)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert encoder(ids, mask, at=at[:0]).shape == (0, bert_config.hidden_size)


def test_matrices_held_in_bfloat16_compute_what_autocast_computes(bert_config):
    """A teacher whose matrices are held in bfloat16 gives, bit for bit, what autocast makes of float32 ones."""
    torch.manual_seed(0)
    model = MaskedLM(bert_config).eval()
    ids, mask = torch.randint(5, 97, (2, 8)), torch.ones(2, 8, dtype=torch.bool)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = model(ids, mask)
        hold_matrices(model, torch.bfloat16)
        assert torch.equal(model(ids, mask), expected)
    assert model.encoder.layers[0].qkv.weight.dtype == torch.bfloat16 and model.bias.dtype == torch.float32
