"""Reruns: after a finished run, each edit plans exactly the jobs that it made stale, each for the right reason.

`python tests/test_reruns.py` prints the table of the edits and of what each plans, as Markdown.
"""

import ast
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from check_report import faults
from reruns import ROOT, Project, Runner, changed_params, merged

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
TINY = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())
SCRIPTS = Path("workflow") / "scripts"
MODULES = sorted(str(path.relative_to(ROOT / SCRIPTS)) for path in (ROOT / SCRIPTS).rglob("*.py"))
NUM_SERVERS = 2
INPUTS_CHANGED = "Set of input files has changed"
FILE_CHANGED = "Updated input files"
FILE_MISSING = "Missing output files"
LONG_AGO = (10**9, 10**9)

# --- The projects ---------------------------------------------------------------------------------------------------

# `own` is run to its end. The others cost no job: their outputs are empty files that `--touch` declares finished.
PROJECTS = {
    "own": merged(
        TINY,
        {
            "corpus": {"source": "folder", "folder": "data/corpus"},
            "tasks": {"names": ["sst2", "rte"], "source": "folder", "folder": "data/tasks"},
            "finetune": {"scratch": False},
        },
    ),
    "demo": {},
    "imported": {
        "corpus": {"source": "folder", "folder": "data/corpus"},
        "tokenizer": {"source": "folder", "folder": "data/tokenizer"},
        "teacher": {"source": "folder", "folder": "data/teacher"},
        "tasks": {"names": ["sst2", "rte"], "source": "folder", "folder": "data/tasks"},
        "finetune": {"seeds": [1, 2]},
        "direct_distillation": {"teacher": "raw"},
    },
    "custom": {
        "tasks": {
            "names": ["reviews", "sst2"],
            "custom": {
                "reviews": {
                    "title": "Reviews",
                    "columns": ["text"],
                    "label_column": "label",
                    "label_names": ["negative", "positive"],
                    "yes_class": 1,
                    "metric": "accuracy",
                    "train": "data/reviews/train.csv",
                    "test": "data/reviews/test.csv",
                }
            },
        },
    },
    "hub": {
        "corpus": {"source": "hub", "hub": {"num_shards": 3}},
        "tokenizer": {"source": "hub"},
        "teacher": {"source": "hub"},
        "tasks": {"names": ["sst2"], "source": "hub"},
    },
}
FOLDER_SHARDS = ["a", "b"]


def jobs_of(config: dict, shards: list[str] | None = None) -> dict[str, list[str]]:
    """Return each job of a config with patterns of the jobs whose files it reads; producers come first.

    A job is its rule and its wildcards: `finetune teacher/sst2/1`. This is what the workflow is meant to be, said
    apart from its rules.
    """
    sources = {section: config[section]["source"] for section in ("corpus", "tokenizer", "teacher", "tasks")}
    origin = {"synthetic": "generate", "hub": "fetch"}
    tasks, seeds = config["tasks"]["names"], config["finetune"]["seeds"]
    vocabulary = "learn_vocabulary" if sources["tokenizer"] == "train" else "import_tokenizer"
    teacher = "train_teacher" if sources["teacher"] == "train" else "import_teacher"
    shards = (shards or shards_of(config))[: config["corpus"]["max_shards"]]
    jobs: dict[str, list[str]] = {}
    if sources["corpus"] in origin:
        jobs |= {f"{origin[sources['corpus']]}_corpus_shard {shard}": [] for shard in shards}
    if sources["tasks"] in origin:
        glue = [task for task in tasks if task not in config["tasks"]["custom"]]
        jobs |= {f"{origin[sources['tasks']]}_task {task}": [] for task in glue}
    jobs[vocabulary] = ["*_corpus_shard *"] if sources["tokenizer"] == "train" else []
    jobs |= {f"encode_shard {shard}": [f"*_corpus_shard {shard}", vocabulary] for shard in shards}
    jobs[teacher] = [vocabulary, "encode_shard *"] if sources["teacher"] == "train" else [vocabulary]
    has_own_shape = sources["teacher"] == "train" and not config["teacher"]["train"]["init"]
    jobs["initialize_student random"] = [vocabulary] if has_own_shape else [vocabulary, teacher]
    initialization = config["student"]["initialization"]
    direct = config["direct_distillation"]["initialization"]
    start_of_direct = "pretrain" if direct == "pretrained" else f"initialize_student {direct}"
    if "teacher" in (initialization, direct):
        jobs["initialize_student teacher"] = [vocabulary, teacher]
    jobs["pretrain"] = [vocabulary, teacher, f"initialize_student {initialization}", "encode_shard *"]
    encoders = {"pretrained": "pretrain", "teacher": teacher}
    if config["finetune"]["scratch"]:
        encoders["scratch"] = "initialize_student random"
    for task in tasks:
        jobs[f"prepare_task {task}"] = [vocabulary, f"generate_task {task}", f"fetch_task {task}"]
    models = {}
    for task in tasks:
        for seed in seeds:
            data = [vocabulary, f"prepare_task {task}"]
            for approach, encoder in encoders.items():
                models[f"{approach}/{task}/{seed}"] = f"finetune {approach}/{task}/{seed}"
                jobs[f"finetune {approach}/{task}/{seed}"] = [*data, encoder]
            is_raw = config["direct_distillation"]["teacher"] == "raw"
            from_teacher = teacher if is_raw else f"finetune teacher/{task}/{seed}"
            models[f"direct/{task}/{seed}"] = f"distill_task {task}/{seed}"
            jobs[f"distill_task {task}/{seed}"] = [*data, start_of_direct, from_teacher]
    for approach in {*encoders, "direct"}:
        for seed in seeds:
            scored = [models[f"{approach}/{task}/{seed}"] for task in tasks]
            jobs[f"score_models {approach}/{seed}"] = [*scored, "prepare_task *"]
    jobs["collect_results"] = ["score_models *"]
    pair = [models[f"{approach}/{tasks[0]}/{seeds[0]}"] for approach in ("teacher", "pretrained")]
    jobs["measure_efficiency"] = [*pair, "prepare_task *"]
    jobs["verify_exports"] = [teacher, "pretrain", *models.values()]
    jobs["plot_accuracy"] = jobs["plot_cross_evaluation"] = ["collect_results"]
    jobs["write_summary"] = jobs["plot_efficiency"] = ["collect_results", "measure_efficiency"]
    jobs["plot_training_curves"] = ["train_teacher", "pretrain", *models.values()]
    jobs["write_model_cards"] = ["collect_results", "train_teacher", "pretrain", *models.values()]
    records = ["train_teacher", "pretrain", *models.values(), "score_models *"]
    jobs["collect_provenance"] = [*records, "collect_results", "measure_efficiency", "verify_exports"]
    return jobs


