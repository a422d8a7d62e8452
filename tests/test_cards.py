"""Model cards: what `huggingface_hub` reads in them is this run's, and the text says what must be said.

`ModelCard.validate` asks the Hub, which no test may; what it can read back without a network is held here.
"""

import math
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import save_file

from distilbert.cards import Sources, TrainedModel, model_card
from distilbert.files import write_json

REVISION = "0123456789" * 4


def tasks_of(**source: str) -> dict[str, dict]:
    """Return what the cards are told of a GLUE task of sentences and one of pairs, both of a source."""
    facts = {"columns": ["sentence"], "label_names": ["unacceptable", "acceptable"], "metric": "mcc"}
    pair = {"columns": ["sentence1", "sentence2"], "label_names": ["not", "equivalent"], "metric": "accuracy_f1"}
    return {"cola": {"title": "CoLA", **facts, **source}, "mrpc": {"title": "MRPC", **pair, **source}}


GENERATED = Sources(
    corpus={"source": "synthetic"},
    tasks=tasks_of(source="synthetic"),
    split="official",
    teacher={"source": "train", "from": "random values"},
    initializations={"pretrained": "teacher", "direct": "random"},
    teacher_layers=[0, 2],
    data="Generated demo tasks",
)
HUB = Sources(
    corpus={"source": "hub", "repository": "wikimedia/wikipedia", "revision": REVISION},
    tasks=tasks_of(source="hub", repository="nyu-mll/glue", revision=REVISION),
    split="official",
    teacher={"source": "hub", "repository": "google-bert/bert-base-uncased", "revision": REVISION},
    initializations={"pretrained": "random", "direct": "pretrained"},
    teacher_layers=None,
    data="GLUE",
)
FOLDERS = Sources(
    corpus={"source": "folder"},
    tasks=tasks_of(source="own"),
    split="coursework",
    teacher={"source": "folder"},
    initializations={"pretrained": "random", "direct": "teacher"},
    teacher_layers=[1, 3],
    data="Own tasks",
)
# approach -> what its training was told beside the batch size.
TRAININGS = {
    "teacher": {},
    "scratch": {},
    "pretrained": {"alpha_ce": 5, "alpha_mlm": 2, "alpha_cos": 1, "temperature": 2, "restrict_ce_to_mask": False},
    "direct": {"alpha_hard": 2, "alpha_soft": 5, "alpha_cos": 1, "temperature": 2},
}
CORPUS_MODELS = ("teacher", "pretrained")
KINDS = [(approach, None) for approach in CORPUS_MODELS] + [(a, t) for a in TRAININGS for t in ("cola", "mrpc")]


def cell(approach: str, task: str, accuracy: float) -> dict:
    names = {"approach": approach, "trained_on": task, "evaluated_on": task, "seed": 3}
    return names | {"n": 400, "loss": 0.5, "accuracy": accuracy, "f1": 0.75, "mcc": 0.25}


def summary_row(approach: str, task: str) -> dict:
    figures = {"accuracy": 0.81, "accuracy_low": 0.77, "accuracy_high": 0.84, "majority": 0.68, "score": 0.25}
    metric = "mcc" if task == "cola" else "accuracy_f1"
    return {"task": task, "approach": approach, "seeds": 1, "n": 400, "metric": metric, **figures}


SUMMARY = [summary_row(approach, task) for task in ("cola", "mrpc") for approach in TRAININGS]


@pytest.fixture
def make_card(tmp_path, numpy_weights):
    """Return a function that writes what a training of a kind leaves and returns the card of it."""

    def make(approach="pretrained", task="cola", sources=GENERATED, *, accuracy=0.8, seconds=1.0) -> str:
        folder = tmp_path / f"{approach}-{task}"
        is_bert = approach == "teacher"
        sizes = {"num_hidden_layers": 4, "hidden_size": 128} if is_bert else {"n_layers": 2, "dim": 128}
        family = "bert" if is_bert else "distilbert"
        write_json(folder / "config.json", {"model_type": family, "max_position_embeddings": 64, **sizes})
        save_file(numpy_weights, folder / "model.safetensors")
        losses = {"loss": 3.5, "ce": 0.07, "mlm": 1.75, "cos": 0.04} if approach == "pretrained" else {"loss": 1.75}
        record = {
            "settings": {"teacher": "finetuned", "training": {"batch_size": 16, **TRAININGS[approach]}},
            "code": {"step": "0123456789ab"},
            "git_commit": "f" * 40,
            "device": "a machine",
            "precision": "float32",
            "versions": {"torch": "2.13.0", "tokenizers": "0.23.3"},
            "started": f"2026-01-01T00:00:{seconds:02.0f}Z",
            "seconds": seconds,
        }
        figures = {"best": {"epoch": 2.0, "accuracy": 0.83, "score": 0.42}} if task else {"test": losses}
        write_json(folder / "metrics.json", {"steps": 900, "num_tokens": 444914, **figures, "provenance": record})
        model = TrainedModel(folder, f"results/{approach}", approach, task, 3 if task else None)
        cells = [cell(name, t, accuracy if name == approach else 0.1) for name in TRAININGS for t in ("cola", "mrpc")]
        return model_card(model, cells, SUMMARY, sources)

    return make


@pytest.fixture
def numpy_weights():
    """Return tensors of 1,234 numbers."""
    import numpy as np

    return {"a": np.zeros((12, 100), np.float32), "b": np.zeros(34, np.float32)}


