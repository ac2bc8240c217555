# Every target works from a clean clone: it makes .venv first, from constraints.txt (exact versions, checked hashes).
# PYTHON=… chooses the interpreter, WORKERS=… the number of test processes, ARGS=… goes to the program.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= auto
ARGS ?=
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal

.PHONY: help
help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

# --- the environment -------------------------------------------------------------------------------------------

$(READY): constraints.txt pyproject.toml hatch_build.py
	@set -e; \
	found=; \
	for candidate in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11 python; do \
		[ -n "$$candidate" ] || continue; \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
		if [ -n "$(PYTHON)" ]; then echo "maf: PYTHON=$(PYTHON) is no Python 3.11 or newer." >&2; exit 1; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "maf: no Python 3.11 or newer on the PATH. Install one, or name it: make PYTHON=/path/to/python3 …" >&2; exit 1; \
	fi; \
	command -v git >/dev/null || { echo "maf: git is not on the PATH. Install git first." >&2; exit 1; }; \
	if [ -x $(BIN)/python ] && $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then :; else \
		echo "maf: making $(VENV) with $$($$found --version)"; \
		rm -rf $(VENV); \
		"$$found" -m venv $(VENV) || { rm -rf $(VENV); \
			echo "maf: this Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	fi; \
	echo "maf: installing what constraints.txt pins into $(VENV)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

.PHONY: venv
venv: $(READY) ## only the environment: .venv, with everything for running and developing

# --- using it --------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(READY) ## the whole flow on a sample repository with scripted agents, offline
	$(BIN)/maf demo $(ARGS)

.PHONY: replay
replay: $(READY) ## real releases of real packages, rebuilt by agents in parallel (fetches them with pip)
	$(BIN)/python examples/replay/replay.py $(ARGS)

# --- holding it ------------------------------------------------------------------------------------------------

.PHONY: test
test: $(READY) ## the tests, on SQLite and on a Postgres they start themselves
	$(PYTEST) $(ARGS)

.PHONY: lint
lint: $(READY) ## style, types and floors, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: check
check: lint test ## style, types, floors, then the tests

.PHONY: format
format: $(READY) ## lets ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(READY) ## writes the documentation's generated parts
	$(BIN)/python -m orchestrator.cli.docs
	$(BIN)/python docs/generate.py $(ARGS)

.PHONY: bench
bench: $(READY) ## what the README's figures come from
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: soak
soak: $(READY) ## the proofs at full count, on both stores; leaves a report in benchmarks/results/
	$(BIN)/python benchmarks/soak.py $(ARGS)

.PHONY: binary
binary: ## (later) one executable, dist/maf
	@echo "maf: this version does not build the binary yet; use $(BIN)/maf, which 'make demo' installs." >&2; exit 1

.PHONY: test-real
test-real: ## (later) the tests with real agents
	@echo "maf: this version has no tests with real agents yet; 'make test' and 'make demo' use scripted ones." >&2; exit 1

.PHONY: lock
lock: ## pins constraints.txt afresh
	@set -e; \
	python=$(BIN)/python; [ -x $$python ] || python=$${PYTHON:-python3}; \
	[ -x .build/lock/bin/uv ] || { $$python -m venv .build/lock; .build/lock/bin/python -m pip install --quiet uv; }; \
	.build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
		--generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml -o .build/pins.txt; \
	{ sed -n '/^#/p;/^#/!q' constraints.txt; cat .build/pins.txt; } > .build/constraints.txt; \
	mv .build/constraints.txt constraints.txt

.PHONY: clean
clean: ## removes the environment and everything that was made
	rm -rf $(VENV) .build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
