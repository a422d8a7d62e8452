"""Figures."""


rule plot_accuracy:
    input:
        summary="results/summary.csv",
    output:
        png=report("results/plots/accuracy.png", caption="../report/accuracy.rst", category="Results"),
        svg="results/plots/accuracy.svg",
    log:
        "logs/plot_accuracy.log",
    conda:
        "../../envs/plot.yaml"
    params:
        **settings(data=DATA_IN_WORDS, title=of_tasks("title")),
        **code("plot_accuracy.py"),
    script:
        "../scripts/plot_accuracy.py"


rule plot_cross_evaluation:
    input:
        cells="results/cross_evaluation.csv",
        record="results/summary.json",
    output:
        png=report(
            "results/plots/cross_evaluation.png",
            caption="../report/cross_evaluation.rst",
            category="Results",
        ),
        svg="results/plots/cross_evaluation.svg",
    log:
        "logs/plot_cross_evaluation.log",
    conda:
        "../../envs/plot.yaml"
    params:
        **settings(data=DATA_IN_WORDS, title=of_tasks("title")),
        **code("plot_cross_evaluation.py"),
    script:
        "../scripts/plot_cross_evaluation.py"


rule plot_training_curves:
    input:
        **teacher_curve(),
        pretraining="results/student/pretrained/training.csv",
        finetuning=per_model("results/models/{approach}/{task}/seed{seed}/training.csv"),
    output:
        png=report(
            "results/plots/training_curves.png", caption="../report/training_curves.rst", category="Results"
        ),
        svg="results/plots/training_curves.svg",
    log:
        "logs/plot_training_curves.log",
    conda:
        "../../envs/plot.yaml"
    params:
        **settings(models=MODELS, title=of_tasks("title")),
        **code("plot_training_curves.py"),
    script:
        "../scripts/plot_training_curves.py"
