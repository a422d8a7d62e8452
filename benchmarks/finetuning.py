"""Fine-tuning, scoring and direct distillation of the student, ours and the two peers' in turn, for each GLUE task.

    PYTHONPATH=workflow/scripts python benchmarks/finetuning.py --stage finetuning --json FILE

The sentences are random words; their lengths are those of the task. Seconds are those of an epoch of the task (QQP: of
the subset that lengths.json was counted on), or of scoring 1,000 examples. Peer (a) pads every task to the same length,
so that its steps on one task stand for all.

Direct distillation: ours runs the teacher once, before the first epoch; a third of that (of 3 epochs) is in the
seconds of an epoch. The peers run it in every step.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import measure
import numpy as np
import workload
from ways import OURS, compare, take_turns

from distilbert.batching import STEPS_PER_POOL, BatchPlan
from distilbert.config import DirectDistillationConfig, TrainingConfig, build
from distilbert.device import autocast, choose_device
from distilbert.inference import predict
from distilbert.model import SequenceClassifier
from distilbert.task_objectives import ClassificationObjective, DirectDistillationObjective
from distilbert.tasks import TASKS
from distilbert.tokens import TokenShards
from distilbert.training import train

STAGES = ("finetuning", "scoring", "direct")
# In one turn: steps of each peer, and about how many tokens ours reads (at least two steps of them).
PEER_STEPS = {"full": 1, "demo": 10}
OUR_TOKENS = {"full": {"finetuning": 5000, "scoring": 6000, "direct": 2000}}
OUR_TOKENS["demo"] = {stage: 10 * tokens for stage, tokens in OUR_TOKENS["full"].items()}
SCORED_EXAMPLES = 1000


def main() -> None:
    """Print a table, and write it with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=STAGES, default="finetuning")
    parser.add_argument("--size", choices=("full", "demo"), default="full")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size, stage = workload.size_of(arguments.size), arguments.stage
    builds = {way: (build, arguments.size, stage, arguments.tasks) for way, build in BUILDS.items()}
    # In one repeat: steps of peer (a), and for each task steps of peer (b) and a sample of ours.
    num_steps = PEER_STEPS[arguments.size]
    turns = {("coursework", task): ("coursework", arguments.tasks[0], num_steps) for task in arguments.tasks}
    turns |= {("huggingface", task): ("huggingface", task, num_steps) for task in arguments.tasks}
    turns |= {(OURS, task): (OURS, task, None) for task in arguments.tasks}
    done, megabytes, peak = take_turns(
        builds, list(dict.fromkeys(turns.values())), repeats=arguments.repeats, warmup=(arguments.tasks[0], 1)
    )
    rows = []
    for task in arguments.tasks:
        lengths = np.repeat(np.arange(len(workload.LENGTHS[task])), workload.LENGTHS[task])
        lengths = np.minimum(lengths, size.settings["tasks"]["max_length"])
        flops = (1 if stage == "scoring" else 3) * workload.flops(size.student, lengths, vocabulary_head=False)
        if stage == "direct":
            epochs = size.settings["direct_distillation"]["epochs"]
            flops += workload.flops(size.teacher, lengths, vocabulary_head=False) / epochs
        compared = compare(
            {way: done[turns[way, task]] for way in BUILDS},
            work=SCORED_EXAMPLES if stage == "scoring" else len(lengths),
            unit="examples",
            tokens=lengths.mean(),
            flops=flops / len(lengths),
            peak=peak,
        )
        rows += [{"task": task, **row, "peak_megabytes": round(megabytes[row["way"]])} for row in compared]
    measure.print_table(rows)
    figures = measure.record(
        stage=stage,
        size=arguments.size,
        peak_gigaflops=round(peak / 1e9),
        repeats=arguments.repeats,
        rows=rows,
    )
    measure.write(arguments.json, figures)


def settings(size: workload.Size, stage: str) -> TrainingConfig:
    """Return the settings of a training: of one epoch, or of a whole direct distillation."""
    if stage == "direct":
        values = _without(size.settings["direct_distillation"], "initialization", "teacher")
        return build(DirectDistillationConfig, values)
    return build(TrainingConfig, _without(size.settings["finetune"], "seeds", "scratch") | {"epochs": 1})


def _without(section: dict, *keys: str) -> dict:
    """Return a section of the config but for what is no setting of the training itself."""
    return {key: value for key, value in section.items() if key not in keys}


