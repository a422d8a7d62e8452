"""Workflow: every configuration that ships plans its jobs, and a wrong one is refused by the name of its key."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "workflow" / "presets").glob("*.yaml"))
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
# All jobs of a preset from the beginning, the target `all` among them; minilm's folder has two files here.
PRESET_JOBS = {"paper": 228, "coursework": 125, "minilm": 41, "minilm-long": 144}


def snakemake(folder: Path, *arguments: str, overlays: list[Path | dict] = ()) -> subprocess.CompletedProcess:
    """Run Snakemake in a folder with the shipped config and overlays upon it; output and errors come together."""
    (folder / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    paths = []
    for number, overlay in enumerate(overlays):
        path = overlay
        if isinstance(overlay, dict):
            path = folder / f"overlay-{number}.yaml"
            path.write_text(yaml.safe_dump(overlay))
        paths.append(str(path))
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "2", *arguments, *(["--configfile", *paths] if paths else [])]
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    environment["XDG_CACHE_HOME"] = str(folder / ".cache")
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, timeout=120
    )


def job_counts(output: str) -> dict[str, int]:
    """Return {rule: jobs} from the table of a dry run."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def fake_folders(preset: dict, folder: Path) -> dict:
    """Return an overlay that points each section that reads a folder at one made here, with empty files in it."""
    overlay: dict = {}

    def touch(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    sections = {name: DEFAULT[name] | (preset.get(name) or {}) for name in ("corpus", "tokenizer", "teacher", "tasks")}
    for name, section in sections.items():
        if section["source"] == "folder":
            overlay[name] = {"folder": str(folder / name)}
    for shard in range(3):
        touch(folder / "corpus" / f"train-{shard}.parquet")
    touch(folder / "tokenizer" / "tokenizer.json")
    for name in ("model.safetensors", "config.json"):
        touch(folder / "teacher" / name)
    for task in DEFAULT["tasks"]["names"]:
        for split in ("train", "validation"):
            touch(folder / "tasks" / task / f"{split}-00000-of-00001.parquet")
    if (preset.get("teacher") or {}).get("train", {}).get("init"):
        for name in ("model.safetensors", "config.json"):
            touch(folder / "init" / name)
        overlay.setdefault("teacher", {})["train"] = {"init": str(folder / "init")}
    return overlay


def test_the_default_config_plans_the_whole_demo(tmp_path):
    """A dry run of the demo: one job per shard, task and model, one of each table and figure."""
    done = snakemake(tmp_path, "--dry-run")
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    tasks, seeds = len(DEFAULT["tasks"]["names"]), len(DEFAULT["finetune"]["seeds"])
    assert counts["encode_shard"] == DEFAULT["corpus"]["synthetic"]["num_shards"]
    assert counts["prepare_task"] == tasks
    assert counts["finetune"] == (3 if DEFAULT["finetune"]["scratch"] else 2) * tasks * seeds
    assert counts["distill_task"] == tasks * seeds
    assert counts["score_models"] * tasks == counts["finetune"] + counts["distill_task"]
    single = "learn_vocabulary train_teacher pretrain collect_results verify_exports measure_efficiency".split()
    single += "write_model_cards write_summary collect_provenance".split()
    single += [f"plot_{figure}" for figure in ("accuracy", "cross_evaluation", "efficiency", "training_curves")]
    assert {counts[rule] for rule in single} == {1}
    assert counts["total"] == 58
    assert not (tmp_path / "results").exists()


def test_onnx_is_made_of_the_students_on_demand(tmp_path):
    """`snakemake onnx` plans an export of each pretrained and each direct student, and the rule `all` plans none."""
    done = snakemake(tmp_path, "onnx", "--dry-run")
    assert done.returncode == 0, done.stdout
    tasks, seeds = DEFAULT["tasks"]["names"], DEFAULT["finetune"]["seeds"]
    written = set(re.findall(r"results/models/(\S+)/onnx/model.onnx", done.stdout))
    assert written == {f"{a}/{t}/seed{s}" for a in ("pretrained", "direct") for t in tasks for s in seeds}
    assert job_counts(done.stdout)["export_onnx"] == len(written)
    assert "export_onnx" not in job_counts(snakemake(tmp_path, "--dry-run").stdout)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_plans_its_jobs(tmp_path, preset):
    """A dry run of each preset plans as many jobs as are said; those that read folders find files where it says.

    What each costs is held by `test_every_preset_says_what_it_costs`.
    """
    overlay = fake_folders(yaml.safe_load(preset.read_text()), tmp_path / "data")
    done = snakemake(tmp_path, "--dry-run", overlays=[preset, overlay])
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert counts["pretrain"] == 1
    assert counts["total"] == PRESET_JOBS[preset.stem]


@pytest.mark.parametrize(
    "overlay,path,reason",
    [
        ({"pretrain": {"alpha_mlmm": 2.0}}, "['pretrain']", "'alpha_mlmm' was unexpected"),
        ({"tasks": {"names": ["sst2", "MNLI"]}}, "['tasks']['names'][1]", "'MNLI' does not match"),
        ({"tasks": {"max_length": "long"}}, "['tasks']['max_length']", "'long' is not of type 'integer'"),
        pytest.param(
            {"finetune": {"epochs": "three"}},
            "['finetune']['epochs']",
            "'three' is not of type 'integer'",
        ),
        ({"tokenizer": {"train": {"vocab_size": 65537}}}, "['tokenizer']['train']['vocab_size']", "maximum of 65536"),
    ],
    ids=["unknown key", "no name of a task", "wrong type", "wrong type in a training", "vocabulary too large"],
)
def test_a_wrong_config_is_refused_by_its_key(tmp_path, overlay, path, reason):
    """An unknown key, a name of no task, a wrong type and a value out of range: the message has path and reason."""
    done = snakemake(tmp_path, "--dry-run", overlays=[overlay])
    assert done.returncode != 0
    assert "Error validating config file" in done.stdout
    assert f"On instance{path}" in done.stdout
    assert reason in done.stdout
    assert not (tmp_path / "results").exists()


def test_an_unknown_task_is_refused(tmp_path):
    """One clear line names the key, the task and those that exist, before any job starts."""
    done = snakemake(tmp_path, "--dry-run", overlays=[{"tasks": {"names": ["sst2", "mnli"]}}])
    assert done.returncode != 0
    line = "tasks.names: no task 'mnli'; choose from sst2, mrpc, qqp, cola, rte, or describe it in tasks.custom"
    assert line in done.stdout.splitlines()


def test_a_corpus_folder_without_a_document_is_refused(tmp_path):
    """One clear line names key, folder and the endings that are read, before any job starts."""
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "notes.md").touch()
    done = snakemake(tmp_path, "--dry-run", overlays=[{"corpus": {"source": "folder", "folder": "articles"}}])
    assert done.returncode != 0
    line = "corpus.folder: no document in articles; looked for files ending in .parquet, .jsonl, .json, .txt"
    assert line in done.stdout.splitlines()


