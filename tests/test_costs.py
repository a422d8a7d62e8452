"""Costs: tokens, FLOPs and bytes are near the truth, the hours say what they assume, and nothing stops a run."""

import gzip
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from reruns import ROOT, merged
from test_workflow import snakemake

from distilbert import costs, wordpiece
from distilbert.costs import BERT_BASE, Cost, Device, corpus_tokens, estimate, in_words, passes, text_bytes
from distilbert.synthetic import generate_documents
from distilbert.tasks import Task, choose_tasks

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
H100 = Device("NVIDIA H100", 989e12, "its maker's peak", 1)


def config_of(preset: str | None = None, overlay: dict | None = None) -> dict:
    """Return the shipped config under a preset and an overlay."""
    preset_config = yaml.safe_load((ROOT / "workflow" / "presets" / f"{preset}.yaml").read_text()) if preset else {}
    return merged(merged(CONFIG, preset_config), overlay or {})


def cost_of(config: dict, *, shards: list[str] | None = None, task_files: dict | None = None) -> Cost:
    """Return the cost of a config whose files lie nowhere yet, but for those that are given."""
    tasks = choose_tasks(config["tasks"]["names"], config["tasks"]["custom"])
    is_hub = config["corpus"]["source"] == "hub"
    count = config["corpus"]["hub"]["num_shards"] if is_hub else config["corpus"]["synthetic"]["num_shards"]
    nowhere = {name: {"train": f"absent/{name}.csv", "validation": f"absent/{name}.csv"} for name in tasks}
    absent = [f"results/corpus/{i}.parquet" for i in range(count)][: config["corpus"]["max_shards"]]
    return estimate(config, shards or absent, tasks, nowhere | (task_files or {}))


def test_the_tokens_of_the_demo_are_counted(tmp_path):
    """A sample of the generated articles, in a vocabulary of the demo's size, has as many tokens as are said."""
    texts = [row["text"] for row in generate_documents(seed=1, shard=0, num_documents=600)]
    encoder = wordpiece.learn(lambda: texts, vocab_size=2000, lowercase=True)
    windows = wordpiece.encode_examples(encoder, [(text,) for text in texts], max_length=64)
    tokens, basis = corpus_tokens(CONFIG["corpus"], ["a"] * 4)
    assert basis == "8,000 generated documents"
    assert tokens / 8000 == pytest.approx(sum(map(len, windows)) / len(texts), rel=0.1)


def test_the_tokens_of_a_folder_are_told_by_its_files(tmp_path):
    """4,550,000 bytes of text are a million tokens, plain, as parquet and packed; first windows by the documents."""
    text = "word " * 910
    pq.write_table(
        pa.table({"text": [f"{i:04}{text}" for i in range(1000)], "url": ["x" * 999] * 1000}), tmp_path / "a.parquet"
    )
    (tmp_path / "a.txt").write_text(text * 1000)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(os.urandom(1_516_667)))
    corpus = CONFIG["corpus"] | {"source": "folder", "chunking": "all", "max_length": 128}
    for name in ("a.parquet", "a.txt", "a.txt.gz"):
        tokens, basis = corpus_tokens(corpus, [str(tmp_path / name)])
        assert tokens == pytest.approx(1e6, rel=0.02), name
        assert re.fullmatch(r"4\.5\d MB of text, by the size of one file", basis)
    first, _ = corpus_tokens(corpus | {"chunking": "first"}, [str(tmp_path / "a.parquet")])
    assert first == pytest.approx(1000 * 128 * 0.68)


def test_a_damaged_or_absent_file_stops_nothing(tmp_path):
    """What is no parquet counts by its size, what is not there as nothing: the step that reads it will tell."""
    (tmp_path / "a.parquet").write_bytes(b"x" * 1000)
    assert text_bytes(tmp_path / "a.parquet", ("text",)) == 3000
    assert text_bytes(tmp_path / "b.parquet", ("text",)) == 0
    own = {"teacher": {"source": "folder", "folder": str(tmp_path)}}
    (tmp_path / "config.json").write_text("[]")
    assert costs.teacher_shape(config_of(overlay=own)) == BERT_BASE


def test_the_hub_is_counted_by_what_its_card_says():
    """All 41 files, a part of them, and a repository of which nothing is said."""
    cost = cost_of(config_of("paper"))
    assert cost.tokens == pytest.approx(20.2e9 / 4.55, rel=0.001)
    part = cost_of(config_of("paper", {"corpus": {"max_shards": 10}}))
    assert part.tokens == pytest.approx(cost.tokens * 10 / 41)
    unknown = cost_of(config_of("paper", {"corpus": {"hub": {"num_bytes": None}}}))
    assert unknown.tokens is None
    assert "unknown, because corpus.hub.num_documents and num_bytes are not given" in in_words(unknown, H100)


def test_max_steps_cut_a_training_short():
    """Epochs of whole steps, or as many as there may be."""
    training = {"epochs": 3, "batch_size": 10, "max_steps": None}
    assert passes(training, 2000, 20) == (6000, 30)
    assert passes(training | {"max_steps": 40}, 2000, 20) == (6000, 30)
    assert passes(training | {"max_steps": 10}, 2000, 20) == (2000, 10)


