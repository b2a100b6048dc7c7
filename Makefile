# `make demo` and `make test` set up what they need in .venv and run; nothing else is required
# than Python (>= 3.10) and network access to a package index.
PYTHON ?= python3
VENV ?= .venv
RESULTS ?= results
BIN := $(VENV)/bin

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help venv demo test doctest lint types clean

help:
	@echo "make demo     set up, then train and prune a small net (writes $(RESULTS)/)"
	@echo "make test     set up, then run the tests"
	@echo "make doctest  run the examples in the docstrings"
	@echo "make lint     ruff check and ruff format --check"
	@echo "make types    mypy over the package"

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

doctest: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --doctest-modules keras_dfprune

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info $(RESULTS)
