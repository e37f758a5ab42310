# `make demo` and `make test` make their own environment in .venv; PYTHON names another interpreter, 3.10 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := postgresql,mysql,connector,demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Errors only: pip's warnings are about the machine, and a newcomer would take them for ours.
QUIETLY := --quiet --quiet

.PHONY: demo test lint bench docs clean

demo: $(VENV)/.installed
	@$(BIN)/prefect-batch demo

test: $(VENV)/.installed-test
	$(BIN)/pytest -n 3 --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/prefect_batch
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p prefect_batch.blocks -p prefect_batch.tasks -p prefect_batch.flows -p prefect_batch.testing

# Into build/docs; a dead link, a missing anchor or an unknown name in the reference is an error.
docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(VENV)/.installed
	@$(BIN)/pip install $(QUIETLY) --constraint constraints.txt --editable '.[$(EXTRAS),bench]'
	$(BIN)/python benchmarks/run.py

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing prefect-batch and Prefect into $(VENV); this can take two minutes …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "prefect-batch needs Python 3.10 or later: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(QUIETLY) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests need …"
	@$(BIN)/pip install $(QUIETLY) --constraint constraints.txt --editable '.[$(EXTRAS),test]'
	@touch $@

clean:
	rm -rf $(VENV) prefect-batch-demo build *.egg-info
