"""Helpers of the rules: settings, code digests, names of files. No rule stands here."""

import json
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from distilbert import checkpoint, digest, parent, plan
from distilbert.files import hold
from distilbert.glue import task_files
from distilbert.sources import corpus_files
from distilbert.tasks import TASKS as GLUE_TASKS
from distilbert.tasks import choose_tasks
from snakemake.exceptions import WorkflowError

# A job refuses to run other source than that whose digests stand in its params (see runlog.require_same_code).
digest.announce(SCRIPTS)
# A job ends with its Snakemake (see distilbert.parent): by its own doing once it has imported what it needs, which
# takes seconds, and by that of setpriv (of util-linux) from its first moment.
parent.announce()
END_WITH_PARENT = "setpriv --pdeathsig TERM"
shell.prefix(f"set -euo pipefail; exec $({END_WITH_PARENT} true 2> /dev/null && echo {END_WITH_PARENT}) ")

if not workflow.is_main_process:  # but that of a job, on a cluster
    parent.pass_on_sigterm()
    try:
        plan.require_present_run()
    except RuntimeError as error:
        raise WorkflowError(str(error)) from None

# Threads that wait for work must not spin: two jobs that shared two cores ran ten times faster so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Memory that a step frees is kept for the next one: page faults took a sixth of a demo-sized training step.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))


def hold_folder():
    """Refuse to run beside another Snakemake in this folder.

    Instead of Snakemake's own lock, which a killed run leaves behind and `--unlock` must remove.

    Raises:
        WorkflowError: the message names the other's pid.
    """
    global folder_lock  # held as long as this process lives
    try:
        folder_lock = hold(Path(".snakemake/distilbert.lock").absolute(), "another Snakemake")
    except RuntimeError as error:
        raise WorkflowError(str(error)) from None


def announce_plan():
    """Tell the jobs what was decided for each of them (see distilbert.plan)."""
    plan.announce({job.output[0]: [*job.input, *job.params] for job in workflow.dag.jobs if job.output})


def cfg(path, *, without=()):
    """Return the setting at a dotted path of the config, a section without the keys named in `without`."""
    value = config
    for key in path.split("."):
        value = value[key]
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in without}
    return value


def settings(**values):
    """Return the settings of a step as params, one a key, nested keys joined by dots: {key: "key=JSON"}.

    A value that depends on wildcards is a function of them. Each string holds its key because Snakemake compares
    params without their names, and shows those that differ: so its reason for a rerun names the setting.
    """
    params = {}
    for key, value in values.items():
        if isinstance(value, dict):
            params |= settings(**{f"{key}.{inner}": item for inner, item in value.items()})
        else:
            params[key] = partial(setting, key, value)
    return params


def setting(key, value, wildcards):
    """Return one setting as `key=JSON`; from a function, so that Snakemake expands no braces in it."""
    return f"{key}={json.dumps(canonical(value(wildcards) if callable(value) else value), sort_keys=True)}"


def canonical(value):
    """Return a value with its whole numbers as integers, wherever in it: 5 and 5.0 are the same setting."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def code(script):
    """Return the digests of a script and of all local modules that it imports as params, one a module."""
    lines = digest.code_digest(SCRIPTS / script).splitlines()
    return {f"code {line.split('=')[0]}": f"code {line}" for line in lines}


def model_files(folder):
    """Return the files of a Hugging Face model folder by name; `weights` is the one that others ask for."""
    return {
        "weights": f"{folder}/model.safetensors",
        "config": f"{folder}/config.json",
        "model_tokenizer": f"{folder}/tokenizer.json",
        "model_tokenizer_config": f"{folder}/tokenizer_config.json",
    }


def model_input(name, folder):
    """Return the files of a model folder that a step reads, weights by `name` and the config beside them."""
    return {name: f"{folder}/model.safetensors", f"{name}_config": f"{folder}/config.json"}


def folder_of(section):
    """Return the folder of a section whose source is a folder, else None."""
    return cfg(f"{section}.folder") if cfg(f"{section}.source") == "folder" else None


def from_hub(section):
    """Return repository and revision of a section whose source is the Hub, else nothing."""
    if cfg(f"{section}.source") != "hub":
        return {}
    return {key: cfg(f"{section}.hub.{key}") for key in ("repository", "revision")}


def corpus_shards():
    """Return {shard name: where its corpus file lies}, for the shards that are used."""
    source = cfg("corpus.source")
    if source == "folder":
        shards = corpus_files(Path(cfg("corpus.folder")))
    elif source == "hub":
        names = [cfg("corpus.hub.files").format(shard=i) for i in range(cfg("corpus.hub.num_shards"))]
        shards = {Path(name).stem: f"results/corpus/{Path(name).name}" for name in names}
    else:
        names = [f"shard-{i:02d}" for i in range(cfg("corpus.synthetic.num_shards"))]
        shards = {name: f"results/corpus/{name}.parquet" for name in names}
    return dict(list(shards.items())[: cfg("corpus.max_shards")])


def token_shards(split):
    """Return the token shards of a split."""
    return [f"results/tokens/{shard}/{split}.arrow" for shard in SHARDS]


def task_source(task, split):
    """Return where a task's file lies: the user's own, or GLUE's; of a folder the one that is there, in any layout."""
    if task not in GLUE_TASKS:
        return cfg(f"tasks.custom.{task}")["train" if split == "train" else "test"]
    if task in FOLDER_TASKS:
        return str(FOLDER_TASKS[task][split])
    return f"results/glue/{task}/{split}-00000-of-00001.parquet"


