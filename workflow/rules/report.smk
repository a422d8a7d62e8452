"""Pages and figures, with what `snakemake --report` shows of them."""


rule write_summary:
    input:
        record="results/summary.json",
        efficiency="results/efficiency.json",
    output:
        markdown="results/summary.md",
        html=report(
            "results/summary.html",
            caption="../report/summary.rst",
            category="Results",
            labels={"figure": "Summary (table)"},
        ),
    log:
        "logs/write_summary.log",
    conda:
        "../../envs/plot.yaml"
    params:
        **settings(data=DATA_IN_WORDS, title=of_tasks("title")),
        **code("write_summary.py"),
    script:
        "../scripts/write_summary.py"


rule plot_accuracy:
    input:
        summary="results/summary.csv",
        cells="results/cross_evaluation.csv",
    output:
        png=report(
            "results/plots/accuracy.png",
            caption="../report/accuracy.rst",
            category="Results",
            labels={"figure": "Accuracy of each approach"},
        ),
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
            labels={"figure": "Every model on every task"},
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


rule plot_efficiency:
    input:
        efficiency="results/efficiency.json",
        record="results/summary.json",
    output:
        png=report(
            "results/plots/efficiency.png",
            caption="../report/efficiency.rst",
            category="Results",
            labels={"figure": "Size, speed and score"},
        ),
        svg="results/plots/efficiency.svg",
    log:
        "logs/plot_efficiency.log",
    conda:
        "../../envs/plot.yaml"
    params:
        **settings(data=DATA_IN_WORDS),
        **code("plot_efficiency.py"),
    script:
        "../scripts/plot_efficiency.py"


rule plot_training_curves:
    input:
        **teacher_curve(),
        pretraining="results/student/pretrained/training.csv",
        finetuning=per_model("results/models/{approach}/{task}/seed{seed}/training.csv"),
    output:
        png=report(
            "results/plots/training_curves.png",
            caption="../report/training_curves.rst",
            category="Training",
            labels={"figure": "Training curves"},
        ),
        svg="results/plots/training_curves.svg",
    log:
        "logs/plot_training_curves.log",
    conda:
        "../../envs/plot.yaml"
    params:
        **settings(models=MODELS, title=of_tasks("title"), metric=of_tasks("metric")),
        **code("plot_training_curves.py"),
    script:
        "../scripts/plot_training_curves.py"


rule collect_provenance:
    input:
        records=RECORDS,
    output:
        table="results/provenance.csv",
        html=report(
            "results/provenance.html",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"figure": "What made each result"},
        ),
    log:
        "logs/collect_provenance.log",
    conda:
        "../../envs/plot.yaml"
    params:
        **settings(names=RECORDS),
        **code("collect_provenance.py"),
    script:
        "../scripts/collect_provenance.py"
