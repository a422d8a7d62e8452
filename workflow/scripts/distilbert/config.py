"""The settings of models and trainings as frozen dataclasses, built strictly from a rule's JSON params.

`build(TrainingConfig, {...})` refuses an unknown, a missing and a wrongly typed key by name, so that a
typo can never silently fall back to a default: no field of a step's settings has one.
The ranges are checked earlier, by workflow/schemas/config.schema.yaml.
"""

import dataclasses
from dataclasses import dataclass
from typing import TypeVar, get_type_hints

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of a BERT or DistilBERT encoder (Devlin et al. 2019; Sanh et al. 2019, section 3).

    `family` is "bert" (token types, tanh pooler) or "distilbert" (neither token types nor pooler; a relu
    layer before the classifier). Sizes are counts of units; the three dropouts are probabilities.
    """

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int = 512
    type_vocab_size: int = 0
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0

    def __post_init__(self):
        if self.family not in ("bert", "distilbert"):
            raise ValueError(f"family: {self.family!r} is neither 'bert' nor 'distilbert'")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What the one training loop needs to know, whatever it trains.

    batch_size: sequences per optimizer step.
    max_tokens_per_forward: padded tokens per forward pass; a larger step is cut into micro-batches
        (gradient accumulation), which changes memory and speed, and the result only by rounding.
    max_steps: stop after so many optimizer steps, or None to let `epochs` decide.
    warmup_fraction: share of all steps over which the learning rate rises linearly; it then falls to zero.
    log_every: optimizer steps between two rows of the training metrics.
    validations_per_epoch: how often the validation set is scored; a run that `max_steps` cuts short has as many.
    precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the device computes in it.
    """

    batch_size: int
    max_tokens_per_forward: int
    epochs: int
    max_steps: int | None
    learning_rate: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    weight_decay: float
    warmup_fraction: float
    max_gradient_norm: float
    log_every: int
    validations_per_epoch: int
    precision: str


@dataclass(frozen=True, kw_only=True)
class MaskedLMConfig(TrainingConfig):
    """A masked-LM training: the loop's settings and those of the masking (see `masking.mask_tokens`)."""

    mlm_probability: float
    mlm_smoothing: float


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(MaskedLMConfig):
    """Distillation pretraining (Sanh et al. 2019, section 3): the weights of its three losses and T.

    restrict_ce_to_mask: the KL at the targets of masked LM alone, not at every token.
    """

    alpha_ce: float
    alpha_mlm: float
    alpha_cos: float
    temperature: float
    restrict_ce_to_mask: bool


@dataclass(frozen=True, kw_only=True)
class DirectDistillationConfig(TrainingConfig):
    """Distillation on a task's own data: weights of hard CE, soft KL and cosine on [CLS], and T."""

    alpha_hard: float
    alpha_soft: float
    alpha_cos: float
    temperature: float


def build(kind: type[Settings], values: dict) -> Settings:
    """Build a dataclass from a dict that has exactly its fields, each of the declared type.

    Raises:
        ValueError: a key is unknown, missing or of the wrong type; the message names it.
    """
    hints = get_type_hints(kind)
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if unknown := sorted(set(values) - set(hints)):
        raise ValueError(f"{kind.__name__}: unknown key {', '.join(unknown)}")
    if missing := sorted(required - set(values)):
        raise ValueError(f"{kind.__name__}: missing key {', '.join(missing)}")
    return kind(**{name: _typed(kind, name, hints[name], value) for name, value in values.items()})


def _typed(kind: type, name: str, hint, value):
    """Return the value if it has the hinted type, an int as a float where a float is asked for."""
    allowed = hint.__args__ if hasattr(hint, "__args__") else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(t.__name__ for t in allowed)
        raise ValueError(f"{kind.__name__}: {name} is {value!r}, not {names}")
    return value
