"""What goes with the models to those who use them."""


rule write_model_cards:
    input:
        weights=[f"{folder}/model.safetensors" for folder in TRAINED],
        others=[f"{folder}/{name}" for folder in TRAINED for name in ("config.json", "metrics.json")],
        cross_evaluation="results/cross_evaluation.csv",
        summary="results/summary.json",
    output:
        cards=[f"{folder}/README.md" for folder in TRAINED],
    log:
        "logs/write_model_cards.log",
    conda:
        "../../envs/train.yaml"
    params:
        **settings(models=list(TRAINED.values()), sources=sources()),
        **code("write_model_cards.py"),
    script:
        "../scripts/write_model_cards.py"
