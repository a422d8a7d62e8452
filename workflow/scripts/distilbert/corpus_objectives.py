"""What a training on the corpus minimises; the losses themselves are in `losses`.

An objective turns the rows of one optimizer step into micro-batches that know the counts of the whole step,
and a micro-batch into losses already divided by those counts. So the losses of a step's micro-batches add up
to exactly the step's losses, however it was cut.

Only the positions that count are computed: hidden states of pads never reach a vocabulary or a loss, and the
masked-LM training computes the vocabulary logits of its targets alone.

Shapes: B sequences, T tokens, N non-pad tokens, M masked tokens, D hidden, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from distilbert import losses, processes
from distilbert.batching import BatchPlan, pad, split_by_tokens
from distilbert.config import MaskedLMConfig, PretrainConfig
from distilbert.flops import Shape
from distilbert.masking import mask_tokens, target_weights
from distilbert.model import MaskedLM
from distilbert.tokens import TokenShards
from distilbert.vocabulary_head import vocabulary_losses


@dataclass(frozen=True)
class MaskedMicroBatch:
    """ids: (B, T) corrupted. mask: (B, T) bool. positions: (N,) of the non-pad tokens in the flattened batch.

    words: (N,) the ids that masked LM predicts, -1 at tokens that are no targets.
    step_tokens, step_targets: non-pad tokens and targets of the whole step.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    words: Tensor
    num_tokens: int
    step_tokens: int
    step_targets: int


class MaskedLMObjective:
    """Masked-LM training: cross-entropy at the targets (Devlin et al. 2019, section 3.1)."""

    def __init__(self, shards: TokenShards, counts: Tensor, config: MaskedLMConfig, device: torch.device):
        self.shards, self.config, self.device = shards, config, device
        self.weights = target_weights(counts, shards.vocabulary.special_ids, smoothing=config.mlm_smoothing)

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> list[MaskedMicroBatch]:
        """Mask the whole step, then cut it into micro-batches."""
        step = pad(self.shards, rows)
        original, mask = torch.from_numpy(step.ids), torch.from_numpy(step.mask)
        corrupted, targets = mask_tokens(
            original,
            mask,
            self.weights,
            mask_id=self.shards.vocabulary.mask,
            probability=self.config.mlm_probability,
            generator=generator,
        )
        words = torch.where(targets, original, -1)
        counts = {"step_tokens": step.num_tokens, "step_targets": max(1, int(targets.sum()))}
        micro_batches, start = [], 0
        num_shares = processes.join().count
        for part in split_by_tokens(
            rows, self.shards.lengths, self.config.max_tokens_per_forward, num_shares=num_shares
        ):
            end, longest = start + len(part), int(self.shards.lengths[part].max())
            part_ids, part_mask, part_words = (t[start:end, :longest] for t in (corrupted, mask, words))
            tensors = (part_ids, part_mask, part_mask.flatten().nonzero().squeeze(1), part_words[part_mask])
            micro_batch = MaskedMicroBatch(
                *(tensor.to(self.device) for tensor in tensors), num_tokens=len(tensors[-1]), **counts
            )
            micro_batches.append(micro_batch)
            start = end
        return micro_batches

    def losses(self, model: MaskedLM, batch: MaskedMicroBatch) -> dict[str, Tensor]:
        """Return {"loss"}: the mean cross-entropy per target."""
        is_target = batch.words >= 0
        hidden = model.encoder(batch.ids, batch.mask, at=batch.positions[is_target])  # (M, D)
        loss = losses.cross_entropy(model.vocabulary_logits(hidden), batch.words[is_target])
        return {"loss": loss / batch.step_targets}

    def flops(self, model: MaskedLM, batch: MaskedMicroBatch) -> float:
        """Return the FLOPs of a micro-batch's tokens, pads left out; its share of targets is taken to be the step's."""
        read = batch.step_targets / batch.step_tokens
        return 3 * batch.num_tokens * Shape.of(model.config).flops(batch.ids.shape[1], head=True, read=read)


