"""Cross-evaluation: every fine-tuned model on every task's test set."""


rule score_model:
    input:
        **model_input("model", "results/models/{approach}/{task}/seed{seed}"),
        tests=expand("results/tasks/{name}/test.arrow", name=TASK_NAMES),
        manifests=expand("results/tasks/{name}/manifest.json", name=TASK_NAMES),
    output:
        predictions="results/predictions/{approach}/{task}/seed{seed}.arrow",
        metrics="results/predictions/{approach}/{task}/seed{seed}.json",
    log:
        "logs/score_model/{approach}/{task}/seed{seed}.log",
    wildcard_constraints:
        approach="pretrained|scratch|teacher|direct",
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=GPU,
    params:
        **settings(
            task=lambda w: w.task,
            tasks=TASK_NAMES,
            yes=of_tasks("yes"),
            precision=cfg("finetune.precision"),
        ),
        **code("score_model.py"),
    script:
        "../scripts/score_model.py"


rule collect_results:
    input:
        predictions=per_model("results/predictions/{approach}/{task}/seed{seed}.arrow"),
        metrics=per_model("results/predictions/{approach}/{task}/seed{seed}.json"),
    output:
        cross_evaluation="results/cross_evaluation.csv",
        summary="results/summary.csv",
        markdown="results/summary.md",
        record="results/summary.json",
    log:
        "logs/collect_results.log",
    conda:
        "../../envs/train.yaml"
    params:
        **settings(
            models=MODELS,
            title=of_tasks("title"),
            metric=of_tasks("metric"),
            is_real_glue=HAS_GLUE and cfg("tasks.source") != "synthetic",
            data=DATA_IN_WORDS,
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
        **settings(),
        **code("verify_exports.py"),
    script:
        "../scripts/verify_exports.py"