def test_own_tasks_are_counted_by_their_files(tmp_path):
    """Twice the text is twice the tokens; a task whose files are not there yet costs nothing."""
    description = {"title": None, "columns": ["text"], "label_column": "label", "label_names": ["a", "b"]}
    description |= {"yes_class": 1, "metric": "accuracy", "train": "t.csv", "test": "u.csv"}
    config = config_of(overlay={"tasks": {"names": ["own"], "custom": {"own": description}}})
    path = tmp_path / "t.csv"
    seen = []
    for count in (0, 1000, 2000):
        path.write_text("some words of a text,1\n" * count)
        cost = cost_of(config, task_files={"own": {"train": str(path), "validation": str(path)}})
        seen.append(sum(work.tokens for work in cost.work if work.stage == "fine-tuning"))
    assert seen[0] == 0
    assert seen[2] == pytest.approx(2 * seen[1])
    assert isinstance(choose_tasks(["own"], config["tasks"]["custom"])["own"], Task)


# Preset -> what is said of it for an H100.
SAID = {
    None: [r"corpus +248 thousand tokens \(8,000 generated documents\)", r"teacher +670 thousand tokens"],
    "paper": [
        r"corpus +4\.44 billion tokens \(6,407,814 documents of 20\.2 GB, as corpus\.hub says\)",
        r"pretraining +13\.2 billion tokens, 8\.3e\+18 FLOP, 5\.8 h",
        r"fine-tuning +845 million tokens",
        r"disk +66\.9 GB: downloads \(in results/ and in \$HF_HOME\) 24\.1 GB, token shards 8\.88 GB, models 32\.2 GB",
    ],
    "coursework": [r"corpus +558 million tokens", r"pretraining +446 million tokens, 3\.0e\+17 FLOP, 27 min"],
    "minilm": [
        r"corpus +739 thousand tokens \(3\.36 MB of text, by the sizes of 2 files\)",
        r"teacher +334 thousand tokens",
        r"pretraining +250 thousand tokens",
    ],
    "minilm-long": [
        r"teacher +709 thousand tokens",
        r"pretraining +709 thousand tokens",
        r"scores +130 million tokens",
    ],
}


@pytest.mark.parametrize("preset", SAID)
def test_every_preset_says_what_it_costs(preset, tmp_path):
    """Its tokens, FLOPs, disk and hours, and of the hours what they assume."""
    assert {path.stem for path in (ROOT / "workflow" / "presets").glob("*.yaml")} == {name for name in SAID if name}
    config = config_of(preset)
    shards = None
    if preset in ("minilm", "minilm-long"):  # they read a folder: two files of as many articles as its own
        shards = [str(tmp_path / f"{i}.parquet") for i in range(2)]
        for path in shards:
            pq.write_table(pa.table({"text": [f"{i:06}" + "word " * 50 for i in range(6435)]}), path)
    text = in_words(cost_of(config, shards=shards), H100)
    assert text.startswith("What all of this costs, done from the beginning (an estimate):\n")
    for expected in SAID[preset]:
        assert re.search(rf"^  {expected}", text, re.MULTILINE), text
    assert re.search(r"^  in all +\S+ (h|min|s), with \d+ jobs, without downloads and encoding$", text, re.M)
    on = "on +NVIDIA H100: 989 TFLOP/s (its maker's peak), of which 40% are taken to be reached"
    assert re.search(rf"^  {re.escape(on).replace(re.escape(' +'), ' +')}$", text, re.MULTILINE)


def test_a_device_of_unknown_speed_has_no_hours():
    """The rest is said all the same."""
    text = in_words(cost_of(config_of("paper")), Device("Some GPU", None, "", 1))
    assert "hours               " in text
    assert "nothing is known of the speed of Some GPU" in text
    assert "13.2 billion tokens" in text


@pytest.mark.parametrize(
    "name,peak",
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Tesla T4", 8.1e12),
        ("NVIDIA GeForce RTX 4070", 58e12),
        ("Some GPU", None),
    ],
)
def test_a_gpu_is_known_by_its_name(tmp_path, monkeypatch, name, peak):
    """What nvidia-smi prints decides, the longer of two names first."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{name}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    device = costs.this_device(8)
    assert (device.name, device.peak, device.num_jobs) == (name, peak, 1)


def test_without_a_gpu_the_cpu_is_measured(tmp_path, monkeypatch):
    """No nvidia-smi, or one that fails: the CPU, by the product of two matrices."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    device = costs.this_device(2)
    assert "cores" in device.name
    assert 1e8 < device.peak < 1e14
    assert (device.basis, device.num_jobs) == ("measured just now", 2)


def test_snakemake_cost_prints_it_and_makes_nothing(tmp_path):
    """The target of a user who wants to know first."""
    done = snakemake(tmp_path, "cost")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("What all of this costs") == 1
    assert re.search(r"^  corpus +248 thousand tokens", done.stdout, re.MULTILINE)
    assert re.search(r"^  in all ", done.stdout, re.MULTILINE)
    assert not (tmp_path / "results").exists()


def test_a_dry_run_does_not_measure(tmp_path):
    """`snakemake -n` prints jobs, not cost, and so takes no time for it."""
    done = snakemake(tmp_path, "--dry-run", "--quiet", "rules")
    assert done.returncode == 0, done.stdout
    assert "What all of this costs" not in done.stdout
