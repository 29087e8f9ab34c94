# Two commands: `make book` builds the book, `make test` tests everything. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
EXTRAS := book test browser cluster files kernels minilm threads
JOBS ?= 2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 120 --color=no
MACHINE_FACTS := codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version
STRIP := $(BIN)/nbstripout --keep-output --keep-count --keep-id --extra-keys "$(MACHINE_FACTS:%=metadata.language_info.%)"
CONVERT := $(BIN)/jupyter nbconvert --log-level=WARN --CoalesceStreamsPreprocessor.enabled=True --to notebook --inplace
BUILD := $(BIN)/jupyter-book build . -W -n --keep-going --quiet

# One thread a process: the tests run in $(JOBS) processes, and threads beside them only get in the way.
export OMP_NUM_THREADS ?= 1
export PYTHONDONTWRITEBYTECODE := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: help book test lint unit notebooks-check html site-check dist-check portability browser pdf notebooks lab launch lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "%s is Python %d.%d; this project needs 3.11 or newer: make PYTHON=/path/to/python3.11 ..." % (sys.executable, v[0], v[1]))'
	$(PYTHON) -m venv --clear .venv
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

book: $(READY)  ## build the book and say where it is
	@# A page that failed must not pass for up to date the next time.
	$(BUILD) || { rm -rf _build/.doctrees; exit 1; }
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

test: lint unit notebooks-check html site-check  ## everything that continuous integration runs
	@echo "All checks passed."

lint: $(READY)  ## style of the package, the tests and the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: $(READY)  ## the tests of the package and of the repository
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

notebooks-check: $(READY)  ## execute every notebook; compare what is printed, and what is checked with all digits
	rm -rf _build/records
	notebooks=$$($(BIN)/python tests/toc.py) && \
	JLA_RECORDS=$(CURDIR)/_build/records $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(NBVAL) $$notebooks
	$(BIN)/python tests/compare_records.py book/results/records _build/records

html: $(READY)  ## build the book from scratch, warnings are errors
	rm -rf _build
	$(BUILD)

site-check: $(READY)  ## no built page loads anything from outside, or too much
	$(BIN)/python tests/check_site.py _build/html

dist-check: $(READY)  ## build wheel and source distribution; the one is tested by the other's tests
	$(BIN)/python tests/check_dist.py -n $(JOBS) --dist loadfile -q

portability: $(READY)  ## run tests and notebooks as other machines would; MACHINES="--list" lists them
	$(BIN)/python tests/portability/run.py $(MACHINES)

browser: $(READY)  ## look at every built page with Chromium
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/browser $(BROWSER_OPTIONS)

pdf: book  ## print every page, and the whole book, with Chromium
	$(BIN)/python tests/print_book.py _build/html _build/pdf

notebooks: $(READY)  ## format every notebook, execute it in place, strip it; write its figures as SVG
	@# Sorted: the ledger and the index, which read the chapters, come after them. What a cell printed
	@# in pieces is put together in a second pass.
	notebooks=$$($(BIN)/python tests/toc.py | sort) && \
	$(BIN)/ruff format $$notebooks && \
	rm -rf book/figures && \
	JLA_RECORDS=$(CURDIR)/book/results/records JLA_FIGURES=$(CURDIR)/book/figures $(CONVERT) --execute $$notebooks && \
	$(CONVERT) $$notebooks && \
	$(STRIP) $$notebooks
	$(BIN)/python tests/readme_picture.py

lab: $(READY)  ## open a copy of the notebooks in JupyterLab, ready to run and to change
	@$(BIN)/python -c 'import jupyterlab' 2> /dev/null || $(PIP) -e '.[lab]'
	$(BIN)/python book/_ext/launch.py --lab _build/lab
	@# A chapter that is run there writes its checks beside it, where its ledger reads them.
	JLA_RECORDS=$(CURDIR)/_build/lab/book/results/records $(BIN)/jupyter lab --notebook-dir=_build/lab/book $(LAB_OPTIONS)

launch: $(READY)  ## write the notebooks that the launch buttons open; BOOK_REPOSITORY names the address
	$(BIN)/python book/_ext/launch.py _build/launch
	@echo "They are in _build/launch/book"

lock: $(READY)  ## renew requirements.lock from the ranges in pyproject.toml
	$(PIP) uv
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --no-header --no-annotate $(EXTRAS:%=--extra %) pyproject.toml -o requirements.lock

clean:  ## remove what was built, the environment too
	rm -rf _build .venv .machines .pytest_cache .ruff_cache .hypothesis