def sample(size: workload.Size, stage: str, task: str) -> list[np.ndarray]:
    """Return the examples of one turn of ours: some steps of an epoch, or as they come for scoring."""
    batch_size, max_length = settings(size, stage).batch_size, size.settings["tasks"]["max_length"]
    pool = workload.draw_sequences(task, size, STEPS_PER_POOL * batch_size, max_length=max_length)
    num_examples = OUR_TOKENS[size.name][stage] / np.mean([len(ids) for ids in pool])
    if stage == "scoring":
        return workload.draw_sequences(task, size, round(num_examples), max_length=max_length)
    num_steps = min(STEPS_PER_POOL, max(2, round(num_examples / batch_size)))
    return workload.choose_steps(pool, batch_size=batch_size, num_steps=num_steps)


def build_ours(size_name: str, stage: str, tasks: list[str]) -> Callable[[str, int | None], int]:
    """Return what does one task's sample with the project's own loop, at most so many steps of it."""
    size, device = workload.size_of(size_name), choose_device()
    config = settings(size, stage)
    shards = {task: workload.as_shards(sample(size, stage, task), size, labelled=True) for task in tasks}
    student = SequenceClassifier(size.student).to(device)
    teacher = SequenceClassifier(size.teacher).to(device) if stage == "direct" else None

    def fit(examples: TokenShards, objective: ClassificationObjective, max_steps: int | None) -> int:
        limited = build(type(config), {**vars(config), "max_steps": max_steps})
        plan = BatchPlan(examples.lengths, batch_size=config.batch_size, seed=workload.SEED)
        return train(student, objective, plan, limited, seed=workload.SEED).steps * config.batch_size

    def action(task: str, max_steps: int | None) -> int:
        examples = shards[task]
        if stage == "finetuning":
            objective = ClassificationObjective(examples, config.max_tokens_per_forward, device)
            return fit(examples, objective, max_steps)
        with autocast(device, config.precision):
            if stage == "scoring":
                predict(student, examples)
                return len(examples)
            outputs = predict(teacher, examples, max_tokens=config.max_tokens_per_forward)
        return fit(examples, DirectDistillationObjective(examples, *outputs, config, device), max_steps)

    return action


def build_coursework(size_name: str, stage: str, tasks: list[str]) -> Callable[[str, int], int]:
    """Return what does some steps of peer (a) on a task."""
    import peers

    size, device = workload.size_of(size_name), choose_device()
    config = settings(size, stage)
    steps = {
        "finetuning": lambda: peers.coursework_finetuning(size.student, config, device),
        "scoring": lambda: peers.coursework_scoring(size.student, device),
        "direct": lambda: peers.coursework_direct_distillation(size.teacher, size.student, config, device),
    }
    max_length = size.settings["tasks"]["max_length"]
    batches = {
        task: peers.forever(
            peers.coursework_examples(
                *random_examples(size, task), size.vocabulary, batch_size=config.batch_size, max_length=max_length
            )
        )
        for task in tasks
    }
    step = steps[stage]()
    return lambda task, num_steps: peers.take_steps(step, batches[task], num_steps, device)


def build_huggingface(size_name: str, stage: str, tasks: list[str]) -> Callable[[str, int], int]:
    """Return what does some steps of peer (b) on a task."""
    import peers

    size, device = workload.size_of(size_name), choose_device()
    config = settings(size, stage)
    steps = {
        "finetuning": lambda: peers.huggingface_finetuning(size.student, config, device),
        "scoring": lambda: peers.huggingface_scoring(size.student, config, device),
        "direct": lambda: peers.huggingface_direct_distillation(size.teacher, size.student, config, device),
    }
    batches = {
        task: peers.forever(
            peers.huggingface_examples(*random_examples(size, task), size.vocabulary, batch_size=config.batch_size)
        )
        for task in tasks
    }
    step = steps[stage]()
    return lambda task, num_steps: peers.take_steps(step, batches[task], num_steps, device)


def random_examples(size: workload.Size, task: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the examples that a peer draws its batches from, and random labels."""
    sequences = workload.draw_sequences(task, size, 2000, max_length=size.settings["tasks"]["max_length"])
    return sequences, np.random.default_rng(workload.SEED).integers(2, size=len(sequences))


BUILDS = {"coursework": build_coursework, "huggingface": build_huggingface, OURS: build_ours}


if __name__ == "__main__":
    main()