class DistillationObjective(MaskedLMObjective):
    """Distillation pretraining: soft-target KL + masked LM + cosine of the last hidden states (section 3).

    KL and cosine are means over all non-pad tokens, [CLS] and [SEP] included; masked LM over the targets, and with
    `restrict_ce_to_mask` the KL too, so that no other token costs logits.
    Teacher and student read the same corrupted sequences.
    """

    def __init__(self, teacher: MaskedLM, *args):
        super().__init__(*args)
        self.teacher = teacher.eval().requires_grad_(False)
        self.config: PretrainConfig

    def losses(self, model: MaskedLM, batch: MaskedMicroBatch) -> dict[str, Tensor]:
        """Return {"loss", "ce", "mlm", "cos"}: the weighted sum and its three parts, unweighted."""
        config = self.config
        if config.restrict_ce_to_mask:
            compared, step_compared = batch.words >= 0, batch.step_targets
        else:
            compared, step_compared = slice(None), batch.step_tokens
        with torch.no_grad():
            teacher_hidden = self.teacher.encoder(batch.ids, batch.mask, at=batch.positions)  # (N, D)
            teacher_head = self.teacher.before_vocabulary(teacher_hidden[compared])
        hidden = model.encoder(batch.ids, batch.mask, at=batch.positions)  # (N, D)
        total, kl, mlm = vocabulary_losses(
            model.before_vocabulary(hidden[compared]),
            teacher_head,
            batch.words[compared],
            temperature=config.temperature,
            kl_weight=config.alpha_ce / step_compared,
            mlm_weight=config.alpha_mlm / batch.step_targets,
        )
        cos = losses.cosine_distance(hidden, teacher_hidden) / batch.step_tokens
        total = total + config.alpha_cos * cos
        kl, mlm = kl / step_compared, mlm / batch.step_targets
        return {"loss": total, "ce": kl, "mlm": mlm, "cos": cos}

    def flops(self, model: MaskedLM, batch: MaskedMicroBatch) -> float:
        """Return the FLOPs of a micro-batch's tokens, pads left out: the teacher's once, the student's three times."""
        head = batch.step_targets / batch.step_tokens if self.config.restrict_ce_to_mask else 1
        teach, learn = (Shape.of(m.config).flops(batch.ids.shape[1], head=head) for m in (self.teacher, model))
        return batch.num_tokens * (teach + 3 * learn)


def mean_losses(
    model: nn.Module, objective: MaskedLMObjective, *, seed: int, max_sequences: int | None = None
) -> dict[str, float]:
    """Return an objective's losses over its shards: every sequence once, with masks that do not change during a run.

    Means per token of the steps' losses (the share of targets is the same in every step, but for rounding).

    `max_sequences` takes a fixed random subset, for the validations during a run.
    """
    num_rows = len(objective.shards)
    order = np.random.default_rng(seed).permutation(num_rows)[:max_sequences]
    plan = BatchPlan(objective.shards.lengths[order], batch_size=objective.config.batch_size, seed=seed)
    group = processes.join()
    is_shared = plan.steps_per_epoch >= group.count
    mine = range(group.rank, plan.steps_per_epoch, group.count) if is_shared else range(plan.steps_per_epoch)
    sums, num_tokens = {}, 0
    for step in mine:
        generator = torch.Generator().manual_seed(seed + step)
        for batch in objective.prepare(order[plan.rows(0, step)], generator):
            for name, value in objective.losses(model, batch).items():
                sums[name] = sums.get(name, 0.0) + value.item() * batch.step_tokens
            num_tokens += batch.num_tokens
    if is_shared:
        totals = group.sum(torch.tensor([num_tokens, *sums.values()], dtype=torch.float64, device=objective.device))
        num_tokens, *values = totals.tolist()
        sums = dict(zip(sums, values, strict=True))
    return {name: value / num_tokens for name, value in sums.items()}
