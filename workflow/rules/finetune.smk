"""Fine-tuning on the tasks, and distillation of fine-tuned teachers."""


rule finetune:
    input:
        unpack(lambda w: model_input("encoder", ENCODERS[w.approach])),
        train="results/tasks/{task}/train.arrow",
        validation="results/tasks/{task}/validation.arrow",
        manifest="results/tasks/{task}/manifest.json",
        tokenizer=TOKENIZER,
    output:
        **model_files("results/models/{approach}/{task}/seed{seed}"),
        curve="results/models/{approach}/{task}/seed{seed}/training.csv",
        metrics="results/models/{approach}/{task}/seed{seed}/metrics.json",
    log:
        "logs/finetune/{approach}/{task}/seed{seed}.log",
    benchmark:
        "benchmarks/results/finetune/{approach}/{task}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        gpu=GPU,
    params:
        **settings(
            task=lambda w: w.task,
            label_names=of_task("label_names"),
            metric=of_task("metric"),
            seed=lambda w: int(w.seed),
            training=cfg("finetune", without=("scratch", "seeds")),
        ),
        **code("finetune.py"),
    script:
        "../scripts/finetune.py"


rule distill_task:
    input:
        unpack(lambda w: model_input("teacher", direct_teacher(w))),
        **model_input("student", f"results/student/{INITIALIZATIONS['direct']}"),
        train="results/tasks/{task}/train.arrow",
        validation="results/tasks/{task}/validation.arrow",
        manifest="results/tasks/{task}/manifest.json",
        tokenizer=TOKENIZER,
    output:
        **model_files("results/models/direct/{task}/seed{seed}"),
        curve="results/models/direct/{task}/seed{seed}/training.csv",
        metrics="results/models/direct/{task}/seed{seed}/metrics.json",
    log:
        "logs/distill_task/{task}/seed{seed}.log",
    benchmark:
        "benchmarks/results/distill_task/{task}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        gpu=GPU,
    params:
        **settings(
            task=lambda w: w.task,
            label_names=of_task("label_names"),
            metric=of_task("metric"),
            seed=lambda w: int(w.seed),
            teacher=cfg("direct_distillation.teacher"),
            training=cfg("direct_distillation", without=("initialization", "teacher")),
        ),
        **code("distill_task.py"),
    script:
        "../scripts/distill_task.py"
