# make demo   set-up and the whole pipeline on a small real model
# make test   set-up, all checks and the tests

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all test-gpu test-oldest check format bench bench-gpu bench-tui screenshots clean

demo: $(STAMP)
	$(BIN)/workbench demo

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-all: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test-gpu: $(STAMP)
	$(BIN)/pytest -rs tests/gpu

# The engine with the oldest libraries that pyproject.toml allows, in an environment of its own.
# The torch of that age on PyPI brings CUDA along (3 GB); PIP_EXTRA_INDEX_URL can name an index
# with builds for the CPU alone.
.oldest/.installed: pyproject.toml constraints-oldest.txt
	test -x .oldest/bin/python || $(PYTHON) -m venv .oldest
	.oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[dev]'
	touch $@

test-oldest: .oldest/.installed
	OMP_NUM_THREADS=1 .oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow" \
		tests/rl tests/job tests/data tests/runs tests/model tests/stages tests/engine

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

# ARGS="fp32 --steps 2 --rounds 1" is the shortest there is, for a slow machine.
bench: $(STAMP) .bench/.installed
	$(BIN)/python -m tests.bench.ppo .bench/bin/python $(ARGS)
	$(BIN)/python -m tests.bench.rollout

# One line a run; ARGS="--only qwen2.5-0.5b --arm nf4" limits it, and what has a row is not run
# again (.bench-gpu/results.jsonl).
bench-gpu: $(STAMP) .bench/.installed
	$(BIN)/python -m tests.bench.gpu --trl .bench/bin/python $(ARGS)

# Start, attaching, idling and a fast run, measured on the real screens in a pseudo-terminal.
bench-tui: $(STAMP)
	$(BIN)/python -m tests.bench.tui

# The README's pictures, from a real run.
screenshots: $(STAMP)
	TERM=xterm-256color COLORTERM=truecolor $(BIN)/python -m tests.screenshots

clean:
	rm -rf .venv .bench .bench-gpu .oldest dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
