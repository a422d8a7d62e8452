"""What one GPU reaches: its limits, the vocabulary head alone, a pretraining step and a fine-tuning, beside the peers'.

    PYTHONPATH=workflow/scripts python benchmarks/gpu.py --json docs/results/benchmarks/gpu.json

All at full size: bert-base-uncased (12 layers x 768, 30,522 words) into 6 layers, windows of up to 128 tokens with the
lengths of real ones. A slot is one of the 128 places of a window, filled or not: the student project computes them all,
so an epoch of its 661 million slots is what the hours are for. `--smoke` does everything in miniature, on a CPU too, so
that a test can run it; its figures mean nothing.
"""

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import finetuning
import measure
import numpy as np
import pretraining
import torch
import torch.nn.functional as F
import workload
from ways import compare, take_turns

from distilbert import losses, vocabulary_head
from distilbert.batching import STEPS_PER_POOL, BatchPlan
from distilbert.config import PretrainConfig, TrainingConfig, build
from distilbert.corpus_objectives import DistillationObjective
from distilbert.device import autocast, choose_device, resolve_precision
from distilbert.model import MaskedLM, SequenceClassifier, hold_matrices
from distilbert.task_objectives import ClassificationObjective
from distilbert.training import train

SLOTS_PER_EPOCH, SLOTS_PER_WINDOW = 661e6, 128
LOSS_WEIGHTS = {"temperature": 2.0, "kl_weight": 5e-5, "mlm_weight": 2e-4}
AT_ONCE = "all logits at once, of an eighth"
# Words at once and warps of the kernel that are tried.
KERNEL_SHAPES = ((1024, 4), (2048, 4), (2048, 8), (4096, 8), (4096, 16))


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    size: "full" or "demo" (see `workload`). matrix: rows of the products whose speed is the limit. copied_megabytes:
    of the copies whose speed is the bandwidth. head_tokens: positions of the vocabulary head. chunks: logits at once
    there. steps: (windows a step, tokens a forward, steps a turn, whether the layers are compiled) of our pretraining.
    peer_steps: steps a turn of the peers. tasks, task_steps: of the fine-tuning, and our steps a turn there.
    """

    size: str
    matrix: int
    copied_megabytes: int
    head_tokens: int
    chunks: tuple[int, ...]
    steps: tuple[tuple[int, int, int, bool], ...]
    peer_steps: int
    tasks: tuple[str, ...]
    task_steps: int
    repeats: int


FULL = Plan(
    size="full",
    matrix=8192,
    copied_megabytes=2**11,
    head_tokens=2**16,
    chunks=(2**25, 2**26, 2**27, 2**28),
    steps=(
        (32, 4096, 20, False),
        (512, 8192, 4, False),
        (512, 16_384, 4, False),
        (512, 32_768, 4, False),
        (512, 65_536, 4, False),
        (512, 65_536, 4, True),
        (2048, 131_072, 2, False),
    ),
    peer_steps=10,
    tasks=("sst2", "cola", "mrpc", "rte", "qqp"),
    task_steps=50,
    repeats=5,
)
SMOKE = Plan(
    size="demo",
    matrix=256,
    copied_megabytes=8,
    head_tokens=64,
    chunks=(2**17,),
    steps=((2, 512, 1, False),),
    peer_steps=1,
    tasks=("sst2",),
    task_steps=1,
    repeats=1,
)


def main() -> None:
    """Print four tables, and write them with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="everything in miniature, also without a GPU")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device, plan = choose_device(), SMOKE if arguments.smoke else FULL
    if device.type == "cpu" and not arguments.smoke:
        parser.error("there is no GPU here; --smoke does everything in miniature on a CPU")
    limits = limits_of(device, plan)
    figures = {"limits": [limits], "vocabulary_head": head_rows(device, plan, limits), "kernel": []}
    if device.type == "cuda":
        figures["kernel"] = kernel_rows(device, plan, limits)
        torch.cuda.empty_cache()  # the ways that follow are processes of their own
    figures["pretraining"] = pretraining_rows(plan)
    figures["finetuning"] = finetuning_rows(plan)
    for title, rows in figures.items():
        if rows:
            print(f"\n{title}")
            measure.print_table(rows)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "none"
    measure.write(arguments.json, measure.record(gpu=name, is_smoke=arguments.smoke, size=plan.size, **figures))


