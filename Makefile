# Every target makes the environment by itself: `make test` on a fresh clone is one command.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
ENVIRONMENT := $(VENV)/.installed

# A folder of wheels that pip knows, uv is to know too. Where it holds no torch, take the CPU build.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
TORCH_BACKEND := $(if $(wildcard $(addsuffix /torch-*,$(UV_FIND_LINKS))),,--torch-backend=cpu)
# LightGBM's threads spin while they wait, which on few cores costs more than the work.
export OMP_WAIT_POLICY ?= PASSIVE
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(ENVIRONMENT): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(TORCH_BACKEND) -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: install
install: $(ENVIRONMENT) ## make .venv with all that is needed

.PHONY: test
test: $(ENVIRONMENT) ## the tests that take seconds each (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow"

.PHONY: test-all
test-all: test ## every test (under an hour on 2 cores)
	$(BIN)/python -m pytest -m slow

.PHONY: lint
lint: $(ENVIRONMENT) ## ruff, mypy --strict and the import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: serve
serve: $(ENVIRONMENT) ## run the API on 127.0.0.1:8000 (with an embedded Redis unless FRESHET_REDIS_URL is set)
	$(BIN)/freshet serve

.PHONY: demo
demo: $(ENVIRONMENT) ## the whole platform on this machine, until Ctrl-C; CHECK=1 verifies it, DATA=NAME takes a real shop
	$(BIN)/freshet demo $(if $(CHECK),--check) $(if $(DATA),--data $(DATA))

.PHONY: bench
bench: bench-slates ## measure that, ingestion, and 10,000 clicks that change slates on this machine (about 25 minutes)
	$(BIN)/python -m tests.bench

.PHONY: bench-slates
bench-slates: $(ENVIRONMENT) ## measure a slate of 100,000 items beside its floor and Feast's read (about 15 minutes; apt-get install wrk)
	$(BIN)/python -m tests.bench_slates $(if $(PLOT),--plot $(PLOT))

.PHONY: outages
outages: $(ENVIRONMENT) ## kill Redis, let a source hang, publish a corrupt bundle under load, and count what shoppers got
	$(BIN)/python -m tests.outages

.PHONY: bench-training
bench-training: $(ENVIRONMENT) ## measure import and training of 100,000 to a million events on this machine
	$(BIN)/python -m tests.bench_training

.PHONY: bench-memory
bench-memory: $(ENVIRONMENT) ## measure what 100,000 shoppers take of Redis' memory, beside what the formula says
	$(BIN)/python -m tests.bench_memory

.PHONY: chaos
chaos: $(ENVIRONMENT) ## kill Redis, the API and the consumers again and again under load, and verify that no event is lost or doubled
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

.PHONY: image-check
image-check: $(ENVIRONMENT) ## build both images with Docker or buildah, and prove that they work
	$(BIN)/python -m tests.image_check

.PHONY: lock
lock: $(ENVIRONMENT) ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade-package torch --no-emit-find-links --no-emit-index-url --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" --extra dev --extra postgres pyproject.toml --output-file requirements.lock
	sed -i -E 's/^(torch==[0-9.]+)\+cpu$$/\1/' requirements.lock

.PHONY: clean
clean: ## remove the environment and caches; ./var, which holds data, stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
