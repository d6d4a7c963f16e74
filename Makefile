# make demo   install what the main job needs, run it, say where the reports are
# make test   install what the tests need, run them all
# make check  what CI runs: formatting, lint, strict types, schemas, tests
#
# Needs Python 3.11+ with venv and pip. Everything else lands in .venv; `rm -rf .venv` starts afresh.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PINS := pyproject.toml constraints.txt
SPEC ?= specs/llama3_8b_sweep.yaml
# Two: what most CI machines and laptops have to spare.
WORKERS ?= 2
# The language server that the editor tests drive and the checker of the report's page, pinned in
# tests/editor/package.json.
NODE := $(VENV)/node

.PHONY: demo test lint check clean

demo: $(VENV)/demo.stamp
	@sh scripts/system_libraries report
	$(BIN)/engine run $(SPEC)
	@sh scripts/show_reports runs/$$(sed -n 's/^name: *//p' $(SPEC))/report

test: $(VENV)/tests.stamp
	@sh scripts/system_libraries report
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(VENV)/tests.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no python3 on PATH: install Python 3.11 or newer" >&2; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11: make PYTHON=/path/to/a/newer/python3" >&2; exit 3; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) lacks venv: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)

# No torch: predictions and reports do without it.
$(VENV)/demo.stamp: $(PINS) | $(BIN)/python
	@echo "installing engine into $(VENV) (about a minute the first time)"
	$(PIP) -e .
	@touch $@

# torch first and alone, so that no other package's wish decides which build comes.
$(VENV)/tests.stamp: $(PINS) tests/editor/package.json scripts/install_torch.py $(VENV)/demo.stamp
	@echo "installing what the tests need (a few minutes the first time)"
	$(BIN)/python scripts/install_torch.py
	if $(BIN)/python -c 'import torch' 2>/dev/null; \
	  then $(PIP) -e '.[live,query,dev]'; else $(PIP) -e '.[endpoint,query,dev]'; fi
	mkdir -p $(NODE) && cp tests/editor/package.json $(NODE)/
	npm install --silent --no-audit --no-fund --no-package-lock --prefix $(NODE) || \
	  echo "no npm, or no package from it: tests that drive a language server or axe-core will be skipped"
	@touch $@
