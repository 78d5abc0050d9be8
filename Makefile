# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= $(shell scripts/find-python)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Tests that share a server stay in one worker. One worker more than cores works while others wait for servers.
WORKERS ?= $(shell expr $$(nproc) + 1)
PYTEST := $(BIN)/python -m pytest
IN_WORKERS = -n $(WORKERS) --maxprocesses 4
# Else each worker, stub and command compiles the package and its tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-fast test-gpu coverage mutants fuzz soak check bench bench-gpu docs dist clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[server,examples,cli,ray,otel,test,docs,bench,dev]'
	# Its own requirements end at torch 2.2; MTCNN, with its weights, needs none of them.
	$(BIN)/python -m pip install --quiet --no-deps 'facenet-pytorch==2.6.0'
	@touch $@

demo: $(INSTALLED) ## Serve two image classifiers on a real tritonserver and show them a cat
	$(BIN)/python examples/demo.py

test: $(INSTALLED) ## Run all tests, those on the real server included
	KINDAWARE_REQUIRE_SERVER=1 $(PYTEST) $(IN_WORKERS) $(PYTEST_ARGS)

# Without servers, no worker waits.
test-fast: WORKERS = auto
test-fast: $(INSTALLED) ## Run the tests that need no server and no long search
	$(PYTEST) $(IN_WORKERS) -m "not (server or slow or alone)" --hypothesis-profile fast $(PYTEST_ARGS)

coverage: $(INSTALLED) ## Run all tests, and show which lines and branches they reach
	$(BIN)/python -m coverage erase
	KINDAWARE_REQUIRE_SERVER=1 $(BIN)/python -m coverage run -m pytest $(IN_WORKERS) $(PYTEST_ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-gpu: $(INSTALLED) ## Run the tests of the GPU path on a GPU
	KINDAWARE_REQUIRE_CUDA=1 $(PYTEST) tests/gpu -m gpu $(PYTEST_ARGS)

mutants: $(INSTALLED) ## Change the library in one place after another, and show which test notices
	$(BIN)/python scripts/mutants.py $(MUTANTS_ARGS)

fuzz: $(INSTALLED) ## Send a real server whatever a client may; FUZZ_ARGS='--inputs 2000' is shorter
	$(BIN)/python -m stress.fuzz $(FUZZ_ARGS)

soak: $(INSTALLED) ## Load a real server for an hour, with faults; SOAK_ARGS=--quick takes three minutes
	$(BIN)/python -m stress.soak $(SOAK_ARGS)

check: $(INSTALLED) ## Lint, types and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

bench: $(INSTALLED) ## Measure the forms of a model side by side on real servers; BENCH_ARGS=--quick is shorter
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-gpu: $(INSTALLED) ## Measure the GPU path on a GPU; BENCH_ARGS=--quick is shorter
	$(BIN)/python -m benchmarks.gpu $(BENCH_ARGS)

docs: $(INSTALLED) ## Build the documentation; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

dist: $(INSTALLED) ## Build sdist and wheel into dist/
	$(BIN)/python -m build --outdir dist .

clean: ## Remove everything that was built, .venv included
	rm -rf $(VENV) .bench dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
