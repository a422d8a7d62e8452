"""BERT and DistilBERT in one file: encoder, masked-LM head, classifier, and Hugging Face checkpoints.

The two architectures (Devlin et al. 2019, arXiv:1810.04805; Sanh et al. 2019, arXiv:1910.01108) differ in
three places only: DistilBERT has no token-type embeddings, no pooler but a relu layer before the classifier,
and other parameter names. So one class serves both and `EncoderConfig.family` tells them apart.

Query, key and value are held as one matrix (a third of the matrix calls); reading and writing a checkpoint
splits and joins it, so that what is written is what `transformers` expects.

A checkpoint that is written here carries in its metadata the SHA-256 of its tensors and of its config, and one that
carries them is read only where both are still so; others (of the Hub) are read as they are.

Shapes: B sequences, T tokens, D hidden, H heads, V vocabulary, C classes, N non-pad tokens of a batch.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from distilbert.config import EncoderConfig
from distilbert.dropout import Dropout, attention
from distilbert.files import atomic_path, json_digest, read_json, write_json

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
# Keys of the metadata of WEIGHTS_FILE.
TENSORS_SHA256, CONFIG_SHA256 = "tensors_sha256", "config_sha256"


class Layer(nn.Module):
    """One post-norm transformer layer: self-attention, then a gelu feed-forward network."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        hidden = config.hidden_size
        self.num_heads = config.num_heads
        self.attention_dropout = config.attention_dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attention_out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.ffn_in = nn.Linear(hidden, config.intermediate_size)
        self.ffn_out = nn.Linear(config.intermediate_size, hidden)
        self.ffn_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, attention_mask: Tensor | None, at: Tensor | None = None) -> Tensor:
        """Return the hidden states (B, T, D), or those of the positions `at` alone (see `Encoder.forward`)."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.num_heads, D // self.num_heads).unbind(2)  # (B, T, H, D/H)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, T, D/H)
        attended = attention(q, k, v, attention_mask, dropout=self.attention_dropout if self.training else 0.0)
        attended = attended.transpose(1, 2).reshape(B, T, D)
        if at is not None:
            x, attended = x.flatten(0, 1)[at], attended.flatten(0, 1)[at]  # (M, D)
        x = self.attention_norm(x + self.dropout(self.attention_out(attended)))
        return self.ffn_norm(x + self.dropout(self.ffn_out(F.gelu(self.ffn_in(x)))))


class Encoder(nn.Module):
    """Embeddings and layers: token ids (B, T) to the last hidden states, all (B, T, D) or some (M, D)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.word = nn.Embedding(config.vocab_size, hidden, padding_idx=config.pad_token_id)
        self.position = nn.Embedding(config.max_positions, hidden)
        self.token_type = nn.Embedding(config.type_vocab_size, hidden) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))

    def forward(
        self, ids: Tensor, mask: Tensor, token_types: Tensor | None = None, *, at: Tensor | None = None
    ) -> Tensor:
        """Encode.

        Args:
            ids: (B, T). mask: (B, T) bool, False on pads. token_types: (B, T) in {0, 1}, ignored by DistilBERT.
            at: (M,) places in the flattened batch, b * T + t, whose hidden states (M, D) are all that is returned:
                only for them is the last layer computed to its end. None for all, (B, T, D).
        """
        B, T = ids.shape
        x = self.word(ids) + self.position.weight[:T]  # (B, T, D)
        if self.token_type is not None:
            x = x + (self.token_type.weight[0] if token_types is None else self.token_type(token_types))
        x = self.dropout(self.norm(x))
        attention_mask = None if bool(mask.all()) else mask[:, None, None, :]  # (B, 1, 1, T)
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, attention_mask)
        return last(x, attention_mask, at)


