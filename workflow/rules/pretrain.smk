"""Student: initialised, then pretrained by distillation."""


rule initialize_student:
    input:
        unpack(student_source),
        tokenizer=TOKENIZER,
    output:
        **model_files("results/student/{initialization}"),
    log:
        "logs/initialize_student/{initialization}.log",
    wildcard_constraints:
        initialization="teacher|random",
    priority: 10
    conda:
        "../../envs/train.yaml"
    params:
        **settings(
            seed=cfg("seed"),
            student=cfg("student", without=("initialization", "teacher_layers")),
            teacher_layers=layers_to_copy,
            model=shape_of_teacher,
        ),
        **code("initialize_student.py"),
    script:
        "../scripts/initialize_student.py"


rule pretrain:
    input:
        **model_input("teacher", "results/teacher"),
        **model_input("student", f"results/student/{INITIALIZATIONS['pretrained']}"),
        train=token_shards("train"),
        validation=token_shards("validation"),
        test=token_shards("test"),
        manifests=expand("results/tokens/{shard}/manifest.json", shard=SHARDS),
        tokenizer=TOKENIZER,
    output:
        **model_files("results/student/pretrained"),
        curve="results/student/pretrained/training.csv",
        metrics="results/student/pretrained/metrics.json",
    log:
        "logs/pretrain.log",
    benchmark:
        "benchmarks/results/pretrain.tsv"
    priority: 10
    conda:
        "../../envs/train.yaml"
    threads: CORPUS_THREADS
    resources:
        gpu=GPU,
    params:
        **settings(seed=cfg("seed"), training=cfg("pretrain")),
        **code("pretrain.py"),
    script:
        "../scripts/pretrain.py"