def shards_of(config: dict) -> list[str]:
    """Return the names of a config's shards."""
    corpus = config["corpus"]
    if corpus["source"] == "folder":
        return FOLDER_SHARDS
    if corpus["source"] == "synthetic":
        return [f"shard-{i:02d}" for i in range(corpus["synthetic"]["num_shards"])]
    return [Path(corpus["hub"]["files"].format(shard=i)).stem for i in range(corpus["hub"]["num_shards"])]


def matches(job: str, patterns: tuple[str, ...] | list[str]) -> bool:
    """Tell whether a job fits one of the patterns."""
    return any(fnmatch(job, pattern) for pattern in patterns)


def stale_jobs(jobs: dict[str, list[str]], first: tuple[str, ...]) -> set[str]:
    """Return the jobs that fit `first`, and all that read from them, directly or not."""
    stale: set[str] = set()
    for job, reads in jobs.items():
        if matches(job, first) or any(matches(producer, reads) for producer in stale):
            stale.add(job)
    return stale


# --- The edits ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An edit of a finished project, and what it makes stale.

    first: patterns of the jobs that the edit itself makes stale; all that reads from them follows. why: what the
    reason of those names: settings and modules (a set), or a phrase. overlay: the edited settings. edit: changes
    files. keys: the config's keys that this case is about.
    """

    name: str
    first: tuple[str, ...] = ()
    why: set[str] | str = ""
    project: str = "own"
    overlay: dict | None = None
    edit: Callable[[Project], object] | None = None
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    shards: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def expected(self) -> set[str]:
        """Return the jobs that are to be planned."""
        return stale_jobs(self.jobs(), self.first)

    def jobs(self) -> dict[str, list[str]]:
        """Return the jobs of the edited project."""
        config = merged(merged(DEFAULT, PROJECTS[self.project]), self.overlay or {})
        return jobs_of(config, list(self.shards))


# Setting -> the jobs whose own work it changes; the longest beginning of a key's name counts. A section of a source
# (synthetic, folder, hub, train) counts only where the config has that source. A new key needs a line here.
STAGES = {
    "seed": ("generate_*", "train_teacher", "initialize_student *", "pretrain", "prepare_task *"),
    "corpus.synthetic.documents_per_shard": ("generate_corpus_shard *",),
    "corpus.hub.repository": ("fetch_corpus_shard *",),
    "corpus.hub.revision": ("fetch_corpus_shard *",),
    "corpus.hub.files": ("fetch_corpus_shard *",),
    "corpus.hub.num_documents": (),
    "corpus.hub.num_bytes": (),
    "corpus.hub.download_bytes": (),
    "corpus.chunking": ("encode_shard *",),
    "corpus.max_length": ("encode_shard *",),
    "corpus.min_length": ("encode_shard *",),
    "corpus.validation_fraction": ("learn_vocabulary", "encode_shard *"),
    "corpus.test_fraction": ("learn_vocabulary", "encode_shard *"),
    "tokenizer.train": ("learn_vocabulary",),
    "tokenizer.hub": ("import_tokenizer",),
    "teacher.hub": ("import_teacher",),
    "teacher.train": ("train_teacher",),
    "teacher.train.model": ("train_teacher", "initialize_student random"),
    "student": ("initialize_student *",),
    "student.teacher_layers": ("initialize_student teacher",),
    "pretrain": ("pretrain",),
    "tasks.synthetic": ("generate_task *",),
    "tasks.hub": ("fetch_task *",),
    "tasks.split": ("prepare_task *",),
    "tasks.max_length": ("prepare_task *",),
    "tasks.max_train_examples": ("prepare_task *",),
    "tasks.note": ("write_summary", "write_model_cards", "plot_accuracy", "plot_cross_evaluation", "plot_efficiency"),
    "tasks.custom.reviews.columns": ("prepare_task reviews",),
    "tasks.custom.reviews.label_column": ("prepare_task reviews",),
    "tasks.custom.reviews.label_names": ("prepare_task reviews",),
    "tasks.custom.reviews.yes_class": ("score_models *",),
    "tasks.custom.reviews.metric": ("finetune */reviews/*", "distill_task reviews/*", "collect_results"),
    "tasks.custom.reviews.title": (
        "write_summary",
        "write_model_cards",
        "plot_accuracy",
        "plot_cross_evaluation",
        "plot_training_curves",
    ),
    "finetune": ("finetune *",),
    "finetune.precision": ("finetune *", "score_models *"),
    "direct_distillation": ("distill_task *",),
}
# Beginning of a key -> that of its param, where they differ; the longest counts.
PARAMS = {
    "corpus.": "",
    "corpus.synthetic.documents_per_shard": "num_documents",
    "corpus.hub.": "",
    "corpus.hub.files": "filename",
    "corpus.validation_fraction": "split.validation_fraction",
    "corpus.test_fraction": "split.test_fraction",
    "tokenizer.train.": "",
    "tokenizer.hub.": "",
    "teacher.train.": "training.",
    "teacher.train.model.": "model.",
    "teacher.hub.": "",
    "student.teacher_layers": "teacher_layers",
    "pretrain.": "training.",
    "tasks.": "",
    "tasks.note": "data",
    "tasks.synthetic.": "",
    "tasks.hub.": "",
    "tasks.custom.reviews.": "",
    "tasks.custom.reviews.yes_class": "yes.reviews",
    "tasks.custom.reviews.title": "title.reviews",
    "finetune.": "training.",
    "direct_distillation.": "training.",
}
# (job, setting) -> the param that a job's reason shows in its place: a section that depends on the wildcards.
SHOWN_WHOLE = {("initialize_student random", f"model.{key}"): "model" for key in DEFAULT["teacher"]["train"]["model"]}
SHOWN_WHOLE |= {
    ("write_model_cards", "data"): "sources.data",
    ("write_model_cards", "title.reviews"): "sources.tasks.reviews.title",
}
# Another value, where the value alone does not say which one is valid.
OTHER_VALUES = {
    "corpus.chunking": "first",
    "corpus.hub.files": "20220301.en/train-{shard:05d}-of-00041.parquet",
    "teacher.train.model.hidden_size": 64,
    "student.teacher_layers": [0],
    "tasks.split": "coursework",
    "tasks.note": "a subset",
    "tasks.custom.reviews.columns": ["first", "second"],
    "tasks.custom.reviews.label_column": "stars",
    "tasks.custom.reviews.label_names": ["bad", "good"],
    "tasks.custom.reviews.yes_class": 0,
    "tasks.custom.reviews.metric": "mcc",
    "tasks.custom.reviews.title": "Film reviews",
}


def keys_of(config: dict, prefix: str = "") -> list[str]:
    """Return the dotted names of all values of a config."""
    found = []
    for key, value in config.items():
        found += keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def value_of(config: dict, key: str) -> object:
    """Return the value at a dotted name."""
    for part in key.split("."):
        config = config[part]
    return config


def overlay_of(key: str, value: object) -> dict:
    """Return the overlay that sets one key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def other_value(key: str, value: object) -> object:
    """Return a valid value that differs."""
    if key in OTHER_VALUES:
        return OTHER_VALUES[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value * 0.9 or 0.1
    if isinstance(value, int):
        return value + 1
    if value is None:
        return 50
    if key.endswith(".precision"):
        return "bfloat16"
    if key.endswith(".revision"):
        return "0" * 40
    assert key.endswith(".repository"), f"{key}: say in OTHER_VALUES what else it may be"
    return "someone/something"


def is_used(config: dict, key: str) -> bool:
    """Tell whether a key belongs to the source that its section has, or to no source."""
    section, *rest = key.split(".")
    is_of_a_source = rest and rest[0] in ("synthetic", "folder", "hub", "train")
    return not is_of_a_source or config[section]["source"] == rest[0]


def param_of(key: str) -> str:
    """Return the name that a setting has among the params of a rule."""
    prefix = max((prefix for prefix in PARAMS if key.startswith(prefix)), key=len, default="")
    return PARAMS.get(prefix, "") + key.removeprefix(prefix)


def setting_case(project: str, key: str) -> Case:
    """Return the case of one edited setting."""
    config = merged(DEFAULT, PROJECTS[project])
    stages = [stage for stage in STAGES if f"{key}.".startswith(f"{stage}.")]
    assert stages, f"{key}: say in STAGES what it makes stale"
    overlay = overlay_of(key, other_value(key, value_of(config, key)))
    return Case(
        f"{project}: {key}",
        STAGES[max(stages, key=len)],
        {param_of(key)},
        project=project,
        overlay=overlay,
        keys=(key,),
    )


def unused_settings_case(project: str) -> Case:
    """Return the case of all settings at once that belong to a source that is not used."""
    config = merged(DEFAULT, PROJECTS[project])
    unused = [key for key in keys_of(config) if not is_used(config, key) and not key.endswith(".init")]
    overlay: dict = {}
    for key in unused:
        value = "data/unused" if key.endswith(".folder") else other_value(key, value_of(config, key))
        overlay = merged(overlay, overlay_of(key, value))
    return Case(f"{project}: all settings of sources that are not used", project=project, overlay=overlay)


def write(name: str, change: Callable[[str], str]) -> Callable[[Project], object]:
    """Return an edit that changes the text of one file."""
    return lambda project: (project.folder / name).write_text(change((project.folder / name).read_text()))


def every_module(change: Callable[[str], str]) -> Callable[[Project], object]:
    """Return an edit that changes the text of every script and module."""
    edits = [write(str(SCRIPTS / name), change) for name in MODULES]
    return lambda project: [edit(project) for edit in edits]


def with_comments(text: str) -> str:
    return "# A comment.\n" + text.replace("\n\n", "\n# Another.\n\n", 1) + "\n# The last.\n"


def with_other_docstrings(text: str) -> str:
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Expr(ast.Constant("Said in other words."))
    return ast.unparse(ast.fix_missing_locations(tree))


def with_other_layout(text: str) -> str:
    """Return a module as Python itself would write it: other quotes, lines and parentheses, no comments."""
    return ast.unparse(ast.parse(text))


def with_other_behaviour(text: str) -> str:
    return text + "\nEDITED = True\n"


def touch(*patterns: str, date: tuple[int, int] | None = None) -> Callable[[Project], object]:
    """Return an edit that gives files the date of now, or another."""
    return lambda project: [os.utime(path, date) for pattern in patterns for path in project.folder.glob(pattern)]


def delete(*patterns: str) -> Callable[[Project], object]:
    """Return an edit that deletes files and folders."""

    def edit(project: Project) -> None:
        for pattern in patterns:
            found = list(project.folder.glob(pattern))
            assert found, pattern
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return edit


def rewrite(pattern: str) -> Callable[[Project], object]:
    """Return an edit that writes files anew with equal bytes, as other files."""

    def edit(project: Project) -> None:
        for path in project.folder.glob(pattern):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)

    return edit


