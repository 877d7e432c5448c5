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
READY_SLOW := $(VENV)/.ready-slow
AXE := .node/node_modules/axe-core/axe.min.js

# One thread a process: the tests and the demo run two processes, and float sums then do not depend on the thread count.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help demo test test-slow test-browser nightly figures check format docs bench fuzz verify-records clean

help:
	@echo "make demo            train, measure, compress and compare models on two data sets; writes $(OUT)/report.html"
	@echo "make test            format, lint, types, changelog, documents, tests and coverage"
	@echo "make check           the same without the tests"
	@echo "make test-slow       the tests marked slow"
	@echo "make test-browser    the pages in headless Chromium: clicks, accessibility, no requests"
	@echo "make docs            the documentation site in site/: links, commands, Python examples and doctests checked"
	@echo "make figures         the figures of the guide and the numbers they show"
	@echo "make nightly         every command of the README and of docs/, run"
	@echo "make bench           every benchmark in benchmarks/ that needs no run or file of yours; the others are named"
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

$(READY_SLOW): $(READY_DEV)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[dev,slow]"
	@touch $(READY_SLOW)

$(AXE):
	npm install --prefix .node --no-audit --no-fund axe-core@4.14.1

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

test-slow: $(READY_SLOW) $(AXE)
	$(BIN)/python scripts/verify_records.py records --examples 200 --skip-missing-data
	CODELENGTH_REQUIRE_BROWSER=1 $(BIN)/pytest -n $(WORKERS) -m slow

test-browser: $(READY_SLOW) $(AXE)
	CODELENGTH_REQUIRE_BROWSER=1 $(BIN)/pytest -m slow tests/browser

nightly: $(READY_SLOW)
	$(BIN)/python scripts/run_commands.py

docs: $(READY_SLOW)
	$(BIN)/python scripts/check_documents.py --run
	$(BIN)/pytest -q -n $(WORKERS) src
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

figures: $(READY)
	$(BIN)/codelength figures -o docs/figures --records records

bench: $(READY_DEV)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; code=$$?; \
	    if [ $$code -eq 2 ]; then echo "-- $$file wants arguments, such as a run: not run here"; elif [ $$code -ne 0 ]; then exit 1; fi; done

fuzz: $(READY)
	$(BIN)/python -m codelength.archive.fuzz --count $(FUZZ)

verify-records: $(READY)
	$(BIN)/python scripts/verify_records.py records $(wildcard $(OUT)/results.json)

format: $(READY_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .node site .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis
