"""The one training loop of the project; what is trained for is an argument.

Everything random in a step derives from (seed, epoch, step): the order of the data (batching), the masks
(the objective) and the dropout (seeded here). So a run that was killed and resumed at a checkpoint ends
bit for bit where an uninterrupted run ends, on the same CPU with the same number of threads and build of PyTorch.

A step is one update of the weights: its sequences are cut into micro-batches of bounded size, each of which
adds its share of the gradient (see `corpus_objectives`). Several processes share a step's micro-batches (see
`processes`).
"""

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from distilbert import processes
from distilbert.batching import BatchPlan, random_generator
from distilbert.checkpoint import Checkpoints
from distilbert.config import TrainingConfig
from distilbert.device import autocast, peak_flops, resolve_precision
from distilbert.events import EventFiles
from distilbert.flops import Utilization
from distilbert.optimizer import AdamW
from distilbert.runlog import machine

# Minutes of training that a kill may cost; DISTILBERT_CHECKPOINT_MINUTES in the environment overrides it.
CHECKPOINT_MINUTES = 10.0

log = logging.getLogger(__name__)


class Objective(Protocol):
    """What a training minimises."""

    def prepare(self, rows, generator: torch.Generator) -> list:
        """Return the micro-batches of one step; each knows the counts of the whole step."""

    def losses(self, model: nn.Module, micro_batch) -> dict[str, Tensor]:
        """Return scalars, "loss" among them, that sum over a step's micro-batches to the step's losses."""

    def flops(self, model: nn.Module, micro_batch) -> float:
        """Return the floating-point operations of a micro-batch, backward pass included."""


@dataclass
class TrainingResult:
    """What a training leaves beside its weights.

    history: one row per log entry, {"step", "epoch", "split": "train" | "validation", ...}; no clock in it.
    num_tokens: non-pad tokens trained on. train_seconds: over all resumes, validation included.
    """

    history: list[dict]
    num_tokens: int
    train_seconds: float
    steps: int
    best: dict | None
    precision: str


class LossNotFiniteError(RuntimeError):
    """A loss became NaN or infinite; raised before the optimizer could spread it."""


class Interrupted(SystemExit):
    """SIGTERM or SIGINT arrived; the training was saved."""


def train(
    model: nn.Module,
    objective: Objective,
    plan: BatchPlan,
    config: TrainingConfig,
    *,
    seed: int,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    select_by: str | None = None,
    checkpoints: Checkpoints | None = None,
    events: Path | None = None,
) -> TrainingResult:
    """Train a model in place.

    Args:
        validate: returns figures of the validation set; called `config.validations_per_epoch` times an epoch.
        select_by: name of the validation figure whose highest value (the first of equals) decides which
            weights the model ends with; None keeps the last.
        checkpoints: where to save and resume; None for neither.
        events: folder of the event files for TensorBoard; None for none.
    Raises:
        LossNotFiniteError: before the optimizer step that a bad loss would have reached.
        Interrupted: on SIGTERM, SIGINT or SIGHUP, after saving; a SystemExit with status 128 + signal. A signal in the
            very last step is not acted upon: the training is done.
    """
    return _Run(model, objective, plan, config, seed, validate, select_by, checkpoints, events).run()


