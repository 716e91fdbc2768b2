# make demo   set-up and the whole pipeline on a small real model
# make test   set-up, all checks and the tests

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all test-gpu check format bench clean

demo: $(STAMP)
	$(BIN)/workbench demo

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow"

test-all: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test-gpu: $(STAMP)
	$(BIN)/pytest -rs tests/gpu

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/sizes.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The peer that `make bench` measures against, in an environment of its own.
.bench/.installed: constraints.txt
	test -x .bench/bin/python || $(PYTHON) -m venv .bench
	.bench/bin/python -m pip install --quiet --constraint constraints.txt trl==1.12.0 torch peft psutil
	touch $@

bench: $(STAMP) .bench/.installed
	$(BIN)/python -m tests.bench.ppo .bench/bin/python
	$(BIN)/python -m tests.bench.rollout

clean:
	rm -rf .venv .bench dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
