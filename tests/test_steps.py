"""Steps: each step's `main` called on tiny data, one building on the other, and what they leave behind."""

import csv
import json
import math
import os
import re
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torture import points

from distilbert import hub, task_training, wordpiece
from distilbert.files import read_json, sha256, write_csv, write_json, write_sealed_json
from distilbert.metrics import task_metric
from distilbert.sources import read_documents
from distilbert.steps import TrainingStep, require_positions
from distilbert.tasks import TASKS
from distilbert.tokens import TokenShards

TASK_NAMES = ["mrpc", "rte"]
TITLES, METRICS, YES = (
    {name: getattr(TASKS[name], field) for name in TASK_NAMES} for field in ("title", "metric", "yes")
)
SPLITS = ("train", "validation", "test")
CORPUS_SPLIT = {"validation_fraction": 0.1, "test_fraction": 0.1}
CODE = "step=0123456789ab\ndistilbert.model=ba9876543210"
TRAINING = {
    "batch_size": 16,
    "max_tokens_per_forward": 1024,
    "epochs": 1,
    "max_steps": 4,
    "learning_rate": 1e-3,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "weight_decay": 0.0,
    "warmup_fraction": 0.1,
    "max_gradient_norm": 5.0,
    "log_every": 2,
    "validations_per_epoch": 1,
    "precision": "float32",
}
MASKING = {"mlm_probability": 0.15, "mlm_smoothing": 0.7}
LOSS_WEIGHTS = {"alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_cos": 1.0, "temperature": 2.0, "restrict_ce_to_mask": False}
TASK_WEIGHTS = {"alpha_hard": 2.0, "alpha_soft": 5.0, "alpha_cos": 1.0, "temperature": 2.0}
DROPOUTS = {"dropout": 0.1, "attention_dropout": 0.1, "classifier_dropout": 0.1}
SHAPE = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 64,
    "max_positions": 48,
    **DROPOUTS,
}
APPROACHES = ("teacher", "pretrained", "direct", "scratch")
MODELS = [{"approach": a, "task": t, "seed": 1} for a in APPROACHES for t in TASK_NAMES]
ENCODERS = {"teacher": Path("teacher"), "pretrained": Path("student/pretrained"), "scratch": Path("student/random")}
TRAINED = ["teacher", "student/pretrained", *(f"models/{m['approach']}/{m['task']}" for m in MODELS)]
# What the model cards are told of the data.
SOURCES = {
    "corpus": {"source": "synthetic"},
    "tasks": {
        name: {field: getattr(TASKS[name], field) for field in ("title", "columns", "label_names", "metric")}
        | {"source": "synthetic"}
        for name in TASK_NAMES
    },
    "split": "official",
    "teacher": {"source": "train", "from": "random values"},
    "initializations": {"pretrained": "teacher", "direct": "random"},
    "teacher_layers": [1],
    "data": "generated",
}
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def main_of(step: str):
    return import_module(step).main


def outputs(folder: Path | str) -> dict[str, Path]:
    folder = Path(folder)
    return {
        "weights": folder / "model.safetensors",
        "curve": folder / "training.csv",
        "metrics": folder / "metrics.json",
    }


def encode(corpus: list[Path], tokenizer: Path, folder: Path) -> None:
    settings = {"split": CORPUS_SPLIT, "max_length": 32, "min_length": 8, "chunking": "all"}
    for path in corpus:
        files = {split: folder / path.stem / f"{split}.arrow" for split in SPLITS}
        manifest = folder / path.stem / "manifest.json"
        main_of("encode_shard")(
            corpus=path, tokenizer=tokenizer, manifest=manifest, settings=settings, code=CODE, **files
        )


def token_files(folder: Path) -> dict[str, list[Path]]:
    shards = {split: sorted(folder.glob(f"*/{split}.arrow")) for split in SPLITS}
    return shards | {"manifests": sorted(folder.glob("*/manifest.json"))}


def task_settings(task: str) -> dict:
    return {"task": task, "label_names": TASKS[task].label_names, "metric": TASKS[task].metric, "seed": 1}


def finetune(approach: str, task: str, folder: str, training: dict | None = None) -> None:
    main_of("finetune")(
        encoder=ENCODERS[approach] / "model.safetensors",
        train=Path(f"tasks/{task}/train.arrow"),
        validation=Path(f"tasks/{task}/validation.arrow"),
        tokenizer=Path("tokenizer.json"),
        settings=task_settings(task) | {"training": training or TRAINING},
        code=CODE,
        **outputs(folder),
    )


