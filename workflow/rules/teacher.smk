"""Teacher: a BERT masked LM, taken over or trained."""

if cfg("teacher.source") == "train":

    rule train_teacher:
        input:
            train=token_shards("train"),
            validation=token_shards("validation"),
            test=token_shards("test"),
            manifests=expand("results/tokens/{shard}/manifest.json", shard=SHARDS),
            tokenizer=TOKENIZER,
            **teacher_init(),
        output:
            **model_files("results/teacher"),
            curve="results/teacher/training.csv",
            metrics="results/teacher/metrics.json",
        params:
            settings=settings(
                seed=cfg("seed"),
                training=cfg("teacher.train", without=("init", "model")),
                **({} if cfg("teacher.train.init") else {"model": cfg("teacher.train.model")}),
            ),
            code=code("train_teacher.py"),
        log:
            "logs/train_teacher.log",
        benchmark:
            "benchmarks/results/train_teacher.tsv"
        threads: 8
        resources:
            gpu=GPU,
        script:
            "../scripts/train_teacher.py"

else:

    rule import_teacher:
        input:
            tokenizer=TOKENIZER,
            **from_folder("teacher", "model.safetensors"),
        output:
            **model_files("results/teacher"),
        params:
            settings=settings(**from_hub("teacher")),
            code=code("import_teacher.py"),
        log:
            "logs/import_teacher.log",
        script:
            "../scripts/import_teacher.py"
