# Everything one does with a checkout. `make` lists the targets.
#
# Needs Python 3.11 or newer, git and make. Tools go to .venv; stamp files in it tell what is installed already.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
# Where it is set, every command of the tests would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BENCH := .venv-bench
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q
# Quiet unless something fails. Versions and hashes come from the lock; the checkout itself is installed in place.
INSTALL := -m pip install -qq --disable-pip-version-check --no-input
LOCKED := $(INSTALL) --require-hashes -r
IN_PLACE := $(INSTALL) --no-deps --no-build-isolation -e .

# The source roots of the examples.
PROJECTS := $(filter-out examples/cloudflare/,$(wildcard examples/*/)) $(wildcard examples/cloudflare/*/.flue)

Q ?= How do I resume a stream?
export Q

.PHONY: help setup demo test check fmt lint types docs screenshots bench faults chaos e2e e2e-setup lock latest clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/installed ## Install the `flue` command and the server extra into .venv
	@echo "Ready. For the command flue in this shell: source $(VENV)/bin/activate"

demo: $(VENV)/installed ## Ask the support agent: make demo Q="How do I resume a stream?" [MODEL=provider/model]
	@$(BIN)/python examples/support/demo.py "$$Q"

test: $(VENV)/installed-dev ## Run the fast tests
	@$(PYTEST) --ignore=tests/docs --numprocesses auto --dist worksteal

check: lint types docs test ## Run everything that must pass before a commit

fmt: $(VENV)/installed-dev ## Format the code
	@$(BIN)/ruff check --quiet --fix --exit-zero .
	@$(BIN)/ruff format --quiet .

lint: $(VENV)/installed-dev ## Check format and style
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted as above; run: make fmt" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .

types: $(VENV)/installed-dev ## Check types
	@$(BIN)/mypy
	@for example in $(PROJECTS); do MYPYPATH=$$example $(BIN)/mypy --no-error-summary $$example; done # each by itself

docs: $(VENV)/installed-dev ## Run every snippet of the documentation
	@$(PYTEST) tests/docs

screenshots: $(VENV)/installed-dev ## Take the pictures of the guides anew (Chromium)
	@$(BIN)/python -m tests.page.screenshots docs/images

bench: $(BENCH)/installed ## Measure beside raw httpx2, other frameworks and the original [ARGS="--only requests"]
	@$(MAKE) build/original/installed || echo "The original cannot be installed; going on without it." >&2
	@$(BENCH)/bin/python -m benchmarks $(ARGS)

faults: $(VENV)/installed-dev ## Run the tests that kill processes, break disks and run hostile scripts
	@$(PYTEST) -m 'faults or properties' --hypothesis-profile=thorough

chaos: $(VENV)/installed-dev ## Long runs: make chaos KILLS=10000 CUTS=100000 MINUTES=60 [SEED=… WORKERS=2], any of them
	@test -n '$(KILLS)$(CUTS)$(MINUTES)' || { echo 'Say how long: KILLS= of servers, power CUTS=, MINUTES= of three nodes on Postgres.' >&2; exit 2; }
	@FLUE_KILLS=$(KILLS) FLUE_POWER_CUTS=$(CUTS) FLUE_SECONDS=$$((60 * $(or $(MINUTES),0))) FLUE_SEED=$(SEED) FLUE_WORKERS=$(WORKERS) \
		$(PYTEST) -s -m 'faults or e2e' $(if $(KILLS),tests/faults/test_kills.py) \
		$(if $(CUTS),tests/stores/test_power_cut.py) $(if $(MINUTES),tests/faults/test_nodes.py)

e2e: $(VENV)/installed-dev e2e-setup ## Run the tests of whole processes, under Pyodide, and beside the original (Node)
	@$(PYTEST) -m e2e

e2e-setup: build/pyodide/installed build/wrangler/installed build/original/installed ## Install what `make e2e` needs: Node 18 or newer must be there

lock: $(VENV)/installed-dev ## Write requirements/*.txt anew from pyproject.toml [UPGRADE=1]
	@$(BIN)/python $(INSTALL) 'uv>=0.13,<0.14'
	@UPGRADE=$(UPGRADE) scripts/lock $(BIN)/uv

latest: ## Run the fast tests with the newest versions that pyproject.toml allows, not the locked ones
	@rm -rf build/venv-latest && mkdir -p build && scripts/create-venv build/venv-latest
	@build/venv-latest/bin/python $(INSTALL) --upgrade pip
	@build/venv-latest/bin/python $(INSTALL) -e '.[mcp,otel,postgres,pydantic-ai,sdk,server]' --group dev --group build
	@build/venv-latest/bin/python -m pytest -q --ignore=tests/docs --numprocesses auto --dist worksteal

clean: ## Remove what these targets made
	@rm -rf $(VENV) $(BENCH) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/created:
	@scripts/create-venv $(VENV) && touch $@

$(VENV)/installed: requirements/run.txt pyproject.toml | $(VENV)/created
	@echo "Installing into $(VENV) …" >&2
	@$(BIN)/python $(LOCKED) requirements/run.txt
	@$(BIN)/python $(IN_PLACE)
	@touch $@

$(VENV)/installed-dev: requirements/dev.txt $(VENV)/installed
	@echo "Installing the development tools into $(VENV) …" >&2
	@$(BIN)/python $(LOCKED) requirements/dev.txt
	@touch $@

$(BENCH)/installed: requirements/bench.txt pyproject.toml
	@echo "Installing what is measured into $(BENCH) …" >&2
	@test -x $(BENCH)/bin/python || scripts/create-venv $(BENCH)
	@$(BENCH)/bin/python $(LOCKED) requirements/bench.txt
	@$(BENCH)/bin/python $(IN_PLACE)
	@touch $@

build/pyodide/installed: requirements/pyodide.txt tests/pyodide/package-lock.json $(VENV)/installed
	@echo "Installing Pyodide and its wheels into build/pyodide …" >&2
	@PYTHON=$(BIN)/python scripts/install-pyodide build/pyodide
	@touch $@

build/wrangler/installed: tests/build/cloudflare/package.json tests/build/cloudflare/package-lock.json
	@echo "Installing Wrangler into build/wrangler …" >&2
	@scripts/install-npm tests/build/cloudflare build/wrangler
	@touch $@

build/original/installed: tests/original/package.json tests/original/package-lock.json
	@echo "Installing the original into build/original …" >&2
	@scripts/install-npm tests/original build/original
	@touch $@
