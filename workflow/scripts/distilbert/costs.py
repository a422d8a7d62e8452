"""What a run costs, said before it starts: tokens, floating-point operations, disk, and an estimate of hours.

The tokens and the FLOPs (see `flops`) are near the truth. The hours are a guess: a device's peak, of which
`ASSUMED_SHARE` is taken to be reached, and the shortest time of an optimizer step and of a job, which is what small
models and short sentences cost.
"""

import math
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from distilbert.files import read_json
from distilbert.flops import Shape, core_peak, gpu_peak
from distilbert.runlog import machine
from distilbert.sources import COMPRESSIONS
from distilbert.tasks import OFFICIAL_ROWS, Task

# Bytes of English text for one word piece: 77.4 million of 51,485 Wikipedia articles, in bert-base-uncased's pieces.
BYTES_PER_TOKEN = 4.55
# Bytes of text in one of a packed file; those articles take 3.1 times less as parquet.
BYTES_PER_PACKED_BYTE = 3
# How much of `max_length` the first window of an article fills on average: 86.6 of 128 (benchmarks/lengths.json).
FIRST_WINDOW_FILL = 0.68
# Tokens of a generated document, and of an example of each task: of GLUE (benchmarks/lengths.json), and generated.
SYNTHETIC_DOCUMENT = 31
GLUE_EXAMPLE = {"sst2": 13.3, "mrpc": 53.2, "qqp": 30.7, "cola": 11.3, "rte": 66.6}
SYNTHETIC_EXAMPLE = {"sst2": 10.2, "mrpc": 19.0, "qqp": 19.0, "cola": 9.4, "rte": 16.0}
OWN_EXAMPLE = 40  # a guess, which decides only how many steps the text is dealt to
# Shares of a task's examples, by `tasks.split`: trained on of both files, and tested of both files.
SPLIT_SHARES = {"official": ((0.9, 0.0), (0.0, 1.0)), "coursework": ((0.8, 0.8), (0.1, 0.1))}
# What is taken to be reached: by trainings of BERT's width on an H100; on other GPUs it is the same guess. What a CPU
# reached stands in docs/performance.md.
ASSUMED_SHARE = 0.4
# To start the kernels of a step; to start a job and read its models.
STEP_SECONDS = 0.01
JOB_SECONDS = 4.0


# What a teacher is taken for whose config cannot be read yet, because it is still on the Hub.
BERT_BASE = Shape(hidden=768, layers=12, intermediate=3072, vocabulary=30_522, positions=512)


@dataclass(frozen=True)
class Work:
    """What one stage computes: the tokens that it sees, its optimizer steps and its FLOPs."""

    stage: str
    tokens: float
    steps: float
    flops: float


@dataclass(frozen=True)
class Cost:
    """What a config costs from the beginning.

    tokens: of the corpus; None where nothing tells its size, and then no work and no disk is known. basis: in words,
    where that number is from. disk: {what: bytes}.
    """

    tokens: float | None
    basis: str
    work: list[Work]
    disk: dict[str, float]
    num_jobs: int


@dataclass(frozen=True)
class Device:
    """What computes: its name, its peak in FLOP/s (None: unknown), where that is from, and how many jobs at once."""

    name: str
    peak: float | None
    basis: str
    num_jobs: int


def estimate(config: dict, shards: list[str], tasks: dict[str, Task], task_files: dict[str, dict[str, str]]) -> Cost:
    """Return what a config costs, as if nothing of it had been made yet.

    config: the whole, validated. shards: where the corpus files that are used lie, or will lie. task_files:
    {task: {"train": file, "validation": file}}, likewise.
    """
    corpus, seeds = config["corpus"], config["finetune"]["seeds"]
    teacher = teacher_shape(config)
    student = replace(teacher, layers=config["student"]["num_layers"])
    encoders = [student, teacher, student] + [student] * config["finetune"]["scratch"]
    num_models = len(encoders) * len(tasks) * len(seeds)
    num_jobs = 2 * (len(shards) + len(tasks)) + num_models + len(encoders) * len(seeds) + 16
    tokens, basis = corpus_tokens(corpus, shards)
    if tokens is None:
        return Cost(None, basis, [], {}, num_jobs)
    work = [*on_corpus(config, tokens, teacher, student), *on_tasks(config, tasks, task_files, teacher, student)]
    downloads = 0
    if corpus["source"] == "hub":
        downloads += (corpus["hub"]["download_bytes"] or 0) * len(shards) / corpus["hub"]["num_shards"]
    if config["teacher"]["source"] == "hub":
        downloads += teacher.num_bytes()
    largest = teacher if config["teacher"]["source"] == "train" else student
    disk = {
        "downloads (in results/ and in $HF_HOME)": 2 * downloads,
        "token shards": 2 * tokens,  # of two bytes each
        "models": sum(shape.num_bytes() for shape in encoders) * len(tasks) * len(seeds)
        + teacher.num_bytes()
        + 3 * student.num_bytes(),
        "checkpoints while training": 2 * 3 * largest.num_bytes(),  # two of weights and both moments
    }
    return Cost(tokens, basis, work, disk, num_jobs)


def teacher_shape(config: dict) -> Shape:
    """Return the teacher's sizes: from the config, from its folder, or BERT-base's for what is still on the Hub."""
    teacher, tokenizer = config["teacher"], config["tokenizer"]
    vocabulary = tokenizer["train"]["vocab_size"] if tokenizer["source"] == "train" else BERT_BASE.vocabulary
    folder = teacher["train"]["init"] if teacher["source"] == "train" else teacher["folder"]
    if teacher["source"] == "train" and not folder:
        model = teacher["train"]["model"]
        sizes = (model[key] for key in ("hidden_size", "num_layers", "intermediate_size"))
        return Shape(*sizes, vocabulary, model["max_positions"])
    if teacher["source"] == "hub":
        return replace(BERT_BASE, vocabulary=vocabulary)
    try:
        model = read_json(Path(folder) / "config.json")
        keys = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size", "max_position_embeddings")
        return Shape(*(int(model[key]) for key in keys))
    except (OSError, ValueError, KeyError, TypeError):  # an import of it will say what is wrong with it
        return BERT_BASE


def corpus_tokens(corpus: dict, shards: list[str]) -> tuple[float | None, str]:
    """Return the tokens of all documents together, as they are cut into sequences, and where the number is from."""
    length = corpus["max_length"]
    if corpus["source"] == "synthetic":
        documents = len(shards) * corpus["synthetic"]["documents_per_shard"]
        return documents * min(SYNTHETIC_DOCUMENT, length), f"{documents:,} generated documents"
    if corpus["source"] == "hub":
        share = len(shards) / corpus["hub"]["num_shards"]
        if corpus["hub"]["num_bytes"] is None or corpus["hub"]["num_documents"] is None:
            return None, "corpus.hub.num_documents and num_bytes are not given"
        documents, text = share * corpus["hub"]["num_documents"], share * corpus["hub"]["num_bytes"]
        basis = f"{documents:,.0f} documents of {in_bytes(text)}, as corpus.hub says"
    else:
        counts = [num_rows(Path(path)) for path in shards]
        documents = None if None in counts else sum(counts)
        text = sum(text_bytes(Path(path), ("text",)) for path in shards)
        sizes = "the size of one file" if len(shards) == 1 else f"the sizes of {len(shards)} files"
        basis = f"{in_bytes(text)} of text, by {sizes}"
    tokens = text / BYTES_PER_TOKEN
    if corpus["chunking"] == "first" and documents is not None:
        tokens = min(tokens, documents * length * FIRST_WINDOW_FILL)
    return tokens, basis


def num_rows(path: Path) -> int | None:
    """Return the rows of a parquet file, or None of another, of none, and of a damaged one."""
    metadata = parquet_metadata(path)
    return metadata.num_rows if metadata else None


