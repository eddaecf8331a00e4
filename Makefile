# Everything a person or CI does with this project. `make` alone lists it.
# Needs make and Python 3.11 or newer; what else is needed is installed into .venv from the locks.
VENV ?= .venv
BIN := $(VENV)/bin
# Further arguments: make run ARGS="--port 9000", make test ARGS="tests/wire -x".
ARGS ?=
# Processes that share the tests, more than a small machine has cores, for most tests wait much of their time; those marked `alone`, which
# measure time or make load, come after and have the machine.
JOBS ?= 3
# Anything here measures coverage and holds it against the gate, which nearly doubles the time.
COVERAGE ?=
IMAGE ?= llmgateway
.DEFAULT_GOAL := help
.PHONY: help setup run dev worker services test test-long integration check lint type-check layers format gate bench bench-full image lock upgrade clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready-run: requirements.lock requirements-build.lock scripts/setup.sh
	@VENV=$(VENV) scripts/setup.sh run

$(VENV)/.ready-dev: requirements-dev.lock requirements-build.lock scripts/setup.sh
	@VENV=$(VENV) scripts/setup.sh dev

setup: $(VENV)/.ready-run ## only set up .venv, from the lock

run: $(VENV)/.ready-run ## serve on http://127.0.0.1:8000 (set up first, when needed)
	@echo "==> starting the gateway; Ctrl-C ends it"
	@exec $(BIN)/llmgateway serve $(ARGS)

dev: $(VENV)/.ready-dev ## serve, and start again when a source file changes
	@echo "==> starting the gateway; it restarts when src/ changes"
	@exec $(BIN)/llmgateway serve --reload $(ARGS)

worker: $(VENV)/.ready-run ## run a worker for document jobs
	@exec $(BIN)/llmgateway worker $(ARGS)

services: $(VENV)/.ready-dev ## find or unpack the servers that the tests start
	@echo "==> looking for Redis, PostgreSQL, RabbitMQ, Prometheus and Chromium"
	@$(BIN)/python -m tests.services

# The tests start hundreds of processes: none need compile again what another has compiled.
test test-long: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.ready-dev services ## every test, real servers included
ifneq ($(ARGS),)
	@$(BIN)/pytest $(ARGS)
else
	@echo "==> 1 of 2: running the tests, $(JOBS) processes at a time"
	@TMPDIR=$$($(BIN)/python -m tests.memory) $(BIN)/pytest -q -n $(JOBS) --dist worksteal -m "not alone and not integration and not long" $(if $(COVERAGE),--cov --cov-report=)
	@echo "==> 2 of 2: running the tests that need the machine to themselves"
	@$(BIN)/pytest -q -m "alone and not integration and not long" $$(grep -rl --include='test_*.py' mark.alone tests)
endif

test-long: $(VENV)/.ready-dev services ## the same and the full-size tests (hours)
	@echo "==> running the tests, the long ones too"
	@$(BIN)/pytest -m "not integration" $(ARGS)

integration: $(VENV)/.ready-dev ## call the real providers whose keys are set
	@echo "==> calling the providers whose keys are set"
	@$(BIN)/python scripts/try_providers.py $(ARGS)

check: lint type-check layers ## lint, format, types, imports, locks: all that needs no run
	@echo "==> locks"
	@$(BIN)/python scripts/lock.py --check
	@echo "All checks passed."

lint: $(VENV)/.ready-dev ## ruff: rules and formatting
	@echo "==> ruff check"
	@$(BIN)/ruff check
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check

type-check: $(VENV)/.ready-dev ## mypy --strict on all of it
	@echo "==> mypy --strict"
	@$(BIN)/mypy -p llmgateway -p tests -p scripts -p bench

layers: $(VENV)/.ready-dev ## import-linter: who may import whom
	@echo "==> import-linter"
	@$(BIN)/lint-imports

format: $(VENV)/.ready-dev ## put the sources into shape
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

gate: $(VENV)/.ready-dev ## hold CPU time a call against its bounds (a minute)
	@echo "==> measuring calls in units of a null ASGI app"
	@$(BIN)/python -m bench --gate

bench: $(VENV)/.ready-dev ## measure the gateway beside its peers: the core, some fifteen minutes
	@$(BIN)/python -m bench $(ARGS)

bench-full: $(VENV)/.ready-dev ## every scenario at full length (hours)
	@$(BIN)/python -m bench --full $(ARGS)

image: ## build the container image
	@echo "==> building $(IMAGE)"
	docker build --tag $(IMAGE) .

lock: $(VENV)/.ready-dev ## resolve the locks after a change of dependencies
	@$(BIN)/python scripts/lock.py

upgrade: $(VENV)/.ready-dev ## resolve the locks to the newest versions that fit
	@$(BIN)/python scripts/lock.py --upgrade

clean: ## remove the environment, caches and build results (data/ stays)
	@echo "==> removing $(VENV), caches and build results"
	@rm -rf $(VENV) .cache .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
