# Two commands: `make book` builds the book, `make test` tests everything. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
EXTRAS := book test cluster minilm
NOTEBOOKS = $(shell $(BIN)/python tests/toc.py)
JOBS ?= 2

# One thread a process: the tests run in $(JOBS) processes, and threads beside them only get in the way.
export OMP_NUM_THREADS ?= 1
export PYTHONDONTWRITEBYTECODE := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: help book test lint unit notebooks-check html site-check notebooks lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"{sys.executable} is Python {v[0]}.{v[1]}; this project needs 3.11 or newer: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

book: $(READY)  ## build the book and say where it is
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

test: lint unit notebooks-check html site-check  ## everything that continuous integration runs
	@echo "All checks passed."

lint: $(READY)  ## style of the package, the tests and the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: $(READY)  ## the tests of the package and of the repository
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

notebooks-check: $(READY)  ## execute every notebook and compare every printed output
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout 120 --color=no $(NOTEBOOKS)

html: $(READY)  ## build the book from scratch, warnings are errors
	rm -rf _build
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet

site-check: $(READY)  ## no built page loads anything from outside
	$(BIN)/python tests/check_site.py _build/html

notebooks: $(READY)  ## execute every notebook in place and strip it
	$(BIN)/jupyter nbconvert --log-level=WARN --to notebook --execute --inplace $(NOTEBOOKS)
	$(BIN)/nbstripout --keep-output --keep-count $(NOTEBOOKS)

lock: $(READY)  ## renew requirements.lock from the ranges in pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --no-header --no-annotate $(EXTRAS:%=--extra %) pyproject.toml -o requirements.lock

clean:  ## remove what was built, the environment too
	rm -rf _build .venv .pytest_cache .ruff_cache .hypothesis
