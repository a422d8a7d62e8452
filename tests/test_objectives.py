"""What each training minimises: the same however a step is cut, pads without effect, every sequence counted."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import original_ids
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from distilbert import vocabulary_head
from distilbert.config import DirectDistillationConfig, MaskedLMConfig, PretrainConfig
from distilbert.corpus_objectives import DistillationObjective, MaskedLMObjective, MaskedMicroBatch, mean_losses
from distilbert.inference import predict
from distilbert.model import MaskedLM, SequenceClassifier, student_config
from distilbert.task_objectives import ClassificationObjective, DirectDistillationObjective

CPU = torch.device("cpu")
LOOP = {
    "batch_size": 12,
    "max_tokens_per_forward": 10**6,
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
MASKING = {"mlm_probability": 0.15, "mlm_smoothing": 0.7}
ALPHAS = {"alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_cos": 1.0, "temperature": 2.0, "restrict_ce_to_mask": False}
DIRECT_ALPHAS = {"alpha_hard": 0.5, "alpha_soft": 3.0, "alpha_cos": 2.0, "temperature": 2.0}
KINDS = ["masked_lm", "distillation", "masked_distillation", "classification", "direct_distillation"]


@pytest.fixture
def configs(bert_config):
    """Return the shapes of a teacher and of its student, both without dropout, with weights large enough to matter."""
    still = {"dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0}
    teacher = dataclasses.replace(bert_config, initializer_range=0.2, **still)
    return teacher, student_config(teacher, num_layers=2)


@pytest.fixture
def make(make_shards, configs):
    """Return a function that makes (model, objective) of a kind, the same each time, for a budget of tokens."""
    teacher_config, student = configs
    shards = make_shards(40, labelled=True)

    def make_kind(kind: str, max_tokens: int = 10**6):
        torch.manual_seed(0)
        loop = LOOP | {"max_tokens_per_forward": max_tokens}
        counts = torch.ones(97, dtype=torch.long)
        if kind == "masked_lm":
            return MaskedLM(student), MaskedLMObjective(shards, counts, MaskedLMConfig(**loop, **MASKING), CPU)
        if kind in ("distillation", "masked_distillation"):
            alphas = ALPHAS | {"restrict_ce_to_mask": kind == "masked_distillation"}
            config = PretrainConfig(**loop, **MASKING, **alphas)
            return MaskedLM(student), DistillationObjective(MaskedLM(teacher_config), shards, counts, config, CPU)
        if kind == "classification":
            return SequenceClassifier(student), ClassificationObjective(shards, max_tokens, CPU)
        config = DirectDistillationConfig(**loop, **DIRECT_ALPHAS)
        teacher_logits, teacher_cls = torch.randn(40, 2), torch.randn(40, 32)
        return SequenceClassifier(student), DirectDistillationObjective(
            shards, teacher_logits, teacher_cls, config, CPU
        )

    return make_kind


def rows_by_length(objective, count: int = 12) -> np.ndarray:
    """Return `count` rows spread over the shards, sorted by length as a plan gives them."""
    shards = objective.shards if hasattr(objective, "shards") else objective.examples
    rows = np.arange(len(shards))[::-1][:: len(shards) // count][:count]
    return rows[np.argsort(shards.lengths[rows], kind="stable")]


def run_step(model, objective, *, seed: int = 7) -> tuple[int, dict[str, float], dict[str, torch.Tensor], int]:
    """Do the backward passes of one step; return micro-batches, summed losses, gradients and tokens."""
    generator = torch.Generator().manual_seed(seed)
    micro_batches = objective.prepare(rows_by_length(objective), generator)
    sums = {}
    for batch in micro_batches:
        losses = objective.losses(model, batch)
        losses["loss"].backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return len(micro_batches), sums, gradients, sum(batch.num_tokens for batch in micro_batches)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_step_is_the_same_step(make, kind):
    """The losses and gradients of a step cut into many micro-batches add up to those of the uncut step."""
    whole_parts, whole, whole_gradients, whole_tokens = run_step(*make(kind))
    cut_parts, cut, cut_gradients, cut_tokens = run_step(*make(kind, max_tokens=40))
    assert whole_parts == 1 and cut_parts >= 4
    assert cut_tokens == whole_tokens
    assert cut == pytest.approx(whole, rel=1e-5)
    for name, gradient in whole_gradients.items():
        assert gradient.abs().max() > 0 or name.endswith("qkv.bias"), name
        torch.testing.assert_close(cut_gradients[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_on_pads_change_nothing(make, kind):
    """Whatever stands on the pads, the losses stay."""
    model, objective = make(kind)
    (batch,) = objective.prepare(rows_by_length(objective), torch.Generator().manual_seed(7))
    assert not batch.mask.all()
    changed = dataclasses.replace(batch, ids=torch.where(batch.mask, batch.ids, 50))
    before, after = ({k: v.item() for k, v in objective.losses(model, b).items()} for b in (batch, changed))
    assert after == pytest.approx(before, rel=1e-5)


def alone(batch, row: int, length: int):
    """Return one sequence of a micro-batch as a micro-batch of its own, without its pads."""
    cut = {"num_tokens": length}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor | np.ndarray):
            cut[field.name] = value[row : row + 1, :length] if value.ndim == 2 else value[row : row + 1]
    if isinstance(batch, MaskedMicroBatch):
        cut["positions"] = torch.arange(length)
        cut["words"] = batch.words[batch.positions // batch.ids.shape[1] == row]
    return dataclasses.replace(batch, **cut)


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_neighbour_changes_nothing(make, kind):
    """A short sequence contributes the same to the step's losses alone as beside the longest of the shards."""
    model, objective = make(kind)
    rows = rows_by_length(objective)[[0, -1]]
    (both,) = objective.prepare(rows, torch.Generator().manual_seed(3))
    lengths = both.mask.sum(1).tolist()
    assert lengths[0] < lengths[1]
    parts = [objective.losses(model, alone(both, row, length)) for row, length in enumerate(lengths)]
    short, long = parts
    for name, value in objective.losses(model, both).items():
        assert value.item() == pytest.approx(short[name].item() + long[name].item(), rel=1e-5, abs=1e-6), name


def test_masked_lm_is_the_mean_over_targets(make):
    """The loss is the mean cross-entropy at the targets alone, of the original ids, from logits of all positions."""
    model, objective = make("masked_lm")
    (batch,) = objective.prepare(rows_by_length(objective), torch.Generator().manual_seed(7))
    is_target = batch.words >= 0
    assert batch.step_targets == is_target.sum() and batch.step_tokens == batch.mask.sum() == batch.num_tokens
    expected = F.cross_entropy(model(batch.ids, batch.mask)[batch.mask][is_target], batch.words[is_target])
    assert objective.losses(model, batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["distillation", "masked_distillation"])
def test_distillation_is_the_weighted_sum_of_its_means(make, kind):
    """The parts are means over non-pad tokens (KL, cosine) and targets (masked LM); the loss is 5, 2, 1 of them.

    Restricted to the mask the KL is a mean over the targets.
    """
    model, objective = make(kind)
    (batch,) = objective.prepare(rows_by_length(objective), torch.Generator().manual_seed(7))
    with torch.no_grad():
        is_target = batch.words >= 0
        student, teacher = (m(batch.ids, batch.mask)[batch.mask] for m in (model, objective.teacher))
        hidden, teacher_hidden = (m.encoder(batch.ids, batch.mask)[batch.mask] for m in (model, objective.teacher))
        p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
        if kind == "masked_distillation":
            p, q = p[is_target], q[is_target]
        expected = {
            "ce": (p * (p.log() - q.log())).sum(-1).mean().item() * 4,
            "mlm": F.cross_entropy(student[is_target], batch.words[is_target]).item(),
            "cos": (1 - F.cosine_similarity(hidden, teacher_hidden, dim=-1)).mean().item(),
        }
        losses = {name: value.item() for name, value in objective.losses(model, batch).items()}
    total = losses.pop("loss")
    assert losses == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(5 * expected["ce"] + 2 * expected["mlm"] + expected["cos"], rel=1e-4)


def test_the_teacher_is_frozen_and_in_eval_mode(make):
    """A training student leaves its teacher without dropout and without gradients."""
    model, objective = make("distillation")
    run_step(model.train(), objective)
    assert not any(module.training for module in objective.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(make_shards, configs):
    """Distilling a model into its copy costs no KL and no cosine: both read the same corrupted sequences."""
    teacher, student = MaskedLM(configs[1]), MaskedLM(configs[1])
    student.load_state_dict(teacher.state_dict())
    config = PretrainConfig(**LOOP, **MASKING, **ALPHAS)
    objective = DistillationObjective(teacher, make_shards(40), torch.ones(97), config, CPU)
    _, losses, *_ = run_step(student, objective)
    assert losses["ce"] == pytest.approx(0, abs=1e-6)
    assert losses["cos"] == pytest.approx(0, abs=1e-6)
    assert losses["mlm"] > 1


def test_direct_distillation_finds_the_teacher_of_each_row(make):
    """Each example meets the teacher outputs of its own row; the parts are means per example, weighted as set."""
    model, objective = make("direct_distillation", max_tokens=40)
    rows = rows_by_length(objective)
    logits, cls = predict(model, objective.examples)
    logits, cls, teacher, teacher_cls = (
        t[rows] for t in (logits, cls, objective.teacher_logits, objective.teacher_cls)
    )
    labels = torch.from_numpy(objective.examples.labels[rows].astype(np.int64))
    p, q = (teacher / 2).softmax(-1), (logits / 2).softmax(-1)
    expected = {
        "hard": F.cross_entropy(logits, labels).item(),
        "soft": (p * (p.log() - q.log())).sum(-1).mean().item() * 4,
        "cos": (1 - F.cosine_similarity(cls, teacher_cls, dim=-1)).mean().item(),
    }
    _, losses, *_ = run_step(model, objective)
    total = losses.pop("loss")
    assert losses == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(0.5 * expected["hard"] + 3 * expected["soft"] + 2 * expected["cos"], rel=1e-4)


class MeanId(MaskedLMObjective):
    """An objective whose loss is the mean of the original ids, and that notes what it was given."""

    def prepare(self, rows, generator):
        self.seen = [*getattr(self, "seen", []), *rows.tolist()]
        return super().prepare(rows, generator)

    def losses(self, model, batch):
        return {"loss": original_ids(batch)[batch.mask].sum() / batch.step_tokens}


@pytest.mark.parametrize(("batch_size", "max_tokens"), [(7, 10**6), (7, 30), (64, 10**6), (1, 10**6)])
def test_mean_losses_cover_every_sequence_once(make_shards, batch_size, max_tokens):
    """The mean over the shards counts every token of every sequence once, whatever the steps and micro-batches."""
    shards = make_shards(40)
    loop = LOOP | {"batch_size": batch_size, "max_tokens_per_forward": max_tokens}
    objective = MeanId(shards, torch.ones(97), MaskedLMConfig(**loop, **MASKING), CPU)
    losses = mean_losses(None, objective, seed=5)
    assert sorted(objective.seen) == list(range(40))
    expected = np.concatenate([shards[row] for row in range(40)]).mean()
    assert losses == {"loss": pytest.approx(expected, rel=1e-5)}


def test_mean_losses_of_a_subset_are_fixed(make, make_shards):
    """A limit takes that many different sequences, the same for the same seed; masks follow the seed alone."""
    objective = MeanId(make_shards(40), torch.ones(97), MaskedLMConfig(**LOOP, **MASKING), CPU)
    mean_losses(None, objective, seed=5, max_sequences=15)
    first, objective.seen = objective.seen, []
    mean_losses(None, objective, seed=5, max_sequences=15)
    assert objective.seen == first
    assert len(first) == len(set(first)) == 15
    model, masked = make("masked_lm")
    with torch.no_grad():
        values = [mean_losses(model, masked, seed=seed)["loss"] for seed in (5, 5, 6)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_that_pytorch_counts(make, kind, monkeypatch):
    """Sequences of one length, so no pads: what is said of a step is what its products take, but for a classifier's."""
    model, objective = make(kind)
    lengths = (objective.shards if hasattr(objective, "shards") else objective.examples).lengths
    rows = np.flatnonzero(lengths == np.bincount(lengths).argmax())
    (batch,) = objective.prepare(rows, torch.Generator().manual_seed(0))
    # PyTorch counts no product that is added in place.
    monkeypatch.setattr(vocabulary_head, "_add_product_", lambda total, left, right: total.add_(left @ right))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # whose products are counted
        objective.losses(model, batch)["loss"].backward()
    hidden, classes = model.config.hidden_size, 2
    classifier = 3 * 2 * len(rows) * hidden * (hidden + classes) if "class" in kind or "direct" in kind else 0
    assert objective.flops(model, batch) + classifier == counter.get_total_flops()
