# One command for each thing a reader does. `make` alone lists them.

PROFILE ?= cpu
SEED ?= 0
PYTHON ?= python3
ARGS ?=
MODEL ?=
HARDWARE ?=
RUNS ?=

# Without bytecode every start of Python compiles all of torch and transformers: seconds each time.
unexport PYTHONDONTWRITEBYTECODE
# This checkout's lib before any other, also where an environment came from another checkout.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

# An active conda environment made from environment.yml takes the place of .venv.
VENV := $(if $(filter self-backtracking,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX),.venv)
RUN := "$(VENV)/bin/python"
# vLLM pins much of what .venv holds in other versions.
VLLM := .venv-vllm
# A stamp is written last, so its existence means that every pin was installed; it names the
# checkout. `make` takes a path with spaces for several unless they are escaped.
escaped = $(subst $(subst ,, ),\ ,$(1))
STAMP := $(call escaped,$(VENV))/.pins-installed
FUZZ_STAMP := $(call escaped,$(VENV))/.fuzz-pins-installed
JUDGE_STAMP := $(call escaped,$(VENV))/.judge-pins-installed
VLLM_STAMP := $(VLLM)/.pins-installed
# What was asked for is compared with what is there; so is an environment of another checkout, or one
# whose Python is gone.
ASKED := $(if $(filter-out file,$(origin PYTHON)),--python "$(PYTHON)")
SEEN := $(shell test -x $(RUN) && cat "$(VENV)/.pins-installed" 2>/dev/null)
CHECK := $(if $(ASKED),check,$(if $(filter-out x$(shell pwd -P),x$(SEEN)),check))
# The Python that makes or checks an environment: its own, where it works.
BY = $$("$(1)/bin/python" -c 'import sys; print(sys.executable)' 2>/dev/null || \
	sh scripts/find_python "$(PYTHON)")

.DEFAULT_GOAL := help
.PHONY: help env env-vllm reproduce plan ablations test lab figures bench fuzz load chaos lint clean

help: ## list these commands
	@echo "usage: make COMMAND [PROFILE=cpu] [SEED=0] [PYTHON=python3]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## make .venv with every pinned package (all other commands do it when needed)

.PHONY: check
check:

$(STAMP): requirements.txt pyproject.toml $(CHECK)
	@python=$(call BY,$(VENV)) && "$$python" -m commands.env "$(VENV)" $(ASKED)

env-vllm: $(VLLM_STAMP) ## make .venv-vllm, for `sampler = "vllm"` in a profile (Linux; 3.4 GB, more with a GPU)

$(VLLM_STAMP): requirements-vllm.txt requirements-vllm-gpu.txt $(if $(ASKED),check)
	@python=$(call BY,$(VLLM)) && \
		"$$python" -m commands.env "$(VLLM)" --pins requirements-vllm.txt $(ASKED)

reproduce: $(STAMP) ## the whole experiment: data, training, search, notebooks, figures (PROFILE, SEED, RUNS)
	$(RUN) -m commands.reproduce --profile "$(PROFILE)" --seed "$(SEED)" --model "$(MODEL)" --runs "$(RUNS)"

plan: $(STAMP) ## what a run needs, without weights or GPU (PROFILE, MODEL, HARDWARE=h100x4)
	$(RUN) -m commands.plan --profile "$(PROFILE)" --model "$(MODEL)" --hardware "$(HARDWARE)"

ablations: $(STAMP) ## optimisers, batch sizes, losses at equal examples: hours (ARGS=--quick)
	$(RUN) -m commands.ablations --profile "$(PROFILE)" $(ARGS)

test: $(STAMP) $(JUDGE_STAMP) ## the tests (ARGS="-k search" picks some)
	$(RUN) -m pytest $(ARGS)

$(JUDGE_STAMP): requirements-judge.txt | $(STAMP)
	@$(RUN) -m pip install --disable-pip-version-check -q --no-deps --upgrade \
		--target "$(VENV)/judge" -r requirements-judge.txt && touch "$(VENV)/.judge-pins-installed" || \
		echo "reasoning-gym cannot be had here: tests/test_judge.py is left out"

lab: $(STAMP) ## JupyterLab on the search-tree explorer, for this machine only
	$(RUN) -c 'import lib, sys; from jupyterlab.labapp import main; sys.exit(main())' \
		notebooks/06_explorer.ipynb --ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)" \
		$$(test "$$(id -u)" -ne 0 || echo --allow-root)

figures: $(STAMP) ## copy a run's figures and numbers into figures/ and the README (PROFILE, SEED, RUNS)
	$(RUN) -m commands.figures --profile "$(PROFILE)" --seed "$(SEED)" --runs "$(RUNS)"

chaos: $(STAMP) ## kill runs at random moments, resume, compare (ARGS="--profile cpu")
	$(RUN) tests/chaos.py $(ARGS)

bench: $(STAMP) ## speed of the generator, training and search on this machine (ARGS=vllm: that sampler)
	$(RUN) -m benchmarks $(ARGS)

fuzz: $(FUZZ_STAMP) ## a million hostile inputs, an hour or more (ARGS=--random: without a guide)
	$(RUN) tests/fuzz.py $(ARGS)

$(FUZZ_STAMP): $(STAMP) requirements-fuzz.txt
	@$(RUN) -m commands.env "$(VENV)" --pins requirements-fuzz.txt --stamp .fuzz-pins-installed

load: $(STAMP) ## time and memory of large inputs, an hour or more (ARGS="search --share 0.1")
	$(RUN) tests/load.py $(ARGS)

lint: $(STAMP) ## code style, rooms in order, packages that fit together, no notebook outputs
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-logo --no-cache
	$(RUN) -m pip check --disable-pip-version-check
	$(RUN) -m nbstripout --verify --keep-id notebooks/*.ipynb

clean: ## remove runs/ and caches; .venv, models/ and figures/ stay
	rm -rf runs build *.egg-info .hypothesis .pytest_cache .ruff_cache
	find . -path "./.venv*" -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune \
		-exec rm -rf {} +