@pytest.mark.parametrize("sources", [GENERATED, HUB, FOLDERS], ids=["generated", "hub", "folders"])
@pytest.mark.parametrize("approach,task", KINDS[1:])  # a teacher that was not trained here has no card
def test_a_card_is_read_back_as_it_was_meant(make_card, approach, task, sources):
    """`ModelCard` loads it, finds this model's scores, and writes the same metadata again."""
    card = ModelCard(make_card(approach, task, sources))
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    expected = {"accuracy": 0.8, "f1": 0.75, "matthews_correlation": 0.25} if task else {"perplexity": math.exp(1.75)}
    assert found == expected
    assert card.data.metrics == list(expected)
    assert card.data.pipeline_tag == ("text-classification" if task else "fill-mask")
    assert card.data.library_name == "transformers"
    assert card.data.language == (None if sources is FOLDERS else "en")
    assert ("bert" if approach == "teacher" else "distilbert") in card.data.tags
    for words in ("1,234 parameters", "900 steps of 16 sequences, 444,914 tokens", "f" * 40, "## Limitations"):
        assert words in card.text
    assert f'model="results/{approach}")' in card.text, "the folder as users call it, not where a storage put it"


def test_a_model_of_the_hub_names_its_base_model_and_data_sets(make_card):
    """Ids of the Hub stand in the metadata, of exactly what the model learnt from, at their commits."""
    card = ModelCard(make_card("pretrained", "cola", HUB))
    assert card.data.base_model == "google-bert/bert-base-uncased"
    assert card.data.datasets == ["wikimedia/wikipedia", "nyu-mll/glue"]
    assert card.data.license == "apache-2.0"
    result = card.data.eval_results[0]
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("nyu-mll/glue", "cola", "validation")
    assert result.dataset_revision == REVISION
    assert ModelCard(make_card("teacher", "cola", HUB)).data.datasets == ["nyu-mll/glue"]
    from_pretrained = ModelCard(make_card("direct", "cola", HUB))
    assert from_pretrained.data.datasets == ["wikimedia/wikipedia", "nyu-mll/glue"]
    scratch = ModelCard(make_card("scratch", "cola", HUB)).data
    assert (scratch.base_model, scratch.datasets) == (None, ["nyu-mll/glue"])


def test_what_came_from_folders_has_no_id(make_card):
    """No path of this machine passes for an id of the Hub, and no licence is made up."""
    data = ModelCard(make_card("pretrained", "cola", FOLDERS)).data
    assert (data.base_model, data.datasets, data.license) == (None, None, "unknown")
    assert (data.eval_results[0].dataset_type, data.eval_results[0].dataset_split) == ("local", "train+test")
    assert "glue" not in data.tags


@pytest.mark.parametrize("approach,task", KINDS)
def test_a_model_of_the_demo_says_that_its_data_is_generated(make_card, approach, task):
    """In the text before the scores, and as a tag; a model of real text says nothing of the kind."""
    card = ModelCard(make_card(approach, task, GENERATED))
    assert "generated-data" in card.data.tags
    assert 0 < card.text.find("Generated data.") < card.text.find("## Scores")
    sources = replace(HUB, teacher={"source": "train", "from": "a checkpoint in a folder"})
    real = ModelCard(make_card(approach, task, sources))
    assert "generated" not in real.text.lower()
    assert "generated-data" not in real.data.tags


def test_scores_come_with_number_and_interval(make_card):
    """Wilson's interval of 80 % of 400 is 75.8 to 83.6; the other approaches stand beside it."""
    text = make_card("pretrained", "cola")
    assert "| 400 | 80.0 | 75.8 to 83.6 | 68.0 | 75.0 | 25.0 |" in text
    assert "| Teacher, fine-tuned | 1 | 81.0 | 77.0 to 84.0 | 25.0 |" in text


@pytest.mark.parametrize("accuracy,is_no_better", [(0.60, True), (0.70, True), (0.80, False)])
def test_a_classifier_no_better_than_the_majority_says_so(make_card, accuracy, is_no_better):
    """The majority class of the test set is 68 %; 70 % of 400 examples is not significantly more."""
    assert ("not significantly above" in make_card(accuracy=accuracy)) == is_no_better


def test_the_losses_of_a_distillation_are_named_with_their_weights(make_card):
    """The sentences on training have the weights that the training recorded."""
    student = make_card("pretrained", None)
    assert "5 x KL to the teacher" in student and "2 x masked language modelling" in student
    assert "from the teacher's layers 0, 2" in student
    assert "from random values" in make_card("pretrained", None, HUB)
    assert "2 x cross-entropy of the labels + 5 x KL" in make_card("direct", "mrpc")
    assert make_card("direct", "mrpc").count("from random values") == 2
    assert make_card("direct", "mrpc", FOLDERS).count("from the teacher's layers 1, 3 (from 0)") == 2
    assert make_card("direct", "mrpc", HUB).count("from the student that was pretrained on") == 2


def test_the_example_suits_the_task(make_card):
    """A task of pairs shows how a pair is given, one of sentences does not."""
    assert '"text_pair"' in make_card("pretrained", "mrpc")
    assert '"text_pair"' not in make_card("pretrained", "cola")


def test_a_card_holds_no_clock(make_card):
    """The same training at another time and speed has the same card, so a rerun changes no card."""
    assert make_card(seconds=1.0) == make_card(seconds=59.0)
