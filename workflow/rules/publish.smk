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
        **settings(models=[{"path": folder, **names} for folder, names in TRAINED.items()], sources=sources()),
        **code("write_model_cards.py"),
    script:
        "../scripts/write_model_cards.py"


rule export_onnx:
    input:
        **model_input("model", "results/models/{approach}/{task}/seed{seed}"),
        tokenizer="results/models/{approach}/{task}/seed{seed}/tokenizer.json",
        tokenizer_config="results/models/{approach}/{task}/seed{seed}/tokenizer_config.json",
        test="results/tasks/{task}/test.arrow",
        manifest="results/tasks/{task}/manifest.json",
    output:
        onnx="results/models/{approach}/{task}/seed{seed}/onnx/model.onnx",
        check="results/models/{approach}/{task}/seed{seed}/onnx/check.json",
    log:
        "logs/export_onnx/{approach}/{task}/seed{seed}.log",
    wildcard_constraints:
        approach="pretrained|scratch|teacher|direct",
    conda:
        "../../envs/onnx.yaml"
    params:
        **settings(),
        **code("export_onnx.py"),
    script:
        "../scripts/export_onnx.py"


# Not part of `all`: it needs the packages of requirements-onnx.txt. `make onnx` installs and runs it.
rule onnx:
    input:
        [
            "results/models/{approach}/{task}/seed{seed}/onnx/model.onnx".format(**model)
            for model in MODELS
            if model["approach"] in ("pretrained", "direct")
        ],
