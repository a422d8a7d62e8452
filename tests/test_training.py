"""The one training loop: it learns, repeats itself bit for bit, survives interruption, and refuses a bad loss."""

import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import distilbert.training
from distilbert.batching import BatchPlan
from distilbert.checkpoint import Checkpoints
from distilbert.config import MaskedLMConfig, TrainingConfig
from distilbert.corpus_objectives import MaskedLMObjective
from distilbert.model import MaskedLM, SequenceClassifier, student_config
from distilbert.task_objectives import ClassificationObjective
from distilbert.training import LossNotFiniteError, prepare_ahead, schedule, train

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
LOOP = {
    "batch_size": 8,
    "max_tokens_per_forward": 60,
    "epochs": 3,
    "max_steps": None,
    "learning_rate": 3e-3,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "weight_decay": 0.01,
    "warmup_fraction": 0.1,
    "max_gradient_norm": 5.0,
    "log_every": 3,
    "validations_per_epoch": 2,
    "precision": "float32",
}


@dataclass
class Rows:
    """A micro-batch of the toy objective."""

    rows: np.ndarray
    num_tokens: int


class Toy:
    """An objective without data: the squared distance of a linear layer's output from 1; notes its steps."""

    def __init__(self):
        self.steps = []

    def prepare(self, rows, generator):
        self.steps.append(rows.tolist())
        return [Rows(part, len(part)) for part in np.array_split(rows, 2)]

    def losses(self, model, batch):
        return {"loss": ((model(torch.ones(2)) - 1) ** 2).sum() * len(batch.rows)}


def train_toy(*, num_rows=20, batch_size=2, validate=None, select_by=None, objective=None, model=None, **settings):
    """Train a linear layer on the toy objective; return the result and the model."""
    torch.manual_seed(0)
    model = model or nn.Linear(2, 1)
    plan = BatchPlan(np.ones(num_rows, np.int32), batch_size=batch_size, seed=0)
    config = TrainingConfig(**LOOP | {"batch_size": batch_size} | settings)
    result = train(model, objective or Toy(), plan, config, seed=0, validate=validate, select_by=select_by)
    return result, model