def folder_tasks():
    """Return {task: {split: its file}} of GLUE's tasks that come from a folder."""
    if cfg("tasks.source") != "folder":
        return {}
    folder = Path(cfg("tasks.folder"))
    return {name: task_files(folder, task) for name, task in TASKS.items() if name in GLUE_TASKS}


def of_task(field):
    """Return, as a function of the wildcards, what one task says in a field of `distilbert.tasks.Task`."""
    return lambda wildcards: getattr(TASKS[wildcards.task], field)


def of_tasks(field):
    """Return {task: what it says in a field} of all tasks."""
    return {name: getattr(task, field) for name, task in TASKS.items()}


def data_in_words():
    """Return what tables and figures say of the tasks' data."""
    glue = "Generated demo tasks" if cfg("tasks.source") == "synthetic" else "GLUE"
    words = glue if HAS_GLUE else "Own tasks"
    if HAS_GLUE and not TASKS.keys() <= GLUE_TASKS.keys():
        words += " and own tasks"
    if cfg("tasks.max_train_examples"):
        words += f", at most {cfg('tasks.max_train_examples'):,} training examples a task"
    if cfg("tasks.note"):
        words += f"; {cfg('tasks.note')}"
    return words


def teacher_init():
    """Return the rule input `init` of a teacher whose training starts from a checkpoint, else none."""
    folder = cfg("teacher.train.init")
    return model_input("init", folder) if folder else {}


def teacher_curve():
    """Return the rule input `teacher`, the training curve of a teacher that was trained here, else none."""
    return {"teacher": "results/teacher/training.csv"} if cfg("teacher.source") == "train" else {}


def teacher_is_from_scratch():
    """Tell whether the teacher is trained here from random values, in the shape that the config gives it."""
    return cfg("teacher.source") == "train" and not cfg("teacher.train.init")


def needs_teacher(wildcards):
    """Tell whether an initial student needs the teacher itself, not just the shape that the config gives it."""
    return wildcards.initialization == "teacher" or not teacher_is_from_scratch()


def student_source(wildcards):
    """Return the rule input `teacher` of an initial student that needs it, else none."""
    return model_input("teacher", "results/teacher") if needs_teacher(wildcards) else {}


def layers_to_copy(wildcards):
    """Return the teacher layers that an initial student copies, or None for random values."""
    return cfg("student.teacher_layers") if wildcards.initialization == "teacher" else None


def shape_of_teacher(wildcards):
    """Return the teacher's shape for an initial student that takes it from the config, not from the teacher."""
    return None if needs_teacher(wildcards) else cfg("teacher.train.model")


def is_small_teacher():
    """Tell whether the teacher is so small that more threads do not help."""
    return teacher_is_from_scratch() and cfg("teacher.train.model.hidden_size") <= 128


def sources():
    """Return what the models are made of, for their cards (see `distilbert.cards.Sources`)."""
    teacher = {"source": cfg("teacher.source"), **from_hub("teacher")}
    if cfg("teacher.source") == "train":
        teacher["from"] = "random values" if teacher_is_from_scratch() else "a checkpoint in a folder"
    return {
        "corpus": {"source": cfg("corpus.source"), **from_hub("corpus")},
        "tasks": {name: task_for_card(task) for name, task in TASKS.items()},
        "split": cfg("tasks.split"),
        "teacher": teacher,
        "initializations": INITIALIZATIONS,
        "teacher_layers": cfg("student.teacher_layers") if "teacher" in INITIALIZATIONS.values() else None,
        "data": DATA_IN_WORDS,
    }


def task_for_card(task):
    """Return what the cards say of a task, and where its data comes from; "own" is a task of `tasks.custom`."""
    is_glue = task.name in GLUE_TASKS
    fields = ("title", "columns", "label_names", "metric")
    return {
        **{field: getattr(task, field) for field in fields},
        "source": cfg("tasks.source") if is_glue else "own",
        **(from_hub("tasks") if is_glue else {}),
    }


def direct_teacher(wildcards):
    """Return the folder of the teacher of a direct distillation: fine-tuned with the same seed, or raw."""
    if cfg("direct_distillation.teacher") == "raw":
        return "results/teacher"
    return f"results/models/teacher/{wildcards.task}/seed{wildcards.seed}"


