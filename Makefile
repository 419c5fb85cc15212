# Each target sets up what it needs: a .venv with castlit in it, anew when the dependencies change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay together: they share what they train. Files begin in the order of tests/conftest.py.
PARALLEL := -n auto --dist loadscope --no-loadscope-reorder
export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: help train test test-all test-nightly test-fast coverage check docs gpu clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

train: $(VENV)/.installed ## Train CAST on the built-in scenes; more options in ARGS="key=value ..."
	$(BIN)/python -m castlit.train +experiment=cast_mocov2 $(ARGS)

test: $(VENV)/.installed-dev ## Run all tests but the nightly ones, on all cores
	$(BIN)/python -m pytest $(PARALLEL) --durations=10 -m "not nightly" $(ARGS)

test-all: $(VENV)/.installed-dev ## Run all tests
	$(BIN)/python -m pytest $(PARALLEL) --durations=10 $(ARGS)

test-nightly: $(VENV)/.installed-dev ## Run the tests that make test leaves out
	$(BIN)/python -m pytest $(PARALLEL) --durations=10 -m nightly $(ARGS)

test-fast: $(VENV)/.installed-dev ## Run the tests that take less than ten seconds each
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not nightly" $(ARGS)

coverage: $(VENV)/.installed-dev ## Run the tests that take less than ten seconds, and show which lines they miss
	$(BIN)/python -m pytest -m "not slow and not nightly" --cov --cov-report=term-missing $(ARGS)

check: $(VENV)/.installed-dev ## Lint, format check, type check and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

gpu: $(VENV)/.installed-dev ## Measure everything that needs a GPU, in at most 8 minutes, into benchmarks/results/gpu.json
	$(BIN)/python -m castlit.bench gpu tests=tests output=benchmarks/results/gpu.json $(ARGS)

docs: $(VENV)/.installed-dev ## Build the documentation into site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean: ## Remove the .venv and what tools leave behind
	rm -rf $(VENV) build site .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "castlit needs Python 3.10 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@# Where ensurepip is missing (Debian's python3-venv), a half-made .venv is left that the next call would believe.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "install your system's python3-venv package" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $@
