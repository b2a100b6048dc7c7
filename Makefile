# `make demo` and `make test` set up what they need in .venv and run; nothing else is required
# than Python (>= 3.10) and network access to a package index.
PYTHON ?= python3
VENV ?= .venv
RESULTS ?= results
BIN := $(VENV)/bin

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help venv demo test test-lowest doctest lint types docs release clean

help:
	@echo "make demo     set up, then train and prune a small net (writes $(RESULTS)/)"
	@echo "make test     set up, then run the tests"
	@echo "make test-lowest  the same with the lowest versions that setup.cfg allows"
	@echo "make doctest  run the examples in the docstrings"
	@echo "make lint     ruff check and ruff format --check"
	@echo "make types    mypy over the package"
	@echo "make release  build the package and test it in a fresh environment"
	@echo "make docs     build the documentation in site/; warnings are errors"

venv: $(BIN)/python

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras: nothing is installed again until the requirements change.
$(VENV)/.installed-%: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

demo: $(VENV)/.installed-demo,plots,litert
	$(BIN)/keras-dfprune demo --output $(RESULTS)

# In the files' own order: some of the longest come first, so neither process is left alone at the end.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The same tests with the lowest versions that setup.cfg allows, in an environment of their own.
# TESTS chooses some of them.
test-lowest: .venv-lowest/.installed
	.venv-lowest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

.venv-lowest/.installed: setup.cfg .ci/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c .ci/lowest.txt -e ".[dev]"
	@touch $@

doctest: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --doctest-modules keras_dfprune

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check . .ci
	$(BIN)/ruff format --check . .ci

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# Nothing is fetched while building, except packages for the virtual environment.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# The wheel is built from the sdist, and tried out without extras in an environment of its own.
release: $(VENV)/.installed-release
	rm -rf dist build/fresh
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	build/fresh/bin/python .ci/check_package.py dist

clean:
	rm -rf $(VENV) .venv-lowest build dist site *.egg-info $(RESULTS)
