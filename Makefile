# Everything a developer does here. `make install` needs Python 3.11 to 3.13 and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for v in 3.13 3.12 3.11; do \
	p=$$(command -v python$$v) && "$$p" -c 'import venv, ensurepip' 2>/dev/null && { echo "$$p"; exit; }; done; \
	p=$$(command -v python3) && "$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && echo "$$p")
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TESTS ?= tests
WORKERS ?= auto
K6_DURATION ?= 30s
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --quiet

.PHONY: help install run test test-uncovered test-without-lane check bench overload cache-mix load image clean lock

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Make .venv with the pinned dependencies and .venv/bin/tidegate

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.13"; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

run: install ## Stub and sidecar side by side: http://localhost:8080/properties/1 (Ctrl-C stops both)
	@exec $(BIN)/python -m upstream_stub.demo

test: install ## All tests, with the coverage gates
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n $(WORKERS) $(TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=95
	$(BIN)/python -m coverage report --fail-under=100 --include='proxy/resilience/*,proxy/protocol/*'

test-uncovered: install ## All tests, without the coverage gates: faster
	$(BIN)/python -m pytest -n $(WORKERS) $(TESTS)

test-without-lane: install ## The edge's tests by aiohttp's own request loop, docs/adr/0008-the-lane.md
	TIDEGATE_LANE=off $(BIN)/python -m pytest -q -n $(WORKERS) tests/pipeline tests/conformance \
		-k "not caching and not faults_e and not faults_f and not faults_g"

check: install ## Style, types, layering, configuration
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases tests bench k6
	$(BIN)/lint-imports
	$(BIN)/tidegate check policies.yaml

bench: install ## CPU per request beside a naive proxy, nginx and Envoy; writes docs/performance.md
	$(PIP) install --require-hashes -r requirements-bench.lock
	$(BIN)/python -m bench

overload: install ## Goodput at 1 to 10 times an upstream's capacity, and recovery; writes docs/overload.md
	$(BIN)/python -m bench.overload

cache-mix: install ## What the cache spares three sidecars' upstream, and that it is never wrong; writes docs/cache-mix.md
	$(BIN)/python -m bench.cache_mix

load: install ## 100 requests a second through stub and sidecar with k6, for K6_DURATION
	$(BIN)/python k6/run.py smoke --duration $(K6_DURATION)

image: ## Build the container image (docker, podman or buildah)
	@if command -v docker >/dev/null; then docker build -t tidegate .; \
	else "$$(command -v podman || command -v buildah || echo docker)" build --format docker -t tidegate .; fi

lock: ## Pin the dependencies anew (needs uv)
	$(COMPILE) --extra stub --group dev -o requirements.lock pyproject.toml
	$(COMPILE) -o requirements-runtime.lock pyproject.toml
	$(COMPILE) --extra stub -o requirements-stub.lock pyproject.toml
	$(COMPILE) --group bench -o requirements-bench.lock

clean: ## Remove what the other targets made
	rm -rf .venv .venv-* .stub k6/out build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