def distill(task: str, folder: str, *, teacher: str, weights: str) -> None:
    main_of("distill_task")(
        teacher=Path(weights),
        student=Path("student/random/model.safetensors"),
        train=Path(f"tasks/{task}/train.arrow"),
        validation=Path(f"tasks/{task}/validation.arrow"),
        tokenizer=Path("tokenizer.json"),
        settings=task_settings(task) | {"teacher": teacher, "training": TRAINING | TASK_WEIGHTS},
        code=CODE,
        **outputs(folder),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run every step once, from the generated corpus to the plots, and return the folder."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # models this small lose more to waiting than they gain
        run_all()
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def in_run(run, monkeypatch):
    """Stand in the folder of the run."""
    monkeypatch.chdir(run)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return run


def run_all() -> None:
    tokenizer = Path("tokenizer.json")
    corpus = [Path(f"corpus/shard-{i}.parquet") for i in range(2)]
    for shard, path in enumerate(corpus):
        main_of("generate_corpus_shard")(corpus=path, settings={"seed": 1, "shard": shard, "num_documents": 50})
    vocabulary = {"split": CORPUS_SPLIT, "vocab_size": 400, "lowercase": True}
    main_of("learn_vocabulary")(corpus=corpus, tokenizer=tokenizer, settings=vocabulary)
    encode(corpus, tokenizer, Path("tokens"))
    for task in TASK_NAMES:
        glue = {split: Path(f"glue/{task}/{split}.parquet") for split in ("train", "validation")}
        sizes = {"num_train": 80, "num_validation": 40}
        main_of("generate_task")(**glue, settings={"task": task, "seed": 1, **sizes})
        main_of("prepare_task")(
            train_source=glue["train"],
            validation_source=glue["validation"],
            tokenizer=tokenizer,
            manifest=Path(f"tasks/{task}/manifest.json"),
            settings={
                "task": task,
                "columns": TASKS[task].columns,
                "label_column": TASKS[task].label_column,
                "label_names": TASKS[task].label_names,
                "seed": 1,
                "split": "official",
                "max_length": 32,
                "max_train_examples": None,
            },
            code=CODE,
            **{split: Path(f"tasks/{task}/{split}.arrow") for split in SPLITS},
        )
    shards = token_files(Path("tokens"))
    main_of("train_teacher")(
        **shards,
        tokenizer=tokenizer,
        **outputs("teacher"),
        settings={"seed": 1, "training": TRAINING | MASKING, "model": SHAPE},
        code=CODE,
    )
    for name, layers in (("teacher", [1]), ("random", None)):
        main_of("initialize_student")(
            teacher=Path("teacher/model.safetensors"),
            tokenizer=tokenizer,
            weights=Path(f"student/{name}/model.safetensors"),
            settings={"seed": 1, "student": {"num_layers": 1, **DROPOUTS}, "teacher_layers": layers},
        )
    main_of("pretrain")(
        teacher=Path("teacher/model.safetensors"),
        student=Path("student/teacher/model.safetensors"),
        **shards,
        tokenizer=tokenizer,
        **outputs("student/pretrained"),
        settings={"seed": 1, "training": TRAINING | MASKING | LOSS_WEIGHTS},
        code=CODE,
    )
    folders = []
    for model in MODELS:
        approach, task = model["approach"], model["task"]
        folders.append(f"models/{approach}/{task}")
        if approach == "direct":
            weights = f"models/teacher/{task}/model.safetensors"
            distill(task, folders[-1], teacher="finetuned", weights=weights)
        else:
            finetune(approach, task, folders[-1])
    for approach in {model["approach"]: None for model in MODELS}:
        main_of("score_models")(
            models=[Path(f"models/{approach}/{name}/model.safetensors") for name in TASK_NAMES],
            tests=[Path(f"tasks/{name}/test.arrow") for name in TASK_NAMES],
            predictions=[Path(f"predictions/{approach}/{name}.arrow") for name in TASK_NAMES],
            metrics=[Path(f"predictions/{approach}/{name}.json") for name in TASK_NAMES],
            settings={"tasks": TASK_NAMES, "yes": YES, "precision": "float32"},
            code=CODE,
        )
    main_of("collect_results")(
        predictions=[Path(f"predictions/{model['approach']}/{model['task']}.arrow") for model in MODELS],
        metrics=[Path(f"predictions/{model['approach']}/{model['task']}.json") for model in MODELS],
        cross_evaluation=Path("cross_evaluation.csv"),
        summary=Path("summary.csv"),
        record=Path("summary.json"),
        settings={"models": MODELS, "metric": METRICS, "is_real_glue": False},
        code=CODE,
    )
    main_of("write_model_cards")(
        weights=[Path(folder) / "model.safetensors" for folder in TRAINED],
        cross_evaluation=Path("cross_evaluation.csv"),
        summary=Path("summary.json"),
        cards=[Path(folder) / "README.md" for folder in TRAINED],
        settings={
            "models": [
                {"path": f"results/{folder}", **names}
                for folder, names in zip(
                    TRAINED, [{"approach": "teacher"}, {"approach": "pretrained"}, *MODELS], strict=True
                )
            ],
            "sources": SOURCES,
        },
    )
    main_of("measure_efficiency")(
        teacher=Path("models/teacher/mrpc/model.safetensors"),
        student=Path("models/pretrained/mrpc/model.safetensors"),
        tests=[Path(f"tasks/{name}/test.arrow") for name in TASK_NAMES],
        table=Path("efficiency.csv"),
        record=Path("efficiency.json"),
        settings={},
        code=CODE,
    )
    main_of("write_summary")(
        record=Path("summary.json"),
        efficiency=Path("efficiency.json"),
        markdown=Path("summary.md"),
        html=Path("summary.html"),
        settings={"data": "generated", "title": TITLES},
    )
    main_of("collect_provenance")(
        records=[Path("teacher/metrics.json"), Path("predictions/direct/rte.json"), Path("efficiency.json")],
        table=Path("provenance.csv"),
        html=Path("provenance.html"),
        settings={"names": ["results/teacher", "results/direct", "results/efficiency"]},
    )
    figures = {
        name: {form: Path(f"plots/{name}.{form}") for form in ("png", "svg")}
        for name in ("accuracy", "cross", "curves", "efficiency")
    }
    data = {"data": "Generated demo tasks", "title": TITLES}
    main_of("plot_accuracy")(
        summary=Path("summary.csv"), cells=Path("cross_evaluation.csv"), settings=data, **figures["accuracy"]
    )
    main_of("plot_efficiency")(
        efficiency=Path("efficiency.json"), record=Path("summary.json"), settings=data, **figures["efficiency"]
    )
    main_of("plot_cross_evaluation")(
        cells=Path("cross_evaluation.csv"), record=Path("summary.json"), settings=data, **figures["cross"]
    )
    main_of("plot_training_curves")(
        pretraining=Path("student/pretrained/training.csv"),
        teacher=Path("teacher/training.csv"),
        finetuning=[Path(f"{folder}/training.csv") for folder in folders],
        settings={"models": MODELS, "title": TITLES, "metric": METRICS},
        **figures["curves"],
    )


def read_csv(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sequences(paths: list[Path]) -> list[list[int]]:
    shards = TokenShards(paths)
    return [shards[row].tolist() for row in range(len(shards))]


def tensors(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def test_the_manifest_counts_what_the_shards_hold(in_run):
    """Sequences, tokens, SHA-256 and word counts of every token shard are those of its files."""
    for manifest in Path("tokens").glob("*/manifest.json"):
        record = read_json(manifest)
        assert record["documents"] == 50
        for split in SPLITS:
            path = manifest.parent / f"{split}.arrow"
            shards = TokenShards([path])
            assert record["files"][split]["rows"] == len(shards)
            assert record["files"][split]["tokens"] == int(shards.lengths.sum())
            assert record["files"][split]["sha256"] == sha256(path)
            assert shards.lengths.min() >= 8
            assert shards.lengths.max() <= 32
        counts = record["token_counts"]
        assert len(counts) == TokenShards([manifest.parent / "train.arrow"]).vocabulary.size
        assert sum(counts) == record["files"]["train"]["tokens"]
        assert counts[2] == counts[3] == record["files"]["train"]["rows"]  # a [CLS] and a [SEP] each


@pytest.mark.parametrize("num_files", [1, 2, 5])
def test_token_shards_do_not_depend_on_how_the_corpus_is_cut(in_run, tmp_path, num_files):
    """The same documents in 1, 2 or 5 files give the same sequences in the same splits and order."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(Path("corpus").glob("*.parquet"))])
    bounds = [round(i * len(table) / num_files) for i in range(num_files + 1)]
    paths = [tmp_path / f"part-{i}.parquet" for i in range(num_files)]
    for path, start, end in zip(paths, bounds, bounds[1:], strict=False):
        pq.write_table(table.slice(start, end - start), path)
    encode(paths, Path("tokenizer.json"), tmp_path / "tokens")
    expected, found = token_files(Path("tokens")), token_files(tmp_path / "tokens")
    for split in SPLITS:
        assert len(found[split]) == num_files
        assert sequences(found[split]) == sequences(expected[split])


def test_a_corpus_file_without_text_is_refused(in_run, tmp_path):
    """A file whose documents are all empty is named, and no shard is written."""
    path = tmp_path / "blank.jsonl"
    path.write_text('{"text": " "}\n{"text": null}\n')
    with pytest.raises(ValueError, match="no document with any text") as caught:
        encode([path], Path("tokenizer.json"), tmp_path / "tokens")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "tokens").exists()


def test_the_vocabulary_is_learnt_from_training_documents_alone(in_run, tmp_path):
    """A letter that stands in held-out documents only is unknown to the tokenizer."""
    from distilbert.sources import split_of

    path = tmp_path / "corpus.jsonl"
    letters = {"train": "α", "validation": "β", "test": "γ"}
    rows = [{"id": str(i), "text": f"river {letters[split_of(str(i), **CORPUS_SPLIT)]}"} for i in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"split": CORPUS_SPLIT, "vocab_size": 100, "lowercase": True}
    main_of("learn_vocabulary")(corpus=[path], tokenizer=tmp_path / "t.json", settings=settings)
    tokenizer = wordpiece.load(tmp_path / "t.json")
    assert {text.split()[1] for _, text in read_documents(path)} == set("αβγ")
    assert [tokenizer.token_to_id(letter) is not None for letter in "αβγ"] == [True, False, False]


def test_prepared_tasks_hold_every_example(in_run):
    """Test is GLUE's validation file; the manifest counts examples, classes and tokens of each split."""
    for task in TASK_NAMES:
        manifest = read_json(f"tasks/{task}/manifest.json")
        source = pq.read_table(f"glue/{task}/validation.parquet")
        test = TokenShards([f"tasks/{task}/test.arrow"])
        assert test.labels.tolist() == source["label"].to_pylist()
        assert test.indices.tolist() == list(range(40))
        for split in SPLITS:
            shards = TokenShards([f"tasks/{task}/{split}.arrow"])
            assert manifest["files"][split]["rows"] == len(shards)
            assert sum(manifest["files"][split]["classes"].values()) == len(shards)
            assert manifest["files"][split]["tokens"] == int(shards.lengths.sum())
        assert manifest["files"]["train"]["rows"] + manifest["files"]["validation"]["rows"] <= 80


@pytest.mark.parametrize("folder", TRAINED)
def test_every_training_leaves_a_whole_model_folder(in_run, folder):
    """Weights, config, tokenizer, curve, event files, metrics and card, and nothing else."""
    others = {"training.csv", "tensorboard", "metrics.json", "README.md"}
    assert {path.name for path in Path(folder).iterdir()} == MODEL_FILES | others


@pytest.mark.parametrize("folder", TRAINED)
def test_event_files_have_the_points_of_the_curve(in_run, folder):
    """What TensorBoard reads of a training is its training.csv, in float32, each point once."""
    expected, found = {}, {}
    for row in read_csv(f"{folder}/training.csv"):
        for tag in row.keys() - {"step", "split"}:
            if row[tag]:
                expected[row["split"], int(row["step"]), tag] = pytest.approx(float(row[tag]), rel=1e-6)
    for split in ("train", "validation"):
        (path,) = Path(f"{folder}/tensorboard/{split}").iterdir()
        for step, tag, value in points(path):
            assert (split, step, tag) not in found
            found[split, step, tag] = value
    assert found == expected


@pytest.mark.parametrize("folder", TRAINED)
def test_every_model_card_quotes_its_run(in_run, folder):
    """`huggingface_hub` loads it; its scores are those of the tables or of the training's own test."""
    card = ModelCard.load(Path(folder) / "README.md")
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    if folder.startswith("models/"):
        approach, task = folder.split("/")[1:]
        row = next(
            row
            for row in read_csv("cross_evaluation.csv")
            if (row["approach"], row["trained_on"], row["evaluated_on"]) == (approach, task, task)
        )
        expected = {"accuracy": row["accuracy"], "f1": row["f1"], "matthews_correlation": row["mcc"]}
        assert found == {name: float(value) for name, value in expected.items()}
    else:
        test = read_json(f"{folder}/metrics.json")["test"]
        assert found == {"perplexity": math.exp(test["mlm"] if "mlm" in test else test["loss"])}
    num_parameters = sum(tensor.numel() for tensor in tensors(folder).values())
    assert f"{num_parameters:,} parameters" in card.text


@pytest.mark.parametrize("folder", TRAINED)
def test_metrics_say_where_they_come_from(in_run, folder):
    """Settings, code, git commit, versions, device, seconds and speed stand beside the figures."""
    metrics = read_json(f"{folder}/metrics.json")
    record = metrics["provenance"]
    assert record["code"] == {"step": "0123456789ab", "distilbert.model": "ba9876543210"}
    assert record["settings"]["seed"] == 1
    assert record["settings"]["training"]["batch_size"] == 16
    assert "git_commit" in record
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"]
    assert record["threads"] >= 1
    assert record["seconds"] >= record["train_seconds"] > 0
    seconds = metrics["num_tokens"] / record["tokens_per_second"]
    assert record["train_seconds"] == pytest.approx(seconds, abs=0.006)  # it is rounded to hundredths
    assert metrics["steps"] == 4
    assert metrics["num_tokens"] > 0


def test_the_pretraining_curve_has_all_four_losses(in_run):
    """loss, ce, mlm and cos, of training and of validation, and the loss is their weighted sum."""
    rows = read_csv("student/pretrained/training.csv")
    assert [(row["step"], row["split"]) for row in rows] == [("2", "train"), ("4", "train"), ("4", "validation")]
    for row in rows:
        ce, mlm, cos = (float(row[name]) for name in ("ce", "mlm", "cos"))
        assert min(ce, mlm, cos) > 0
        assert float(row["loss"]) == pytest.approx(5 * ce + 2 * mlm + cos, rel=1e-4)
    test = read_json("student/pretrained/metrics.json")["test"]
    assert test["loss"] == pytest.approx(5 * test["ce"] + 2 * test["mlm"] + test["cos"], rel=1e-4)


def test_the_teacher_is_scored_on_the_test_text(in_run):
    """The teacher's curve and metrics hold a loss of the size of an untrained masked LM's."""
    rows = read_csv("teacher/training.csv")
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert 3 < read_json("teacher/metrics.json")["test"]["loss"] < 7


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m['approach']}-{m['task']}")
def test_a_classifier_keeps_its_best_epoch(in_run, model):
    """The recorded best is the validation row of the highest score; the config names the task's labels."""
    folder = f"models/{model['approach']}/{model['task']}"
    validation = [row for row in read_csv(f"{folder}/training.csv") if row["split"] == "validation"]
    best = read_json(f"{folder}/metrics.json")["best"]
    assert best["score"] == max(float(row["score"]) for row in validation)
    assert best["score"] == task_metric(best, TASKS[model["task"]].metric)
    assert set(best) >= {"step", "epoch", "loss", "accuracy", "f1", "mcc"}
    names = {"mrpc": ["not_equivalent", "equivalent"], "rte": ["entailment", "not_entailment"]}[model["task"]]
    config = read_json(f"{folder}/config.json")
    assert config["id2label"] == {"0": names[0], "1": names[1]}
    assert config["model_type"] == ("bert" if model["approach"] == "teacher" else "distilbert")


def test_the_best_epoch_is_that_of_the_tasks_metric(in_run, tmp_path, monkeypatch):
    """MRPC keeps the epoch of the best mean of accuracy and F1, though another has the best accuracy."""
    accuracies, f1s = iter([0.8, 0.7, 0.6]), iter([0.3, 0.5, 0.4])
    figures = {"n": 40, "loss": 1.0, "mcc": 0.0}
    monkeypatch.setattr(task_training, "measure", lambda *_: figures | {"accuracy": next(accuracies), "f1": next(f1s)})
    finetune("pretrained", "mrpc", str(tmp_path), TRAINING | {"epochs": 3, "max_steps": None})
    best = read_json(tmp_path / "metrics.json")["best"]
    assert (best["epoch"], best["accuracy"], best["score"]) == (2.0, 0.7, 0.6)


def test_the_student_starts_from_the_teachers_layer(in_run):
    """Initialised from layer 1, the student has that layer's weights and the teacher's words; a random one has not."""
    teacher, copied, drawn = (tensors(folder) for folder in ("teacher", "student/teacher", "student/random"))
    theirs = "bert.encoder.layer.1.attention.output.dense.weight"
    ours = "distilbert.transformer.layer.0.attention.out_lin.weight"
    assert torch.equal(copied[ours], teacher[theirs])
    assert not torch.equal(drawn[ours], teacher[theirs])
    words = "embeddings.word_embeddings.weight"
    assert torch.equal(copied[f"distilbert.{words}"], teacher[f"bert.{words}"])
    assert not torch.equal(drawn[f"distilbert.{words}"], teacher[f"bert.{words}"])
    assert copied.keys() == drawn.keys()


def test_training_changed_the_weights(in_run):
    """The pretrained student is no longer the initial one."""
    before, after = tensors("student/teacher"), tensors("student/pretrained")
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before if name.endswith("lin.weight"))


@pytest.mark.parametrize("teacher", ["finetuned", "raw"])
def test_direct_distillation_is_repeatable_for_both_teachers(in_run, tmp_path, teacher):
    """Run again elsewhere it gives the same weights; a raw teacher (random classifier) gives others."""
    weights = {"finetuned": "models/teacher/rte/model.safetensors", "raw": "teacher/model.safetensors"}[teacher]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the run: the bits depend on the number of threads
    distill("rte", str(tmp_path / "again"), teacher=teacher, weights=weights)
    torch.set_num_threads(threads)
    first, again = tensors("models/direct/rte"), tensors(str(tmp_path / "again"))
    assert all(torch.equal(first[name], again[name]) for name in first) == (teacher == "finetuned")
    assert read_json(tmp_path / "again" / "metrics.json")["best"]["accuracy"] <= 1


def test_predictions_cover_every_test_set(in_run):
    """One row per test example of every task, labelled, in order; the number of examples is the same for all models."""
    for model in MODELS:
        table = pa.ipc.open_file(f"predictions/{model['approach']}/{model['task']}.arrow").read_all()
        assert table.column_names == ["evaluated_on", "idx", "label", "logit_0", "logit_1"]
        assert table["evaluated_on"].to_pylist() == ["mrpc"] * 40 + ["rte"] * 40
        assert table["idx"].to_pylist() == [*range(40), *range(40)]
        labels = [label for task in TASK_NAMES for label in TokenShards([f"tasks/{task}/test.arrow"]).labels.tolist()]
        assert table["label"].to_pylist() == labels


def test_a_score_reads_the_classes_of_the_scored_task(in_run, tmp_path):
    """Scored as RTE's own model, MRPC's model gives the same logits on RTE with its two classes exchanged."""
    paths = {trained_on: tmp_path / f"{trained_on}.arrow" for trained_on in TASK_NAMES}
    main_of("score_models")(
        models=[Path("models/pretrained/mrpc/model.safetensors")] * len(TASK_NAMES),
        tests=[Path("tasks/rte/test.arrow")] * len(TASK_NAMES),
        predictions=[*paths.values()],
        metrics=[path.with_suffix(".json") for path in paths.values()],
        settings={"tasks": TASK_NAMES, "yes": YES, "precision": "float32"},
        code=CODE,
    )
    found = {}
    for trained_on, path in paths.items():
        table = pa.ipc.open_file(path).read_all()
        found[trained_on] = table.filter(pc.equal(table["evaluated_on"], "rte"))
    assert found["mrpc"]["logit_0"] == found["rte"]["logit_1"]
    assert found["mrpc"]["logit_1"] == found["rte"]["logit_0"]


def test_the_matrix_has_a_row_per_model_and_test_set(in_run):
    """The columns and rows of cross_evaluation.csv, each with the same number of test examples."""
    rows = read_csv("cross_evaluation.csv")
    columns = "approach trained_on evaluated_on seed n loss accuracy f1 mcc".split()
    assert list(rows[0]) == columns
    expected = [(m["approach"], m["task"], name) for m in MODELS for name in TASK_NAMES]
    assert [(row["approach"], row["trained_on"], row["evaluated_on"]) for row in rows] == expected
    assert {row["n"] for row in rows} == {"40"}
    for row in rows:
        assert 0 <= float(row["accuracy"]) <= 1
        assert float(row["loss"]) > 0


def test_the_summary_is_the_diagonal(in_run):
    """Accuracy and majority class of each task and approach are those of the matrix and of the labels."""
    cells = {
        (r["approach"], r["trained_on"]): r
        for r in read_csv("cross_evaluation.csv")
        if r["trained_on"] == r["evaluated_on"]
    }
    rows = read_csv("summary.csv")
    assert len(rows) == len(MODELS)
    for row in rows:
        assert float(row["accuracy"]) == pytest.approx(float(cells[row["approach"], row["task"]]["accuracy"]))
        labels = TokenShards([f"tasks/{row['task']}/test.arrow"]).labels
        assert float(row["majority"]) == pytest.approx(max(labels.mean(), 1 - labels.mean()))
        assert float(row["accuracy_low"]) < float(row["accuracy"]) < float(row["accuracy_high"])
        assert float(row["score_low"]) <= float(row["score"]) <= float(row["score_high"])
        assert row["published"] == ""  # generated data is not compared with published figures
    assert set(read_json("summary.json")) == {"summary", "means", "majority", "provenance"}


def test_a_student_is_compared_with_its_teacher_on_the_same_examples(in_run):
    """The distance to the teacher is the difference of the scores, within its interval; the teacher has none."""
    rows = {(row["task"], row["approach"]): row for row in read_csv("summary.csv")}
    for (task, approach), row in rows.items():
        if approach == "teacher":
            assert row["to_teacher"] == ""
        else:
            distance = float(row["score"]) - float(rows[task, "teacher"]["score"])
            assert float(row["to_teacher"]) == pytest.approx(distance)
            assert float(row["to_teacher_low"]) <= distance <= float(row["to_teacher_high"])


def test_predictions_of_other_examples_are_refused(in_run, tmp_path):
    """Two models whose test labels differ are not compared; the message names the file."""
    folder = tmp_path / "predictions"
    shutil.copytree("predictions/direct", folder)
    table = pa.ipc.open_file(folder / "rte.arrow").read_all()
    flipped = table.set_column(table.column_names.index("label"), "label", pc.subtract(1, table["label"]))
    with pa.ipc.new_file(folder / "rte.arrow", flipped.schema) as writer:
        writer.write_table(flipped)
    write_sealed_json(folder / "rte.json", {"sha256": sha256(folder / "rte.arrow")})
    models = [{"approach": "direct", "task": task, "seed": 1} for task in TASK_NAMES]
    with pytest.raises(ValueError, match="rte.arrow: other test examples of mrpc"):
        main_of("collect_results")(
            predictions=[folder / f"{task}.arrow" for task in TASK_NAMES],
            metrics=[folder / f"{task}.json" for task in TASK_NAMES],
            **{name: tmp_path / name for name in ("cross_evaluation", "summary", "record")},
            settings={"models": models, "metric": METRICS, "is_real_glue": False},
            code=CODE,
        )


def test_sizes_are_those_of_the_models_and_speeds_are_positive(in_run):
    """Parameters are the tensors' elements, embeddings those of its tables; every speed has rounds and a spread."""
    rows = {row["measure"]: row for row in read_json("efficiency.json")["efficiency"]}
    for model, folder in (("teacher", "models/teacher/mrpc"), ("student", "models/pretrained/mrpc")):
        sizes = {name: value.numel() for name, value in tensors(folder).items()}
        tables = sum(size for name, size in sizes.items() if name.endswith("_embeddings.weight"))
        assert rows["parameters"][model] == sum(sizes.values())
        assert rows["parameters_without_embeddings"][model] == sum(sizes.values()) - tables
        assert rows["file"][model] == Path(folder, "model.safetensors").stat().st_size
    for name in ("latency", "throughput"):
        row = rows[name]
        assert (row["device"], row["threads"], row["precision"]) == ("cpu", 1, "float32")
        assert row["rounds"] >= 5
        for figure in ("teacher", "student", "ratio"):
            assert 0 < row[f"{figure}_low"] <= row[figure] <= row[f"{figure}_high"]
    assert (rows["latency"]["examples"], rows["throughput"]["examples"]) == (32, 80)  # all that there are: 2 tasks x 40


def test_the_provenance_shows_every_record(in_run):
    """A row and a foldable entry per record, by users' name for it, with its settings; the shared versions once."""
    rows = read_csv("provenance.csv")
    names = ["results/teacher", "results/direct", "results/efficiency"]
    assert [row["record"] for row in rows] == names
    assert all(float(row["seconds"]) >= 0 for row in rows)
    page = Path("provenance.html").read_text()
    assert page.count("<details>") == len(names)
    assert "&quot;mlm_probability&quot;: 0.15" in page
    assert page.count(f"torch {torch.__version__}") == 1
    commits = {row["git_commit"] for row in rows}
    assert {f"{commit[:12]}{'+' * commit.endswith('+')}" for commit in commits} <= set(
        re.findall("<td>(.*?)</td>", page)
    )


def test_the_page_says_that_the_data_is_generated(in_run):
    """summary.md names the demo's data and shows every task and approach, size and speed; so does summary.html."""
    page = Path("summary.md").read_text()
    assert "generated" in page
    assert "Latency, one example at a time (ms)" in page
    assert re.search(
        r"The pretrained student is \d+ % (smaller|larger) and \d+ % (faster|slower) than its teacher", page
    )
    assert "The paper's metric is mean of accuracy and F1 for MRPC; accuracy for RTE." in page
    html = Path("summary.html").read_text()
    assert html.count("<tr>") == sum(line.startswith("| ") for line in page.splitlines())
    for title in (
        "MRPC",
        "RTE",
        "Teacher, fine-tuned",
        "Student, pretrained",
        "Student, direct distillation",
        "Student, not pretrained",
    ):
        assert title in page


@pytest.mark.parametrize("name", ["accuracy", "cross", "curves", "efficiency"])
def test_the_plots_are_drawn(in_run, name):
    """Each figure is a real PNG and a real SVG of some size."""
    png, svg = Path(f"plots/{name}.png").read_bytes(), Path(f"plots/{name}.svg").read_text()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) > 5000
    assert "<svg" in svg
    assert svg.rstrip().endswith("</svg>")


