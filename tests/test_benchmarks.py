"""Benchmarks: the peers compute what we compute, what is compared is the same work, and each script runs.

How fast anything is, is nowhere asserted.
"""

import dataclasses
import json
import re
from operator import itemgetter
from pathlib import Path

import ablations
import cost
import finetuning
import numpy as np
import peers
import pipeline
import pretraining
import pyarrow as pa
import pytest
import search
import startup
import torch
import ways
import workload
import yaml
from reruns import merged
from snakemake.utils import validate
from transformers import BertForMaskedLM, DistilBertForMaskedLM, DistilBertForSequenceClassification

from distilbert import losses
from distilbert.batching import STEPS_PER_POOL, BatchPlan
from distilbert.config import PretrainConfig
from distilbert.corpus_objectives import DistillationObjective
from distilbert.files import write_json
from distilbert.model import MaskedLM, SequenceClassifier, hugging_face_names, save_pretrained, student_config
from distilbert.task_objectives import ClassificationObjective, DirectDistillationObjective

CPU = torch.device("cpu")
WHOLE = "all three losses"
TOLERANCE = {"atol": 2e-6, "rtol": 2e-5}


@pytest.fixture
def configs(bert_config):
    """Return the shapes of a teacher and of its student, both without dropout, with weights large enough to matter."""
    still = {"dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0}
    teacher = dataclasses.replace(bert_config, initializer_range=0.2, **still)
    return teacher, student_config(teacher, num_layers=2)


@pytest.fixture
def pretrain_config() -> PretrainConfig:
    """Return the settings of the student project's pretraining, in one forward pass a step."""
    config = pretraining.settings(workload.size_of("full"))
    return dataclasses.replace(config, batch_size=12, max_tokens_per_forward=10**6, precision="float32")


def assert_same_gradients(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Compare every gradient of our student with that of the `transformers` model of the same weights."""
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients.values())
    for name, parameter in ours.named_parameters():
        names = hugging_face_names(name, "distilbert")
        for their, gradient in zip(names, parameter.grad.chunk(len(names)), strict=True):
            torch.testing.assert_close(
                gradient, gradients.pop(their), **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}"
            )
    assert not gradients


def test_a_pretraining_step_has_the_losses_and_gradients_of_peer_b(tmp_path, make_shards, configs, pretrain_config):
    """KL, masked LM, cosine and all gradients of our step are those of `transformers` and plain PyTorch losses."""
    torch.manual_seed(0)
    teacher, student = MaskedLM(configs[0]).eval(), MaskedLM(configs[1])
    save_pretrained(teacher, tmp_path / "teacher")
    save_pretrained(student, tmp_path / "student")
    shards = make_shards(40)
    objective = DistillationObjective(teacher, shards, torch.ones(97), pretrain_config, CPU)
    plan = BatchPlan(shards.lengths, batch_size=12, seed=1)
    [batch] = objective.prepare(plan.rows(0, 0), torch.Generator().manual_seed(1))
    assert not batch.mask.all()
    ours = objective.losses(student, batch)
    ours["loss"].backward()

    their_teacher = BertForMaskedLM.from_pretrained(tmp_path / "teacher", output_hidden_states=True).eval()
    their_student = DistilBertForMaskedLM.from_pretrained(tmp_path / "student")
    labels = torch.full_like(batch.ids, peers.IGNORED)
    labels[batch.mask] = torch.where(batch.words >= 0, batch.words, peers.IGNORED)
    theirs = peers.pretraining_losses(
        their_student, their_teacher, batch.ids, batch.mask.long(), labels, pretrain_config
    )
    theirs["loss"].backward()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, **TOLERANCE)
    assert_same_gradients(student, their_student)


def test_a_finetuning_step_has_the_loss_and_gradients_of_peer_b(tmp_path, make_shards, configs):
    """The mean cross-entropy of our step, padded to its longest example, is that of `transformers`."""
    torch.manual_seed(0)
    student = SequenceClassifier(configs[1])
    save_pretrained(student, tmp_path)
    shards = make_shards(40, labelled=True)
    [batch] = ClassificationObjective(shards, 10**6, CPU).prepare(np.argsort(shards.lengths)[::3], torch.Generator())
    loss = ClassificationObjective(shards, 10**6, CPU).losses(student, batch)["loss"]
    loss.backward()

    theirs = DistilBertForSequenceClassification.from_pretrained(tmp_path)
    their_loss = theirs(input_ids=batch.ids, attention_mask=batch.mask.long(), labels=batch.labels).loss
    their_loss.backward()
    torch.testing.assert_close(loss, their_loss, **TOLERANCE)
    assert_same_gradients(student, theirs)


def test_direct_distillation_has_the_losses_of_the_peers(make_shards, configs):
    """Hard cross-entropy, soft KL and cosine of our step are what the peers compute."""
    torch.manual_seed(0)
    config = finetuning.settings(workload.size_of("full"), "direct")
    student, shards = SequenceClassifier(configs[1]), make_shards(40, labelled=True)
    teacher_logits, teacher_cls = torch.randn(40, 2), torch.randn(40, 32)
    objective = DirectDistillationObjective(shards, teacher_logits, teacher_cls, config, CPU)
    [batch] = objective.prepare(np.argsort(shards.lengths)[::3], torch.Generator())
    ours = objective.losses(student, batch)
    cls = student.encoder(batch.ids, batch.mask)[:, 0]
    theirs = peers.task_losses(
        student.classify(cls), cls, teacher_logits[batch.rows], teacher_cls[batch.rows], batch.labels, config
    )
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, **TOLERANCE)


def test_the_losses_of_peer_a_differ_from_ours_as_documented(pretrain_config):
    """Its KL is ours summed over a sequence, pads too; its masked LM is ours; its cosine misses the last layer."""
    torch.manual_seed(0)
    B, T, D, V = 3, 7, 8, 11
    logits, soft = torch.randn(B, T, V), torch.randn(B, T, V)
    labels = torch.full((B, T), peers.IGNORED)
    labels[0, 1], labels[2, 5] = 4, 9
    hidden, teacher_hidden = [torch.randn(B, T, D) for _ in range(2)], [torch.randn(B, T, D) for _ in range(5)]
    theirs = peers.coursework_losses(logits, hidden, soft, tuple(teacher_hidden), labels, pretrain_config)

    temperature = pretrain_config.temperature
    kl = losses.soft_target_kl(logits.flatten(0, 1), soft.flatten(0, 1), temperature=temperature)
    torch.testing.assert_close(theirs["ce"], kl / B, **TOLERANCE)
    mlm = losses.cross_entropy(logits[labels >= 0], labels[labels >= 0]) / 2
    torch.testing.assert_close(theirs["mlm"], mlm, **TOLERANCE)
    compared = [(hidden[0], teacher_hidden[0]), (hidden[1], teacher_hidden[2])]
    cos = sum(losses.cosine_distance(ours.flatten(0, 1), t.flatten(0, 1)) for ours, t in compared) / (2 * B * T)
    torch.testing.assert_close(theirs["cos"], cos, **TOLERANCE)


def test_peer_a_reads_what_is_not_padded(configs):
    """Its student computes the same at a token whatever stands at the pads behind it, if they are marked as such."""
    torch.manual_seed(0)
    student = peers.CourseworkStudent(configs[1]).eval()
    ids, mask = torch.randint(5, 97, (2, 9)), torch.ones(2, 9).long()
    mask[1, 6:] = 0
    other = torch.where(mask.bool(), ids, 7)
    torch.testing.assert_close(student(ids, mask)[0][1, :6], student(other, mask)[0][1, :6], **TOLERANCE)
    assert not torch.allclose(student(ids, mask)[0][1, :6], student(ids, torch.ones_like(mask))[0][1, :6], atol=1e-3)


def test_peer_a_masks_as_it_did():
    """15 % of all positions but [CLS], [SEP] and pads too; half of them become random words, most others [MASK]."""
    torch.manual_seed(0)
    vocabulary = workload.size_of("full").vocabulary
    sequences = [np.array([vocabulary.cls, *range(2000, 2060), vocabulary.sep])] * 200
    windows = peers.CourseworkWindows(sequences, vocabulary, 128)
    ids, mask, labels = (torch.stack(tensors) for tensors in zip(*(windows[i] for i in range(200)), strict=True))
    targets = labels != peers.IGNORED
    assert targets.float().mean() == pytest.approx(0.15, abs=0.01)
    assert (ids[targets] == vocabulary.mask).float().mean() == pytest.approx(0.4, abs=0.02)
    assert {vocabulary.sep, vocabulary.pad} < set(labels[targets].tolist())
    assert vocabulary.cls not in labels[targets]
    assert torch.equal(ids[~targets], windows.ids[~targets])
    assert mask.sum() == 200 * 62


def test_the_flops_of_a_token_are_those_of_the_documents():
    """At 128 tokens a pretraining costs 629 MFLOP a token: 406 of the student and its gradient, 223 of the teacher."""
    size, lengths = workload.size_of("full"), np.full(10, 128)
    student = 3 * workload.flops(size.student, lengths, vocabulary_head=True) / lengths.sum()
    teacher = workload.flops(size.teacher, lengths, vocabulary_head=True) / lengths.sum()
    assert (round(student / 1e6), round(teacher / 1e6), round((student + teacher) / 1e6)) == (406, 223, 629)


@pytest.mark.parametrize("data", [*finetuning.TASKS, "wikipedia"])
def test_the_chosen_steps_stand_for_an_epoch(data):
    """The sequences that ours trains on in a turn have the mean length of the data, and pad as little as an epoch."""
    size = workload.size_of("full")
    mean = np.average(np.arange(len(workload.LENGTHS[data])), weights=workload.LENGTHS[data])
    batch_size = 32 if data == "wikipedia" else 64
    pool = workload.draw_sequences(data, size, STEPS_PER_POOL * batch_size, max_length=128)
    chosen = pretraining.windows("full", None) if data == "wikipedia" else finetuning.sample(size, "finetuning", data)
    pool, chosen = (np.array([len(ids) for ids in sequences]) for sequences in (pool, chosen))
    assert pool.mean() == pytest.approx(mean, rel=0.01)
    assert chosen.mean() == pytest.approx(mean, rel=0.06)

    def padded_share(lengths: np.ndarray) -> float:
        plan = BatchPlan(lengths, batch_size=batch_size, seed=1)
        steps = [lengths[plan.rows(0, step)] for step in range(plan.steps_per_epoch)]
        return sum(len(step) * step.max() for step in steps) / lengths.sum()

    assert padded_share(chosen) == pytest.approx(padded_share(pool), rel=0.05)


def test_our_environment_is_that_of_the_workflow():
    """What a way of ours has in its environment, and nothing else, is what common.smk sets for every step."""
    source = (workload.ROOT / "workflow" / "rules" / "common.smk").read_text(encoding="utf-8")
    found = re.findall(r'^os\.environ\.setdefault\("(\w+)", (.+)\)$', source, flags=re.MULTILINE)
    expected = {name: eval_constant(value) for name, value in found}
    assert expected == ways.EVERYONES_ENVIRONMENT | ways.OUR_ENVIRONMENT


def eval_constant(source: str) -> str:
    """Return the value of `"text"` or of `str(<a product of whole numbers and powers>)`."""
    if number := re.fullmatch(r"str\((?:(\d+) \* )?2\*\*(\d+)\)", source):
        return str(int(number[1] or 1) * 2 ** int(number[2]))
    return json.loads(source)


@pytest.mark.parametrize("way", pretraining.BUILDS)
def test_every_way_of_pretraining_runs(way):
    """Each does the steps that it is asked for, of 16 windows of the demo's size."""
    assert pretraining.BUILDS[way]("demo", None)(2) == 32


@pytest.mark.parametrize("stage", finetuning.STAGES)
@pytest.mark.parametrize("way", finetuning.BUILDS)
def test_every_way_of_every_stage_on_tasks_runs(way, stage, monkeypatch):
    """Each counts its examples: a step of 32 at the demo's size; our scoring is of a whole set."""
    monkeypatch.setitem(finetuning.OUR_TOKENS["demo"], stage, 500)
    num_examples = finetuning.BUILDS[way]("demo", stage, ["cola"])("cola", 1)
    assert num_examples == (round(500 / 11.3) if (way, stage) == ("ours", "scoring") else 32)


def test_a_way_runs_in_a_process_of_its_own():
    """It is built once, runs whenever it is asked to, and says how much memory it took."""
    way = ways.Way(itemgetter, 1)
    assert [way.run([10, 20]).work, way.run([1, 2]).work] == [20, 2]
    assert 1 < way.end() < 10_000


def test_a_way_that_fails_is_an_error():
    """A process that ends is noticed, not waited for."""
    with pytest.raises(RuntimeError, match="exit status 1"):
        ways.Way(int, "not a number").run()


def test_ways_are_compared_for_the_same_work():
    """A way that took the same time for half of the work is half as fast; pads are in no figure."""
    turns = {"coursework": [ways.Turn(2.0, 3.0, 5)] * 2, "ours": [ways.Turn(2.0, 3.0, 10)] * 2}
    theirs, ours = ways.compare(turns, work=100, unit="examples", tokens=7, flops=1e6, peak=1e7)
    assert (theirs["seconds"], ours["seconds"], ours["cpu_seconds"]) == (40, 20, 30)
    assert (ours["times_coursework"], ours["examples_per_second"], ours["tokens_per_second"]) == (2, 5, 35)
    assert ours["percent_of_peak"] == 50


def test_every_step_starts(tmp_path):
    """What the start-up of a step is measured by is a program; models are built by every step that trains or scores."""
    for step in ("finetune", "score_models", "prepare_task"):
        compile(startup.sources(step, workload.size_of("demo")), step, "exec")
    size = workload.size_of("demo")
    startup.write_models(size, tmp_path)
    seconds, cpu_seconds = startup.start(startup.sources("score_models", size), tmp_path)
    assert seconds > 0 and cpu_seconds > 0
    with pytest.raises(RuntimeError, match="exit status 1"):
        startup.start("raise SystemExit(1)", tmp_path)
    assert set(startup.BUILDS) <= {path.stem for path in startup.SCRIPTS.glob("*.py")}


def test_the_loops_of_a_run_are_counted(tmp_path):
    """Seconds times threads of every training and scoring, each kind by itself."""
    for name, figures in {
        "teacher/metrics": {"provenance": {"train_seconds": 5.0, "threads": 2}},
        "models/scratch/rte/seed1/metrics": {"provenance": {"train_seconds": 3.0, "threads": 1}},
        "models/direct/rte/seed1/metrics": {"provenance": {"train_seconds": 4.0, "threads": 1}},
        "predictions/direct/rte/seed1": {"predict_seconds": 0.5, "provenance": {"threads": 1}},
    }.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(figures))
    rows = pipeline.core_seconds_of_loops(tmp_path)
    assert [(row["models"], row["core_seconds"]) for row in rows] == [(1, 10.0), (0, 0), (2, 7.0), (1, 0.5)]


def test_the_cost_of_a_run_is_what_its_flops_take():
    """661 M slots at 40 % of an H100 take 17.5 minutes, so that what is filled of them takes two thirds of that."""
    measured = {"machine": "a CPU", "rows": [{"way": "ours", "tokens_per_second": 1000}]}
    rows = cost.hours(measured)
    on_h100, on_cpu = rows[0], rows[3]
    assert on_h100["million_tokens"] / on_h100["tokens_per_second"] * 1e6 == pytest.approx(0.677 * 17.5 * 60, rel=0.01)
    assert (on_cpu["hours"], on_cpu["rate_is"]) == (round(on_cpu["million_tokens"] * 1e6 / 1000 / 3600, 1), "measured")
    assert cost.num_parameters(workload.size_of("full")) == pytest.approx(67e6, rel=0.01)
    for row in cost.processes():
        assert row["speedup_on_8"] < 8


@pytest.mark.parametrize("student", ablations.STUDENTS)
def test_an_ablation_is_the_preset_without_one_part(student):
    """What its run sets is allowed, and beside what all such runs set it is what the student's name says."""
    demo, preset = (yaml.safe_load(path.read_text()) for path in (workload.ROOT / "config.yaml", ablations.PRESET))
    overlays = (ablations.settings(name, steps=7, tasks=["rte"]) for name in (WHOLE, student))
    whole, config = (merged(merged(demo, preset), overlay) for overlay in overlays)
    validate(config, str(workload.ROOT / "workflow" / "schemas" / "config.schema.yaml"))
    assert config == merged(whole, ablations.STUDENTS[student][2])


@pytest.mark.parametrize("approach", search.TRIED)
def test_a_search_starts_from_the_preset_and_tries_what_is_allowed(approach):
    """The first value of each setting is the preset's; with each of them the config is valid."""
    demo, preset = (yaml.safe_load(path.read_text()) for path in (workload.ROOT / "config.yaml", ablations.PRESET))
    config = merged(demo, preset)
    for setting, values in search.TRIED[approach].items():
        assert merged(config, search.overlay_of({setting: values[0]})) == config
        for value in values:
            tried = merged(config, search.overlay_of({setting: value}))
            validate(tried, str(workload.ROOT / "workflow" / "schemas" / "config.schema.yaml"))


def test_a_search_keeps_the_best_of_one_setting_for_the_next(monkeypatch):
    """The learning rate is chosen by the mean of the tasks, the epochs with it; a tie leaves the first value.

    What is asked for twice goes by one name (`scores_of`), so it is made once.
    """
    asked = []

    def scores_of(approach, trial, tasks, *, cores):
        asked.append(trial)
        return {"sst2": {1e-4: 0.7, 3e-5: 0.9, 3e-4: 0.8}[trial["finetune.learning_rate"]], "cola": 0.1}

    monkeypatch.setattr(search, "scores_of", scores_of)
    rows = search.search("teacher", ["finetune.learning_rate", "finetune.epochs"], ["sst2", "cola"], cores=1)
    tried = [(1e-4, 3), (3e-5, 3), (3e-4, 3), (3e-5, 3), (3e-5, 6)]
    assert asked == [{"finetune.learning_rate": rate, "finetune.epochs": epochs} for rate, epochs in tried]
    assert [row["best"] for row in rows] == ["", "yes", "", "yes", ""]
    assert rows[1] == {
        "approach": "teacher",
        "setting": "`finetune.learning_rate`",
        "value": "3e-05",
        "SST-2": "90.0",
        "CoLA": "10.0",
        "mean": "50.0",
        "best": "yes",
    }


def test_a_search_that_goes_on_makes_only_what_is_missing(tmp_path, monkeypatch):
    """A trial is made once for each task, in the copy of the run, and judged by the task's metric where it was best."""
    made = []

    def run_workflow(folder, targets, overlay, *, cores):
        made.append((targets, overlay))
        for target in targets:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            write_json(folder / target, {"best": {"accuracy": 0.75, "f1": 0.5, "mcc": 0.25}})

    monkeypatch.setattr(search, "FOLDER", tmp_path)
    monkeypatch.setattr(ablations, "run_workflow", run_workflow)
    trial = {"finetune.epochs": 6, "finetune.learning_rate": 3e-5, "student.num_layers": 1}
    overlay = {"finetune": {"epochs": 6, "learning_rate": 3e-5}, "student": {"num_layers": 1}}
    assert search.scores_of("teacher", trial, ["cola"], cores=1) == {"cola": 0.25}
    assert search.scores_of("teacher", trial, ["cola", "mrpc"], cores=1) == {"cola": 0.25, "mrpc": 0.625}
    assert search.scores_of("teacher", trial, ["mrpc"], cores=1) == {"mrpc": 0.625}
    assert made == [
        ([Path("results/models/teacher/cola/seed1/metrics.json")], overlay),
        ([Path("results/models/teacher/mrpc/seed1/metrics.json")], overlay),
    ]


def test_the_table_of_ablations_compares_with_the_first(tmp_path, monkeypatch):
    """A student that is always right, and one that always says 1 where three of four are: scores, mean, difference."""
    right, other = WHOLE, "direct, by the raw teacher"
    monkeypatch.setattr(ablations, "folder_of", lambda student: tmp_path / student)
    labels = np.array([1, 1, 1, 0] * 50)
    for student, said in ((right, labels), (other, np.ones_like(labels))):
        for task in ("sst2", "cola"):
            path = tmp_path / student / ablations.predictions(student, task)
            path.parent.mkdir(parents=True)
            columns = {
                "evaluated_on": [task] * len(labels),
                "label": labels,
                "logit_0": 1.0 - said,
                "logit_1": 1.0 * said,
            }
            with pa.ipc.new_file(str(path), (scored := pa.table(columns)).schema) as writer:
                writer.write_table(scored)
    write_json(
        tmp_path / right / "results" / "student" / "pretrained" / "metrics.json",
        {"test": {"ce": 0.25, "mlm": 6.5, "cos": 0.125, "loss": 14.0}},
    )
    first, second = ablations.table([right, other], ["sst2", "cola"])
    assert first["KL"] == "0.250" and second["KL"] == ""
    assert (first["SST-2"], first["CoLA"], first["mean"]) == ("100.0", "100.0", "100.0")
    assert (second["SST-2"], second["CoLA"], second["mean"]) == ("75.0", "0.0", "37.5")
    difference, interval = second[f"minus {right}, 95 % interval"].split(", ")
    low, high = map(float, interval.split(" to "))
    assert float(difference) == -62.5 and low < -62.5 < high < -55
