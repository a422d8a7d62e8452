"""Distil a BERT: Wikipedia to DistilBERT to five GLUE tasks. `snakemake --cores N` does all of it."""

import os

from snakemake.utils import min_version, validate

min_version("9.0")


configfile: f"{workflow.basedir}/config.yaml"


validate(config, "workflow/schemas/config.schema.yaml")


# Used with --software-deployment-method apptainer alone; built from the Dockerfile. Relative, as a moved clone makes
# nothing stale.
container: os.path.relpath(f"{workflow.basedir}/distilbert.sif")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/teacher.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/cost.smk"
include: "workflow/rules/publish.smk"


rule all:
    default_target: True
    input:
        "results/cross_evaluation.csv",
        "results/summary.csv",
        "results/summary.md",
        "results/efficiency.csv",
        "results/exports.json",
        "results/provenance.csv",
        model_files("results/student/pretrained").values(),
        [f"{folder}/README.md" for folder in TRAINED],
        expand(
            "results/plots/{figure}.{form}",
            figure=["accuracy", "cross_evaluation", "efficiency", "training_curves"],
            form=["png", "svg"],
        ),


onstart:
    parent.handle_sigterm_in_a_thread()
    hold_folder()
    announce_plan()
    announce_cost()


onsuccess:
    checkpoint.remove_finished({path for job in workflow.dag.jobs for path in job.output})
