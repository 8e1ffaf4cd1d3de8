# make install   .venv with everything, nothing else
# make demo      the whole thing on Meta-World, ends in runs/demo/report.html (under 25 minutes on 2 cores)
# make test      what CI runs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test lint docs-golden system weights clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"volar needs Python 3.11 or newer, this is {sys.version}"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

install: $(VENV)/.installed

# Headless rendering needs EGL or OSMesa; the browser test needs Chromium. Installed when we may, named when we may not.
system:
	@bash .ci/system.sh

weights: install
	@$(BIN)/volar weights install

demo: install system weights
	@$(BIN)/volar demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

test: install system weights lint
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