class MaskedLM(nn.Module):
    """An encoder with the masked-LM head: dense, gelu, LayerNorm, then the tied word embeddings and a bias."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        initialize(self)

    def before_vocabulary(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what makes the logits of hidden states (N, D): these transformed, the weight (V, D), the bias."""
        return self.transform_norm(F.gelu(self.transform(hidden))), self.encoder.word.weight, self.bias

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (N, V) of hidden states (N, D): only the positions that a loss needs."""
        return F.linear(*self.before_vocabulary(hidden))

    def forward(self, ids: Tensor, mask: Tensor, token_types: Tensor | None = None) -> Tensor:
        """Return the logits of all positions, (B, T, V)."""
        return self.vocabulary_logits(self.encoder(ids, mask, token_types))


class SequenceClassifier(nn.Module):
    """An encoder with a classifier on [CLS]: BERT's tanh pooler or DistilBERT's relu layer, then C = 2 logits."""

    num_classes = 2

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, self.num_classes)
        initialize(self)

    def encode(self, ids: Tensor, mask: Tensor, token_types: Tensor | None = None) -> Tensor:
        """Return the hidden states (B, D) of [CLS]."""
        B, T = ids.shape
        return self.encoder(ids, mask, token_types, at=torch.arange(0, B * T, T, device=ids.device))

    def classify(self, hidden: Tensor) -> Tensor:
        """Return the logits (B, C) of the hidden states (B, D) of [CLS]."""
        activation = torch.tanh if self.config.family == "bert" else torch.relu
        return self.classifier(self.dropout(activation(self.pooler(hidden))))

    def forward(self, ids: Tensor, mask: Tensor, token_types: Tensor | None = None) -> Tensor:
        """Return the logits (B, C)."""
        return self.classify(self.encode(ids, mask, token_types))


def initialize(model: MaskedLM | SequenceClassifier) -> None:
    """Draw weights from N(0, initializer_range^2), biases 0, as BERT does; torch's global generator decides."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=model.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight.data[module.padding_idx].zero_()


