"""Corpus: from articles to token shards."""

if cfg("corpus.source") == "synthetic":

    rule generate_corpus_shard:
        output:
            corpus="results/corpus/{shard}.parquet",
        params:
            settings=lambda w: settings(
                seed=cfg("seed"),
                shard=list(SHARDS).index(w.shard),
                num_documents=cfg("corpus.synthetic.documents_per_shard"),
            ),
            code=code("generate_corpus_shard.py"),
        log:
            "logs/generate_corpus_shard/{shard}.log",
        benchmark:
            "benchmarks/results/generate_corpus_shard/{shard}.tsv"
        script:
            "../scripts/generate_corpus_shard.py"

elif cfg("corpus.source") == "hub":

    rule fetch_corpus_shard:
        output:
            corpus="results/corpus/{shard}.parquet",
        params:
            settings=lambda w: settings(
                repository=cfg("corpus.hub.repository"),
                revision=cfg("corpus.hub.revision"),
                filename=cfg("corpus.hub.files").format(shard=list(SHARDS).index(w.shard)),
            ),
            code=code("fetch_corpus_shard.py"),
        log:
            "logs/fetch_corpus_shard/{shard}.log",
        resources:
            download=1,
        script:
            "../scripts/fetch_corpus_shard.py"


if cfg("tokenizer.source") == "train":

    rule learn_vocabulary:
        input:
            corpus=list(SHARDS.values()),
        output:
            tokenizer=TOKENIZER,
        params:
            settings=settings(split=CORPUS_SPLIT, **cfg("tokenizer.train")),
            code=code("learn_vocabulary.py"),
        log:
            "logs/learn_vocabulary.log",
        threads: 8
        script:
            "../scripts/learn_vocabulary.py"

else:

    rule import_tokenizer:
        input:
            **from_folder("tokenizer", "tokenizer.json"),
        output:
            tokenizer=TOKENIZER,
        params:
            settings=settings(**from_hub("tokenizer")),
            code=code("import_tokenizer.py"),
        log:
            "logs/import_tokenizer.log",
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
    params:
        settings=settings(
            split=CORPUS_SPLIT,
            max_length=cfg("corpus.max_length"),
            min_length=cfg("corpus.min_length"),
            chunking=cfg("corpus.chunking"),
        ),
        code=code("encode_shard.py"),
    log:
        "logs/encode_shard/{shard}.log",
    benchmark:
        "benchmarks/results/encode_shard/{shard}.tsv"
    script:
        "../scripts/encode_shard.py"