class LanguageTraining:
    """A masked-LM training with dropout, many micro-batches and a validation, whose parts a test may replace."""

    def __init__(self, make_shards, bert_config):
        self.shards, self.config = make_shards(40), student_config(bert_config, num_layers=1)
        self.settings = MaskedLMConfig(**LOOP, mlm_probability=0.15, mlm_smoothing=0.7)
        self.steps_done = 0
        self.before_step = self.in_validation = lambda step: None

    def run(self, *, checkpoints=None, events=None, model_seed=0, seed=3):
        """Train a model of new random weights; return the result and the weights. 15 steps, 6 validations."""
        torch.manual_seed(model_seed)
        model, outer = MaskedLM(self.config), self
        validations = []

        class Objective(MaskedLMObjective):
            def prepare(self, rows, generator):
                outer.before_step(outer.steps_done)
                outer.steps_done += 1
                return super().prepare(rows, generator)

        def validate(model):
            self.in_validation(self.steps_done)
            assert not model.training
            torch.rand(7)  # a validation that draws random numbers must not change the training
            validations.append(1)
            return {"accuracy": float(torch.sin(1e4 * model.bias.sum()))}

        plan = BatchPlan(self.shards.lengths, batch_size=self.settings.batch_size, seed=seed)
        objective = Objective(self.shards, torch.ones(97), self.settings, CPU)
        result = train(
            model,
            objective,
            plan,
            self.settings,
            seed=seed,
            validate=validate,
            select_by="accuracy",
            checkpoints=checkpoints,
            events=events,
        )
        return result, {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture
def training(make_shards, bert_config) -> LanguageTraining:
    """Return a small masked-LM training."""
    return LanguageTraining(make_shards, bert_config)


def assert_same_run(one, other) -> None:
    """Check that two runs ended with the same bits: weights, history, tokens and the best validation."""
    (result, weights), (other_result, other_weights) = one, other
    assert result.history == other_result.history
    assert (result.steps, result.num_tokens, result.best) == (
        other_result.steps,
        other_result.num_tokens,
        other_result.best,
    )
    for name, value in weights.items():
        assert torch.equal(value, other_weights[name]), name


def test_steps_prepared_ahead_on_a_gpu_are_the_same(training, monkeypatch):
    """A training whose steps are prepared in a thread, as on a GPU, ends with the same bits, and prepares each once."""
    plainly = training.run()
    on_gpu = []
    monkeypatch.setattr(torch.cuda, "set_device", on_gpu.append)
    monkeypatch.setattr(
        distilbert.training, "prepare_ahead", lambda prepare, steps, device: prepare_ahead(prepare, steps, GPU)
    )
    training.steps_done = 0
    assert_same_run(plainly, training.run())
    assert training.steps_done == 15
    assert on_gpu == [GPU]


def test_one_step_is_prepared_ahead_and_no_more(monkeypatch):
    """While a step is computed the next is prepared, in order, by one thread that ends with the training."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    begun = []
    steps = prepare_ahead(lambda step: begun.append(step) or (step,), range(3, 9), GPU)
    assert next(steps) == (3,)
    assert next(steps) == (4,)
    steps.close()
    assert begun == [3, 4, 5]
    assert list(prepare_ahead(lambda step: (step,), range(3, 3), GPU)) == []


def test_an_error_while_preparing_ahead_is_raised(monkeypatch):
    """What goes wrong in the thread ends the training, when it comes to that step."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    steps = prepare_ahead(lambda step: (1 / (5 - step),), range(4, 9), GPU)
    assert next(steps) == (1.0,)
    with pytest.raises(ZeroDivisionError):
        next(steps)


def losses_of(result) -> list[float]:
    """Return the losses of a run's training rows."""
    return [row["loss"] for row in result.history if row["split"] == "train"]


def test_overfits_a_batch_of_examples(make_shards, bert_config):
    """A classifier learns eight labelled examples by heart: its loss goes to zero, its predictions to the labels."""
    examples = make_shards(8, labelled=True)
    assert 0 < examples.labels.mean() < 1
    torch.manual_seed(0)
    model = SequenceClassifier(student_config(bert_config, num_layers=1))
    config = TrainingConfig(**LOOP | {"epochs": 80, "log_every": 10, "learning_rate": 1e-2})
    plan = BatchPlan(examples.lengths, batch_size=8, seed=0)
    result = train(model, ClassificationObjective(examples, 10**6, CPU), plan, config, seed=0)
    losses = losses_of(result)
    assert losses[0] > 0.3 and losses[-1] < 0.02
    assert not model.training


def test_overfits_a_batch_of_text(make_shards, bert_config):
    """A masked LM learns four sequences by heart: its loss falls far below that of a guess among 97 words."""
    shards = make_shards(4)
    torch.manual_seed(0)
    model = MaskedLM(student_config(bert_config, num_layers=1, dropout=0.0, attention_dropout=0.0))
    settings = LOOP | {"epochs": 120, "log_every": 20, "learning_rate": 1e-2}
    config = MaskedLMConfig(**settings, mlm_probability=0.15, mlm_smoothing=0.0)
    plan = BatchPlan(shards.lengths, batch_size=8, seed=0)
    losses = losses_of(train(model, MaskedLMObjective(shards, torch.ones(97), config, CPU), plan, config, seed=0))
    assert losses[0] > 2.5 and losses[-1] < 1


def test_two_runs_are_the_same_bits(training):
    """Two runs with one seed end with the same weights and history, and a run with another seed does not."""
    first = training.run()
    torch.manual_seed(99)
    np.random.default_rng(99)
    assert_same_run(first, training.run())
    other, _ = training.run(seed=4)
    assert losses_of(other) != losses_of(first[0])
    assert first[0].steps == 15 and len(first[0].history) == 5 + 6


@pytest.mark.parametrize(("stop_in", "stop_at", "done"), [("before_step", 6, 7), ("in_validation", 8, 8)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_resumed_run_is_the_same_bits(training, tmp_path, stop_in, stop_at, done, number):
    """A run stopped by a signal in a step or in a validation leaves 128 + signal, and resumes as if nothing was."""
    whole = training.run()
    checkpoints = Checkpoints(tmp_path)
    if signal.getsignal(number) is signal.SIG_IGN:  # a shell starts what it runs in the background so
        signal.signal(number, signal.SIG_DFL)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def stop(step: int) -> None:
        if step == stop_at:  # the middle of an epoch, and between two rows of the history
            os.kill(os.getpid(), number)

    training.steps_done = 0
    setattr(training, stop_in, stop)
    with pytest.raises(SystemExit) as exit_:
        training.run(checkpoints=checkpoints)
    assert exit_.value.code == 128 + number
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert training.steps_done == done

    setattr(training, stop_in, lambda step: None)
    assert_same_run(whole, training.run(checkpoints=checkpoints, model_seed=1))
    assert training.steps_done == 15  # the steps before the stop were not done again


def test_a_crash_resumes_at_the_last_checkpoint(training, tmp_path, monkeypatch):
    """A run that saves each step and crashes, twice, goes on from the last one; the result is the same bits."""
    monkeypatch.setenv("DISTILBERT_CHECKPOINT_MINUTES", "0")
    whole = training.run()
    checkpoints = Checkpoints(tmp_path)

    def crash(step: int) -> None:
        if step in crashes:
            crashes.remove(step)
            raise RuntimeError("power cut")

    crashes, training.steps_done, training.before_step = [4, 11], 0, crash
    for done in (4, 11):
        with pytest.raises(RuntimeError, match="power cut"):
            training.run(checkpoints=checkpoints, model_seed=done - 4)  # the first starts as `whole` did
        assert training.steps_done == done
    assert_same_run(whole, training.run(checkpoints=checkpoints, model_seed=1))
    assert training.steps_done == 15


def test_a_finished_run_is_not_done_again(training, tmp_path, monkeypatch):
    """A checkpoint of the last step gives the result without a step."""
    monkeypatch.setenv("DISTILBERT_CHECKPOINT_MINUTES", "0")
    checkpoints = Checkpoints(tmp_path)
    first, training.steps_done = training.run(checkpoints=checkpoints), 0
    assert_same_run(first, training.run(checkpoints=checkpoints, model_seed=1))
    assert training.steps_done == 0


def test_nothing_is_saved_before_its_time(training, tmp_path, monkeypatch):
    """Without a signal a short run saves no checkpoint at the default interval."""
    monkeypatch.delenv("DISTILBERT_CHECKPOINT_MINUTES", raising=False)
    training.run(checkpoints=Checkpoints(tmp_path))
    assert not list(tmp_path.glob("step-*"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_loss_raises_before_the_step(bad):
    """A NaN or an infinity in the second micro-batch of step 4 raises, names the step, and spoils no weight."""
    model, seen = nn.Linear(2, 1), []

    class Bad(Toy):
        def losses(self, model, batch):
            seen.append(model.weight.detach().clone())
            loss = super().losses(model, batch)["loss"]
            return {"loss": loss * bad if len(seen) == 8 else loss}

    with pytest.raises(LossNotFiniteError, match=r"loss is (nan|inf) at step 4 \(epoch 2, step 1 of it; sequences"):
        train_toy(num_rows=6, batch_size=2, objective=Bad(), model=model)
    assert len(seen) == 8
    assert torch.equal(model.weight, seen[6]) and torch.isfinite(model.weight).all()
    assert not torch.equal(seen[6], seen[4])


def test_the_best_weights_are_kept():
    """The model ends with the weights of the highest figure, the first of equals, not with the last ones."""
    accuracies, weights = [0.1, 0.9, 0.9, 0.3], []

    def validate(model):
        weights.append(model.weight.detach().clone())
        return {"accuracy": accuracies[len(weights) - 1], "loss": 1.0}

    settings = {"epochs": 4, "validations_per_epoch": 1, "validate": validate}
    result, model = train_toy(**settings, select_by="accuracy")
    assert torch.equal(model.weight, weights[1]) and not torch.equal(weights[1], weights[2])
    assert result.best["step"] == 20 and result.best["accuracy"] == 0.9
    weights.clear()
    result, model = train_toy(**settings)
    assert torch.equal(model.weight, weights[3]) and not torch.equal(weights[3], weights[1])
    assert result.best is None


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs", "per_epoch", "max_steps", "expected"),
    [
        (10, 2, 1, None, [10, 20]),
        (10, 2, 2, None, [5, 10, 15, 20]),
        (10, 1, 3, None, [4, 7, 10]),
        (3, 1, 10, None, [1, 2, 3]),
        (10, 3, 1, 14, [5, 10, 14]),
        (10, 3, 1, 4, [2, 3, 4]),
    ],
)
def test_validations_come_when_they_are_due(steps_per_epoch, epochs, per_epoch, max_steps, expected):
    """Validations part the run evenly, one stands at the end of each epoch that is not cut, none twice."""
    result, _ = train_toy(
        num_rows=2 * steps_per_epoch,
        epochs=epochs,
        validations_per_epoch=per_epoch,
        max_steps=max_steps,
        validate=lambda model: {"loss": 0.0},
    )
    rows = [row for row in result.history if row["split"] == "validation"]
    assert [row["step"] for row in rows] == expected
    assert [row["epoch"] for row in rows] == [pytest.approx(step / steps_per_epoch, abs=1e-4) for step in expected]


@pytest.mark.parametrize(("max_steps", "expected"), [(None, 30), (7, 7), (1, 1), (100, 30)])
def test_max_steps_ends_the_run(max_steps, expected):
    """A run stops after so many steps, or after its epochs where those are fewer; the schedule ends with it."""
    objective = Toy()
    result, _ = train_toy(max_steps=max_steps, objective=objective, log_every=1, warmup_fraction=0.0)
    assert result.steps == len(objective.steps) == expected
    rates = [row["learning_rate"] for row in result.history]
    assert rates == pytest.approx([3e-3 * (expected - step) / expected for step in range(expected)])


def test_every_row_is_trained_on_once_an_epoch():
    """Each epoch takes every row once, in another order than the one before; the tokens are counted."""
    objective = Toy()
    result, _ = train_toy(num_rows=9, epochs=2, objective=objective)
    rows = [row for step in objective.steps for row in step]
    assert sorted(rows[:9]) == sorted(rows[9:]) == list(range(9))
    assert rows[:9] != rows[9:]
    assert result.num_tokens == 18


def test_history_holds_means_between_log_entries():
    """A training row is the mean of the steps since the last one, the last step always has a row, and no clock."""
    each, _ = train_toy(num_rows=8, epochs=1, log_every=1)
    grouped, _ = train_toy(num_rows=8, epochs=1, log_every=3)
    assert [row["step"] for row in grouped.history] == [3, 4]
    losses = losses_of(each)
    assert losses_of(grouped) == pytest.approx([sum(losses[:3]) / 3, losses[3]])
    names = {"step", "epoch", "split", "num_tokens", "loss", "max_loss", "gradient_norm", "learning_rate"}
    assert set(grouped.history[0]) == names


def test_long_gradients_are_clipped():
    """The first steps with a tiny limit and epsilon move the weights as a gradient of that norm does: hardly."""
    settings = {"max_steps": 1, "adam_epsilon": 1.0, "warmup_fraction": 0.0, "weight_decay": 0.0, "log_every": 1}
    torch.manual_seed(0)
    start = nn.Linear(2, 1).weight.detach().clone()
    result, free = train_toy(**settings, max_gradient_norm=1e9)
    _, clipped = train_toy(**settings, max_gradient_norm=1e-3)
    assert result.history[0]["gradient_norm"] > 1
    moved, held = ((model.weight - start).abs().max().item() for model in (free, clipped))
    assert held < 2e-3 * LOOP["learning_rate"] < 0.1 * LOOP["learning_rate"] < moved


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_schedule_rises_and_falls(total, warmup):
    """The factor rises by equal parts to 1, then falls by equal parts, and is above 0 at every step."""
    factors = [schedule(step, total, warmup) for step in range(total)]
    peak = max(round(total * warmup) - 1, 0)
    assert factors[peak] == 1
    assert all(0 < factor <= 1 for factor in factors)
    rise, fall = np.diff(factors[: peak + 1]), np.diff(factors[peak + 1 :])
    assert (rise > 0).all() and (fall < 0).all()
    assert np.ptp(rise) < 1e-9 if len(rise) else True
    assert np.ptp(fall) < 1e-9 if len(fall) else True
    if warmup < 1:
        assert schedule(total, total, warmup) == 0


def test_a_bad_gradient_raises_before_the_step():
    """A finite loss whose gradient is NaN stops the training with the weights as they were, naming the step."""

    class Cusp(Toy):
        def losses(self, model, batch):
            return {"loss": torch.sqrt((model(torch.ones(2)) * 0).sum())}  # sqrt has no slope at 0

    model = nn.Linear(2, 1)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(LossNotFiniteError, match="gradient norm is nan at step 1"):
        train_toy(model=model, objective=Cusp())
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_validations_fall_on_the_ends_of_epochs():
    """Nine steps an epoch and seven validations: the last of each epoch comes after its last step."""
    result, _ = train_toy(
        num_rows=18, batch_size=2, epochs=3, validations_per_epoch=7, validate=lambda model: {"x": 0.0}
    )
    steps = [row["step"] for row in result.history if row["split"] == "validation"]
    assert {9, 18, 27} <= set(steps)
    assert len(steps) == 21


def test_a_closed_terminal_saves_unless_nohup(training, tmp_path):
    """SIGHUP stops a training like SIGTERM; where it was ignored before, as nohup has it, it is ignored still."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        training.before_step = lambda step: os.kill(os.getpid(), signal.SIGHUP) if step == 4 else None
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        training.run(checkpoints=Checkpoints(tmp_path / "ignored"))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        training.steps_done = 0
        with pytest.raises(SystemExit) as exit_:
            training.run(checkpoints=Checkpoints(tmp_path / "heard"))
        assert exit_.value.code == 128 + signal.SIGHUP
        assert list((tmp_path / "heard").glob("step-*.safetensors"))
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_spike_of_one_step_shows_in_the_history():
    """The row of the history that holds a step of a hundredfold loss has it as `max_loss`; a mean dilutes it."""

    class Spiky(Toy):
        def losses(self, model, batch):
            factor = 100.0 if len(self.steps) == 8 else 1.0
            return {"loss": super().losses(model, batch)["loss"].detach() * factor + 0 * model(torch.ones(2)).sum()}

    result, _ = train_toy(objective=Spiky(), epochs=1, log_every=10, validations_per_epoch=1)
    (row,) = result.history
    assert row["max_loss"] == pytest.approx(100 * row["loss"] * 10 / 109, rel=1e-5)
