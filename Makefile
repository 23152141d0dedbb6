# `make run` and `make test` set everything up first, in .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: run test lint format docs clean

run: $(READY)
	$(BIN)/python -m fedpm_jax.train $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal tests $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of docs/ as a site, in site/; a link that leads nowhere is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# uv where it is, else venv and pip; pip too where uv finds no registry, since
# it does not read pip's configuration.  The last line builds Matplotlib's list
# of fonts now and not in the middle of the first run.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@if ! { command -v uv >/dev/null \
	    && uv venv --quiet --allow-existing --seed --python $(PYTHON) $(VENV) \
	    && uv pip install --compile-bytecode --python $(BIN)/python -e '.[dev]'; }; then \
	  $(PYTHON) -m venv $(VENV) \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@$(BIN)/python -W ignore -c 'import matplotlib.font_manager'
	@touch $(READY)

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .ruff_cache .hypothesis
