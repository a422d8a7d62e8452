"""The two ways that ours is compared with, each with its own models, batches, losses and loop.

(a) "coursework": the student project that this workflow follows, re-written from its description. Everything is fp32
and padded to the greatest length, the logits of all positions are held, and masks are drawn one example at a time.
(b) "huggingface": what a user of `transformers` writes: its models, a loop as its Trainer's, dynamic padding, autocast
where the device computes in bfloat16, the fused AdamW. The losses are ours, on the same positions, written plainly.

A peer is a function that builds a step, (ids, mask, labels) -> a number, and loaders that yield such batches.

Shapes: B sequences, T tokens, D hidden, H heads, V vocabulary, C classes.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
)

from distilbert.config import DirectDistillationConfig, EncoderConfig, PretrainConfig, TrainingConfig
from distilbert.device import autocast
from distilbert.tokens import Vocabulary

IGNORED = -100  # the label of a position without one, in PyTorch and `transformers`
Step = Callable[[Tensor, Tensor, Tensor], object]


# --- Both ---------------------------------------------------------------------------------------------------


def hugging_face_bert(config: EncoderConfig) -> BertConfig:
    """Return a teacher's shape as `transformers` has it, with all hidden states among its outputs."""
    return BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        type_vocab_size=config.type_vocab_size,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout,
        classifier_dropout=config.classifier_dropout,
        output_hidden_states=True,
    )


def hugging_face_distilbert(config: EncoderConfig) -> DistilBertConfig:
    """Return a student's shape as `transformers` has it."""
    return DistilBertConfig(
        vocab_size=config.vocab_size,
        dim=config.hidden_size,
        n_layers=config.num_layers,
        n_heads=config.num_heads,
        hidden_dim=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        seq_classif_dropout=config.classifier_dropout,
    )


def pad_sequences(sequences: Iterable[np.ndarray], length: int, pad: int) -> tuple[Tensor, Tensor]:
    """Return ids (B, length) and their mask (B, length), 0 on pads, both int64."""
    sequences = list(sequences)
    ids = torch.full((len(sequences), length), pad)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.from_numpy(sequence.astype(np.int64))
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return ids, (torch.arange(length) < lengths[:, None]).long()