def cut(name: str, *, is_old: bool = False) -> Callable[[Project], object]:
    """Return an edit that shortens a file; `is_old`: and gives it a date long ago, as `cp -p` may."""

    def edit(project: Project) -> None:
        path = project.folder / name
        path.write_bytes(path.read_bytes()[:-1])
        if is_old:
            os.utime(path, LONG_AGO)

    return edit


def date_backwards(project: Project) -> None:
    """Date every file so that what was made first is the newest: the worst that a copy without dates can do."""
    paths = [project.folder / name for name in project.files() if not name.endswith(".smk")]
    newest = max(path.stat().st_mtime for path in paths)
    for path in paths:
        date = 2 * newest - path.stat().st_mtime
        os.utime(path, (date, date))


def switch_branches(project: Project) -> None:
    """Check out a branch on which every module differs, and come back."""
    project.git("switch", "--quiet", "--create", "other")
    every_module(with_other_behaviour)(project)
    project.commit("Other")
    project.git("switch", "--quiet", "-")


def stash(project: Project) -> None:
    """Edit every module, then stash the edits."""
    every_module(with_other_behaviour)(project)
    project.git("stash")


def add_profile(project: Project) -> None:
    """Write a profile for another machine."""
    folder = project.folder / "elsewhere"
    folder.mkdir()
    (folder / "config.yaml").write_text("jobs: 7\nlatency-wait: 60\ndefault-resources: [mem_mb=1000]\nretries: 2\n")


