"""Own data: the example of docs/your-own.md is planned as it says, and run, on small files, from text to figures."""

import csv
import json
import random
import re

import pytest
import yaml
from test_workflow import ROOT, job_counts, snakemake

from distilbert import wordpiece
from distilbert.config import EncoderConfig
from distilbert.export import write_model
from distilbert.files import read_json
from distilbert.model import MaskedLM
from distilbert.synthetic import generate_documents, generate_task

EXAMPLE = yaml.safe_load(
    re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "your-own.md").read_text(encoding="utf-8"), re.DOTALL)[1]
)
# The example at a size for tests: one task of one's own less, and trainings of a few steps.
STEPS = {"max_steps": 4, "epochs": 1}
SMALL = {
    "corpus": {"max_length": 32},
    "student": {"num_layers": 1, "teacher_layers": [3]},
    "pretrain": STEPS,
    "tasks": {"names": ["reviews", "same_question"], "max_length": 32},
    "finetune": STEPS | {"scratch": False},
    "direct_distillation": STEPS,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder in which all files lie that the example names."""
    folder = tmp_path_factory.mktemp("own")
    texts = [row["text"] for row in generate_documents(seed=1, shard=0, num_documents=60)]
    (folder / "data" / "articles" / "deep").mkdir(parents=True)
    (folder / "data" / "articles" / "a.txt").write_text("\n\n".join(" ".join(text.split()) for text in texts[:30]))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[30:])
    (folder / "data" / "articles" / "deep" / "b.jsonl").write_text(lines)
    write_teacher(folder / "data" / "teacher", texts)
    sizes = {"seed": 1, "num_train": 60, "num_validation": 30}
    for split, rows in generate_task("sst2", **sizes).items():
        path = folder / "data" / "reviews" / f"{'train' if split == 'train' else 'test'}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["number", "text", "label"])
            for row in rows:  # a comma, a quotation mark, a line within a field; labels as names
                text = f'{row["sentence"]}, "they said"\nand so'
                writer.writerow([row["idx"], text, ["negative", "positive"][row["label"]]])
    for split, rows in generate_task("qqp", **sizes).items():
        path = folder / "data" / "questions" / f"{'train' if split == 'train' else 'test'}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        examples = [{"first": r["question1"], "second": r["question2"], "is_same": r["label"]} for r in rows]
        path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return folder


def write_teacher(folder, texts: list[str]) -> None:
    """Write a BERT of 4 layers as `save_pretrained` would, tokenizer and all."""
    tokenizer = wordpiece.learn(lambda: texts, vocab_size=300, lowercase=True)
    vocabulary = wordpiece.vocabulary_of(tokenizer)
    shape = {"hidden_size": 32, "num_layers": 4, "num_heads": 2, "intermediate_size": 64, "max_positions": 64}
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "source.json"))
    config = EncoderConfig(family="bert", vocab_size=vocabulary.size, type_vocab_size=2, **shape)
    write_model(MaskedLM(config), folder, folder / "source.json")


def test_the_example_plans_every_job(folder, tmp_path):
    """As the page has it: two shards, nothing generated but SST-2, three tasks, each trained on and scored by all."""
    overlay = {"corpus": {"folder": str(folder / "data" / "articles")}}
    (tmp_path / "data").symlink_to(folder / "data")
    done = snakemake(tmp_path, "--dry-run", overlays=[EXAMPLE, overlay])
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert counts.pop("total") == sum(counts.values())
    assert counts == {
        "all": 1,
        "import_tokenizer": 1,
        "import_teacher": 1,
        "encode_shard": 2,
        "initialize_student": 2,
        "pretrain": 1,
        "generate_task": 1,
        "prepare_task": 3,
        "finetune": 9,
        "distill_task": 3,
        "score_models": 4,
        "collect_results": 1,
        "verify_exports": 1,
        "measure_efficiency": 1,
        "write_summary": 1,
        "write_model_cards": 1,
        "collect_provenance": 1,
        "plot_accuracy": 1,
        "plot_cross_evaluation": 1,
        "plot_efficiency": 1,
        "plot_training_curves": 1,
    }


@pytest.fixture(scope="module")
def finished(folder):
    """Run the example at its small size, up to the tables and figures, and return the folder."""
    figures = ("accuracy", "cross_evaluation", "efficiency", "training_curves")
    targets = [f"results/plots/{figure}.png" for figure in figures]
    done = snakemake(folder, "results/summary.md", *targets, overlays=[EXAMPLE, SMALL])
    assert done.returncode == 0, done.stdout
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def test_the_cost_is_said_before_anything_starts(finished):
    """Once, before the first job, and of these very files: a few hundred kilobytes at most."""
    printed = (finished / "printed.txt").read_text()
    assert printed.count("What all of this costs, done from the beginning (an estimate):") == 1
    assert printed.index("What all of this costs") < printed.index("rule ")
    assert re.search(
        r"^  corpus +\d+(\.\d+)? thousand tokens \(\d+(\.\d+)? kB of text, by the sizes of 2 files\)", printed, re.M
    )


def test_the_example_runs_to_tables_and_figures(finished):
    """Every model is scored on both own tasks; the tables call them by their titles and have no published score."""
    with (finished / "results" / "cross_evaluation.csv").open(newline="") as file:
        cells = {(row["approach"], row["trained_on"], row["evaluated_on"]): row for row in csv.DictReader(file)}
    own = ("reviews", "same_question")
    assert set(cells) == {(a, t, e) for a in ("pretrained", "teacher", "direct") for t in own for e in own}
    assert {row["n"] for row in cells.values()} == {"30"}
    page = (finished / "results" / "summary.md").read_text()
    assert "Data: Own tasks." in page
    assert "| Reviews | Student, pretrained | 30 |" in page
    assert "mean of accuracy and F1" in page
    assert "published for" not in page
    svg = (finished / "results" / "plots" / "cross_evaluation.svg").stat()
    assert svg.st_size > 5000


def test_exported_models_have_the_names_of_the_own_classes(finished):
    """A classifier's config names the classes as the user does."""
    for task, names in (("reviews", ["negative", "positive"]), ("same_question", ["no", "yes"])):
        for approach in ("pretrained", "direct"):
            config = read_json(finished / "results" / "models" / approach / task / "seed1" / "config.json")
            assert config["id2label"] == {"0": names[0], "1": names[1]}


def test_nothing_is_left_to_do(finished):
    """The same command again finds every figure made."""
    done = snakemake(finished, "--dry-run", "results/plots/accuracy.png", overlays=[EXAMPLE, SMALL])
    assert "Nothing to be done" in done.stdout


def test_a_wrong_row_of_an_own_file_is_named(folder, tmp_path):
    """One line on the terminal names rule, file, line, the label and the classes, and no output is left."""
    rows = (folder / "data" / "questions" / "train.jsonl").read_text().splitlines()
    rows[6] = json.dumps(json.loads(rows[6]) | {"is_same": "maybe"})
    (tmp_path / "data").mkdir()
    for name in ("articles", "teacher", "reviews"):
        (tmp_path / "data" / name).symlink_to(folder / "data" / name)
    (tmp_path / "data" / "questions").mkdir()
    (tmp_path / "data" / "questions" / "train.jsonl").write_text("\n".join(rows))
    (tmp_path / "data" / "questions" / "test.jsonl").write_text(random.Random(1).choice(rows[:5]))
    done = snakemake(tmp_path, "results/tasks/same_question/manifest.json", overlays=[EXAMPLE, SMALL])
    assert done.returncode != 0
    reason = "data/questions/train.jsonl: line 7: label 'maybe' is not a class of same_question: 0 (no), 1 (yes)"
    log = "logs/prepare_task/same_question.log"
    assert done.stdout.splitlines().count(f"prepare_task: {reason} (more in {log})") == 1
    assert not list((tmp_path / "results" / "tasks").rglob("*.arrow"))
