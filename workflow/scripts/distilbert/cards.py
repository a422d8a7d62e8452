"""Model cards: the README.md of a model folder, with the metadata that the Hugging Face Hub reads.

A card holds no clock, so that the same run always writes the same cards. Everything it says comes from what the
training recorded (metrics.json, config.json, the weights' header), from the tables of scores, and from `Sources`.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from distilbert.confidence import wilson_interval
from distilbert.files import json_digest, read_json
from distilbert.pages import Table, markdown_table, percent, percent_range
from distilbert.tasks import APPROACHES, METRIC_TITLES

# The figures of cross_evaluation.csv that go into the metadata -> the Hub's names of them.
HUB_METRICS = {"accuracy": "accuracy", "f1": "f1", "mcc": "matthews_correlation"}
# What a masked LM of each kind is called.
MASKED_LMS = {"teacher": "Teacher: a BERT masked language model", "pretrained": "Student: a distilled DistilBERT"}

# What the losses of a test are.
LOSSES = {
    "loss": "`loss`, what the training minimised",
    "ce": "`ce`, KL to the teacher x temperature squared",
    "mlm": "`mlm`, cross-entropy of the masked word pieces in nats",
    "cos": "`cos`, cosine distance to the teacher",
}


@dataclass(frozen=True)
class Sources:
    """What the models of a run were made of: the settings of `write_model_cards`, but for its list of models.

    corpus, teacher and each of tasks: {"source": "synthetic" | "train" | "folder" | "hub" | "own"}, those of the Hub
    with "repository" and "revision"; a task with fields of `tasks.Task`, a teacher that is trained with what it is
    trained "from". split: of the tasks. initializations: what each distilled student began with ("teacher", "random" or
    "pretrained"), by its approach. teacher_layers: those that are copied, None where none are. data: what tables say of
    the tasks.
    """

    corpus: dict
    tasks: dict[str, dict]
    split: str
    teacher: dict
    initializations: dict[str, str]
    teacher_layers: list[int] | None
    data: str

    def learnt_from(self, model: "TrainedModel") -> dict[str, dict]:
        """Return what a model, or its teacher in this run, was trained on: "corpus", "task" or both."""
        by_others = self.teacher["source"] == "train" or self.initializations.get(model.approach) == "pretrained"
        saw_corpus = {"pretrained": True, "scratch": False}.get(model.approach, by_others)
        return ({"corpus": self.corpus} if saw_corpus else {}) | (
            {"task": self.tasks[model.task]} if model.task else {}
        )

    def is_english(self, model: "TrainedModel") -> bool:
        """Tell whether a model is known to be of English: by its task, or a masked LM by its corpus."""
        return self.tasks[model.task]["source"] != "own" if model.task else self.corpus["source"] != "folder"

    def license_of(self, model: "TrainedModel") -> str:
        """Return the licence of the weights: that of the weights they began from, which a folder does not say."""
        is_ours = model.approach == "scratch" or self.teacher.get("from") == "random values"
        is_apache = self.teacher.get("repository", "").startswith("google-bert/")
        return "apache-2.0" if is_ours or is_apache else "unknown"

    def start_of(self, model: "TrainedModel") -> str:
        """Return what a distilled student began with."""
        initialization = self.initializations.get(model.approach)
        if initialization == "pretrained":
            return f"the student that was pretrained on {self.corpus_in_words}"
        if initialization == "teacher":
            return f"the teacher's layers {', '.join(map(str, self.teacher_layers))} (from 0)"
        return "random values"

    @property
    def corpus_in_words(self) -> str:
        """What the corpus is."""
        words = {"synthetic": "a generated encyclopedia about invented things", "folder": "text from a folder"}
        return words.get(self.corpus["source"]) or repository_in_words(self.corpus)

    @property
    def teacher_in_words(self) -> str:
        """What the teacher is."""
        if self.teacher["source"] == "train":
            return f"a BERT that was trained in the same run from {self.teacher['from']}"
        return repository_in_words(self.teacher) if self.teacher["source"] == "hub" else "a BERT from a folder"


@dataclass(frozen=True)
class TrainedModel:
    """A model folder, what its training recorded, and what kind of model it is.

    folder: where it lies. path: what users call that, which is not the same while a storage (S3) holds the results.
    approach: of `tasks.APPROACHES`. task, seed: of a fine-tuned model, None for one that was trained on the corpus.
    """

    folder: Path
    path: str
    approach: str
    task: str | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """A name that tells the models of a run apart."""
        if self.task is None:
            return f"{self.approach}-masked-lm"
        return f"{self.approach}-{self.task}-seed{self.seed}"

    @cached_property
    def metrics(self) -> dict:
        """What its training recorded."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def config(self) -> dict:
        """Its Hugging Face config."""
        return read_json(self.folder / "config.json")

    @property
    def training(self) -> dict:
        """The settings of its training."""
        return self.metrics["provenance"]["settings"]["training"]

    @property
    def shape(self) -> str:
        """Its size in words."""
        is_student = self.config["model_type"] == "distilbert"
        layers, width = ("n_layers", "dim") if is_student else ("num_hidden_layers", "hidden_size")
        layers, width = self.config[layers], self.config[width]
        return f"{layers} layers, {width} wide, {num_parameters(self.folder / 'model.safetensors'):,} parameters"