def add_gpu(project: Project) -> None:
    """Make `nvidia-smi` findable."""
    (project.folder / "bin").mkdir()
    (project.folder / "bin" / "nvidia-smi").write_text("#!/bin/sh\n")
    (project.folder / "bin" / "nvidia-smi").chmod(0o755)


def reorder_config(project: Project) -> None:
    """Write config.yaml with its keys in reverse order and without its comments."""

    def reverse(value: object) -> object:
        return {key: reverse(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    for name in ("config.yaml", "overlay.yaml"):
        path = project.folder / name
        path.write_text(yaml.safe_dump(reverse(yaml.safe_load(path.read_text())), sort_keys=False))


def copy_folder(source: str, target: str) -> Callable[[Project], object]:
    """Return an edit that copies a folder."""
    return lambda project: shutil.copytree(project.folder / source, project.folder / target)


def add_module(project: Project) -> None:
    (project.folder / SCRIPTS / "distilbert" / "unused.py").write_text("ANSWER = 42\n")


def several(*edits: Callable[[Project], object]) -> Callable[[Project], object]:
    return lambda project: [edit(project) for edit in edits]


NOTHING = (
    Case("the same command again, in a copy elsewhere"),
    Case("a comment in every script and module", edit=every_module(with_comments)),
    Case("other docstrings in every script and module", edit=every_module(with_other_docstrings)),
    Case("another layout of every script and module", edit=every_module(with_other_layout)),
    Case("a touch of every source", edit=touch("Snakefile", "config.yaml", "workflow/**/*.*", "envs/*")),
    Case("git switch to a branch with other code and back", edit=switch_branches),
    Case("every module edited, then git stash", edit=stash),
    Case(
        "a comment in the Snakefile, the rules and config.yaml",
        edit=several(
            *(
                write(name, lambda text: text + "\n# A comment.\n")
                for name in (
                    "Snakefile",
                    "config.yaml",
                    *(f"workflow/rules/{rule}.smk" for rule in ("pretrain", "common")),
                )
            )
        ),
    ),
    Case("a new module that no step imports", edit=add_module),
    Case("an overlay with the values that hold already", overlay=merged(DEFAULT, PROJECTS["own"])),
    Case("the keys of config.yaml in reverse order", edit=reorder_config),
    Case(
        "a task of one's own described, but not named",
        overlay={"tasks": {"custom": {"mine": PROJECTS["custom"]["tasks"]["custom"]["reviews"]}}},
    ),
    Case("a number spelled otherwise (5 for 5.0)", overlay={"pretrain": {"alpha_ce": 5, "learning_rate": 0.002}}),
    Case("--cores 1", arguments=("--cores", "1")),
    Case("--set-threads", arguments=("--set-threads", "pretrain=3", "learn_vocabulary=1")),
    Case("--set-resources", arguments=("--set-resources", "pretrain:gpu=4", "finetune:mem_mb=9000")),
    Case("another profile", edit=add_profile, arguments=("--profile", "elsewhere")),
    Case("other threads by the environment", environment=(("OMP_NUM_THREADS", "1"), ("CUDA_VISIBLE_DEVICES", ""))),
    Case("a GPU that was not there before", edit=add_gpu, environment=(("PATH", f"bin:{os.environ['PATH']}"),)),
    Case(
        "another version in envs/*.yaml, conda not in use", edit=write("envs/train.yaml", lambda t: t + "      - six\n")
    ),
    Case("a touch of all input files", edit=touch("data/**/*.*")),
    Case("all input files written anew with equal bytes", edit=rewrite("data/**/*.*")),
    Case("all dates turned round, as by a copy without dates", edit=date_backwards),
    Case("logs and benchmarks deleted", edit=delete("logs", "benchmarks")),
    Case("the vocabulary deleted", edit=delete("results/tokenizer/tokenizer.json")),
    Case("a token shard deleted", edit=delete("results/tokens/a/train.arrow")),
    Case("the teacher's metrics.json deleted", edit=delete("results/teacher/metrics.json")),
    Case(".snakemake deleted", edit=delete(".snakemake")),
)
# What Snakemake cannot see: said in docs/reliability.md, held here so that a change of it is noticed.
UNSEEN = (
    Case(
        "not seen: .snakemake deleted, then a setting edited",
        edit=delete(".snakemake"),
        overlay={"pretrain": {"alpha_ce": 4.0}},
    ),
    Case("not seen: an input replaced by an older file", edit=cut("data/corpus/a.jsonl", is_old=True)),
)
SOMETHING = (
    Case(
        "alpha_ce and alpha_mlm swapped",
        ("pretrain",),
        {"training.alpha_ce", "training.alpha_mlm"},
        overlay={"pretrain": {"alpha_ce": 2.0, "alpha_mlm": 5.0}},
    ),
    Case("two values made equal", ("pretrain",), {"training.alpha_cos"}, overlay={"pretrain": {"alpha_cos": 2.0}}),
    Case(
        "a setting edited in config.yaml itself",
        ("pretrain",),
        {"training.temperature"},
        edit=write("config.yaml", lambda text: text.replace("temperature: 2.0 #", "temperature: 3.0 #")),
    ),
    Case("every script and module edited", ("*",), "code ", edit=every_module(with_other_behaviour)),
    Case(
        "a comment in every script, without the profile",
        ("*",),
        "Code has changed",
        edit=every_module(with_comments),
        arguments=("--workflow-profile", "none"),
    ),
    Case(
        "a task's file changed",
        ("prepare_task sst2",),
        FILE_CHANGED,
        edit=cut("data/tasks/sst2/train-00000-of-00001.parquet"),
    ),
    Case(
        "a touch of a task's file that is larger than max-checksum-file-size",
        ("prepare_task sst2",),
        FILE_CHANGED,
        edit=touch("data/tasks/sst2/train-*"),
        arguments=("--max-checksum-file-size", "10"),
    ),
    Case(
        "the training file of a task of one's own changed",
        ("prepare_task reviews",),
        FILE_CHANGED,
        project="custom",
        edit=lambda project: (project.folder / "data/reviews/train.csv").write_text("other\n"),
    ),
    *(
        Case(
            f"the {key} file of a task of one's own moved",
            ("prepare_task reviews",),
            INPUTS_CHANGED,
            project="custom",
            edit=copy_folder("data/reviews", "data/moved"),
            overlay={"tasks": {"custom": {"reviews": {key: f"data/moved/{key}.csv"}}}},
            keys=(f"tasks.custom.reviews.{key}",),
        )
        for key in ("train", "test")
    ),
    Case(
        "a task of one's own removed",
        ("score_models *", "measure_efficiency", "verify_exports", "plot_training_curves"),
        project="custom",
        overlay={"tasks": {"names": ["sst2"]}},
    ),
    Case(
        "a corpus file changed", ("learn_vocabulary", "encode_shard a"), FILE_CHANGED, edit=cut("data/corpus/a.jsonl")
    ),
    Case(
        "a corpus file added",
        ("learn_vocabulary",),
        FILE_CHANGED,
        edit=lambda project: shutil.copy(
            project.folder / "data/corpus/a.jsonl", project.folder / "data/corpus/c.jsonl"
        ),
        shards=("a", "b", "c"),
    ),
    Case(
        "a corpus file removed",
        ("learn_vocabulary",),
        INPUTS_CHANGED,
        edit=delete("data/corpus/b.jsonl"),
        shards=("a",),
    ),
    Case(
        "a corpus file changed, the vocabulary and the teacher imported",
        ("encode_shard a",),
        FILE_CHANGED,
        project="imported",
        edit=lambda project: (project.folder / "data/corpus/a.jsonl").write_text("other\n"),
    ),
    Case(
        "a corpus file added, the vocabulary and the teacher imported",
        ("encode_shard c", "pretrain"),
        project="imported",
        edit=lambda project: (project.folder / "data/corpus/c.jsonl").touch(),
        shards=("a", "b", "c"),
    ),
    Case(
        "a corpus file removed, the vocabulary and the teacher imported",
        ("pretrain",),
        INPUTS_CHANGED,
        project="imported",
        edit=delete("data/corpus/b.jsonl"),
        shards=("a",),
    ),
    Case(
        "the imported tokenizer changed",
        ("import_tokenizer",),
        FILE_CHANGED,
        project="imported",
        edit=lambda project: (project.folder / "data/tokenizer/tokenizer.json").write_text("{}"),
    ),
    Case(
        "the imported teacher changed",
        ("import_teacher",),
        FILE_CHANGED,
        project="imported",
        edit=lambda project: (project.folder / "data/teacher/config.json").write_text("{}"),
    ),
    Case(
        "corpus.max_shards: 1",
        ("learn_vocabulary",),
        INPUTS_CHANGED,
        overlay={"corpus": {"max_shards": 1}},
        keys=("corpus.max_shards",),
    ),
    Case(
        "one generated shard more",
        ("generate_corpus_shard shard-04", "learn_vocabulary"),
        project="demo",
        overlay={"corpus": {"synthetic": {"num_shards": 5}}},
        keys=("corpus.synthetic.num_shards",),
    ),
    Case(
        "one downloaded shard more",
        ("fetch_corpus_shard train-00003-of-00041", "pretrain"),
        project="hub",
        overlay={"corpus": {"hub": {"num_shards": 4}}},
        keys=("corpus.hub.num_shards",),
    ),
    Case(
        "a task added",
        ("prepare_task cola", "score_models *", "measure_efficiency"),
        overlay={"tasks": {"names": ["sst2", "rte", "cola"]}},
        keys=("tasks.names",),
    ),
    Case(
        "a task removed",
        ("score_models *", "verify_exports", "measure_efficiency", "plot_training_curves"),
        overlay={"tasks": {"names": ["sst2"]}},
    ),
    Case(
        "a seed added",
        ("finetune */2", "distill_task */2", "collect_results", "verify_exports", "plot_training_curves"),
        overlay={"finetune": {"seeds": [1, 2]}},
        keys=("finetune.seeds",),
    ),
    Case(
        "a seed removed",
        ("collect_results", "verify_exports", "measure_efficiency", "plot_training_curves"),
        project="imported",
        overlay={"finetune": {"seeds": [2]}},
    ),
    Case(
        "fine-tuning without pretraining wanted too",
        ("finetune scratch/*", "collect_results", "verify_exports", "plot_training_curves"),
        overlay={"finetune": {"scratch": True}},
        keys=("finetune.scratch",),
    ),
    Case(
        "fine-tuning without pretraining no longer wanted",
        ("collect_results", "verify_exports", "plot_training_curves"),
        project="imported",
        overlay={"finetune": {"scratch": False}},
    ),
    # The student that becomes an input was made by a job that did not wait for the stale one. Where it is the newer,
    # Snakemake says so and looks no further.
    *(
        Case(
            f"{section}.initialization: {start}, {age}",
            (job,),
            why,
            edit=touch(f"results/student/{start}/*", date=date),
            overlay={section: {"initialization": start}},
            keys=(f"{section}.initialization",),
        )
        for section, start, job in (
            ("student", "random", "pretrain"),
            ("direct_distillation", "teacher", "distill_task *"),
            ("direct_distillation", "pretrained", "distill_task *"),
        )
        for age, date, why in (("its files older", LONG_AGO, INPUTS_CHANGED), ("its files newer", None, FILE_CHANGED))
    ),
    Case(
        "student.num_layers: 2",
        ("initialize_student *",),
        overlay={"student": {"num_layers": 2, "teacher_layers": [0, 1]}},
        keys=("student.num_layers",),
    ),
    Case(
        "direct_distillation.teacher: raw",
        ("distill_task *",),
        {"teacher"},
        overlay={"direct_distillation": {"teacher": "raw"}},
        keys=("direct_distillation.teacher",),
    ),
    Case(
        "the teacher trained from a checkpoint",
        ("train_teacher", "initialize_student random"),
        edit=copy_folder("results/teacher", "data/init"),
        overlay={"teacher": {"train": {"init": "data/init"}}},
        keys=("teacher.train.init",),
    ),
    *(
        Case(
            f"{key} moved, the same files in it",
            first,
            INPUTS_CHANGED,
            project=project,
            edit=copy_folder(f"data/{section}", f"data/moved-{section}"),
            overlay={section: {"folder": f"data/moved-{section}"}},
            keys=(key,),
        )
        for section, project, first in (
            ("corpus", "own", ("learn_vocabulary", "encode_shard *")),
            ("tasks", "own", ("prepare_task *",)),
            ("tokenizer", "imported", ("import_tokenizer",)),
            ("teacher", "imported", ("import_teacher",)),
        )
        for key in (f"{section}.folder",)
    ),
    Case(
        "another source of the tokenizer",
        ("import_tokenizer",),
        edit=copy_folder("results/tokenizer", "data/tokenizer"),
        overlay={"tokenizer": {"source": "folder", "folder": "data/tokenizer"}},
        keys=("tokenizer.source",),
    ),
    Case(
        "another source of the teacher",
        ("import_teacher", "initialize_student *"),
        edit=copy_folder("results/teacher", "data/teacher"),
        overlay={"teacher": {"source": "folder", "folder": "data/teacher"}},
        keys=("teacher.source",),
    ),
    Case(
        "another source of the corpus",
        ("generate_corpus_shard *", "learn_vocabulary"),
        overlay={"corpus": {"source": "synthetic"}},
        keys=("corpus.source",),
    ),
    Case(
        "another source of the tasks",
        ("generate_task *",),
        overlay={"tasks": {"source": "synthetic"}},
        keys=("tasks.source",),
    ),
    Case(
        "a figure deleted",
        ("plot_accuracy",),
        FILE_MISSING,
        edit=delete("results/plots/accuracy.png"),
    ),
    Case("a model card deleted", ("write_model_cards",), FILE_MISSING, edit=delete("results/teacher/README.md")),
    Case("a table deleted", ("collect_results",), FILE_MISSING, edit=delete("results/summary.csv")),
    Case(
        "the pretrained student's weights deleted",
        ("pretrain",),
        FILE_MISSING,
        edit=delete("results/student/pretrained/model.safetensors"),
    ),
    Case(
        "the teacher's weights deleted and a plot edited",
        ("plot_accuracy",),
        {"code plot_accuracy"},
        edit=several(
            delete("results/teacher/model.safetensors"),
            write(str(SCRIPTS / "plot_accuracy.py"), with_other_behaviour),
        ),
    ),
)

# Module -> the rules of `all` whose steps it is part of; "*": all. A new module needs a line here.
ON_CORPUS, ON_TASKS = ("train_teacher", "pretrain"), ("finetune *", "distill_task *")
TRAININGS = (*ON_CORPUS, *ON_TASKS)
SCORES = ("score_models *", "measure_efficiency")
LOADS_MODELS = (*TRAININGS, *SCORES, "import_teacher", "initialize_student *", "verify_exports")
LIBRARY = {
    "__init__": ("*",),
    "digest": ("*",),
    "files": ("*",),
    "parent": ("*",),
    "plan": ("*",),
    "runlog": ("*",),
    "sources": ("learn_vocabulary", "encode_shard *", "prepare_task *"),
    "hub": ("fetch_*", "import_*"),
    "synthetic": ("generate_*",),
    "examples": ("prepare_task *",),
    "glue": ("prepare_task *",),
    "tokens": (*LOADS_MODELS, "learn_vocabulary", "import_tokenizer", "encode_shard *", "prepare_task *"),
    "wordpiece": (*LOADS_MODELS, "learn_vocabulary", "import_tokenizer", "encode_shard *", "prepare_task *"),
    "batching": (*TRAININGS, "prepare_task *", *SCORES),
    "config": LOADS_MODELS,
    "export": LOADS_MODELS,
    "model": LOADS_MODELS,
    "checkpoint": TRAININGS,
    "device": (*TRAININGS, *SCORES),
    "flops": (*TRAININGS, *SCORES),
    "events": TRAININGS,
    "dropout": LOADS_MODELS,
    "inference": (*ON_TASKS, *SCORES),
    "losses": (*TRAININGS, *SCORES),
    "masking": ON_CORPUS,
    "corpus_objectives": ON_CORPUS,
    "corpus_training": ON_CORPUS,
    "vocabulary_head": ON_CORPUS,
    "vocabulary_kernel": ON_CORPUS,
    "task_objectives": (*ON_TASKS, *SCORES),
    "task_training": ON_TASKS,
    "optimizer": TRAININGS,
    "processes": (*TRAININGS, *SCORES),
    "training": TRAININGS,
    "steps": TRAININGS,
    "tasks": ("generate_*", "prepare_task *", "collect_results", "write_*", "plot_*"),
    "metrics": (*ON_TASKS, "collect_results", "plot_*"),
    "evaluation": ("score_models *", "collect_results"),
    "confidence": ("collect_results", "write_model_cards"),
    "efficiency": ("measure_efficiency", "write_summary", "plot_*"),
    "timing": ("measure_efficiency",),
    "pages": ("write_*", "collect_provenance"),
    "cards": ("write_model_cards",),
    "plotting": ("plot_*",),
    "costs": (),
}


def module_cases() -> list[Case]:
    """Return a case for each script and module: an edit of its behaviour, in a project that uses it."""
    cases = []
    for name in MODULES:
        module = name.removesuffix(".py").replace("/", ".")
        rules = LIBRARY[module.split(".")[1]] if "." in module else (module, f"{module} *")
        uses = {project: stale_jobs(jobs_of(merged(DEFAULT, PROJECTS[project])), rules) for project in PROJECTS}
        project = next((project for project in PROJECTS if uses[project]), "own")
        edit = write(str(SCRIPTS / name), with_other_behaviour)
        cases.append(Case(f"{project}: behaviour of {name}", rules, {f"code {module}"}, project=project, edit=edit))
    return cases


def setting_cases() -> list[Case]:
    """Return a case for each value of the config, in the first project whose sources give it a meaning."""
    structural = {key for case in SOMETHING for key in case.keys}
    cases = [unused_settings_case(project) for project in PROJECTS]
    own = merged(DEFAULT, PROJECTS["own"])
    for project in PROJECTS:
        config = merged(DEFAULT, PROJECTS[project])
        for key in keys_of(config):
            is_new = project == "own" or key not in keys_of(own) or not is_used(own, key)
            if key not in structural and is_used(config, key) and is_new:
                cases.append(setting_case(project, key))
    return cases


UNDONE = [case for case in (*NOTHING, *UNSEEN, *SOMETHING) if case.edit]
CASES = [*NOTHING, *UNSEEN, *SOMETHING, *setting_cases(), *module_cases()]

# --- The tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def runner(tmp_path_factory):
    """Return what runs Snakemake."""
    runner = Runner(NUM_SERVERS, tmp_path_factory.mktemp("cache"))
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def projects(runner, tmp_path_factory) -> dict[str, Project]:
    """Return the projects, each finished."""
    made = {}
    for name, overlay in PROJECTS.items():
        project = made[name] = Project.create(tmp_path_factory.mktemp("finished") / name, overlay, runner)
        if name == "own":
            write_data(project.folder / "data")
            project.finish()
        else:
            write_empty_data(project.folder / "data")
            pretend_to_finish(project)
    return made


def write_data(folder: Path) -> None:
    """Write a corpus of two files and three tasks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from distilbert.synthetic import generate_documents, generate_task

    (folder / "corpus").mkdir(parents=True)
    for number, shard in enumerate(FOLDER_SHARDS):
        documents = generate_documents(seed=1, shard=number, num_documents=60)
        (folder / "corpus" / f"{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    for task in ("sst2", "rte", "cola"):
        (folder / "tasks" / task).mkdir(parents=True)
        for split, rows in generate_task(task, seed=1, num_train=100, num_validation=60).items():
            path = folder / "tasks" / task / f"{split}-00000-of-00001.parquet"
            pq.write_table(pa.Table.from_pylist(rows), path)


def write_empty_data(folder: Path) -> None:
    """Write empty files in the places of a corpus, three tasks, a tokenizer and a teacher."""
    names = [f"corpus/{shard}.jsonl" for shard in FOLDER_SHARDS]
    names += [f"tasks/{t}/{split}-00000-of-00001.parquet" for t in ("sst2", "rte") for split in ("train", "validation")]
    names += ["reviews/train.csv", "reviews/test.csv"]
    names += ["tokenizer/tokenizer.json", "teacher/model.safetensors", "teacher/config.json"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def pretend_to_finish(project: Project) -> None:
    """Write every output as an empty file and have Snakemake record it as made."""
    for name in project.snakemake("--dry-run").outputs:
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).touch()
    project.finish("--touch", "--forceall")


@pytest.fixture(scope="session")
def outcomes(request, projects, tmp_path_factory):
    """Return {case's name: what its edit planned, and what is planned after it is undone}, planned side by side."""
    folder = tmp_path_factory.mktemp("edited")
    mine = [item for item in request.session.items if "outcomes" in getattr(item, "fixturenames", ())]
    wanted = [item.callspec.params["case"] for item in mine]
    pool = ThreadPoolExecutor(NUM_SERVERS)
    yield {case.name: pool.submit(apply, case, projects, folder / str(n)) for n, case in enumerate(wanted)}
    pool.shutdown(cancel_futures=True)


def apply(case: Case, projects: dict[str, Project], folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Make an edit in a copy of its project; return what it plans, and what is planned once it is undone."""
    original = projects[case.project]
    project = original.copy(folder)
    try:
        if case.edit:
            case.edit(project)
        planned = project.plan(*case.arguments, overlay=case.overlay, environment=dict(case.environment))
        if case not in UNDONE:
            return planned, {}
        project.undo(original)
        return planned, project.plan()
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_edit_plans_exactly_what_it_made_stale(case, outcomes):
    """The jobs planned are those expected, no more and no fewer, and the first of them say why they are."""
    planned, after = outcomes[case.name].result()
    assert set(planned) == case.expected()
    assert after == {}, "not all is finished after the edit was undone"
    jobs = case.jobs()
    for job, reason in planned.items():
        is_first = not any(matches(producer, jobs[job]) for producer in planned)
        if not is_first:
            assert "Input files updated by another job" in reason
        elif isinstance(case.why, str):
            assert case.why in reason
        else:
            assert changed_params(reason) == {SHOWN_WHOLE.get((job, name), name) for name in case.why}


def test_the_cases_cover_every_setting_and_each_has_a_name():
    """A key of the config, or of an own task, that no case edits is found here; so are two cases of one name."""
    edited = {key for case in CASES for key in case.keys}
    assert edited == set(keys_of(DEFAULT)) | set(keys_of(PROJECTS["custom"]))
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_table_of_modules_names_each():
    """A module that is added or removed must be thought about in LIBRARY."""
    assert set(LIBRARY) == {Path(name).stem for name in MODULES if "/" in name}


def test_the_documentation_holds_the_table():
    """What docs say of reruns is what is tested here; `python tests/test_reruns.py` prints the table anew."""
    assert any(table() in path.read_text() for path in (ROOT / "docs").glob("*.md"))


def test_what_only_shows_results_never_trains():
    """No edit of scoring, tables or figures plans a training; that the cases hold is tested above."""
    names = (
        "plotting.py",
        "distilbert/evaluation.py",
        "cards.py",
        "plot_accuracy.py",
        "collect_results.py",
        "score_models.py",
        "verify_exports.py",
        "write_model_cards.py",
        "measure_efficiency.py",
        "write_summary.py",
        "tasks.note",
    )
    cases = [case for case in CASES if case.name.endswith(names)]
    assert len(cases) == len(names)
    for case in cases:
        assert case.expected()
        assert not [job for job in case.expected() if matches(job, TRAININGS)], case.name


def test_a_finished_project_in_another_folder_has_nothing_to_do(projects, runner, tmp_path):
    """`--directory` from elsewhere finds the results, the config and, beside the Snakefile, the profile."""
    folder = projects["own"].folder
    arguments = ["--dry-run", "--cores", "2", "--snakefile", str(folder / "Snakefile"), "--directory", str(folder)]
    outcome = runner.run(tmp_path, [*arguments, "--configfile", str(folder / "overlay.yaml")], {}, {})
    assert outcome.status == 0, outcome.text
    assert outcome.jobs == {}
    assert "Nothing to be done" in outcome.text


def test_a_finished_project_has_a_report(projects, tmp_path):
    """One HTML file has every figure and page with caption and label, the config and the rules; a loss is noticed."""
    path = tmp_path / "report.html"
    outcome = projects["own"].snakemake("--report", str(path))
    assert outcome.status == 0, outcome.text
    page = path.read_text(encoding="utf-8")
    assert faults(page) == []
    assert faults(page.replace("results/plots/accuracy.png", "results/other.png")) == ["no results/plots/accuracy.png"]


def test_an_unknown_key_plans_nothing(projects):
    """The schema refuses it before any job is looked at."""
    outcome = projects["own"].snakemake("--dry-run", overlay={"pretrain": {"alpha_mlmm": 1.0}})
    assert outcome.status == 1
    assert outcome.jobs == {}
    assert "'alpha_mlmm' was unexpected" in outcome.text


def test_other_values_and_back_run_the_same_jobs_twice(projects, tmp_path):
    """Run, not planned: an overlay makes four jobs stale, then none; without it the same four, then none."""
    project = projects["own"].copy(tmp_path / "project")
    overlay = {"tasks": {"note": "a subset"}}
    changed = {"write_summary", "write_model_cards", "plot_accuracy", "plot_cross_evaluation", "plot_efficiency"}
    assert set(project.finish(overlay=overlay)) == changed
    assert project.plan(overlay=overlay) == {}
    assert set(project.finish()) == changed
    assert project.plan() == {}


@pytest.mark.parametrize("name", ["plot_accuracy.py", "distilbert/plotting.py"])
def test_code_edited_before_its_job_starts_is_refused(projects, tmp_path, name):
    """The job would run code that Snakemake has not read: it fails, and is planned with the edit and without."""
    project = projects["own"].copy(tmp_path / "project")
    delete("results/plots/accuracy.*")(project)
    path = project.folder / SCRIPTS / name
    before = path.read_text()
    outcome = project.snakemake(edits={str(path): with_other_behaviour(before)})
    assert set(outcome.jobs) == {"plot_accuracy"}
    assert outcome.status == 1
    assert f"{name.removesuffix('.py').replace('/', '.')}: edited while Snakemake was running" in outcome.text
    assert "plot_accuracy" in project.plan()
    path.write_text(before)
    assert set(project.plan()) == {"plot_accuracy"}


@pytest.mark.parametrize("name", ["plot_accuracy.py", "distilbert/plotting.py"])
def test_code_edited_during_its_job_makes_the_job_stale(projects, tmp_path, name):
    """Whatever the job had read by then, its output does not pass for one of the edited code."""
    project = projects["own"].copy(tmp_path / "project")
    delete("results/plots/accuracy.*", "logs/plot_accuracy.log")(project)
    path = project.folder / SCRIPTS / name
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(project.snakemake)
        while not (project.folder / "logs" / "plot_accuracy.log").exists() and not running.done():
            time.sleep(0.01)
        path.write_text(with_other_behaviour(path.read_text()))
    assert set(running.result().jobs) == {"plot_accuracy"}
    planned = project.plan()
    assert "plot_accuracy" in planned
    is_refused = running.result().status == 1
    assert is_refused or changed_params(planned["plot_accuracy"]) == {
        f"code {name.removesuffix('.py').replace('/', '.')}"
    }


# --- The table ------------------------------------------------------------------------------------------------------


def table() -> str:
    """Return the cases as a Markdown table; those of settings and of modules with like effect share a row."""
    rows = [(case.name, effect(case)) for case in (*NOTHING, *SOMETHING)]
    settings: dict[tuple, list[str]] = {}
    modules: dict[tuple, list[str]] = {}
    for case in setting_cases():
        section, _, name = case.keys[0].rpartition(".") if case.keys else ("", "", case.name)
        settings.setdefault((section, effect(case)), []).append(name)
    for case in module_cases():
        modules.setdefault(effect(case), []).append(case.name.split()[-1])
    rows += [(f"`{section}`: " * bool(section) + ", ".join(names), end) for (section, end), names in settings.items()]
    rows += [(f"code of {', '.join(names)}", end) for end, names in modules.items()]
    rows += [(case.name, effect(case)) for case in UNSEEN]
    lines = ["| edit | project | made stale by it | planned with all that reads those |", "|---|---|---|--:|"]
    return "\n".join([*lines, *(f"| {' | '.join((name, *end))} |" for name, end in rows)])


def effect(case: Case) -> tuple[str, str, str]:
    """Return a case's project, the rules whose jobs it makes stale by itself, and how many jobs it plans of all."""
    jobs, planned = case.jobs(), case.expected()
    first = [f"`{name.removesuffix(' *')}`" for name in case.first if any(fnmatch(job, name) for job in jobs)]
    stale = ", ".join(first).replace("`*`", "all")
    return case.project, stale or "nothing", f"{len(planned)} of {len(jobs)}"


if __name__ == "__main__":
    print(table())
