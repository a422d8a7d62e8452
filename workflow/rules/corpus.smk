"""Corpus: from articles to token shards. These jobs go first: the longest chain of jobs begins with them."""

if cfg("corpus.source") == "synthetic":

    rule generate_corpus_shard:
        output:
            corpus="results/corpus/{shard}.parquet",
        log:
            "logs/generate_corpus_shard/{shard}.log",
        benchmark:
            "benchmarks/results/generate_corpus_shard/{shard}.tsv"
        priority: 10
        conda:
            "../../envs/train.yaml"
        params:
            **settings(
                seed=cfg("seed"),
                shard=lambda w: list(SHARDS).index(w.shard),
                num_documents=cfg("corpus.synthetic.documents_per_shard"),
            ),
            **code("generate_corpus_shard.py"),
        script:
            "../scripts/generate_corpus_shard.py"

elif cfg("corpus.source") == "hub":

    rule fetch_corpus_shard:
        output:
            corpus="results/corpus/{shard}.parquet",
        log:
            "logs/fetch_corpus_shard/{shard}.log",
        priority: 10
        conda:
            "../../envs/train.yaml"
        resources:
            download=1,
        params:
            **settings(
                repository=cfg("corpus.hub.repository"),
                revision=cfg("corpus.hub.revision"),
                filename=lambda w: cfg("corpus.hub.files").format(shard=list(SHARDS).index(w.shard)),
            ),
            **code("fetch_corpus_shard.py"),
        script:
            "../scripts/fetch_corpus_shard.py"


if cfg("tokenizer.source") == "train":

    rule learn_vocabulary:
        input:
            corpus=list(SHARDS.values()),
        output:
            tokenizer=TOKENIZER,
        log:
            "logs/learn_vocabulary.log",
        priority: 10
        conda:
            "../../envs/train.yaml"
        threads: 8
        params:
            **settings(split=CORPUS_SPLIT, **cfg("tokenizer.train")),
            **code("learn_vocabulary.py"),
        script:
            "../scripts/learn_vocabulary.py"

else:

    rule import_tokenizer:
        input:
            **({"source": f"{folder_of('tokenizer')}/tokenizer.json"} if folder_of("tokenizer") else {}),
        output:
            tokenizer=TOKENIZER,
        log:
            "logs/import_tokenizer.log",
        priority: 10
        conda:
            "../../envs/train.yaml"
        params:
            **settings(**from_hub("tokenizer")),
            **code("import_tokenizer.py"),
        script:
            "../scripts/import_tokenizer.py"


rule encode_shard:
    input:
        corpus=lambda w: SHARDS[w.shard],
        tokenizer=TOKENIZER,
    output:
        train="results/tokens/{shard}/train.arrow",
        validation="results/tokens/{shard}/validation.arrow",
        test="results/tokens/{shard}/test.arrow",
        manifest="results/tokens/{shard}/manifest.json",
    log:
        "logs/encode_shard/{shard}.log",
    benchmark:
        "benchmarks/results/encode_shard/{shard}.tsv"
    priority: 10
    conda:
        "../../envs/train.yaml"
    params:
        **settings(
            split=CORPUS_SPLIT,
            max_length=cfg("corpus.max_length"),
            min_length=cfg("corpus.min_length"),
            chunking=cfg("corpus.chunking"),
        ),
        **code("encode_shard.py"),
    script:
        "../scripts/encode_shard.py"
