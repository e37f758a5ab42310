# `make demo` and `make test` make their own environment in .venv; PYTHON names another interpreter, 3.11 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := postgresql,mysql,connector,demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Errors only: pip's warnings are about the machine, and a newcomer would take them for ours.
QUIETLY := --quiet --quiet
VERSIONS := --constraint constraints.txt
TESTS :=
UNLOCKED := .venv-unlocked
# The main job, deployments and notebooks.
MAIN_TESTS := tests/test_flow.py tests/test_deployments.py tests/test_notebooks.py

# The share of lines and branches is printed, and must not be below `fail_under` in pyproject.toml; of a part of the
# tests it says nothing: make test COVERAGE=
COVERAGE := --cov --cov-report=

.PHONY: demo test test-unlocked lint bench docs clean

demo: $(VENV)/.installed
	@$(BIN)/prefect-batch demo

test: $(VENV)/.installed-test
	$(BIN)/pytest -n 3 --dist worksteal $(COVERAGE) $(TESTS)

# With the versions that pip gives a new user today, in an environment of their own.
test-unlocked:
	@$(MAKE) --no-print-directory test VENV=$(UNLOCKED) VERSIONS= COVERAGE= TESTS='$(MAIN_TESTS)'

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/prefect_batch
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p prefect_batch.blocks -p prefect_batch.tasks -p prefect_batch.flows -p prefect_batch.testing

# Into build/docs; a dead link, a missing anchor or an unknown name in the reference is an error.
docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(VENV)/.installed
	@$(BIN)/pip install $(QUIETLY) $(VERSIONS) --editable '.[$(EXTRAS),bench]'
	$(BIN)/python benchmarks/run.py

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing prefect-batch and Prefect into $(VENV); this can take two minutes …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prefect-batch needs Python 3.11 or later: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(QUIETLY) $(VERSIONS) --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests need …"
	@$(BIN)/pip install $(QUIETLY) $(VERSIONS) --editable '.[$(EXTRAS),test]'
	@touch $@

clean:
	rm -rf $(VENV) $(UNLOCKED) prefect-batch-demo build *.egg-info
