# Two commands for a newcomer: `make demo` and `make test`. Both make their own environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
STRUCTURE := tests/test_budgets.py tests/test_layering.py
DEMO_FLAGS ?= --minutes 15 --epochs 30 --learning-rate 2e-3 --linear-epochs 15 --classifier-lr 1e-2 --head-seeds 1 --folds 5

.PHONY: demo test test-all coverage lint bench docs install

demo: $(VENV)/installed  ## the main job on built-in synthetic data, into models/
	$(BIN)/python main.py --data demo $(DEMO_FLAGS)

test: $(VENV)/installed-dev lint  ## lint, types, and the quick tests
	$(PYTEST) $(STRUCTURE:%=--ignore=%)

test-all: $(VENV)/installed-dev lint  ## the slow tests too
	$(PYTEST) -m "slow or not slow" $(STRUCTURE:%=--ignore=%)

coverage: $(VENV)/installed-dev  ## lines of the package that the quick tests run, those in processes of their own not counted
	$(PYTEST) --cov=simclr_rhd --cov-report=term:skip-covered

lint: $(VENV)/installed-dev  ## style, types, sizes, and what imports what
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(STRUCTURE)

bench: $(VENV)/installed-dev  ## the loop against its bare step, ingest, views, memory, estimate, coverage, report, predict, scale
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/estimate.py
	$(BIN)/python benchmarks/interval_coverage.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/scale.py simulation
	$(BIN)/python benchmarks/scale.py paper

docs: $(VENV)/installed  ## docs/cli.md from the flags, docs/rooms.svg from the imports
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/draw_rooms.py

install: $(VENV)/installed

$(VENV)/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@