def text_bytes(path: Path, columns: tuple[str, ...]) -> float:
    """Return about how many bytes of text a file holds, in some columns where it is parquet; 0 if it is not there."""
    if metadata := parquet_metadata(path):
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    size = path.stat().st_size if path.is_file() else 0
    return size * (BYTES_PER_PACKED_BYTE if path.suffix in (".parquet", *COMPRESSIONS) else 1)


def parquet_metadata(path: Path):
    """Return what the end of a parquet file says of it, or None if the file is no whole one."""
    import pyarrow.parquet  # here, because the Snakefile imports this module and rarely asks

    if path.suffix != ".parquet" or not path.is_file():
        return None
    try:
        return pyarrow.parquet.read_metadata(path)
    except (OSError, ValueError):  # the step that reads it will say what is wrong with it
        return None


def passes(training: dict, tokens: float, sequence: float) -> tuple[float, float]:
    """Return (tokens seen, optimizer steps) of a training on so many tokens in sequences of `sequence` on average."""
    per_epoch = math.ceil(tokens / sequence / training["batch_size"])
    steps = training["epochs"] * per_epoch
    if training["max_steps"] is None or training["max_steps"] >= steps:
        return training["epochs"] * tokens, steps
    return training["epochs"] * tokens * training["max_steps"] / steps, training["max_steps"]


def on_corpus(config: dict, tokens: float, teacher: Shape, student: Shape) -> list[Work]:
    """Return the work of the trainings on the corpus; the test text is scored once by each."""
    corpus = config["corpus"]
    tested = tokens * corpus["test_fraction"]
    trained = tokens * (1 - corpus["validation_fraction"] - corpus["test_fraction"])
    length = corpus["max_length"]
    sequence = length * FIRST_WINDOW_FILL if corpus["chunking"] == "first" else length
    if corpus["source"] == "synthetic":
        sequence = min(SYNTHETIC_DOCUMENT, length)
    work = []
    if config["teacher"]["source"] == "train":
        training = config["teacher"]["train"]
        seen, steps = passes(training, trained, sequence)
        flops = teacher.flops(length, head=True, read=training["mlm_probability"])
        work.append(Work("teacher", seen, steps, (3 * seen + tested) * flops))
    training = config["pretrain"]
    seen, steps = passes(training, trained, sequence)
    head = training["mlm_probability"] if training["restrict_ce_to_mask"] else 1
    teach, learn = (shape.flops(length, head=head) for shape in (teacher, student))
    return [*work, Work("pretraining", seen, steps, seen * (teach + 3 * learn) + tested * (teach + learn))]


def on_tasks(
    config: dict, tasks: dict[str, Task], task_files: dict[str, dict[str, str]], teacher: Shape, student: Shape
) -> list[Work]:
    """Return the work of fine-tuning, of direct distillation and of the scores, over all tasks and seeds.

    None, where no task has a file yet.
    """
    section, num_seeds = config["tasks"], len(config["finetune"]["seeds"])
    length = section["max_length"]
    teach, learn = teacher.flops(length, head=False), student.flops(length, head=False)
    finetuned = [teach, learn] + [learn] * config["finetune"]["scratch"]
    tuning, direct, tested = [], [], 0.0
    for name, task in tasks.items():
        (train, train_tokens), (test, test_tokens) = (
            examples(config, task, split, Path(task_files[name][split])) for split in ("train", "validation")
        )
        shares, test_shares = SPLIT_SHARES[section["split"]]
        count = shares[0] * train + shares[1] * test
        tokens = shares[0] * train_tokens + shares[1] * test_tokens
        kept = min(1.0, (section["max_train_examples"] or count) / count) if count else 0.0
        tested += test_shares[0] * train_tokens + test_shares[1] * test_tokens
        if not kept * tokens:
            continue
        sequence = tokens / count
        seen, steps = passes(config["finetune"], kept * tokens, sequence)
        tuning += [(seen, steps, 3 * seen * flops) for flops in finetuned]
        seen, steps = passes(config["direct_distillation"], kept * tokens, sequence)
        direct.append((seen, steps, 3 * seen * learn + kept * tokens * teach))  # the teacher reads each example once
    if not tuning:
        return []
    scored = tested * len(tasks) * num_seeds
    return [
        Work("fine-tuning", *(num_seeds * sum(column) for column in zip(*tuning, strict=True))),
        Work("direct distillation", *(num_seeds * sum(column) for column in zip(*direct, strict=True))),
        Work("scores", scored * (len(finetuned) + 1), 0, scored * (sum(finetuned) + learn)),
    ]


def examples(config: dict, task: Task, split: str, path: Path) -> tuple[float, float]:
    """Return (examples, tokens) of a file of a task: as it is, as GLUE's own is, or as it will be generated."""
    section, length = config["tasks"], config["tasks"]["max_length"]
    if task.name not in OFFICIAL_ROWS:
        tokens = text_bytes(path, task.columns) / BYTES_PER_TOKEN
        return num_rows(path) or tokens / OWN_EXAMPLE, tokens
    if section["source"] == "synthetic":
        count = section["synthetic"][f"num_{split}"]
        return count, count * min(SYNTHETIC_EXAMPLE[task.name], length)
    count = num_rows(path) or OFFICIAL_ROWS[task.name][split]
    return count, count * min(GLUE_EXAMPLE[task.name], length)


def this_device(cores: int) -> Device:
    """Return the GPU of this machine, with its maker's peak, or its CPU, with the measured speed of matrix products.

    cores: how many jobs of one thread Snakemake runs at once.
    """
    if name := gpu_name():
        peak = gpu_peak(name, "bfloat16") or gpu_peak(name, "float32")
        return Device(name, peak, "its maker's peak", 1)
    return Device(machine(), cpu_peak(), "measured just now", cores)


def gpu_name() -> str | None:
    """Return what nvidia-smi calls the first GPU, or None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return names[0].strip() if names else None


def cpu_peak() -> float:
    """Return the FLOP/s of a product of float32 matrices on all cores, doing nothing else."""
    import numpy as np

    return os.cpu_count() * core_peak(np.ones((1024, 1024), np.float32))


def in_words(cost: Cost, device: Device) -> str:
    """Return the cost as a few lines of text."""
    lines = ["What all of this costs, done from the beginning (an estimate):"]
    if cost.tokens is None:
        return f"{lines[0]} unknown, because {cost.basis}"
    lines.append(f"  {'corpus':20}{in_number(cost.tokens):>14} tokens ({cost.basis})")
    seconds = 0.0
    for work in cost.work:
        line = f"  {work.stage:20}{in_number(work.tokens):>14} tokens, {work.flops:.1e} FLOP"
        if device.peak:
            took = max(work.flops / (ASSUMED_SHARE * device.peak), work.steps * STEP_SECONDS / device.num_jobs)
            seconds += took
            line += f", {in_hours(took)}"
        lines.append(line)
    parts = ", ".join(f"{what} {in_bytes(size)}" for what, size in cost.disk.items() if size)
    lines.append(f"  {'disk':20}{in_bytes(sum(cost.disk.values())):>14}: {parts}")
    if device.peak is None:
        return "\n".join([*lines, f"  {'hours':20}{'unknown':>14}: nothing is known of the speed of {device.name}"])
    seconds += cost.num_jobs * JOB_SECONDS / device.num_jobs
    rate = f"{device.peak / 1e12:.3g} TFLOP/s ({device.basis}), of which {ASSUMED_SHARE:.0%} are taken to be reached"
    lines.append(f"  {'in all':20}{in_hours(seconds):>14}, with {cost.num_jobs} jobs, without downloads and encoding")
    return "\n".join([*lines, f"  {'on':20}{device.name}: {rate}"])


def in_number(count: float) -> str:
    """Return a large number in three digits and a word."""
    for size, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if count >= size:
            return f"{count / size:.3g}{word}"
    return f"{count:.0f}"


def in_bytes(count: float) -> str:
    """Return a size in bytes in three digits and a unit."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def in_hours(seconds: float) -> str:
    """Return a time in two digits, or whole, in hours, minutes or seconds."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