class _Run:
    """The state of one call of `train`."""

    def __init__(self, model, objective, plan, config, seed, validate, select_by, checkpoints, events):
        self.model, self.objective, self.plan, self.config, self.seed = model, objective, plan, config, seed
        self.validate, self.select_by, self.checkpoints = validate, select_by, checkpoints
        self.processes = processes.join()
        self.device = next(model.parameters()).device
        self.autocast = autocast(self.device, config.precision)
        self.optimizer = AdamW(
            model,
            betas=(config.adam_beta1, config.adam_beta2),
            epsilon=config.adam_epsilon,
            weight_decay=config.weight_decay,
        )
        steps = plan.steps_per_epoch * config.epochs
        self.total_steps = min(steps, config.max_steps) if config.max_steps else steps
        num_validations = config.validations_per_epoch * config.epochs
        ends = {-(-self.total_steps * i // num_validations) for i in range(1, num_validations + 1)}
        self.validation_steps = ends if validate else set()
        self.step, self.num_tokens, self.seconds, self.learning_rate = 0, 0, 0.0, 0.0
        self.history, self.best, self.best_weights = [], None, {}
        self.events = EventFiles(None if self.processes.rank else events)
        self.utilization: Utilization | None = None  # where it is shown
        self.since_log: dict[str, float] = {}
        # What a resumed run must share with the one before it to end on the same bits.
        self.environment = {
            "device": machine(),
            "precision": resolve_precision(self.device, config.precision),
            "processes": self.processes.count,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }

    def run(self) -> TrainingResult:
        if self.checkpoints:
            self.resume()
        self.events.update(self.history)
        interval = 60 * float(os.environ.get("DISTILBERT_CHECKPOINT_MINUTES", CHECKPOINT_MINUTES))
        progress = tqdm(
            total=self.total_steps,
            initial=self.step,
            unit="step",
            disable=True if self.processes.rank else None,
            dynamic_ncols=True,
            file=sys.stderr,
        )
        # Only for the bar: a CPU's peak takes time to measure, and no result may hold a clock.
        if not progress.disable and (peak := peak_flops(self.device, self.environment["precision"])):
            self.utilization = Utilization(peak * self.processes.count)
        started = saved_at = time.monotonic()
        before = self.seconds
        steps = prepare_ahead(self.prepare, range(self.step, self.total_steps), self.device)
        with _StopSignals() as stop, progress, closing(steps), closing(self.events):
            self.model.train()
            for rows, step_seed, micro_batches in steps:
                all_must_stop = self.train_step(stop, rows, step_seed, micro_batches)
                self.seconds = before + time.monotonic() - started
                if self.step % self.config.log_every == 0 or self.step == self.total_steps:
                    self.log_step(progress)
                if self.step in self.validation_steps:
                    self.log_validation()
                    if self.utilization:
                        self.utilization.restart()  # a validation's FLOPs are not counted
                    self.seconds = before + time.monotonic() - started
                progress.update()
                must_stop = all_must_stop or (stop.signal and self.processes.count == 1)
                # What follows the last step, scoring the test text, may take long too.
                patience = interval / 10 if self.step == self.total_steps else interval
                if self.checkpoints and (must_stop or time.monotonic() - saved_at > patience):
                    self.save()
                    saved_at = time.monotonic()
                if must_stop and self.step < self.total_steps:
                    self.processes.wait()  # for the one that saves
                    number = stop.signal or signal.SIGTERM
                    log.warning("stopped by signal %d after step %d", number, self.step)
                    raise Interrupted(128 + number)
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        self.model.eval()
        return TrainingResult(
            self.history, self.num_tokens, self.seconds, self.step, self.best, self.environment["precision"]
        )

    def prepare(self, step: int) -> tuple[np.ndarray, int, list]:
        """Return a step's sequences, its seed and its micro-batches: a function of the step alone."""
        epoch, step_of_epoch = divmod(step, self.plan.steps_per_epoch)
        rows = self.plan.rows(epoch, step_of_epoch)
        step_seed = int(random_generator(self.seed, epoch, step_of_epoch).integers(2**63))
        return rows, step_seed, self.objective.prepare(rows, torch.Generator().manual_seed(step_seed))

    def train_step(self, stop: "_StopSignals", rows: np.ndarray, step_seed: int, micro_batches: list) -> bool:
        """Do one optimizer step and add its losses to those since the last log entry.

        Returns:
            whether any of the processes was told to stop.
        """
        self.model.zero_grad(set_to_none=True)
        sums = self.add_gradients(micro_batches, step_seed)
        # One more figure, so that all processes stop after the same step.
        figures = torch.stack([*sums.values(), torch.tensor(float(stop.signal), device=self.device)])
        *sums_over_all, signals = self.processes.sum(figures).tolist()
        losses = dict(zip(sums, sums_over_all, strict=True))
        self.require_finite("loss", losses["loss"], rows)
        self.processes.sum_gradients(self.model)
        norm = self.clip_gradients()
        self.require_finite("gradient norm", norm, rows)
        self.learning_rate = self.config.learning_rate * schedule(
            self.step, self.total_steps, self.config.warmup_fraction
        )
        self.optimizer.step(self.learning_rate)
        self.step += 1
        self.num_tokens += sum(micro_batch.num_tokens for micro_batch in micro_batches)
        if self.utilization:
            self.utilization.flops += sum(self.objective.flops(self.model, batch) for batch in micro_batches)
        for name, value in {**losses, "gradient_norm": norm, "num_steps": 1}.items():
            self.since_log[name] = self.since_log.get(name, 0.0) + value
        self.since_log["max_loss"] = max(self.since_log.get("max_loss", -math.inf), losses["loss"])
        return signals > 0

    def add_gradients(self, micro_batches: list, step_seed: int) -> dict[str, Tensor]:
        """Add the gradients of this process's share of a step's micro-batches; return the sums of their losses.

        Dropout is seeded for each micro-batch, so that it does not depend on how many processes share them.
        """
        numbers = range(self.processes.rank, len(micro_batches), self.processes.count)
        sums: dict[str, Tensor] = {}
        for number in numbers or [0]:
            torch.manual_seed(step_seed + number)
            with self.autocast:
                losses = self.objective.losses(self.model, micro_batches[number])
            if not numbers:  # nothing left for this process: it adds zeros
                losses = {name: 0 * value for name, value in losses.items()}
            losses["loss"].backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        return sums

    def clip_gradients(self) -> float:
        """Scale the gradient down to `max_gradient_norm` if it is larger; return its norm as it was."""
        parameters = list(self.model.parameters())
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        if norm > self.config.max_gradient_norm:  # `clip_grad_norm_` would multiply by 1 elsewhere
            nn.utils.clip_grads_with_norm_(parameters, self.config.max_gradient_norm, norm)
        return float(norm)

    def require_finite(self, name: str, value: float, rows: np.ndarray) -> None:
        """Raise LossNotFiniteError if a figure of the present step, whose sequences are `rows`, is NaN or infinite."""
        if not math.isfinite(value):
            epoch, step_of_epoch = divmod(self.step, self.plan.steps_per_epoch)
            raise LossNotFiniteError(
                f"{name} is {value} at step {self.step + 1} (epoch {epoch + 1}, step {step_of_epoch + 1} of it; "
                f"sequences {', '.join(map(str, rows[:4]))}, ... {len(rows)} in all); the weights were not updated"
            )

    def add_row(self, split: str, figures: dict[str, float]) -> None:
        """Add the figures of the present step to the history and to the event files."""
        epochs = self.step / self.plan.steps_per_epoch
        row = {
            "step": self.step,
            "epoch": round(epochs, 4),
            "split": split,
            "num_tokens": self.num_tokens,
            **figures,
        }
        self.history.append(row)
        self.events.update(self.history)

    def log_step(self, progress: tqdm) -> None:
        """Add the means since the last entry to the history, and the highest loss, lest a mean hide a spike."""
        num_steps, max_loss = self.since_log.pop("num_steps"), self.since_log.pop("max_loss")
        means = {name: value / num_steps for name, value in self.since_log.items()}
        means |= {"max_loss": max_loss, "learning_rate": self.learning_rate}
        self.since_log = {}
        self.add_row("train", means)
        speed = self.num_tokens / self.seconds
        shown = {"loss": f"{means['loss']:.3f}", "tokens/s": f"{speed:,.0f}"}
        if self.utilization:
            shown["MFU"] = f"{self.utilization.take():.1%}"
        progress.set_postfix(shown)
        log.info("step %d/%d  loss %.4f  %s tokens/s", self.step, self.total_steps, means["loss"], f"{speed:,.0f}")

    def log_validation(self) -> None:
        """Score the validation set; remember the weights if they are the best so far."""
        self.model.eval()
        with torch.inference_mode(), self.autocast:
            figures = self.validate(self.model)
        self.model.train()
        self.add_row("validation", figures)
        log.info("step %d  validation  %s", self.step, "  ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        if self.select_by and (self.best is None or figures[self.select_by] > self.best[self.select_by]):
            self.best = self.history[-1]
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def save(self) -> None:
        """Save the state as it is after the present step; one process does it for all, whose states are equal."""
        if self.processes.rank:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()}
        state = {
            "step": self.step,
            "num_tokens": self.num_tokens,
            "seconds": self.seconds,
            "history": self.history,
            "best": self.best,
            "since_log": self.since_log,
            "environment": self.environment,
        }
        self.checkpoints.save(tensors, state, step=self.step)
        log.info("step %d  checkpoint saved in %s", self.step, self.checkpoints.folder)

    def resume(self) -> None:
        """Take the checkpoint folder and go on from the newest checkpoint, if there is one."""
        loaded = None
        if self.processes.rank == 0:
            self.checkpoints.lock()
            loaded = self.checkpoints.load()
        self.processes.wait()
        if self.processes.rank:
            loaded = self.checkpoints.load()
        if not loaded:
            return
        tensors, state = loaded
        self.step, self.num_tokens, self.seconds = state["step"], state["num_tokens"], state["seconds"]
        self.history, self.best, self.since_log = state["history"], state["best"], state["since_log"]
        parts: dict[str, dict] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.best_weights = {name: tensor.to(self.device) for name, tensor in parts["best"].items()}
        self.optimizer.load_state_dict(parts["optimizer"], num_steps=self.step)
        if state["environment"] != self.environment:
            log.warning(
                "resumed in another environment, so not bit for bit: %s, now %s", state["environment"], self.environment
            )
        log.info("resumed after step %d of %d", self.step, self.total_steps)


def prepare_ahead(prepare: Callable[[int], tuple], steps: range, device: torch.device) -> Iterator[tuple]:
    """Yield what `prepare` returns for each step; on a GPU the next is prepared while the present one is computed.

    Not on a CPU, whose cores the present step needs.
    """
    if device.type == "cpu" or not steps:
        yield from map(prepare, steps)
        return
    # A new thread is on the first GPU, whichever this process has.
    with ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as thread:
        pending = thread.submit(prepare, steps[0])
        for step in steps:
            prepared = pending.result()
            if step + 1 in steps:
                pending = thread.submit(prepare, step + 1)
            yield prepared


def schedule(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Return the learning rate's factor in (0, 1]: a linear rise over the warm-up, then linear decay to zero.

    `step` counts from 0. No step is wasted at factor 0: the first has 1 / warm-up steps, the last 1 / the rest.
    """
    warmup_steps = round(total_steps * warmup_fraction)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return (total_steps - step) / (total_steps - warmup_steps)


class _StopSignals:
    """Turn SIGTERM, SIGINT and SIGHUP into a flag that the loop reads between two steps (main thread only)."""

    def __init__(self):
        self.signal = 0
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number, frame):
        self.signal = number

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)