# --- The limits ---------------------------------------------------------------------------------------------


def limits_of(device: torch.device, plan: Plan) -> dict:
    """Return the speed of large matrix products in the precision of the trainings, and of copies within the memory."""
    precision = resolve_precision(device, "auto")
    flops = measure.matmul_peak(device.type, precision, size=plan.matrix, repeats=2 * plan.repeats)
    source = torch.zeros(plan.copied_megabytes * 10**6, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = measure.interleave(
        {"copy": lambda: target.copy_(source)}, repeats=2 * plan.repeats, synchronize=synchronizer(device)
    )
    bandwidth = 2 * len(source) / min(seconds["copy"])  # read and written
    return {
        "precision": precision,
        "matmul_teraflops": round(flops / 1e12, 3),
        "gigabytes_per_second": round(bandwidth / 1e9, 1),
    }


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Return what waits for a device."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


# --- The vocabulary head ------------------------------------------------------------------------------------


def head_rows(device: torch.device, plan: Plan, limits: dict) -> list[dict]:
    """Return losses and gradients of the head alone: the fused kernel, plain torch in chunks, all logits at once.

    All logits at once are held for an eighth of the tokens, whose seconds count eight times: those of all tokens would
    not fit.
    """
    size = workload.size_of(plan.size)
    V, few = size.vocabulary.size, plan.head_tokens // 8
    student, teacher = head_inputs(size, plan.head_tokens, device)
    targets = torch.randint(V, (plan.head_tokens,), device=device)
    targets[torch.rand(plan.head_tokens, device=device) > 0.15] = -1

    def fused(chunk: int, *, has_kernel: bool) -> None:
        with (
            mock.patch.dict(vocabulary_head.CHUNK_LOGITS, {device.type: chunk}),
            nullcontext() if has_kernel else mock.patch.object(vocabulary_head, "_has_kernel", lambda: False),
            autocast(device, "auto"),
        ):
            total, _, _ = vocabulary_head.vocabulary_losses(student, teacher, targets, **LOSS_WEIGHTS)
        torch.autograd.grad(total, student)

    def at_once() -> None:
        with autocast(device, "auto"):
            logits = F.linear(student[0][:few], *student[1:])
            soft = F.linear(teacher[0][:few], *teacher[1:])
            chosen = targets[:few] >= 0
            kl = losses.soft_target_kl(logits, soft, temperature=LOSS_WEIGHTS["temperature"])
            mlm = losses.cross_entropy(logits[chosen], targets[:few][chosen])
            total = LOSS_WEIGHTS["kl_weight"] * kl + LOSS_WEIGHTS["mlm_weight"] * mlm
        torch.autograd.grad(total, student)

    ways = {AT_ONCE: at_once}
    for chunk in plan.chunks:
        ways[f"plain torch, chunks of {chunk:,}"] = lambda chunk=chunk: fused(chunk, has_kernel=False)
    if device.type == "cuda" and vocabulary_head._has_kernel():
        for chunk in plan.chunks:
            ways[f"Triton kernel, chunks of {chunk:,}"] = lambda chunk=chunk: fused(chunk, has_kernel=True)
    megabytes = {name: peak_megabytes(way, device) for name, way in ways.items()}
    seconds = measure.interleave(ways, repeats=plan.repeats, synchronize=synchronizer(device))
    seconds[AT_ONCE] = [8 * value for value in seconds[AT_ONCE]]
    rows = measure.rows_of(seconds, work=plan.head_tokens, unit="tokens", peers=(AT_ONCE,))
    flops = 8 * V * size.teacher.hidden_size  # of a token: two products forward, two backward
    for row in rows:
        share = row["tokens_per_second"] * flops / (1e12 * limits["matmul_teraflops"])
        row |= {"percent_of_peak": round(100 * share, 1), "peak_megabytes": megabytes[row["way"]]}
    return rows


def head_inputs(size: workload.Size, num_tokens: int, device: torch.device) -> tuple[tuple, tuple]:
    """Return hidden states (N, D), weight (V, D), bias (V,) of a student that asks for gradients, and of a teacher."""
    V, D = size.vocabulary.size, size.teacher.hidden_size

    def inputs() -> tuple:
        return tuple(0.3 * torch.randn(*shape, device=device) for shape in ((num_tokens, D), (V, D), (V,)))

    return tuple(tensor.requires_grad_() for tensor in inputs()), inputs()


def peak_megabytes(way: Callable[[], None], device: torch.device) -> int:
    """Return how much memory of a GPU a way takes beyond what is there before, in MB; 0 on a CPU."""
    if device.type == "cpu":
        return 0
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    way()
    return round((torch.cuda.max_memory_allocated() - before) / 1e6)


def kernel_rows(device: torch.device, plan: Plan, limits: dict) -> list[dict]:
    """Return the kernel alone, on at most 4,096 positions in bfloat16, with several shapes of its blocks."""
    from distilbert import vocabulary_kernel

    V, num_rows = workload.size_of(plan.size).vocabulary.size, min(4096, plan.head_tokens)
    width = V + -V % vocabulary_head.WORDS_MULTIPLE
    logits, teacher = (torch.randn(num_rows, width, device=device).bfloat16() for _ in range(2))
    targets = torch.where(torch.rand(num_rows, device=device) < 0.15, 5, -1)

    def run(block: int, num_warps: int) -> None:
        with mock.patch.multiple(vocabulary_kernel, BLOCK=block, NUM_WARPS=num_warps):
            vocabulary_kernel.kl_and_mlm_(logits, teacher, targets, num_words=V, **LOSS_WEIGHTS, needs_gradient=True)

    ways = {f"{block} words, {warps} warps": lambda shape=(block, warps): run(*shape) for block, warps in KERNEL_SHAPES}
    seconds = measure.interleave(ways, repeats=4 * plan.repeats, warmups=2, synchronize=synchronizer(device))
    rows = []
    for name, times in seconds.items():
        least = 3 * logits.numel() * logits.element_size() / statistics.median(times)  # two are read, one is written
        rows.append(
            {
                "way": name,
                "milliseconds": round(1000 * statistics.median(times), 3),
                "gigabytes_per_second": round(least / 1e9),
                "percent_of_bandwidth": round(100 * least / (1e9 * limits["gigabytes_per_second"]), 1),
            }
        )
    return rows


# --- A step of the pretraining ------------------------------------------------------------------------------


def pretraining_rows(plan: Plan) -> list[dict]:
    """Return ours, with several sizes of a step and of a forward pass, and the peers."""
    size = workload.size_of(plan.size)
    builds = {
        "coursework": (pretraining.build_coursework, plan.size, None),
        "huggingface": (pretraining.build_huggingface, plan.size, None),
    }
    turns = {name: (name, plan.peer_steps) for name in builds}
    for batch_size, max_tokens, num_steps, is_compiled in plan.steps:
        name = f"ours, {batch_size} windows a step, {max_tokens:,} tokens a forward{', compiled' * is_compiled}"
        builds[name] = (build_pretraining, plan.size, batch_size, max_tokens, num_steps, is_compiled)
        turns[name] = (name, num_steps)
    done, megabytes, peak = take_turns(builds, list(turns.values()), repeats=plan.repeats, warmup=(2,))
    max_length = size.settings["corpus"]["max_length"]
    lengths = np.array([len(ids) for ids in workload.draw_sequences("wikipedia", size, 10_000, max_length=max_length)])
    flops = 3 * workload.flops(size.student, lengths, vocabulary_head=True)
    flops = (flops + workload.flops(size.teacher, lengths, vocabulary_head=True)) / len(lengths)
    full_window = np.array([max_length])
    flops_of_full = 3 * workload.flops(size.student, full_window, vocabulary_head=True)
    flops_of_full += workload.flops(size.teacher, full_window, vocabulary_head=True)
    rows = compare(
        {name: done[turn] for name, turn in turns.items()},
        work=1000,
        unit="windows",
        tokens=lengths.mean(),
        flops=flops,
        peak=peak,
    )
    for row in rows:
        slots = row["windows_per_second"] * SLOTS_PER_WINDOW
        row["slots_per_second"] = slots
        # As if every slot were computed, the measure of the goal: above the true share where pads are left out.
        row["percent_of_peak_by_slots"] = round(100 * row["windows_per_second"] * flops_of_full / peak, 1)
        row["hours_of_661M_slots"] = round(SLOTS_PER_EPOCH / max(slots, 1) / 3600, 2)
        row["peak_megabytes"] = round(megabytes[row["way"]])
    return rows


def build_pretraining(
    size_name: str, batch_size: int, max_tokens: int, num_steps: int, is_compiled: bool
) -> Callable[[int], int]:
    """Return what does some steps of ours, of an epoch's short and long ones in their proportion."""
    size, device = workload.size_of(size_name), choose_device()
    values = {**vars(pretraining.settings(size)), "batch_size": batch_size, "max_tokens_per_forward": max_tokens}
    values |= {"precision": "auto"}
    pool = workload.draw_sequences(
        "wikipedia", size, STEPS_PER_POOL * batch_size, max_length=size.settings["corpus"]["max_length"]
    )
    sequences = workload.choose_steps(pool, batch_size=batch_size, num_steps=num_steps)
    shards = workload.as_shards(sequences, size, labelled=False)
    teacher, student = MaskedLM(size.teacher).to(device), MaskedLM(size.student).to(device)
    hold_matrices(teacher, getattr(torch, resolve_precision(device, values["precision"])))
    if is_compiled:  # a trial: the library does not compile
        # With and without a mask, with and without chosen positions, with and without a gradient, ...: more than 8.
        torch._dynamo.config.recompile_limit = 64
        for layer in (*teacher.encoder.layers, *student.encoder.layers):
            layer.compile(dynamic=True)
    counts = torch.ones(size.vocabulary.size)
    objective = DistillationObjective(teacher, shards, counts, build(PretrainConfig, values), device)
    plan = BatchPlan(shards.lengths, batch_size=batch_size, seed=workload.SEED)

    def action(max_steps: int) -> int:
        config = build(PretrainConfig, {**values, "max_steps": max_steps})
        return train(student, objective, plan, config, seed=workload.SEED).steps * batch_size

    return action


# --- Fine-tuning --------------------------------------------------------------------------------------------


def finetuning_rows(plan: Plan) -> list[dict]:
    """Return an epoch of some tasks, ours and the peers'."""
    size = workload.size_of(plan.size)
    tasks = list(plan.tasks)
    builds = {
        "coursework": (finetuning.build_coursework, plan.size, "finetuning", tasks),
        "huggingface": (finetuning.build_huggingface, plan.size, "finetuning", tasks),
        "ours": (build_finetuning, plan.size, tasks, plan.task_steps),
    }
    steps = {"coursework": plan.peer_steps, "huggingface": plan.peer_steps, "ours": plan.task_steps}
    turns = {(name, task): (name, task, steps[name]) for task in tasks for name in builds}
    done, megabytes, peak = take_turns(builds, list(turns.values()), repeats=plan.repeats, warmup=(tasks[0], 2))
    rows = []
    for task in plan.tasks:
        counts = workload.LENGTHS[task]
        lengths = np.repeat(np.arange(len(counts)), counts)
        compared = compare(
            {name: done[turns[name, task]] for name in builds},
            work=len(lengths),
            unit="examples",
            tokens=lengths.mean(),
            flops=3 * workload.flops(size.student, lengths, vocabulary_head=False) / len(lengths),
            peak=peak,
        )
        rows += [{"task": task, **row, "peak_megabytes": round(megabytes[row["way"]])} for row in compared]
    return rows


def build_finetuning(size_name: str, tasks: list[str], num_steps: int) -> Callable[[str, int], int]:
    """Return what does some steps of ours on a task, of an epoch's short and long ones in their proportion."""
    size, device = workload.size_of(size_name), choose_device()
    values = {**vars(finetuning.settings(size, "finetuning")), "precision": "auto"}
    batch_size, max_length = values["batch_size"], size.settings["tasks"]["max_length"]
    examples = {}
    for task in tasks:
        pool = workload.draw_sequences(task, size, STEPS_PER_POOL * batch_size, max_length=max_length)
        sequences = workload.choose_steps(pool, batch_size=batch_size, num_steps=num_steps)
        examples[task] = workload.as_shards(sequences, size, labelled=True)
    model = SequenceClassifier(size.student).to(device)

    def action(task: str, max_steps: int) -> int:
        config = build(TrainingConfig, {**values, "max_steps": max_steps})
        objective = ClassificationObjective(examples[task], config.max_tokens_per_forward, device)
        plan = BatchPlan(examples[task].lengths, batch_size=batch_size, seed=workload.SEED)
        return train(model, objective, plan, config, seed=workload.SEED).steps * batch_size

    return action


if __name__ == "__main__":
    main()
