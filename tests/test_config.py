"""Config: settings are built strictly, so a typo never becomes a default."""

import dataclasses

import pytest

from distilbert.config import DirectDistillationConfig, EncoderConfig, TrainingConfig, build

TRAINING = {
    "batch_size": 8,
    "max_tokens_per_forward": 512,
    "epochs": 1,
    "max_steps": None,
    "learning_rate": 1e-3,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "weight_decay": 0.0,
    "warmup_fraction": 0.1,
    "max_gradient_norm": 1.0,
    "log_every": 1,
    "validations_per_epoch": 1,
    "precision": "float32",
}
ENCODER = {
    "family": "bert",
    "vocab_size": 97,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 64,
}


def test_the_values_arrive():
    """A complete dict becomes a dataclass with exactly these values."""
    assert dataclasses.asdict(build(TrainingConfig, TRAINING)) == TRAINING


@pytest.mark.parametrize("key", TRAINING)
def test_no_setting_of_a_training_has_a_default(key):
    """Each key that is left out is refused by its name."""
    values = {name: value for name, value in TRAINING.items() if name != key}
    with pytest.raises(ValueError, match=f"TrainingConfig: missing key {key}$"):
        build(TrainingConfig, values)


def test_unknown_keys_are_refused_by_name():
    """All keys that do not exist are named, so a typo is found at once."""
    with pytest.raises(ValueError, match="TrainingConfig: unknown key epoch, lr$"):
        build(TrainingConfig, TRAINING | {"lr": 1e-3, "epoch": 1})


@pytest.mark.parametrize(
    "key,value,wanted",
    [
        ("learning_rate", "1e-3", "float"),
        ("learning_rate", None, "float"),
        ("batch_size", 8.0, "int"),
        ("batch_size", None, "int"),
        ("max_steps", "10", "int or NoneType"),
        ("max_steps", 2.5, "int or NoneType"),
        ("precision", 32, "str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(key, value, wanted):
    """The message names the dataclass, the key, the value and the type."""
    with pytest.raises(ValueError) as caught:
        build(TrainingConfig, TRAINING | {key: value})
    assert str(caught.value) == f"TrainingConfig: {key} is {value!r}, not {wanted}"


def test_an_int_is_taken_for_a_float():
    """YAML's `5` is a float where a float is asked for, and becomes one."""
    built = build(TrainingConfig, TRAINING | {"max_gradient_norm": 5}).max_gradient_norm
    assert built == 5.0
    assert isinstance(built, float)


@pytest.mark.parametrize("key", ["batch_size", "max_steps", "learning_rate"])
def test_a_bool_is_no_number(key):
    """YAML's `true` is neither an int nor a float, though Python thinks so."""
    with pytest.raises(ValueError, match=f"{key} is True"):
        build(TrainingConfig, TRAINING | {key: True})


def test_optional_settings_may_be_null():
    """`max_steps` takes null and a number."""
    assert build(TrainingConfig, TRAINING).max_steps is None
    assert build(TrainingConfig, TRAINING | {"max_steps": 7}).max_steps == 7


def test_inherited_settings_are_required_too():
    """A derived config asks for its own keys and for those of its parent."""
    with pytest.raises(ValueError, match="missing key alpha_cos, alpha_hard, alpha_soft, temperature$"):
        build(DirectDistillationConfig, TRAINING)
    with pytest.raises(ValueError, match="DirectDistillationConfig: missing key .*batch_size"):
        build(DirectDistillationConfig, {"alpha_hard": 1.0, "alpha_soft": 1.0, "alpha_cos": 1.0, "temperature": 2.0})


def test_settings_cannot_be_changed():
    """A built config is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        build(TrainingConfig, TRAINING).batch_size = 1


@pytest.mark.parametrize(
    "change,message",
    [({"family": "roberta"}, "'roberta' is neither 'bert' nor 'distilbert'"), ({"num_heads": 5}, "not a multiple")],
)
def test_an_impossible_model_is_refused(change, message):
    """Another family, or heads that do not divide the width, are refused when the shape is built."""
    with pytest.raises(ValueError, match=message):
        build(EncoderConfig, ENCODER | change)
