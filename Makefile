# make chat: talk to the model that ships here.   make test: everything that is tested offline on CPU.
# Both set up .venv on the first run and need no network afterwards. PYTHON names another interpreter (3.11 or newer),
# TORCH_INDEX_URL a package index with the build of torch that you want (see README, "Without a GPU").

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch>=2.8,<2.14

.PHONY: chat test lint clean

chat: $(VENV)/.chat
	@$(BIN)/tertulia chat

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tertulia: $$($(PYTHON) --version) is too old, Python 3.11 or newer is needed: make PYTHON=python3.12 chat" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX_URL
	$(BIN)/pip install --quiet --index-url "$(TORCH_INDEX_URL)" "$(TORCH)"
endif
	@touch $@

$(VENV)/.chat: pyproject.toml | $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.chat

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