def num_parameters(weights: Path) -> int:
    """Return how many numbers a safetensors file holds; only its header is read."""
    with open(weights, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def model_card(model: TrainedModel, cells: list[dict], summary: list[dict], sources: Sources) -> str:
    """Return a model's card.

    cells: the rows of cross_evaluation.csv. summary: the rows of summary.json.
    """
    if model.task is None:
        figures, scores = {}, masked_lm_scores(model, summary, sources)
        results = masked_lm_results(model, sources)
    else:
        figures = next(row for row in cells if is_own(row, model))
        of_task = [row for row in summary if row["task"] == model.task]
        figures = figures | {"majority": of_task[0]["majority"]}
        scores = task_scores(figures, of_task, sources)
        results = task_results(model, figures, sources)
    generated = [name for name, source in sources.learnt_from(model).items() if source["source"] == "synthetic"]
    parts = [
        f"---\n{metadata(model, results, sources, generated).to_yaml()}\n---",
        f"# {title(model, sources)}",
        introduction(model, sources),
        *([warning(generated)] if generated else []),
        scores,
        training(model, sources),
        use(model, sources),
        limitations(model, figures, sources, generated),
        provenance(model),
    ]
    return "\n\n".join(parts) + "\n"


def is_own(row: dict, model: TrainedModel) -> bool:
    """Tell whether a row of cross_evaluation.csv is a model's score on the task that it was trained on."""
    return (row["approach"], row["trained_on"], row["evaluated_on"], row["seed"]) == (
        model.approach,
        model.task,
        model.task,
        model.seed,
    )


def metadata(model: TrainedModel, results: list[EvalResult], sources: Sources, generated: list[str]) -> ModelCardData:
    """Return the metadata; a base model or data set is named by its id on the Hub, or not at all."""
    family = model.config["model_type"]
    is_glue = model.task is not None and sources.tasks[model.task]["source"] != "own"
    tags = [family, *(["distillation"] if family == "distilbert" else []), *(["glue"] if is_glue else [])]
    return ModelCardData(
        model_name=model.name,
        base_model=sources.teacher.get("repository") if model.approach != "scratch" else None,
        datasets=[data["repository"] for data in sources.learnt_from(model).values() if "repository" in data] or None,
        eval_results=results,
        language="en" if sources.is_english(model) else None,
        library_name="transformers",
        license=sources.license_of(model),
        metrics=list(dict.fromkeys(result.metric_type for result in results)),
        pipeline_tag=results[0].task_type,
        tags=[*tags, *(["generated-data"] if generated else [])],
    )


def dataset(source: dict) -> dict[str, str | None]:
    """Return how the metadata names a source."""
    kind = {"synthetic": "generated", "folder": "local", "own": "local"}.get(source["source"])
    return {"dataset_type": kind or source["repository"], "dataset_revision": source.get("revision")}


def task_results(model: TrainedModel, figures: dict, sources: Sources) -> list[EvalResult]:
    """Return the scores on the task that a model was trained on."""
    task = sources.tasks[model.task]
    test = "test" if task["source"] == "own" else "validation"
    return [
        EvalResult(
            task_type="text-classification",
            dataset_name=f"{task['title']} ({sources.data})",
            dataset_config=model.task,
            dataset_split=test if sources.split == "official" else f"train+{test}",
            metric_type=metric,
            metric_value=figures[name],
            **dataset(task),
        )
        for name, metric in HUB_METRICS.items()
    ]


def masked_lm_results(model: TrainedModel, sources: Sources) -> list[EvalResult]:
    """Return the perplexity of masked word pieces on the corpus's test documents."""
    return [
        EvalResult(
            task_type="fill-mask",
            dataset_name=f"Held-out documents of {sources.corpus_in_words}",
            metric_type="perplexity",
            metric_value=math.exp(masked_lm_loss(model)),
            **dataset(sources.corpus),
        )
    ]


def masked_lm_loss(model: TrainedModel) -> float:
    """Return the cross-entropy per masked word piece of the corpus's test documents, in nats."""
    test = model.metrics["test"]
    return test.get("mlm", test["loss"])


def title(model: TrainedModel, sources: Sources) -> str:
    """Return the card's heading."""
    if model.task is None:
        return MASKED_LMS[model.approach]
    return f"{sources.tasks[model.task]['title']}: {APPROACHES[model.approach].lower()} (seed {model.seed})"


def introduction(model: TrainedModel, sources: Sources) -> str:
    """Return what the model is, in a paragraph."""
    if model.task is None:
        what = "A masked language model" + (
            f", trained on {sources.corpus_in_words} from {sources.teacher['from']}"
            if model.approach == "teacher"
            else f", distilled from {sources.teacher_in_words}, on {sources.corpus_in_words}"
        )
        return f"{what}: {model.shape}."
    task = sources.tasks[model.task]
    classes = " or ".join(f"`{name}`" for name in task["label_names"])
    inputs = "a sentence" if len(task["columns"]) == 1 else "a pair of texts"
    origin = {
        "teacher": f"The teacher ({sources.teacher_in_words}), fine-tuned",
        "pretrained": f"A DistilBERT, distilled from {sources.teacher_in_words}, on {sources.corpus_in_words}, and "
        "fine-tuned",
        "scratch": "A DistilBERT that was fine-tuned from random values: the lower bound that pretraining is "
        "compared with",
        "direct": f"A DistilBERT from {sources.start_of(model)} into which a teacher of this task was distilled",
    }[model.approach]
    return f"{origin}. It answers {classes} for {inputs} ({task['title']}). {model.shape[0].upper()}{model.shape[1:]}."


def warning(generated: list[str]) -> str:
    """Return what must be known of a model of the demo before anything else; `generated` is what was."""
    return (
        f"> **Generated data.** What this model learnt from ({' and '.join(generated)}) was made up by a program,\n"
        "> about things that do not exist. It shows that the workflow works; it knows nothing of real language, and\n"
        "> its scores are not GLUE's."
    )


def task_scores(figures: dict, of_task: list[dict], sources: Sources) -> str:
    """Return the scores of a classifier, and of all approaches on its task."""
    task, n = sources.tasks[figures["trained_on"]], figures["n"]
    own = [
        f"{n:,}",
        percent(figures["accuracy"]),
        percent_range(*wilson_interval(figures["accuracy"], n)),
        *(percent(figures[name]) for name in ("majority", "f1", "mcc")),
    ]
    header = ["approach", "seeds", "accuracy", "95 % interval", "task's metric"]
    rows = [
        [
            APPROACHES[row["approach"]],
            row["seeds"],
            percent(row["accuracy"]),
            percent_range(row["accuracy_low"], row["accuracy_high"]),
            percent(row["score"]),
        ]
        for row in of_task
    ]
    parts = [
        "## Scores",
        f"On the {n:,} test examples of {task['title']} ({sources.data}), in percent. The interval is Wilson's.",
        markdown_table(Table(["n", "accuracy", "95 % interval", "majority class", "F1", "MCC"], [own], num_left=0)),
        "All approaches on these examples, medians over the seeds, with bootstrap intervals; the task's metric is "
        f"{METRIC_TITLES[task['metric']]}.",
        markdown_table(Table(header, rows)),
    ]
    return "\n\n".join(parts)


def masked_lm_scores(model: TrainedModel, summary: list[dict], sources: Sources) -> str:
    """Return the scores of a masked LM: its losses on the test documents, and what fine-tuning makes of it."""
    test = model.metrics["test"]
    losses = Table(list(test), [[f"{value:.4f}" for value in test.values()]], num_left=0)
    header = ["task", "n", "accuracy", "95 % interval", "majority class", "task's metric"]
    rows = [
        [
            sources.tasks[row["task"]]["title"],
            f"{row['n']:,}",
            percent(row["accuracy"]),
            percent_range(row["accuracy_low"], row["accuracy_high"]),
            percent(row["majority"]),
            f"{percent(row['score'])} ({METRIC_TITLES[row['metric']]})",
        ]
        for row in summary
        if row["approach"] == model.approach
    ]
    parts = [
        "## Scores",
        "On the corpus's test documents, under the masking of the training (so not comparable with another masking): "
        f"perplexity {math.exp(masked_lm_loss(model)):.2f} of the masked word pieces. Losses per token or masked word "
        f"piece, the parts before their weights: {', '.join(LOSSES[name] for name in test)}.",
        markdown_table(losses),
        "Fine-tuned on each task, medians over the seeds, in percent, with bootstrap intervals:",
        markdown_table(Table(header, rows)),
    ]
    return "\n\n".join(parts)


def training(model: TrainedModel, sources: Sources) -> str:
    """Return how the model was trained: in a sentence, and every setting."""
    metrics, settings = model.metrics, model.training
    extent = f"{metrics['steps']:,} steps of {settings['batch_size']:,} sequences, {metrics['num_tokens']:,} tokens"
    if model.task:
        best = metrics["best"]
        extent += (
            f"; the weights kept are those after epoch {best['epoch']:g}, whose validation score "
            f"({METRIC_TITLES[sources.tasks[model.task]['metric']]}: {percent(best['score'])}) was the highest"
        )
    table = Table(["setting", "value"], [[key, json.dumps(value)] for key, value in sorted(settings.items())])
    parts = ["## Training", f"{objective(model, sources)} {extent[0].upper()}{extent[1:]}.", markdown_table(table)]
    return "\n\n".join(parts)


def objective(model: TrainedModel, sources: Sources) -> str:
    """Return what the training minimised, and from where it began."""
    settings = model.training
    if model.task and model.approach != "direct":
        return "Cross-entropy of the labels."
    if model.approach == "teacher":
        return f"Masked language modelling, from {sources.teacher['from']}."
    if model.approach == "direct":
        kind = model.metrics["provenance"]["settings"]["teacher"]
        teacher = "fine-tuned on this task" if kind == "finetuned" else "with a random classifier"
        return (
            f"{settings['alpha_hard']:g} x cross-entropy of the labels + {settings['alpha_soft']:g} x KL to the "
            f"teacher's softened answers (temperature {settings['temperature']:g}) + {settings['alpha_cos']:g} x "
            f"cosine distance of the last [CLS], from {sources.start_of(model)}. The teacher is {teacher}."
        )
    where = " of masked words" * settings["restrict_ce_to_mask"]
    return (
        f"{settings['alpha_ce']:g} x KL to the teacher's softened predictions{where} (temperature "
        f"{settings['temperature']:g}) + {settings['alpha_mlm']:g} x masked language modelling + "
        f"{settings['alpha_cos']:g} x cosine distance of the last hidden states "
        f"([Sanh et al. 2019](https://arxiv.org/abs/1910.01108), section 3), from {sources.start_of(model)}."
    )


def use(model: TrainedModel, sources: Sources) -> str:
    """Return how the model is loaded and asked."""
    if model.task is None:
        kind, call = "fill-mask", 'ask("The river is near the [MASK].")'
    elif len(sources.tasks[model.task]["columns"]) == 1:
        kind, call = "text-classification", 'ask("A sentence of your own.", truncation=True)'
    else:
        kind, call = "text-classification", 'ask({"text": "The first.", "text_pair": "The second."}, truncation=True)'
    return (
        "## Use\n\n```python\nfrom transformers import pipeline\n\n"
        "# this folder, or the repository that it was pushed to\n"
        f'ask = pipeline("{kind}", model="{model.path}")\n'
        f"print({call})\n```"
    )


def limitations(model: TrainedModel, figures: dict, sources: Sources, generated: list[str]) -> str:
    """Return what the model and its scores are not."""
    points = [f"It reads at most {model.config['max_position_embeddings']} tokens; what is longer must be cut."]
    if not generated:
        points.append(
            "It repeats the biases of the text and of the teacher that it learnt from."
            + " It knows no language but English." * sources.is_english(model)
        )
    if model.task:
        points += limits_of_scores(sources.tasks[model.task], figures, sources.split)
    return "\n".join(["## Limitations", "", *(f"- {point}" for point in points)])


def limits_of_scores(task: dict, figures: dict, split: str) -> list[str]:
    """Return what must not be read from a classifier's scores."""
    points = [
        "Its probabilities are not calibrated, and for text unlike its training data its answer means nothing.",
        "The interval is that of drawing the test examples; seeds differ too, on small tasks by several points.",
    ]
    if split == "official" and task["source"] != "own":
        points.append("The test examples are those of the task's validation file: GLUE's test labels are not public.")
    elif split != "official":
        points.append("Training and test examples are a split of this workflow's own: compare with no published score.")
    low, _ = wilson_interval(figures["accuracy"], figures["n"])
    if low <= figures["majority"]:
        points.append(
            f"**Its accuracy is not significantly above that of always answering the more frequent class "
            f"({percent(figures['majority'])} %).**"
        )
    if task["metric"] != "accuracy":
        points.append(f"Judge it by {METRIC_TITLES[task['metric']]}, the task's metric, too.")
    return points


def provenance(model: TrainedModel) -> str:
    """Return what made the model; its metrics.json has the same in full, with the clocks."""
    record = model.metrics["provenance"]
    rows = {
        "commit of the workflow": record["git_commit"] or "not in git",
        "digest of the settings": json_digest(record["settings"])[:12],
        "digest of the code": json_digest(record["code"])[:12],
        "device": record["device"],
        "precision": record["precision"],
        **{package: record["versions"][package] for package in ("torch", "tokenizers")},
    }
    table = Table(["", ""], [[name, value] for name, value in rows.items()], num_left=2)
    rest = "`metrics.json` beside this file has every setting, digest, version and duration."
    return "\n\n".join(["## Provenance", markdown_table(table), rest])


def repository_in_words(source: dict) -> str:
    """Return a repository of the Hub at its commit."""
    return f"`{source['repository']}` at `{source['revision'][:12]}`"
