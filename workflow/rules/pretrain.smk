"""Student: initialised, then pretrained by distillation."""


rule initialize_student:
    input:
        teacher="results/teacher/model.safetensors",
        tokenizer=TOKENIZER,
    output:
        **model_files("results/student/{initialization}"),
    params:
        settings=lambda w: settings(
            seed=cfg("seed"),
            student=cfg("student", without=("initialization", "teacher_layers")),
            teacher_layers=cfg("student.teacher_layers") if w.initialization == "teacher" else None,
        ),
        code=code("initialize_student.py"),
    wildcard_constraints:
        initialization="teacher|random",
    log:
        "logs/initialize_student/{initialization}.log",
    script:
        "../scripts/initialize_student.py"


rule pretrain:
    input:
        teacher="results/teacher/model.safetensors",
        student=f"results/student/{cfg('student.initialization')}/model.safetensors",
        train=token_shards("train"),
        validation=token_shards("validation"),
        test=token_shards("test"),
        manifests=expand("results/tokens/{shard}/manifest.json", shard=SHARDS),
        tokenizer=TOKENIZER,
    output:
        **model_files("results/student/pretrained"),
        curve="results/student/pretrained/training.csv",
        metrics="results/student/pretrained/metrics.json",
    params:
        settings=settings(seed=cfg("seed"), training=cfg("pretrain")),
        code=code("pretrain.py"),
    log:
        "logs/pretrain.log",
    benchmark:
        "benchmarks/results/pretrain.tsv"
    threads: 8
    resources:
        gpu=GPU,
    script:
        "../scripts/pretrain.py"