def forever(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def take_steps(
    step: Step, batches: Iterator[tuple[Tensor, Tensor, Tensor]], num_steps: int, device: torch.device
) -> int:
    """Do some steps; return how many sequences they had."""
    num_sequences = 0
    for batch in islice(batches, num_steps):
        step(*(tensor.to(device) for tensor in batch))
        num_sequences += len(batch[0])
    return num_sequences


# --- (a) The student project --------------------------------------------------------------------------------


class CourseworkLayer(nn.Module):
    """A post-norm layer with four projections, attention written out, and a relu feed-forward network."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        D = config.hidden_size
        self.num_heads = config.num_heads
        self.query, self.key, self.value, self.out = (nn.Linear(D, D) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.Linear(D, config.intermediate_size), nn.ReLU(), nn.Linear(config.intermediate_size, D)
        )
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = (
            projection(x).view(B, T, self.num_heads, -1).transpose(1, 2)  # (B, H, T, D/H)
            for projection in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(D // self.num_heads)  # (B, H, T, T)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        attended = self.dropout(torch.softmax(scores, dim=-1)) @ v
        attended = self.out(attended.transpose(1, 2).reshape(B, T, D))
        x = self.attention_norm(x + self.dropout(attended))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class CourseworkStudent(nn.Module):
    """Embeddings with sinusoidal positions, the layers, and a vocabulary head: the embeddings, without a bias."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        D = config.hidden_size
        self.embedding = nn.Embedding(config.vocab_size, D)
        positions = torch.arange(config.max_positions)[:, None]
        frequencies = torch.exp(torch.arange(0, D, 2) * (-math.log(10_000.0) / D))
        table = torch.stack([torch.sin(positions * frequencies), torch.cos(positions * frequencies)], dim=-1)
        self.register_buffer("positions", table.view(config.max_positions, D), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(CourseworkLayer(config) for _ in range(config.num_layers))

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (B, T, V) and the hidden states (B, T, D) of every layer."""
        x = self.dropout(self.embedding(ids) + self.positions[: ids.shape[1]])
        hidden_states = []
        for layer in self.layers:
            x = layer(x, mask)
            hidden_states.append(x)
        return x @ self.embedding.weight.T, hidden_states


class CourseworkClassifier(nn.Module):
    """A linear classifier on [CLS] of a student whose vocabulary logits are computed and thrown away."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.student = CourseworkStudent(config)
        self.classifier = nn.Linear(config.hidden_size, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, C) and the last hidden states of [CLS] (B, D)."""
        _, hidden_states = self.student(ids, mask)
        cls = hidden_states[-1][:, 0]
        return self.classifier(cls), cls


class CourseworkWindows(Dataset):
    """Windows padded to one length and masked one at a time, whenever they are read.

    Any position but [CLS] may be masked, [SEP] and [PAD] too, and half of the masked become random words.
    """

    def __init__(self, sequences: list[np.ndarray], vocabulary: Vocabulary, length: int):
        self.ids, self.mask = pad_sequences(sequences, length, vocabulary.pad)
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the corrupted ids, the mask and the labels, each (T,)."""
        ids = self.ids[row].clone()
        is_target = (torch.rand(ids.shape) < 0.15) & (ids != self.vocabulary.cls)
        labels = torch.where(is_target, ids, IGNORED)
        ids[is_target & (torch.rand(ids.shape) < 0.8)] = self.vocabulary.mask
        is_random = is_target & (torch.rand(ids.shape) < 0.5)
        ids[is_random] = torch.randint(self.vocabulary.size, ids.shape)[is_random]
        return ids, self.mask[row], labels


def coursework_losses(
    logits: Tensor,
    hidden_states: list[Tensor],
    teacher_logits: Tensor,
    teacher_hidden_states: tuple[Tensor, ...],
    labels: Tensor,
    config: PretrainConfig,
) -> dict[str, Tensor]:
    """Return "ce", "mlm", "cos" and their weighted sum "loss".

    The KL is a sum over all positions, pads too, divided by B alone. Each layer of the student is compared with the
    teacher's hidden states of the same depth, counted from the embeddings: the teacher's last are never used.

    Args:
        logits, teacher_logits: (B, T, V). labels: (B, T), IGNORED where nothing is predicted.
        hidden_states, teacher_hidden_states: one (B, T, D) a layer; the teacher's begin with the embeddings.
    """
    T = config.temperature
    kl = nn.KLDivLoss(reduction="batchmean")
    ce = kl(F.log_softmax(logits / T, dim=-1), F.softmax(teacher_logits / T, dim=-1)) * T**2
    mlm = nn.CrossEntropyLoss(ignore_index=IGNORED)(logits.flatten(0, 1), labels.flatten())
    stride = (len(teacher_hidden_states) - 1) // len(hidden_states)
    cosine, cos = nn.CosineEmbeddingLoss(), 0.0
    for layer, ours in enumerate(hidden_states):
        ours, theirs = ours.flatten(0, 1), teacher_hidden_states[stride * layer].flatten(0, 1)
        cos = cos + cosine(ours, theirs, torch.ones(len(ours), device=ours.device)) / len(hidden_states)
    loss = config.alpha_ce * ce + config.alpha_mlm * mlm + config.alpha_cos * cos
    return {"loss": loss, "ce": ce, "mlm": mlm, "cos": cos}


def coursework_pretraining(
    teacher_config: EncoderConfig, student_config: EncoderConfig, config: PretrainConfig, device: torch.device
) -> Step:
    """Return a step of the pretraining."""
    teacher = BertForMaskedLM(hugging_face_bert(teacher_config)).to(device).eval()
    student = CourseworkStudent(student_config).to(device).train()

    def loss_of(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            soft = teacher(input_ids=ids, attention_mask=mask)
        logits, hidden_states = student(ids, mask)
        return coursework_losses(logits, hidden_states, soft.logits, soft.hidden_states, labels, config)["loss"]

    return _coursework_step(student, loss_of, config)


def coursework_finetuning(student_config: EncoderConfig, config: TrainingConfig, device: torch.device) -> Step:
    """Return a step of a fine-tuning."""
    model = CourseworkClassifier(student_config).to(device).train()

    def loss_of(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        return nn.CrossEntropyLoss()(model(ids, mask)[0], labels)

    return _coursework_step(model, loss_of, config)


def coursework_scoring(student_config: EncoderConfig, device: torch.device) -> Step:
    """Return what scores a batch."""
    model = CourseworkClassifier(student_config).to(device).eval()

    @torch.no_grad()
    def step(ids: Tensor, mask: Tensor, labels: Tensor) -> float:
        return (model(ids, mask)[0].argmax(dim=-1) == labels).sum().item()

    return step


def coursework_direct_distillation(
    teacher_config: EncoderConfig, student_config: EncoderConfig, config: DirectDistillationConfig, device: torch.device
) -> Step:
    """Return a step of a direct distillation; the teacher is run in each."""
    teacher = BertForSequenceClassification(hugging_face_bert(teacher_config)).to(device).eval()
    model = CourseworkClassifier(student_config).to(device).train()

    def loss_of(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            soft = teacher(input_ids=ids, attention_mask=mask)
        logits, cls = model(ids, mask)
        return task_losses(logits, cls, soft.logits, soft.hidden_states[-1][:, 0], labels, config)["loss"]

    return _coursework_step(model, loss_of, config)


def _coursework_step(model: nn.Module, loss_of: Callable[..., Tensor], config: TrainingConfig) -> Step:
    """Return a step in fp32 with a plain AdamW, whose loss is read every time."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)

    def step(*batch: Tensor) -> float:
        loss = loss_of(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def coursework_windows(
    sequences: list[np.ndarray], vocabulary: Vocabulary, *, batch_size: int, max_length: int
) -> DataLoader:
    """Return batches of windows for the pretraining."""
    return DataLoader(CourseworkWindows(sequences, vocabulary, max_length), batch_size=batch_size, shuffle=True)


def coursework_examples(
    sequences: list[np.ndarray], labels: np.ndarray, vocabulary: Vocabulary, *, batch_size: int, max_length: int
) -> DataLoader:
    """Return batches of a task's examples, padded to the greatest length."""
    ids, mask = pad_sequences(sequences, max_length, vocabulary.pad)
    rows = list(zip(ids, mask, torch.from_numpy(labels).long(), strict=True))
    return DataLoader(rows, batch_size=batch_size, shuffle=True)


# --- (b) A user of transformers -----------------------------------------------------------------------------


def pretraining_losses(
    student: DistilBertForMaskedLM,
    teacher: BertForMaskedLM,
    ids: Tensor,
    mask: Tensor,
    labels: Tensor,
    config: PretrainConfig,
) -> dict[str, Tensor]:
    """Return "ce", "mlm", "cos" and their weighted sum "loss": what `DistillationObjective` computes.

    ids: (B, T) corrupted. mask: (B, T). labels: (B, T), IGNORED where nothing is predicted.
    """
    with torch.no_grad():
        soft = teacher(input_ids=ids, attention_mask=mask)
    hard = student(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    T, kept = config.temperature, mask.bool()
    ce = F.kl_div(
        F.log_softmax(hard.logits[kept] / T, dim=-1), F.softmax(soft.logits[kept] / T, dim=-1), reduction="batchmean"
    )
    mlm = F.cross_entropy(hard.logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    cos = _cosine_distance(hard.hidden_states[-1][kept], soft.hidden_states[-1][kept])
    ce = ce * T**2
    return {
        "loss": config.alpha_ce * ce + config.alpha_mlm * mlm + config.alpha_cos * cos,
        "ce": ce,
        "mlm": mlm,
        "cos": cos,
    }


def task_losses(
    logits: Tensor, cls: Tensor, soft: Tensor, soft_cls: Tensor, labels: Tensor, config: DirectDistillationConfig
) -> dict[str, Tensor]:
    """Return "hard", "soft", "cos" and their weighted sum "loss": what `DirectDistillationObjective` computes.

    logits, soft: (B, C) of student and teacher. cls, soft_cls: (B, D). labels: (B,).
    """
    T = config.temperature
    kl = F.kl_div(F.log_softmax(logits / T, dim=-1), F.softmax(soft / T, dim=-1), reduction="batchmean") * T**2
    hard, cos = F.cross_entropy(logits, labels), _cosine_distance(cls, soft_cls)
    loss = config.alpha_hard * hard + config.alpha_soft * kl + config.alpha_cos * cos
    return {"loss": loss, "hard": hard, "soft": kl, "cos": cos}


def _cosine_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    return F.cosine_embedding_loss(ours, theirs, torch.ones(len(ours), device=ours.device))


def huggingface_pretraining(
    teacher_config: EncoderConfig, student_config: EncoderConfig, config: PretrainConfig, device: torch.device
) -> Step:
    """Return a step of the pretraining."""
    teacher = BertForMaskedLM(hugging_face_bert(teacher_config)).to(device).eval()
    student = DistilBertForMaskedLM(hugging_face_distilbert(student_config)).to(device).train()

    def loss_of(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        return pretraining_losses(student, teacher, ids, mask, labels, config)["loss"]

    return _trainer_step(student, loss_of, config)


def huggingface_finetuning(student_config: EncoderConfig, config: TrainingConfig, device: torch.device) -> Step:
    """Return a step of a fine-tuning."""
    model = DistilBertForSequenceClassification(hugging_face_distilbert(student_config)).to(device).train()

    def loss_of(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        return model(input_ids=ids, attention_mask=mask, labels=labels).loss

    return _trainer_step(model, loss_of, config)


def huggingface_scoring(student_config: EncoderConfig, config: TrainingConfig, device: torch.device) -> Step:
    """Return what scores a batch."""
    model = DistilBertForSequenceClassification(hugging_face_distilbert(student_config)).to(device).eval()

    @torch.no_grad()
    def step(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        with autocast(device, config.precision):
            return model(input_ids=ids, attention_mask=mask).logits.float().cpu()

    return step


def huggingface_direct_distillation(
    teacher_config: EncoderConfig, student_config: EncoderConfig, config: DirectDistillationConfig, device: torch.device
) -> Step:
    """Return a step of a direct distillation; the teacher is run in each."""
    teacher = BertForSequenceClassification(hugging_face_bert(teacher_config)).to(device).eval()
    model = DistilBertForSequenceClassification(hugging_face_distilbert(student_config)).to(device).train()

    def loss_of(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            soft = teacher(input_ids=ids, attention_mask=mask)
        hard = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        cls, soft_cls = hard.hidden_states[-1][:, 0], soft.hidden_states[-1][:, 0]
        return task_losses(hard.logits, cls, soft.logits, soft_cls, labels, config)["loss"]

    return _trainer_step(model, loss_of, config)


def _trainer_step(model: nn.Module, loss_of: Callable[..., Tensor], config: TrainingConfig) -> Step:
    """Return a step as transformers.Trainer does it: autocast, backward, clip, AdamW, schedule; no value is read."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        fused=True,
    )
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.5, total_iters=10_000)

    def step(*batch: Tensor) -> Tensor:
        with autocast(device, config.precision):
            loss = loss_of(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def huggingface_windows(
    sequences: list[np.ndarray], vocabulary: Vocabulary, *, batch_size: int, mlm_probability: float
) -> DataLoader:
    """Return batches of windows, padded to the longest, and masked as DataCollatorForLanguageModeling does it."""

    def collate(batch: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        ids, mask = pad_sequences(batch, max(map(len, batch)), vocabulary.pad)
        is_special = torch.isin(ids, torch.tensor(vocabulary.special_ids))
        is_target = torch.bernoulli(torch.full(ids.shape, mlm_probability).masked_fill(is_special, 0.0)).bool()
        labels = torch.where(is_target, ids, IGNORED)
        is_replaced = torch.bernoulli(torch.full(ids.shape, 0.8)).bool() & is_target
        ids[is_replaced] = vocabulary.mask
        is_random = torch.bernoulli(torch.full(ids.shape, 0.5)).bool() & is_target & ~is_replaced
        ids[is_random] = torch.randint(vocabulary.size, ids.shape)[is_random]
        return ids, mask, labels

    return DataLoader(sequences, batch_size=batch_size, shuffle=True, collate_fn=collate)


def huggingface_examples(
    sequences: list[np.ndarray], labels: np.ndarray, vocabulary: Vocabulary, *, batch_size: int
) -> DataLoader:
    """Return batches of a task's examples, padded to the longest of each."""

    def collate(batch: list[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor, Tensor]:
        sequences, labels = zip(*batch, strict=True)
        return *pad_sequences(sequences, max(map(len, sequences)), vocabulary.pad), torch.tensor(labels)

    rows = list(zip(sequences, labels.tolist(), strict=True))
    return DataLoader(rows, batch_size=batch_size, shuffle=True, collate_fn=collate)