def cost_in_words():
    """Return what this config costs from the beginning, as a few lines of text."""
    from distilbert import costs  # here, because few of Snakemake's starts need it

    files = {name: {split: task_source(name, split) for split in ("train", "validation")} for name in TASKS}
    estimate = costs.estimate(config, list(map(str, SHARDS.values())), TASKS, files)
    # None where a cluster has them; `workflow.cores` would stop the run then.
    cores = workflow.resource_settings.cores
    return costs.in_words(estimate, costs.this_device(cores or os.cpu_count()))


def announce_cost():
    """Print what all of it costs before a run that trains anything."""
    trainings = {"train_teacher", "pretrain", "finetune", "distill_task"}
    if not trainings.isdisjoint(job.rule.name for job in workflow.dag.needrun_jobs()):
        print(cost_in_words(), file=sys.stderr)


def check_config():
    """Refuse settings that contradict each other, before anything is trained.

    Raises:
        WorkflowError: the message names the keys.
    """
    layers, num_layers = cfg("student.teacher_layers"), cfg("student.num_layers")
    if "teacher" in INITIALIZATIONS.values() and len(layers) != num_layers:
        raise WorkflowError(
            f"config: student.teacher_layers names {len(layers)} layers, num_layers is {num_layers}"
        )
    if teacher_is_from_scratch():
        positions = cfg("teacher.train.model.max_positions")
        for key in ("corpus.max_length", "tasks.max_length"):
            if cfg(key) > positions:
                raise WorkflowError(
                    f"config: {key} is {cfg(key)}, teacher.train.model.max_positions only {positions}"
                )


def fine_tuned_models():
    """Return approach, task and seed of every fine-tuned model, in the order of the tables."""
    approaches = ["pretrained", "teacher", "direct"] + ["scratch"] * cfg("finetune.scratch")
    return [
        {"approach": approach, "task": task, "seed": seed}
        for approach in approaches
        for task in TASK_NAMES
        for seed in cfg("finetune.seeds")
    ]


def first_model(approach):
    """Return the folder of an approach's first fine-tuned model: all of them have the same shape."""
    return f"results/models/{approach}/{TASK_NAMES[0]}/seed{cfg('finetune.seeds')[0]}"


def per_model(pattern):
    """Return a file name for every fine-tuned model."""
    return [pattern.format(**model) for model in MODELS]


# What the student of each distillation starts from: a folder below results/student.
INITIALIZATIONS = {
    "pretrained": cfg("student.initialization"),
    "direct": cfg("direct_distillation.initialization"),
}
# What each approach of the rule `finetune` starts from.
ENCODERS = {
    "pretrained": "results/student/pretrained",
    "scratch": "results/student/random",
    "teacher": "results/teacher",
}
# Threads of the two trainings on the corpus. A step of a demo-sized model is too short to be shared: two threads
# took 69 ms where one took 74, and kept a core from all other jobs.
CORPUS_THREADS = 1 if is_small_teacher() else 8
# GPUs that a training asks for: one where this machine has any. A cluster's profile overrides it (set-resources),
# and the number of GPUs that may be used at once stands in the profile too.
GPU = int(shutil.which("nvidia-smi") is not None)
SHARDS = corpus_shards()
TASKS = choose_tasks(cfg("tasks.names"), cfg("tasks.custom"))
TASK_NAMES = list(TASKS)
HAS_GLUE = not TASKS.keys().isdisjoint(GLUE_TASKS)
FOLDER_TASKS = folder_tasks()
MODELS = fine_tuned_models()
# Every model that is trained here: {folder: approach, and task and seed of those that are trained on a task}.
TRAINED = {
    **({"results/teacher": {"approach": "teacher"}} if cfg("teacher.source") == "train" else {}),
    "results/student/pretrained": {"approach": "pretrained"},
    **{"results/models/{approach}/{task}/seed{seed}".format(**model): model for model in MODELS},
}
# What tells of each result how it was made.
RECORDS = [
    *(f"{folder}/metrics.json" for folder in TRAINED),
    *per_model("results/predictions/{approach}/{task}/seed{seed}.json"),
    "results/summary.json",
    "results/efficiency.json",
    "results/exports.json",
]
EXPORTS = [
    "results/teacher",
    "results/student/pretrained",
    *per_model("results/models/{approach}/{task}/seed{seed}"),
]
check_config()
DATA_IN_WORDS = data_in_words()
CORPUS_SPLIT = {key: cfg(f"corpus.{key}") for key in ("validation_fraction", "test_fraction")}
TOKENIZER = "results/tokenizer/tokenizer.json"


wildcard_constraints:
    shard="|".join(map(re.escape, SHARDS)),
    task="|".join(TASK_NAMES),
    seed=r"\d+",
    approach="pretrained|scratch|teacher",