def test_the_matrix_is_drawn_without_the_scratch_models(in_run, tmp_path):
    """`finetune.scratch: false` leaves three approaches, an odd number of panels: the figure is drawn all the same."""
    rows = [row for row in read_csv("cross_evaluation.csv") if row["approach"] != "scratch"]
    write_csv(tmp_path / "cells.csv", rows)
    forms = {form: tmp_path / f"cross.{form}" for form in ("png", "svg")}
    main_of("plot_cross_evaluation")(
        cells=tmp_path / "cells.csv", record=Path("summary.json"), settings={"data": "demo", "title": TITLES}, **forms
    )
    assert all(path.stat().st_size > 5000 for path in forms.values())


def test_exports_are_what_transformers_loads(in_run, tmp_path):
    """Teacher, student and a classifier agree with `transformers`; other weights are refused by name."""
    folders = ["teacher", "student/pretrained", "models/teacher/rte", "models/direct/mrpc"]
    models = [Path(folder) / "model.safetensors" for folder in folders]
    names = {"models": [f"results/{folder}" for folder in folders]}
    main_of("verify_exports")(models=models, report=tmp_path / "exports.json", settings=names, code=CODE)
    report = read_json(tmp_path / "exports.json")
    assert list(report["largest_relative_difference"]) == sorted(names["models"])
    assert max(report["largest_relative_difference"].values()) <= report["tolerance"] == 1e-4

    verify = main_of("verify_exports").__globals__
    other, load = Path("models/direct/rte"), verify["load_classifier"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(verify, "load_classifier", lambda _, vocabulary: load(other, vocabulary))
        with pytest.raises(ValueError, match="models/direct/mrpc: logits differ from those of transformers"):
            verify["main"](models=[models[-1]], report=tmp_path / "no.json", settings={"models": ["a"]}, code=CODE)
    assert not (tmp_path / "no.json").exists()


def test_a_teacher_grows_from_a_checkpoint_without_a_head(in_run, tmp_path):
    """`init` from a plain encoder: the shape is the checkpoint's, and after no-op steps so are its weights."""
    headless = tmp_path / "encoder"
    headless.mkdir()
    kept = {
        name.removeprefix("bert."): value for name, value in tensors("teacher").items() if not name.startswith("cls.")
    }
    assert len(kept) < len(tensors("teacher"))
    save_file(kept, headless / "model.safetensors", metadata={"format": "pt"})
    write_json(headless / "config.json", read_json("teacher/config.json") | {"architectures": ["BertModel"]})
    main_of("train_teacher")(
        **token_files(Path("tokens")),
        tokenizer=Path("tokenizer.json"),
        init=headless / "model.safetensors",
        **outputs(tmp_path / "teacher"),
        settings={"seed": 1, "training": TRAINING | MASKING | {"max_steps": 1, "learning_rate": 1e-12}},
        code=CODE,
    )
    written = tensors(str(tmp_path / "teacher"))
    assert written.keys() == tensors("teacher").keys()
    for name, value in kept.items():
        torch.testing.assert_close(written[f"bert.{name}"], value, rtol=0, atol=1e-8)


def test_a_teacher_is_taken_over_unchanged(in_run, tmp_path):
    """import_teacher copies weights and config byte for byte and puts the tokenizer beside them."""
    weights = tmp_path / "teacher" / "model.safetensors"
    main_of("import_teacher")(
        tokenizer=Path("tokenizer.json"), weights=weights, settings={}, source=Path("teacher/model.safetensors")
    )
    assert {path.name for path in weights.parent.iterdir()} == MODEL_FILES
    for name in ("model.safetensors", "config.json"):
        assert sha256(weights.parent / name) == sha256(Path("teacher") / name)


def test_a_teacher_of_another_vocabulary_is_refused(in_run, tmp_path):
    """A teacher whose word embeddings are not the tokenizer's is refused before anything is written."""
    other = wordpiece.learn(lambda: ["river bridge"] * 9, vocab_size=100, lowercase=True)
    (tmp_path / "tokenizer.json").write_text(other.to_str())
    with pytest.raises(ValueError, match=r"teacher/tokenizer.json: .* has id \d+, in the corpus.s tokenizer None"):
        main_of("import_teacher")(
            tokenizer=tmp_path / "tokenizer.json",
            weights=tmp_path / "teacher" / "model.safetensors",
            settings={},
            source=Path("teacher/model.safetensors"),
        )
    assert not (tmp_path / "teacher").exists()


def test_a_tokenizer_is_taken_over_from_a_folder(in_run, tmp_path):
    """import_tokenizer writes a tokenizer that reads text as the source does."""
    output = tmp_path / "tokenizer.json"
    main_of("import_tokenizer")(tokenizer=output, settings={}, source=Path("teacher/tokenizer.json"))
    text = "The river is near the old bridge."
    assert wordpiece.load(output).encode(text).ids == wordpiece.load(Path("tokenizer.json")).encode(text).ids


def test_nothing_unfinished_is_left(in_run):
    """No temporary file stays anywhere, and the weights are plain float32 safetensors."""
    assert [path for path in Path().rglob("*.tmp")] == []
    with safe_open("student/pretrained/model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}


REVISION = "0" * 40


def test_a_file_of_the_hub_is_copied_whole(tmp_path, monkeypatch):
    """`fetch` asks for the file at its commit and puts the cached copy, whole, where it is wanted."""
    cached = tmp_path / "cache" / "blob"
    cached.parent.mkdir()
    cached.write_bytes(os.urandom(100_000))
    asked = []
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **named: asked.append((args, named)) or str(cached))
    output = tmp_path / "out" / "train.parquet"
    hub.fetch("nyu-mll/glue", REVISION, "rte/train.parquet", output, kind="dataset")
    assert output.read_bytes() == cached.read_bytes()
    assert list(output.parent.iterdir()) == [output]
    assert asked == [(("nyu-mll/glue", "rte/train.parquet"), {"revision": REVISION, "repo_type": "dataset"})]


@pytest.mark.parametrize("error", [OSError("no route\nto host"), LocalEntryNotFoundError("not in the cache")])
def test_a_file_that_the_hub_does_not_give_is_named(tmp_path, monkeypatch, error):
    """One line with repository, commit, file and reason; nothing is left behind."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    monkeypatch.setattr(hub, "WAITS", ())
    with pytest.raises(ValueError) as caught:
        hub.fetch("nyu-mll/glue", REVISION, "rte/train.parquet", tmp_path / "out" / "x.parquet", kind="dataset")
    message = str(caught.value)
    assert message.startswith(f"dataset nyu-mll/glue@{REVISION}: cannot fetch rte/train.parquet: no")
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """A disk that is full while the cached file is copied leaves no half file."""
    cached = tmp_path / "blob"
    cached.write_bytes(b"whole")

    def half(_, target):
        Path(target).write_bytes(b"ha")
        raise OSError("no space left")

    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: str(cached))
    monkeypatch.setattr(hub.shutil, "copyfile", half)
    with pytest.raises(OSError, match="no space left"):
        hub.fetch("a/b", REVISION, "x", tmp_path / "out" / "x", kind="model")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_change_of_the_config_alone_is_another_training(in_run, tmp_path):
    """Weights can be the same where config.json is not (a dropout): checkpoints of one are not resumed by the other."""
    folders = []
    for dropout in (0.0, 0.1):
        folder = tmp_path / str(dropout)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"the same")
        (folder / "config.json").write_text(f'{{"dropout": {dropout}}}')
        step = TrainingStep(
            tokenizer=Path("t"),
            weights=Path("results/m/model.safetensors"),
            curve=Path("c"),
            metrics=Path("m"),
            settings={},
            code="a=b",
            inputs=[folder / "model.safetensors"],
        )
        folders.append(step.checkpoints.folder)
    assert folders[0] != folders[1]


def test_sequences_longer_than_the_positions_are_refused(make_shards, bert_config):
    """A model of 8 positions is refused sequences of more, by name, before a step is done."""
    with pytest.raises(ValueError, match=r"task x has sequences of \d+ tokens, the model positions for 8"):
        require_positions(replace(bert_config, max_positions=8), make_shards(), "task x")