def hold_matrices(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the linear layers of a model that is not trained in the type to which autocast would cast them each time."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(dtype)


def student_config(teacher: EncoderConfig, *, num_layers: int, **dropouts: float) -> EncoderConfig:
    """Return the DistilBERT of a teacher: its width and vocabulary, fewer layers, no token types (section 3).

    dropouts: `dropout`, `attention_dropout`, `classifier_dropout`, probabilities in [0, 1).
    """
    return replace(
        teacher,
        family="distilbert",
        num_layers=num_layers,
        type_vocab_size=0,
        layer_norm_eps=1e-12,
        **dropouts,
    )


def init_from_teacher(student: MaskedLM, teacher: MaskedLM, *, teacher_layers: list[int]) -> None:
    """Copy embeddings, the chosen layers (from 0) and the masked-LM head from the teacher (section 3).

    The token-type embedding of the first sentence is added to the position embeddings: DistilBERT has none,
    and a teacher's layers expect it.  Differs from the paper: its code drops it.

    Raises:
        ValueError: not one layer of the teacher for each layer of the student.
    """
    num_teacher, num_student = len(teacher.encoder.layers), len(student.encoder.layers)
    if len(teacher_layers) != num_student:
        raise ValueError(f"teacher_layers: {len(teacher_layers)} layers named for a student of {num_student}")
    if not all(0 <= layer < num_teacher for layer in teacher_layers):
        raise ValueError(f"teacher_layers: {teacher_layers} outside the teacher's layers 0 to {num_teacher - 1}")
    source, target = teacher.encoder, student.encoder
    with torch.no_grad():
        target.word.load_state_dict(source.word.state_dict())
        target.position.load_state_dict(source.position.state_dict())
        if source.token_type is not None and target.token_type is None:
            target.position.weight += source.token_type.weight[0]
        target.norm.load_state_dict(source.norm.state_dict())
        for layer, chosen in zip(target.layers, teacher_layers, strict=True):
            layer.load_state_dict(source.layers[chosen].state_dict())
        student.transform.load_state_dict(teacher.transform.state_dict())
        student.transform_norm.load_state_dict(teacher.transform_norm.state_dict())
        student.bias.copy_(teacher.bias)


# --- Hugging Face checkpoints -------------------------------------------------------------------------------

# Our parameter names -> theirs. `qkv` stands for three of theirs, in this order.
BERT_NAMES = {
    "encoder.word": "bert.embeddings.word_embeddings",
    "encoder.position": "bert.embeddings.position_embeddings",
    "encoder.token_type": "bert.embeddings.token_type_embeddings",
    "encoder.norm": "bert.embeddings.LayerNorm",
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
    "transform": "cls.predictions.transform.dense",
    "transform_norm": "cls.predictions.transform.LayerNorm",
    "bias": "cls.predictions.bias",
    "pooler": "bert.pooler.dense",
    "classifier": "classifier",
}
DISTILBERT_NAMES = {
    "encoder.word": "distilbert.embeddings.word_embeddings",
    "encoder.position": "distilbert.embeddings.position_embeddings",
    "encoder.norm": "distilbert.embeddings.LayerNorm",
    "attention_out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "ffn_in": "ffn.lin1",
    "ffn_out": "ffn.lin2",
    "ffn_norm": "output_layer_norm",
    "transform": "vocab_transform",
    "transform_norm": "vocab_layer_norm",
    "bias": "vocab_projector.bias",
    "pooler": "pre_classifier",
    "classifier": "classifier",
}
NAMES = {"bert": BERT_NAMES, "distilbert": DISTILBERT_NAMES}
LAYER_PREFIX = {"bert": "bert.encoder.layer", "distilbert": "distilbert.transformer.layer"}
QKV_NAMES = {
    "bert": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "distilbert": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
}


def hugging_face_names(name: str, family: str) -> list[str]:
    """Return the name of one of our parameters in a Hugging Face checkpoint: one name, or three for `qkv`."""
    names = NAMES[family]
    if name == "bias":
        return [names["bias"]]
    module, _, kind = name.rpartition(".")
    if layer := re.fullmatch(r"encoder\.layers\.(\d+)\.(\w+)", module):
        number, part = layer.groups()
        theirs = QKV_NAMES[family] if part == "qkv" else (names[part],)
        return [f"{LAYER_PREFIX[family]}.{number}.{their}.{kind}" for their in theirs]
    return [f"{names[module]}.{kind}"]


def read_config(folder: Path) -> EncoderConfig:
    """Read the shape of a Hugging Face BERT or DistilBERT from its config.json.

    Raises:
        FileNotFoundError, ValueError: no config, another one than the weights beside it were written with, another
            architecture, or a variant that is not the paper's.
    """
    path = Path(folder) / CONFIG_FILE
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a JSON object")
    weights = path.with_name(WEIGHTS_FILE)
    if weights.exists():
        with _open_weights(weights) as tensors:
            digests = _digests(weights, tensors)
        if digests and digests[CONFIG_SHA256] != json_digest(values):
            raise ValueError(f"{path}: damaged or edited: not the config that {weights} was written with")
    family = values.get("model_type")
    if family not in tuple(NAMES):  # a tuple compares, where a dict would ask for the hash of whatever it is
        raise ValueError(f"{path}: model_type {family!r} is neither 'bert' nor 'distilbert'")
    keys = _config_keys(family)
    if missing := [theirs for theirs in keys.values() if theirs not in values]:
        raise ValueError(f"{path}: missing key {', '.join(missing)}")
    activation = values.get("hidden_act" if family == "bert" else "activation", "gelu")
    if activation != "gelu":
        raise ValueError(f"{path}: activation {activation!r} is not supported, only 'gelu'")
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"{path}: only absolute position embeddings are supported")
    if not values.get("tie_word_embeddings", True):
        raise ValueError(f"{path}: a masked-LM head with a matrix of its own is not supported (tie_word_embeddings)")
    classifier_dropout = values.get("classifier_dropout" if family == "bert" else "seq_classif_dropout")
    shape = dict(
        family=family,
        type_vocab_size=values.get("type_vocab_size", 2) if family == "bert" else 0,
        layer_norm_eps=values.get("layer_norm_eps", 1e-12),
        initializer_range=values.get("initializer_range", 0.02),
        pad_token_id=values.get("pad_token_id") or 0,
        **{ours: values[theirs] for ours, theirs in keys.items()},
    )
    shape["classifier_dropout"] = shape["dropout"] if classifier_dropout is None else classifier_dropout
    try:
        return EncoderConfig(**shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _config_keys(family: str) -> dict[str, str]:
    """Return our names of the settings that each Hugging Face config must have -> theirs."""
    theirs = {
        "bert": "hidden_size num_hidden_layers num_attention_heads intermediate_size "
        "hidden_dropout_prob attention_probs_dropout_prob",
        "distilbert": "dim n_layers n_heads hidden_dim dropout attention_dropout",
    }[family].split()
    ours = ["hidden_size", "num_layers", "num_heads", "intermediate_size", "dropout", "attention_dropout"]
    return {
        "vocab_size": "vocab_size",
        "max_positions": "max_position_embeddings",
        **dict(zip(ours, theirs, strict=True)),
    }


def load_pretrained(model: MaskedLM | SequenceClassifier, folder: Path, *, missing_ok: tuple[str, ...] = ()) -> None:
    """Load a Hugging Face checkpoint (safetensors; old gamma/beta names and a missing prefix too) into a model.

    `missing_ok` names modules of ours, such as "pooler", that may be absent and then keep their values.

    Raises:
        FileNotFoundError, ValueError: no safetensors file, or a damaged one, or a tensor is absent or of another shape.
    """
    path = Path(folder) / WEIGHTS_FILE
    family = model.config.family
    with _open_weights(path) as tensors:
        digests = _digests(path, tensors)
        content = ((name, tensors.get_tensor(name)) for name in sorted(tensors.keys()))
        if digests and digests[TENSORS_SHA256] != tensors_digest(content):
            raise ValueError(f"{path}: damaged: its tensors are not those that were written")
        stored = {_modern_name(name, family): name for name in tensors.keys()}
        state, absent = {}, {}
        for name, parameter in model.named_parameters():
            theirs = hugging_face_names(name, family)
            if missing := [their for their in theirs if their not in stored]:
                absent[name] = missing[0]
                continue
            value = torch.cat([tensors.get_tensor(stored[their]).float() for their in theirs])
            if value.shape != parameter.shape:
                raise ValueError(
                    f"{path}: {theirs[0]} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                )
            state[name] = value
    present = {name.split(".")[0] for name in state}  # a module must be there as a whole or not at all
    for name, their in absent.items():
        module = name.split(".")[0]
        if module not in missing_ok or module in present:
            raise ValueError(f"{path}: no tensor {their}")
    model.load_state_dict(state, strict=False)


@contextmanager
def _open_weights(path: Path) -> Iterator[safe_open]:
    """Open a safetensors file.

    Raises:
        OSError, ValueError: it is absent, unreadable, or not a whole safetensors file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; weights are read from safetensors only")
    with path.open("rb"):  # its error names the file and says why, that of `safe_open` does not always
        pass
    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {error}") from error


def _digests(path: Path, tensors: safe_open) -> dict[str, str]:
    """Return the digests in the metadata of an open safetensors file, or nothing if it was not written here.

    Raises:
        ValueError: there is one without the other, or the rest of the metadata is not what was written with them.
    """
    metadata = tensors.metadata() or {}
    if not metadata.keys() & {TENSORS_SHA256, CONFIG_SHA256}:
        return {}
    if metadata.keys() != {"format", TENSORS_SHA256, CONFIG_SHA256} or metadata["format"] != "pt":
        raise ValueError(f"{path}: damaged: its metadata is not what was written")
    return metadata


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of the names, types, shapes and bytes of tensors on the CPU that come sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _modern_name(name: str, family: str) -> str:
    """Return the present name of a stored tensor: old LayerNorm names, and encoders saved without a prefix."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    if name.startswith(("embeddings.", "encoder.", "pooler.", "transformer.")):
        name = f"{family}.{name}"
    return name


def save_pretrained(model: MaskedLM | SequenceClassifier, folder: Path, *, label_names: tuple[str, ...] = ()) -> None:
    """Write config.json and model.safetensors that `transformers` loads; each file appears whole or not at all."""
    family = model.config.family
    tensors = {}
    for name, parameter in model.named_parameters():
        theirs = hugging_face_names(name, family)
        for their, value in zip(theirs, parameter.detach().cpu().float().chunk(len(theirs)), strict=True):
            tensors[their] = value.contiguous()
    config = _hugging_face_config(model, label_names)
    digests = {TENSORS_SHA256: tensors_digest(sorted(tensors.items())), CONFIG_SHA256: json_digest(config)}
    with atomic_path(Path(folder) / WEIGHTS_FILE) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt", **digests})
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(str(error)) from error
        _sort_metadata(temporary)
    write_json(Path(folder) / CONFIG_FILE, config)


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in order, in place: `safetensors` writes it in another one each time."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))


def _hugging_face_config(model: MaskedLM | SequenceClassifier, label_names: tuple[str, ...]) -> dict:
    config = model.config
    is_bert = config.family == "bert"
    heads = {MaskedLM: "ForMaskedLM", SequenceClassifier: "ForSequenceClassification"}
    values = {
        "architectures": [("Bert" if is_bert else "DistilBert") + heads[type(model)]],
        "model_type": config.family,
        "hidden_act" if is_bert else "activation": "gelu",
        "classifier_dropout" if is_bert else "seq_classif_dropout": config.classifier_dropout,
        "initializer_range": config.initializer_range,
        "pad_token_id": config.pad_token_id,
        "dtype": "float32",
        **{theirs: getattr(config, ours) for ours, theirs in _config_keys(config.family).items()},
    }
    if is_bert:
        values |= {"type_vocab_size": config.type_vocab_size, "layer_norm_eps": config.layer_norm_eps}
    else:
        values |= {"sinusoidal_pos_embds": False, "tie_weights_": True}
    if label_names:
        values["id2label"] = {str(i): name for i, name in enumerate(label_names)}
        values["label2id"] = {name: i for i, name in enumerate(label_names)}
    return values