ONE_LAYER_SHORT = {"student": {"num_layers": 2, "teacher_layers": [0], "initialization": "random"}}


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (
            {"student": {"num_layers": 2, "teacher_layers": [0]}},
            "student.teacher_layers names 1 layers, num_layers is 2",
        ),
        (
            ONE_LAYER_SHORT | {"direct_distillation": {"initialization": "teacher"}},
            "student.teacher_layers names 1 layers, num_layers is 2",
        ),
        ({"tasks": {"max_length": 256}}, "tasks.max_length is 256, teacher.train.model.max_positions only 128"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, overlay, message):
    """Each is valid by the schema; a dry run names the keys and plans nothing."""
    done = snakemake(tmp_path, "--dry-run", overlays=[overlay])
    assert done.returncode != 0
    assert f"config: {message}" in done.stdout and "Job stats" not in done.stdout


def test_layers_that_no_student_copies_are_not_looked_at(tmp_path):
    """With random students, as their number may be left from another config."""
    assert snakemake(tmp_path, "--dry-run", "--quiet", overlays=[ONE_LAYER_SHORT]).returncode == 0


@pytest.mark.parametrize("name", ["paper", "coursework"])
@pytest.mark.parametrize("section", ["pretrain", "finetune", "direct_distillation"])
def test_a_published_recipe_is_spelled_out(name, section):
    """The presets that follow a publication name every key of their trainings."""
    preset = yaml.safe_load((ROOT / "workflow" / "presets" / f"{name}.yaml").read_text())
    assert set(DEFAULT[section]) == set(preset[section])


def profile(name: str) -> dict:
    """Return a shipped profile."""
    return yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_cluster_decides_on_reruns_as_one_machine_does(name):
    """Every key of the default profile stands in the others with its value, but for how much may run at once."""
    here, there = profile("default"), profile(name)
    assert {key: there.get(key) for key in here if key != "resources"} == {
        key: value for key, value in here.items() if key != "resources"
    }
    assert set(there["resources"]) < set(here["resources"])


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_cluster_gives_gpus_to_the_rules_that_ask_for_them(name):
    """Each rule that a profile names exists, and it gives a GPU to exactly those that take one where there is one."""
    source = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = dict(re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", source, re.MULTILINE | re.DOTALL))
    given = profile(name)["set-resources"]
    assert set(given) <= set(rules)
    assert {rule for rule in given if "gpu" in given[rule]} == {rule for rule in rules if "gpu=GPU" in rules[rule]}
