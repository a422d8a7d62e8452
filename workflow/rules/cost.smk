"""What it costs: `snakemake cost --cores all` prints it and makes nothing; a run that trains prints it first."""


rule cost:
    log:
        "logs/cost.log",
    localrule: True
    run:
        text = cost_in_words()
        print(text)
        Path(log[0]).write_text(text + "\n")
