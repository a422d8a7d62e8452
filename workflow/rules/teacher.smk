"""Teacher: a BERT masked LM, taken over or trained."""

if cfg("teacher.source") == "train":

    rule train_teacher:
        input:
            **teacher_init(),
            train=token_shards("train"),
            validation=token_shards("validation"),
            test=token_shards("test"),
            manifests=expand("results/tokens/{shard}/manifest.json", shard=SHARDS),
            tokenizer=TOKENIZER,
        output:
            **model_files("results/teacher"),
            curve="results/teacher/training.csv",
            metrics="results/teacher/metrics.json",
        log:
            "logs/train_teacher.log",
        benchmark:
            "benchmarks/results/train_teacher.tsv"
        priority: 10
        conda:
            "../../envs/train.yaml"
        threads: CORPUS_THREADS
        resources:
            gpu=GPU,
        params:
            **settings(
                seed=cfg("seed"),
                training=cfg("teacher.train", without=("init", "model")),
                **({} if cfg("teacher.train.init") else {"model": cfg("teacher.train.model")}),
            ),
            **code("train_teacher.py"),
        script:
            "../scripts/train_teacher.py"

else:

    rule import_teacher:
        input:
            **(model_input("source", folder_of("teacher")) if folder_of("teacher") else {}),
            tokenizer=TOKENIZER,
        output:
            **model_files("results/teacher"),
        log:
            "logs/import_teacher.log",
        conda:
            "../../envs/train.yaml"
        params:
            **settings(**from_hub("teacher")),
            **code("import_teacher.py"),
        script:
            "../scripts/import_teacher.py"
