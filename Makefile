# Everything a contributor or CI runs. `make demo` and `make test` work in a fresh clone with nothing installed.
PYTHON ?= python3
PIP_ARGS ?=
OUT ?= runs/demo
WORKERS ?= 2
FUZZ ?= 20000

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

# One thread a process: the tests and the demo run two processes, and float sums then do not depend on the thread count.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help demo test test-slow check format docs bench fuzz verify-records clean

help:
	@echo "make demo            train, measure, compress and compare models on two data sets; writes $(OUT)/report.html"
	@echo "make test            format, lint, types, changelog, documents, tests and coverage"
	@echo "make check           the same without the tests"
	@echo "make test-slow       the tests marked slow"
	@echo "make docs            check the documents: links, commands, recipes and the Python example of the README"
	@echo "make bench           every benchmark in benchmarks/"
	@echo "make fuzz            damage $(FUZZ) archives: each must be refused or give back the original"
	@echo "make verify-records  evaluate every run in records/ again; recompute $(OUT)/results.json if it is there"
	@echo "make format          format the code"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(READY): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e .
	@touch $(READY)

$(READY_DEV): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $(READY) $(READY_DEV)

demo: $(READY)
	$(BIN)/codelength demo --out $(OUT)

check: $(READY_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_version.py
	$(BIN)/python scripts/check_documents.py

test: check
	$(BIN)/pytest -n $(WORKERS) -m "not slow" --cov=codelength --cov-report=term --cov-fail-under=90

test-slow: $(READY_DEV)
	$(BIN)/python scripts/verify_records.py records --examples 200 --skip-missing-data
	$(BIN)/pytest -n $(WORKERS) -m slow

docs: $(READY_DEV)
	$(BIN)/python scripts/check_documents.py --run

bench: $(READY_DEV)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

fuzz: $(READY)
	$(BIN)/python -m codelength.archive.fuzz --count $(FUZZ)

verify-records: $(READY)
	$(BIN)/python scripts/verify_records.py records $(wildcard $(OUT)/results.json)

format: $(READY_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis
