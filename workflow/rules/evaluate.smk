"""Cross-evaluation: every fine-tuned model on every task's test set."""


rule score_models:
    input:
        models=expand("results/models/{{approach}}/{task}/seed{{seed}}/model.safetensors", task=TASK_NAMES),
        configs=expand("results/models/{{approach}}/{task}/seed{{seed}}/config.json", task=TASK_NAMES),
        tests=expand("results/tasks/{task}/test.arrow", task=TASK_NAMES),
        manifests=expand("results/tasks/{task}/manifest.json", task=TASK_NAMES),
    output:
        predictions=expand("results/predictions/{{approach}}/{task}/seed{{seed}}.arrow", task=TASK_NAMES),
        metrics=expand("results/predictions/{{approach}}/{task}/seed{{seed}}.json", task=TASK_NAMES),
    log:
        "logs/score_models/{approach}/seed{seed}.log",
    benchmark:
        "benchmarks/results/score_models/{approach}/seed{seed}.tsv"
    wildcard_constraints:
        approach="pretrained|scratch|teacher|direct",
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=GPU,
    params:
        **settings(tasks=TASK_NAMES, yes=of_tasks("yes"), precision=cfg("finetune.precision")),
        **code("score_models.py"),
    script:
        "../scripts/score_models.py"


rule collect_results:
    input:
        predictions=per_model("results/predictions/{approach}/{task}/seed{seed}.arrow"),
        metrics=per_model("results/predictions/{approach}/{task}/seed{seed}.json"),
    output:
        cross_evaluation="results/cross_evaluation.csv",
        summary="results/summary.csv",
        record="results/summary.json",
    log:
        "logs/collect_results.log",
    conda:
        "../../envs/train.yaml"
    params:
        **settings(
            models=MODELS,
            metric=of_tasks("metric"),
            is_real_glue=HAS_GLUE and cfg("tasks.source") != "synthetic",
        ),
        **code("collect_results.py"),
    script:
        "../scripts/collect_results.py"


rule verify_exports:
    input:
        models=[f"{folder}/model.safetensors" for folder in EXPORTS],
        others=[path for folder in EXPORTS for path in model_files(folder).values()],
    output:
        report="results/exports.json",
    log:
        "logs/verify_exports.log",
    conda:
        "../../envs/train.yaml"
    params:
        **settings(models=EXPORTS),
        **code("verify_exports.py"),
    script:
        "../scripts/verify_exports.py"


rule measure_efficiency:
    input:
        **model_input("teacher", first_model("teacher")),
        **model_input("student", first_model("pretrained")),
        tests=expand("results/tasks/{name}/test.arrow", name=TASK_NAMES),
        manifests=expand("results/tasks/{name}/manifest.json", name=TASK_NAMES),
    output:
        table="results/efficiency.csv",
        record="results/efficiency.json",
    log:
        "logs/measure_efficiency.log",
    conda:
        "../../envs/train.yaml"
    # It computes with one, and keeps the others free of other jobs: on a machine of up to 8 cores nothing runs beside.
    threads: 8
    resources:
        gpu=GPU,
    params:
        **settings(),
        **code("measure_efficiency.py"),
    script:
        "../scripts/measure_efficiency.py"
