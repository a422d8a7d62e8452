"""Tasks: from GLUE's files, or the user's own, to labelled token shards."""

if cfg("tasks.source") == "synthetic":

    rule generate_task:
        output:
            train="results/glue/{task}/train-00000-of-00001.parquet",
            validation="results/glue/{task}/validation-00000-of-00001.parquet",
        log:
            "logs/generate_task/{task}.log",
        conda:
            "../../envs/train.yaml"
        params:
            **settings(task=lambda w: w.task, seed=cfg("seed"), **cfg("tasks.synthetic")),
            **code("generate_task.py"),
        script:
            "../scripts/generate_task.py"

elif cfg("tasks.source") == "hub":

    rule fetch_task:
        output:
            train="results/glue/{task}/train-00000-of-00001.parquet",
            validation="results/glue/{task}/validation-00000-of-00001.parquet",
        log:
            "logs/fetch_task/{task}.log",
        conda:
            "../../envs/train.yaml"
        resources:
            download=1,
        params:
            **settings(task=lambda w: w.task, **cfg("tasks.hub")),
            **code("fetch_task.py"),
        script:
            "../scripts/fetch_task.py"


rule prepare_task:
    input:
        train_source=lambda w: task_source(w.task, "train"),
        validation_source=lambda w: task_source(w.task, "validation"),
        tokenizer=TOKENIZER,
    output:
        train="results/tasks/{task}/train.arrow",
        validation="results/tasks/{task}/validation.arrow",
        test="results/tasks/{task}/test.arrow",
        manifest="results/tasks/{task}/manifest.json",
    log:
        "logs/prepare_task/{task}.log",
    conda:
        "../../envs/train.yaml"
    params:
        **settings(
            task=lambda w: w.task,
            columns=of_task("columns"),
            label_column=of_task("label_column"),
            label_names=of_task("label_names"),
            seed=cfg("seed"),
            split=cfg("tasks.split"),
            max_length=cfg("tasks.max_length"),
            max_train_examples=cfg("tasks.max_train_examples"),
        ),
        **code("prepare_task.py"),
    script:
        "../scripts/prepare_task.py"
